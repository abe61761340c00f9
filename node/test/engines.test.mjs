import assert from 'node:assert/strict';
import { test } from 'node:test';

import { AsyncModel, Context, Model } from 'mullama';

import { context, DEMO, ENDLESS, ENGINE_THREADS, program, PROMPT, until } from './support.mjs';

const COUNT = `${ENGINE_THREADS}
import { setTimeout as sleep } from 'node:timers/promises';
import { Context, Model } from 'mullama';
const until = async (most) => {
  for (const end = Date.now() + 10_000; threads() > most; await sleep(5)) {
    if (Date.now() > end) throw new Error(threads() + ' threads of engines');
  }
};
const model = await Model.load(${JSON.stringify(DEMO)});
const params = (nCtx) => ({ nCtx, nThreads: 1, nThreadsBatch: 1 });
`;

/** Room for all that the program allocates. */
const NO_COLLECTOR = ['--min-semi-space-size=128', '--max-semi-space-size=128'];

test('engines end when no open context uses them, without the garbage collector', { timeout: 60_000, skip: process.platform !== 'linux' }, async () => {
  const { code, out, err } = await program(`${COUNT}
    for (let at = 0; at < 10; at++) {
      const context = new Context(model, params(200 + at));
      await context.generate('Hi', 2);
      context.close();
    }
    await until(1);
    // Contexts that were closed before their engines ran, and whose streams begin all the same.
    const streams = [];
    for (let at = 0; at < 10; at++) {
      const context = new Context(model, params(300 + at));
      streams.push(context.generateStream('Hi', { maxTokens: 3, ignoreEos: true }));
      context.close();
    }
    for (const stream of streams) for await (const _ of stream);
    await until(1);
    // The model keeps the one that was used last.
    const last = new Context(model, params(309));
    console.log(streams.map((stream) => stream.tokensGenerated).join(''), last.stats() !== null);`, { args: NO_COLLECTOR });
  assert.deepEqual([code, out], [0, '3333333333 true\n'], err);
});

test('a context of params whose engine has ended starts another', async () => {
  const { model } = await context();
  const params = { nCtx: 700 };
  for (let round = 0; round < 3; round++) {
    const first = await new Context(model, params).ready();
    const other = await new Context(model, { nCtx: 701 }).ready();
    const running = first.generateStream(PROMPT, { maxTokens: 30, ignoreEos: true });
    first.close();
    const again = new Context(model, params);
    assert.ok((await again.generate(PROMPT, 3)).text.length > 0);
    for await (const _ of running);
    assert.equal(running.tokensGenerated, 30);
    again.close();
    other.close();
  }
});

test('a stream whose engine does not start ends as an error', async () => {
  const vocabulary = await Model.load(DEMO, { vocabOnly: true });
  const stream = new Context(vocabulary).generateStream(PROMPT, 5);
  await assert.rejects(stream.next(), { code: 'MODEL_LOAD' });
  assert.equal(stream.finishReason, 'error');
  await assert.rejects(new Context(vocabulary).generate(PROMPT, 5), (error) => error.completion.finishReason === 'error');
  // What ended before keeps its end.
  const context = new Context(vocabulary, { nCtx: 703 });
  const closed = context.generateStream(PROMPT, 5);
  closed.close();
  const controller = new AbortController();
  const aborted = context.generateStream(PROMPT, 5, { signal: controller.signal });
  controller.abort();
  await assert.rejects(aborted.next(), { name: 'AbortError' });
  await assert.rejects(context.ready(), { code: 'MODEL_LOAD' });
  for (const ended of [closed, aborted]) {
    assert.deepEqual(await ended.next(), { value: undefined, done: true });
    assert.equal(ended.finishReason, 'cancelled');
  }
  await vocabulary.close();
});

test('a load of AsyncModel that fails or is aborted while its engine starts frees the model', async () => {
  const close = Model.prototype.close;
  const closed = [];
  Model.prototype.close = function () {
    const closing = close.call(this);
    closed.push(closing);
    return closing;
  };
  try {
    await assert.rejects(AsyncModel.load(DEMO, { vocabOnly: true }), { code: 'MODEL_LOAD' });
    assert.equal(closed.length, 1);
    const controller = new AbortController();
    const ready = Context.prototype.ready;
    Context.prototype.ready = function () {
      controller.abort(new Error('mine'));
      return ready.call(this);
    };
    try {
      await assert.rejects(AsyncModel.load(DEMO, { signal: controller.signal }), /mine/);
    } finally {
      Context.prototype.ready = ready;
    }
    assert.equal(closed.length, 2);
    await Promise.all(closed);
  } finally {
    Model.prototype.close = close;
  }
});

test('a context that is closed in the middle of everything leaves its streams and its neighbours alone', async () => {
  const { model } = await context();
  const contexts = Array.from({ length: 6 }, (_, at) => new Context(model, { nCtx: 720 + (at % 3) }));
  const settings = { ...ENDLESS, maxTokens: 40 };
  const streams = contexts.map((each) => each.generateStream(PROMPT, settings));
  for (const each of contexts) each.close();
  const more = [0, 1, 2].map((at) => new Context(model, { nCtx: 720 + at }));
  const texts = await Promise.all([...more.map(async (each) => (await each.generate(PROMPT, settings)).tokens.length)]);
  for (const stream of streams) for await (const _ of stream);
  assert.deepEqual([...texts, ...streams.map((stream) => stream.tokensGenerated)], Array(9).fill(40));
  for (const each of more) each.close();
  await until(() => streams.every((stream) => stream.finishReason === 'length'));
});
