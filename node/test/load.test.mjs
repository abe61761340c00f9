import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

import { collect, context, ENDLESS, PROMPT, until } from './support.mjs';

// Numbers for a machine that does something else as well; .ci/run sets more.
const SECONDS = Number(process.env.MULLAMA_TEST_SECONDS ?? 10);
const ABANDONED = Number(process.env.MULLAMA_TEST_ABANDONED ?? 2000);

const megabytes = () => process.memoryUsage().rss / 2 ** 20;

test('streams that are abandoned leave memory flat', { timeout: 600_000 }, async () => {
  const engine = await context();
  // Half of them are not even read; all are left to the collector.
  const open = async (isRead) => {
    const stream = engine.generateStream(PROMPT, { ...ENDLESS, bufferSize: 4 });
    if (isRead) await stream.next();
  };
  const abandon = async (count) => {
    for (let at = 0; at < count; at++) {
      await open(at % 2 === 0);
      if (at % 32 === 31) {
        await collect();
        await until(() => engine.unfinished < 40);
      }
    }
    for (let round = 0; round < 100 && engine.unfinished > 0; round++) await collect();
    assert.equal(engine.unfinished, 0);
  };
  await abandon(ABANDONED / 4);
  const before = megabytes();
  await abandon(ABANDONED);
  assert.ok(megabytes() - before < 16, `${before} MB became ${megabytes()} MB`);
});

test('after 64 streams with random aborts all slots are free, and every text is a prefix of the whole', { timeout: 600_000 }, async () => {
  const engine = await context();
  const settings = { maxTokens: 60, temperature: 0, ignoreEos: true, timeoutMs: 0, bufferSize: 8 };
  const { text: whole } = await engine.generate(PROMPT, settings);
  const end = Date.now() + SECONDS * 1000;
  let streams = 0;
  const reader = async () => {
    while (Date.now() < end) {
      const controller = new AbortController();
      const stream = engine.generateStream(PROMPT, { ...settings, deterministic: false }, { signal: controller.signal });
      const timer = setTimeout(() => controller.abort(), Math.random() * 300);
      let text = '';
      try {
        for await (const token of stream) {
          text += token;
          const dice = Math.random();
          if (dice < 0.01) break;
          if (dice < 0.02) stream.cancel();
          if (dice < 0.03) await sleep(20);
        }
      } catch (error) {
        assert.equal(error.name, 'AbortError');
      }
      clearTimeout(timer);
      streams++;
      assert.equal(text, stream.text.slice(0, text.length));
      // Batches of other shapes may decide near-ties otherwise, so only the beginning is compared.
      assert.equal(text.slice(0, 8), whole.slice(0, Math.min(8, text.length)));
    }
  };
  await Promise.all(Array.from({ length: 64 }, reader));
  assert.ok(streams > 64, `${streams} streams`);
  await until(() => engine.unfinished === 0);
  await until(() => {
    const { queued, running, paused } = engine.stats();
    return queued + running + paused === 0;
  });
});

test('seven slow readers do not slow a fast one down', { timeout: 120_000 }, async () => {
  const engine = await context();
  const settings = { ...ENDLESS, maxTokens: 200, bufferSize: 4 };
  const slow = Array.from({ length: 7 }, () => engine.generateStream(PROMPT, settings));
  const reading = slow.map(async (stream) => {
    for await (const _ of stream) await sleep(200);
  });
  await until(() => slow.every((stream) => stream.buffered === 4));
  const fast = engine.generateStream(PROMPT, settings);
  let count = 0;
  for await (const _ of fast) count++;
  assert.equal(count, 200);
  // Together they waited, and none of them is as far as the fast one.
  for (const stream of slow) assert.ok(stream.tokensGenerated < 100, `${stream.tokensGenerated}`);
  for (const stream of slow) stream.close();
  await Promise.all(reading);
});

test('the event loop keeps its beat beside eight streams', { timeout: 120_000 }, async () => {
  const engine = await context();
  const settings = { ...ENDLESS, maxTokens: 300 };
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const counts = await Promise.all(
    Array.from({ length: 8 }, async () => {
      let count = 0;
      for await (const _ of engine.generateStream(PROMPT, settings)) count++;
      return count;
    }),
  );
  delay.disable();
  assert.deepEqual(counts, Array(8).fill(300));
  // A busy machine delays everybody; what this finds is a loop that is held for a whole stream.
  assert.ok(delay.percentile(50) / 1e6 < 20, `median ${delay.percentile(50) / 1e6} ms`);
});

/** The most processor time in milliseconds that this thread spends in one turn of the event loop while `work` runs. */
async function longestTurn(work) {
  const spent = () => Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]) / 1e6;
  let [isDone, longest, last] = [false, 0, spent()];
  const look = () => {
    const now = spent();
    [longest, last] = [Math.max(longest, now - last), now];
    if (!isDone) setTimeout(look, 1);
  };
  look();
  try {
    const result = await work();
    await sleep(10);
    return [result, longest];
  } finally {
    isDone = true;
  }
}

test('the ids of a long text become an array without holding the event loop', { timeout: 120_000, skip: process.platform !== 'linux' }, async () => {
  const { model } = await context();
  const text = Buffer.from('word '.repeat(250_000)).toString();
  const [ids, longest] = await longestTurn(() => model.tokenize(text));
  assert.ok(Array.isArray(ids) && ids.length > 250_000 && ids.every(Number.isInteger));
  // Filled by the native module in one piece, the array takes longer than this.
  assert.ok(longest < 40, `${longest} ms`);
});

test('the event loop has its turn while a long buffer is read', async () => {
  const engine = await context({ nCtx: 1024, kvCells: 1024, nParallel: 1 });
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, maxTokens: 900, bufferSize: 1000 });
  await until(() => stream.buffered === 900);
  let [turns, isDone] = [0, false];
  const beat = () => {
    turns++;
    if (!isDone) setImmediate(beat);
  };
  setImmediate(beat);
  try {
    for await (const _ of stream);
  } finally {
    isDone = true;
  }
  assert.ok(turns >= 3, `${turns}`);
});
