import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Context, StreamBusyError, StreamConfig, Token, TokenStream } from 'mullama';

import { collect, context, ENDLESS, PROMPT, until } from './support.mjs';

test('joined pieces are the text of generate, for every buffer size', async () => {
  const engine = await context();
  for (const bufferSize of [1, 2, 7, 64]) {
    const settings = { maxTokens: 80, seed: 5, bufferSize };
    const stream = engine.generateStream(PROMPT, settings);
    let joined = '';
    const ids = [];
    for await (const token of stream) {
      assert.ok(token instanceof Token);
      assert.equal(token.index, ids.length);
      joined += token;
      ids.push(token.id);
    }
    const whole = await engine.generate(PROMPT, settings);
    assert.equal(joined, whole.text);
    assert.equal(stream.text, whole.text);
    assert.deepEqual(ids, whole.tokens.map((token) => token.id));
    assert.equal(stream.finishReason, whole.finishReason);
    assert.equal(`${whole}`, whole.text);
    assert.deepEqual(whole.message, { role: 'assistant', content: whole.text });
  }
});

test('bytes are lossless where a character takes several tokens', async () => {
  const engine = await context();
  const ids = await engine.model.tokenize('é😀', { addSpecial: false });
  // Each id of the emoji is forced in turn, so that its bytes arrive one by one.
  const pieces = [];
  for (const id of ids) {
    const [token] = (await engine.generate('x', { maxTokens: 1, logitBias: { [id]: 1e9 }, temperature: 0 })).tokens;
    assert.equal(token.id, id);
    pieces.push(...token.bytes);
  }
  assert.equal(Buffer.from(pieces).toString().trim(), 'é😀');
});

test('log-probabilities come with the tokens when they are asked for', async () => {
  const engine = await context();
  const { tokens } = await engine.generate(PROMPT, { maxTokens: 3, logprobs: 2, temperature: 0 });
  for (const token of tokens) {
    assert.ok(token.logprob <= 0);
    assert.equal(token.topLogprobs.length, 2);
    assert.equal(token.topLogprobs[0].id, token.id);
    assert.equal(token.topLogprobs[0].logprob, token.logprob);
  }
  const plain = await engine.generate(PROMPT, 1);
  assert.deepEqual([plain.tokens[0].logprob, plain.tokens[0].topLogprobs], [null, []]);
});

test('a stream that nobody reads is computed as far as its buffer, and no further', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, bufferSize: 7 });
  await until(() => stream.buffered === 7);
  await sleep(50);
  assert.equal(stream.usage.completionTokens, 7);
  assert.equal(engine.stats().paused, 1);
  await stream.next();
  await until(() => stream.usage.completionTokens === 8);
  assert.equal(stream.buffered, 7);
  stream.close();
});

test('leaving a loop in any way frees the slot at once', async () => {
  const engine = await context();
  const leave = [
    async (stream) => {
      for await (const _ of stream) break;
    },
    async (stream) => {
      await assert.rejects(async () => {
        for await (const _ of stream) throw new Error('mine');
      }, /mine/);
    },
    async (stream) => {
      await stream.next();
      assert.deepEqual(await stream.return(), { value: undefined, done: true });
    },
    async (stream) => {
      await stream.next();
      await assert.rejects(stream.throw(new Error('mine')), /mine/);
    },
    async (stream) => stream.close(),
    async (stream) => stream[Symbol.asyncDispose](),
    async (stream) => {
      const reader = stream.toReadableStream().getReader();
      await reader.read();
      await reader.cancel();
    },
  ];
  for (const way of leave) {
    const stream = engine.generateStream(PROMPT, ENDLESS);
    await way(stream);
    assert.equal(stream.finishReason, 'cancelled');
    assert.deepEqual(await stream.next(), { value: undefined, done: true });
    await until(() => engine.unfinished === 0, `a free slot after ${way}`);
  }
});

test('after cancel, what was produced can be read', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, bufferSize: 5 });
  await until(() => stream.buffered === 5);
  stream.cancel();
  let count = 0;
  for await (const _ of stream) count++;
  assert.equal(count, 5);
  assert.equal(stream.finishReason, 'cancelled');
});

test('a second read is refused, and the first one goes on', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { maxTokens: 5, streamDelayMs: 50 });
  await stream.next();
  const pending = stream.next();
  await assert.rejects(stream.next(), (error) => error instanceof StreamBusyError && error.code === 'STREAM_BUSY');
  assert.equal((await pending).value.index, 1);
  stream.close();
});

test('close ends a read that is pending', { timeout: 10_000 }, async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, streamDelayMs: 60_000 });
  await stream.next();
  const pending = stream.next();
  stream.close();
  assert.deepEqual(await pending, { value: undefined, done: true });
});

test('buffered tokens cost no turn of the event loop, and others have one at least once per buffer', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, maxTokens: 64, bufferSize: 16 });
  await until(() => stream.buffered === 16);
  let turns = 0;
  let counting = true;
  const count = () => counting && (turns++, setImmediate(count));
  setImmediate(count);
  for (let token = 0; token < 16; token++) await stream.next();
  assert.equal(turns, 0);
  await until(() => stream.buffered === 16);
  turns = 0;
  await stream.next();
  assert.ok(turns > 0);
  counting = false;
  stream.close();
});

test('a stream that always has a token does not starve a timer', { timeout: 30_000 }, async () => {
  const engine = await context();
  let beats = 0;
  const heart = setInterval(() => beats++, 1);
  for await (const _ of engine.generateStream(PROMPT, { ...ENDLESS, maxTokens: 500, bufferSize: 8 }));
  clearInterval(heart);
  assert.ok(beats > 3, `${beats} beats`);
});

test('usage, timings, seed and speed are there while a stream runs and afterwards', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { maxTokens: 20, ignoreEos: true, seed: 9 });
  await stream.next();
  assert.equal(stream.finishReason, null);
  for await (const _ of stream);
  assert.equal(stream.tokensGenerated, 20);
  assert.equal(stream.usage.completionTokens, 20);
  assert.ok(stream.usage.promptTokens > 3);
  assert.ok(stream.timings.firstToken > 0 && stream.timings.decode > 0);
  assert.ok(stream.tokensPerSecond() > 0);
  assert.equal(stream.seed, 9);
  assert.equal(stream.finishReason, 'length');
});

test('a stop sequence ends the stream, and none of it is in the text', async () => {
  const engine = await context();
  const whole = await engine.generate(PROMPT, { maxTokens: 60, seed: 3 });
  const stop = whole.text.slice(20, 24);
  const stopped = await engine.generate(PROMPT, { maxTokens: 60, seed: 3, stopSequences: [stop] });
  assert.equal(stopped.text, whole.text.slice(0, whole.text.indexOf(stop)));
  assert.deepEqual([stopped.finishReason, stopped.stopSequence], ['stop', stop]);
});

test('a chat is answered, and control tokens in messages are text', async () => {
  const engine = await context();
  const messages = [{ role: 'user', content: 'Hello!<|im_end|>' }];
  const answer = await engine.chat(messages, { maxTokens: 8, seed: 2 });
  let streamed = '';
  for await (const token of engine.generateStream(messages, { maxTokens: 8, seed: 2 })) streamed += token;
  assert.equal(streamed, answer.text);
  assert.match(await engine.model.applyChatTemplate(messages), /Hello!<\|im_end\|>/);
  const ids = await engine.model.tokenizeChat(messages);
  assert.equal(answer.usage.promptTokens, ids.length);
});

test('token ids are a prompt like their text', async () => {
  const engine = await context();
  const ids = await engine.model.tokenize(PROMPT);
  const settings = { maxTokens: 10, temperature: 0 };
  const expected = await engine.generate(PROMPT, settings);
  for (const prompt of [ids, Int32Array.from(ids)]) assert.equal((await engine.generate(prompt, settings)).text, expected.text);
  assert.equal(await engine.model.detokenize(await engine.model.tokenize('Hi!', { addSpecial: false })), 'Hi!');
});

test('a web stream reads no further ahead than its reader', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, bufferSize: 4 });
  const encoder = new TextEncoder();
  const web = stream.toReadableStream((token) => encoder.encode(token.text));
  await until(() => stream.buffered === 4);
  await sleep(20);
  assert.equal(stream.tokensGenerated, 0);
  const reader = web.getReader();
  assert.ok((await reader.read()).value instanceof Uint8Array);
  assert.equal(stream.tokensGenerated, 1);
  await reader.cancel();
  const response = new Response(engine.generateStream(PROMPT, { maxTokens: 12, seed: 4 }).toReadableStream((t) => encoder.encode(t.text)));
  assert.equal(await response.text(), (await engine.generate(PROMPT, { maxTokens: 12, seed: 4 })).text);
});

test('a stream that is asked for before its engine runs begins when it does', async () => {
  const { model } = await context();
  const fresh = new Context(model, { nCtx: 128 + Math.floor(Math.random() * 64) });
  const stream = fresh.generateStream(PROMPT, 5);
  assert.ok(stream instanceof TokenStream);
  assert.equal(fresh.stats(), null);
  let count = 0;
  for await (const _ of stream) count++;
  assert.equal(count, stream.tokensGenerated);
  assert.ok(fresh.stats().tokensGenerated > 0);
  fresh.close();
});

test('a stream that is closed before its engine runs never begins', async () => {
  const { model } = await context();
  const fresh = new Context(model, { nCtx: 256 + Math.floor(Math.random() * 64) });
  const stream = fresh.generateStream(PROMPT, ENDLESS);
  stream.close();
  await fresh.ready();
  assert.deepEqual(await stream.next(), { value: undefined, done: true });
  assert.equal(fresh.unfinished, 0);
});

test('a stream that nothing refers to is stopped when its memory is collected', async () => {
  const engine = await context();
  (() => engine.generateStream(PROMPT, ENDLESS))();
  await until(() => engine.stats().tokensGenerated > 0);
  for (let round = 0; round < 50 && engine.unfinished > 0; round++) await collect();
  assert.equal(engine.unfinished, 0);
});

test('a config is frozen and can be used for many streams', async () => {
  const engine = await context();
  const config = new StreamConfig({ maxTokens: 4, seed: 1 });
  assert.throws(() => (config.maxTokens = 5), TypeError);
  const texts = await Promise.all([1, 2, 3].map(async () => (await engine.generate(PROMPT, config)).text));
  assert.equal(new Set(texts).size, 1);
});

test('a function of a web stream that throws closes the stream', async () => {
  const engine = await context();
  const web = engine.generateStream(PROMPT, ENDLESS).toReadableStream(() => {
    throw new Error('mine');
  });
  await assert.rejects(web.getReader().read(), /mine/);
  await until(() => engine.unfinished === 0);
});

test('a deadline counts from the call, also while the engine starts', async () => {
  const { model } = await context();
  const fresh = new Context(model, { nCtx: 400 + Math.floor(Math.random() * 64) });
  await assert.rejects(fresh.generate(PROMPT, { ...ENDLESS, maxTokens: 9, timeoutMs: 60, streamDelayMs: 30 }), {
    code: 'STREAM_TIMEOUT',
    limitMs: 60,
  });
  fresh.close();
});
