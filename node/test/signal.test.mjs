import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';

import { Model } from 'mullama';

import { collect, context, DEMO, ENDLESS, program, PROMPT, until } from './support.mjs';

test('a signal that aborts ends a pending read with its reason, and frees the slot', { timeout: 10_000 }, async () => {
  const engine = await context();
  for (const reason of [undefined, new Error('mine'), null, 7]) {
    const controller = new AbortController();
    const stream = engine.generateStream(PROMPT, { ...ENDLESS, streamDelayMs: 60_000 }, { signal: controller.signal });
    await stream.next();
    const pending = stream.next();
    controller.abort(reason);
    await assert.rejects(pending, (error) => error === controller.signal.reason);
    assert.deepEqual(await stream.next(), { value: undefined, done: true });
    assert.equal(stream.finishReason, 'cancelled');
    await until(() => engine.unfinished === 0);
  }
});

test('the next read rejects if no read was pending, and buffered tokens are discarded', async () => {
  const engine = await context();
  const controller = new AbortController();
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, bufferSize: 5 }, { signal: controller.signal });
  await until(() => stream.buffered === 5);
  controller.abort();
  await until(() => engine.unfinished === 0);
  await assert.rejects(stream.next(), { name: 'AbortError', code: 20 });
});

test('a signal that has aborted already refuses the first read, and computes nothing', async () => {
  const engine = await context();
  const before = engine.stats().tokensGenerated;
  await assert.rejects(engine.generate(PROMPT, 5, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  assert.equal(engine.stats().tokensGenerated, before);
});

test('a timeout as a signal is a TimeoutError', async () => {
  const engine = await context();
  const signal = AbortSignal.timeout(20);
  await assert.rejects(engine.generate(PROMPT, { ...ENDLESS, streamDelayMs: 50 }, { signal }), { name: 'TimeoutError' });
});

test("a signal's own handler stays, and no listener is left when streams have ended", async () => {
  const engine = await context();
  const controller = new AbortController();
  const own = () => {};
  controller.signal.onabort = own;
  const options = { signal: controller.signal };
  for await (const _ of engine.generateStream(PROMPT, 3, options));
  for await (const _ of engine.generateStream(PROMPT, ENDLESS, options)) break;
  assert.equal(controller.signal.onabort, own);
  assert.equal(getEventListeners(controller.signal, 'abort').length, 1);
});

test('a long-lived signal does not keep a stream that nothing refers to', async () => {
  const engine = await context();
  const controller = new AbortController();
  (() => engine.generateStream(PROMPT, ENDLESS, { signal: controller.signal }))();
  for (let round = 0; round < 50 && engine.unfinished > 0; round++) await collect();
  assert.equal(engine.unfinished, 0);
  for (let round = 0; round < 50 && getEventListeners(controller.signal, 'abort').length > 0; round++) await collect();
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
});

test('a load and a call of the tokenizer can be aborted', async () => {
  const { model } = await context();
  await assert.rejects(Model.load(DEMO, { signal: AbortSignal.abort(new Error('mine')) }), /mine/);
  const controller = new AbortController();
  const pending = model.tokenize('word '.repeat(1_000_000), { signal: controller.signal });
  controller.abort();
  await assert.rejects(pending, { name: 'AbortError' });
});

test('a signal of many calls has one listener, and Node.js does not warn of a leak', { timeout: 60_000 }, async () => {
  const { code, out, err } = await program(`
    import { getEventListeners } from 'node:events';
    import { Context, Model } from 'mullama';
    const model = await Model.load(${JSON.stringify(DEMO)});
    const context = await new Context(model).ready();
    for (const signal of [new AbortController().signal, AbortSignal.timeout(60_000), AbortSignal.any([new AbortController().signal])]) {
      const streams = Array.from({ length: 40 }, () => context.generateStream('Hi', 2, { signal }));
      const others = Array.from({ length: 20 }, () => model.tokenize('x', { signal }));
      console.log(getEventListeners(signal, 'abort').length);
      for (const stream of streams.slice(20)) stream.close();
      console.log(getEventListeners(signal, 'abort').length);
      await Promise.all(others);
      for (const stream of streams) for await (const _ of stream);
      console.log(getEventListeners(signal, 'abort').length);
    }
    const controller = new AbortController();
    const all = Array.from({ length: 30 }, () => context.generate('Hi', ${JSON.stringify(ENDLESS)}, { signal: controller.signal }));
    setTimeout(() => controller.abort(), 20);
    console.log((await Promise.allSettled(all)).filter(({ reason }) => reason === controller.signal.reason).length);`);
  assert.deepEqual([code, out, err], [0, `${'1\n1\n0\n'.repeat(3)}30\n`, '']);
});

test("a signal's reason stays as it is, whatever it is", async () => {
  const engine = await context();
  const reason = Object.assign(new Error('mine'), { code: 'MINE' });
  for (const each of [reason, Object.freeze(Object.assign(new Error('frozen'), { code: 'MINE' })), Object.freeze(new DOMException('x', 'AbortError'))]) {
    const late = new AbortController();
    const pending = engine.generate(PROMPT, ENDLESS, { signal: late.signal });
    late.abort(each);
    for (const call of [pending, engine.generate(PROMPT, 5, { signal: AbortSignal.abort(each) })]) {
      await assert.rejects(call, (error) => error === each);
    }
  }
  // It may be that of many calls, so what one of them generated has no place in it.
  assert.equal('completion' in reason, false);
});

test('a signal of an older library ends every call, with an AbortError', { timeout: 10_000 }, async () => {
  const engine = await context();
  const older = (aborted) => Object.assign(new EventTarget(), { aborted });
  const isAborted = { name: 'AbortError', code: 20 };
  assert.ok((await engine.model.tokenize('x', { signal: older(false) })).length > 0);
  await Model.load(DEMO, { signal: older(false) });
  await assert.rejects(engine.model.tokenize('x', { signal: older(true) }), isAborted);
  await assert.rejects(Model.load(DEMO, { signal: older(true) }), isAborted);
  await assert.rejects(engine.generate(PROMPT, 5, { signal: older(true) }), isAborted);
  const signal = older(false);
  const pending = [engine.generate(PROMPT, ENDLESS, { signal }), engine.model.tokenize('word '.repeat(100_000), { signal })];
  signal.aborted = true;
  signal.dispatchEvent(new Event('abort'));
  for (const call of pending) await assert.rejects(call, isAborted);
});
