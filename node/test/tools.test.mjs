// What programs and test runners do around streams.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { Context, Model } from 'mullama';

import { context, DEMO, ENDLESS, program, PROMPT } from './support.mjs';

test('streams go on while a test replaces all timers, in their modules too', { timeout: 60_000 }, async () => {
  const { code, out, err } = await program(`
    import { mock } from 'node:test';
    import { Context, Model } from 'mullama';
    const model = await Model.load(${JSON.stringify(DEMO)});
    const context = await new Context(model).ready();
    mock.timers.enable();
    let count = 0;
    for await (const _ of context.generateStream('Hi', { maxTokens: 40, bufferSize: 2, ignoreEos: true })) count++;
    const ids = await model.tokenize('word '.repeat(50_000));
    console.log(count, ids.length);`, { args: ['--no-warnings'], limit: 20_000 });
  assert.match(out, /^40 100003\n$/, err);
  assert.equal(code, 0);
});

test('a deadline does not follow a clock that a test replaces while the engine starts', { timeout: 60_000 }, async () => {
  const { model } = await context();
  const own = performance.now;
  for (const [before, after] of [[1e9, 0], [0, 1e9], [0, NaN]]) {
    const fresh = new Context(model, { nCtx: 800 });
    performance.now = () => before;
    const stream = fresh.generateStream(PROMPT, { maxTokens: 3, ignoreEos: true, timeoutMs: 20_000 });
    performance.now = () => after;
    try {
      for await (const _ of stream);
    } finally {
      performance.now = own;
    }
    assert.equal(stream.tokensGenerated, 3);
    fresh.close();
    new Context(model, { nCtx: 801 }).close();
  }
});

test('functions that are called back have the async context of the call', async () => {
  const storage = new AsyncLocalStorage();
  const seen = new Set();
  const see = () => seen.add(storage.getStore());
  await storage.run('load', () => Model.load(DEMO, { progress: see }));
  assert.deepEqual([...seen], ['load']);
  seen.clear();
  const engine = await context();
  await storage.run('stream', async () => {
    for await (const _ of engine.generateStream(PROMPT, { maxTokens: 20, bufferSize: 2 })) see();
    const web = engine.generateStream(PROMPT, 5).toReadableStream((token) => (see(), token));
    for await (const _ of web) see();
  });
  assert.deepEqual([...seen], ['stream']);
});

test('the stack of an error names the function that waited', async () => {
  const engine = await context();
  const controller = new AbortController();
  const late = { ...ENDLESS, timeoutMs: 40, streamDelayMs: 30 };
  async function waitsForIt(call) {
    await call();
  }
  const calls = [
    () => Model.load('./missing.gguf'),
    () => Model.load('./missing.gguf', { signal: controller.signal }),
    () => engine.generate(Array(100_000).fill(5)),
    () => engine.generate(PROMPT, late),
    () => engine.generate(PROMPT, late, { signal: controller.signal }),
    async () => {
      for await (const _ of engine.generateStream(PROMPT, late));
    },
    async () => {
      const stream = engine.generateStream(PROMPT, late);
      while (!(await stream.next()).done);
    },
    () => engine.model.applyChatTemplate([], { chatTemplate: '{{ raise_exception("no") }}' }),
  ];
  for (const call of calls) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 30;
    const error = await waitsForIt(call).catch((caught) => caught);
    Error.stackTraceLimit = limit;
    assert.ok(error.code, `${error}`);
    assert.match(error.stack, /at async waitsForIt .*tools\.test\.mjs/, `${call}: ${error.stack}`);
  }
});

test('a model that is printed shows what it is, and nothing of the package', async () => {
  const { model } = await context();
  for (const shown of [inspect(model), JSON.stringify(model)]) {
    assert.match(shown, /general\.architecture/);
    assert.doesNotMatch(shown, /\bnative\b|recommended|streamDelayMs/);
  }
});
