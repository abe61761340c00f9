import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { context, DEMO, ENDLESS, ENGINE_THREADS, program, PROMPT, ROOT } from './support.mjs';

const OPEN = `
import { Context, Model } from 'mullama';
const model = await Model.load(${JSON.stringify(DEMO)});
const context = new Context(model);
const endless = ${JSON.stringify(ENDLESS)};
`;

const cases = {
  'a stream that nobody reads does not keep the process alive': [
    "globalThis.stream = context.generateStream('Hi', endless);",
    { code: 0, out: '' },
  ],
  'a stream that was left alone in the middle does not keep the process alive': [
    "globalThis.stream = context.generateStream('Hi', endless); await stream.next(); console.log('read');",
    { code: 0, out: 'read\n' },
  ],
  'a pending read keeps the process alive until it is settled': [
    "const stream = context.generateStream('Hi', { ...endless, streamDelayMs: 300 }); await stream.next(); stream.next().then(() => console.log('late'));",
    { code: 0, out: 'late\n' },
  ],
  'a loop at the end of a program is run to its end': [
    "let count = 0; for await (const _ of context.generateStream('Hi', { ...endless, maxTokens: 300, bufferSize: 3 })) count++; console.log(count);",
    { code: 0, out: '300\n' },
  ],
  'a load that nobody awaits is finished': [
    `Model.load(${JSON.stringify(DEMO)}).then(() => console.log('loaded'));`,
    { code: 0, out: 'loaded\n' },
  ],
  'an engine that starts while nobody waits for it does not keep the process alive': [
    'globalThis.other = new Context(model, { nCtx: 300 });',
    { code: 0, out: '' },
  ],
  'process.exit in the middle of streams ends the process cleanly': [
    "for (let at = 0; at < 8; at++) context.generateStream('Hi', endless).next(); for await (const _ of context.generateStream('Hi', endless)) process.exit(7);",
    { code: 7, out: '' },
  ],
  'engines have ended before the last handlers of the exit run': [
    "process.on('exit', () => { try { context.generateStream('Hi'); } catch (error) { console.log(error.code); } }); for await (const _ of context.generateStream('Hi', endless)) process.exit(0);",
    { code: 0, out: 'CLOSED\n' },
  ],
  'process.exit while models load ends the process cleanly': [
    `for (let at = 0; at < 4; at++) void Model.load(${JSON.stringify(DEMO)}); setImmediate(() => process.exit(3));`,
    { code: 3, out: '' },
  ],
  'an uncaught exception in the middle of streams ends the process as it always does': [
    "context.generateStream('Hi', endless).next(); for await (const _ of context.generateStream('Hi', endless)) throw new Error('mine');",
    { code: 1, out: '' },
  ],
  'a stream that ended in an error that nobody catches is an uncaught exception': [
    "for await (const _ of context.generateStream('Hi', { ...endless, timeoutMs: 20, streamDelayMs: 5 }));",
    { code: 1, out: '' },
  ],
};

for (const [name, [code, expected]] of Object.entries(cases)) {
  test(name, { timeout: 60_000 }, async () => {
    const { code: exit, out, err, signal } = await program(OPEN + code, { limit: 30_000 });
    assert.deepEqual({ code: exit, out, signal }, { ...expected, signal: null }, err);
    if (exit === 1) assert.match(err, /mine|StreamTimeoutError/);
  });
}

/** Runs a program in a worker, and returns its messages. `then` gets the worker once it has said something. */
function worker(code, then = () => {}) {
  const file = `import { parentPort } from 'node:worker_threads';\n${OPEN}\n${code}`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(file.replaceAll("'mullama'", JSON.stringify(new URL('dist/index.mjs', `file://${ROOT}/`).href)))}`);
  const thread = new Worker(url);
  const messages = [];
  return new Promise((resolve, reject) => {
    thread.on('message', (message) => {
      if (messages.push(message) === 1) then(thread);
    });
    thread.once('error', reject);
    thread.once('exit', (exit) => resolve({ exit, messages }));
  });
}

test('worker threads stream at the same time, each with its own model', { timeout: 60_000 }, async () => {
  const engine = await context();
  const settings = { maxTokens: 40, seed: 6 };
  const code = `const { text } = await context.generate(${JSON.stringify(PROMPT)}, ${JSON.stringify(settings)}); parentPort.postMessage(text);`;
  const mine = engine.generate(PROMPT, settings);
  const workers = await Promise.all([1, 2, 3].map(() => worker(code)));
  for (const { exit, messages } of workers) assert.deepEqual([exit, messages], [0, [(await mine).text]]);
});

test('the end of a worker ends its streams, and no one elses', { timeout: 60_000 }, async () => {
  const engine = await context();
  const other = engine.generateStream(PROMPT, { ...ENDLESS, maxTokens: 3000, bufferSize: 8 });
  await other.next();
  const code = "for await (const _ of context.generateStream('Hi', endless)) parentPort.postMessage(context.unfinished);";
  for (let round = 0; round < 5; round++) {
    const { messages } = await worker(code, (thread) => thread.terminate());
    assert.equal(messages[0], 1);
  }
  assert.equal((await other.next()).done, false);
  other.close();
});

test('a process whose workers stream ends cleanly', { timeout: 60_000 }, async () => {
  const stream = `import { Context, Model } from 'mullama'; import { parentPort } from 'node:worker_threads';
    const context = new Context(await Model.load(${JSON.stringify(DEMO)}));
    for await (const _ of context.generateStream('Hi', ${JSON.stringify(ENDLESS)})) parentPort.postMessage('token');`;
  const code = `import { Worker } from 'node:worker_threads';
    const code = ${JSON.stringify(stream)}.replace("'mullama'", JSON.stringify(import.meta.resolve('mullama')));
    for (let at = 0; at < 2; at++) {
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
      await new Promise((resolve) => worker.once('message', resolve));
    }
    process.exit(4);`;
  const { code: exit, signal, err } = await program(code);
  assert.deepEqual([exit, signal], [4, null], err);
});

const COLLECTED = `${ENGINE_THREADS}
const until = async (holds, what) => {
  for (const end = Date.now() + 10_000; !holds(threads()); await new Promise((resolve) => setTimeout(resolve, 10))) {
    globalThis.gc();
    if (Date.now() > end) throw new Error(what + ': ' + threads());
  }
};
`;

test('engines end with the last object that uses them, collected or closed', { timeout: 60_000, skip: process.platform !== 'linux' }, async () => {
  const { code, out, err } = await program(
    `import { Context, Model } from 'mullama';
    ${COLLECTED}
    // Functions of their own, because a function that waits may keep what it used before.
    const generate = async (model, nCtx) => void (await new Context(model, { nCtx }).generate('Hi', 2));
    const use = async () => {
      const model = await Model.load(${JSON.stringify(DEMO)});
      await generate(model, 128);
      await generate(model, 256);
    };
    await use();
    await until((count) => count === 0, 'collected');
    const model = await Model.load(${JSON.stringify(DEMO)});
    const first = await new Context(model, { nCtx: 128 }).ready();
    const second = await new Context(model, { nCtx: 256 }).ready();
    // Streams that are over do not keep their engine.
    const over = first.generateStream('Hi', 2);
    for await (const _ of over);
    const before = threads();
    first.close();
    await until((count) => count < before && count > 0, 'one is closed');
    second.close();
    await model.close();
    await until((count) => count === 0, 'all are closed');
    console.log('ended', over.finishReason);`,
    { args: ['--expose-gc'] },
  );
  assert.deepEqual([code, out], [0, 'ended length\n'], err);
});
