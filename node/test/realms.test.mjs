import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import vm from 'node:vm';
import { MessageChannel, Worker } from 'node:worker_threads';

import { Context } from 'mullama';

import { context, DEMO, ENDLESS, program, PROMPT, ROOT, until } from './support.mjs';

const require = createRequire(import.meta.url);
const ENTRY = join(ROOT, 'dist', 'index.js');

/** The package in a realm of its own, as a test runner loads it for each file. */
function loadedElsewhere() {
  const shared = ['process', 'URL', 'AbortController', 'performance', 'ReadableStream', 'TextEncoder'];
  const realm = vm.createContext(Object.fromEntries(shared.map((name) => [name, globalThis[name]])));
  const modules = new Map();
  const load = (file) => {
    if (!file.startsWith('/') || file.endsWith('.node')) return require(file);
    if (modules.has(file)) return modules.get(file).exports;
    const module = { exports: {} };
    modules.set(file, module);
    const code = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`;
    const near = (name) => load(name.startsWith('.') ? join(dirname(file), name) : name);
    vm.runInContext(code, realm, { filename: file })(module.exports, near, module, file, dirname(file));
    return module.exports;
  };
  return load(ENTRY);
}

test('the package works in a realm of its own, and its errors are of its own classes', { timeout: 60_000 }, async () => {
  const other = loadedElsewhere();
  const model = await other.Model.load(DEMO);
  const engine = new other.Context(model);
  let count = 0;
  for await (const token of engine.generateStream(PROMPT, 5)) count += token instanceof other.Token;
  assert.equal(count, 5);
  assert.throws(() => new other.StreamConfig({ topP: 2 }), (error) => error instanceof other.InvalidConfigError && error.field === 'topP');
  assert.throws(() => new other.StreamConfig({ topP: 'x' }), { name: 'TypeError', message: 'topP must be a number, not string' });
  await assert.rejects(engine.generate(Array(100_000).fill(5)), (error) => error instanceof other.ContextOverflowError);
  await assert.rejects(other.Model.load('./missing.gguf'), (error) => error instanceof other.ModelNotFoundError);
  await model.close();
});

test('arguments of another realm are what they are', { timeout: 60_000 }, async () => {
  const engine = await context();
  const of = (code) => vm.runInNewContext(code);
  const settings = { maxTokens: 4, temperature: 0 };
  const expected = (await engine.generate([1, 2, 3], settings)).text;
  for (const ids of ['[1, 2, 3]', 'Int32Array.of(1, 2, 3)', 'Uint32Array.of(1, 2, 3)']) {
    assert.equal((await engine.generate(of(ids), of('({ maxTokens: 4, temperature: 0 })'))).text, expected, ids);
  }
  const biased = await engine.generate('x', of('({ maxTokens: 2, logitBias: new Map([[500, 1e9]]), temperature: 0 })'));
  assert.deepEqual(biased.tokens.map(({ id }) => id), [500, 500]);
  assert.throws(() => engine.generateStream('x', of('({ stopTokens: new Set([1]) })')), { name: 'TypeError' });
  assert.ok((await engine.chat(of('[{ role: "user", content: "Hi" }]'), 2)).text.length > 0);
  // A signal of another realm, or a polyfill, is an event target with the same members.
  const signal = Object.assign(new EventTarget(), { aborted: false, reason: undefined });
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, streamDelayMs: 60_000 }, { signal });
  await stream.next();
  const pending = stream.next();
  Object.assign(signal, { aborted: true, reason: 'theirs' }).dispatchEvent(new Event('abort'));
  await assert.rejects(pending, (reason) => reason === 'theirs');
});

test('two copies of the package in one process do not know each other, and both work', { timeout: 60_000 }, async () => {
  const engine = await context();
  for (const file of Object.keys(require.cache)) if (file.startsWith(ROOT)) delete require.cache[file];
  const second = require(ENTRY);
  assert.notEqual(second.Context, Context);
  const model = await second.Model.load(DEMO);
  const settings = { maxTokens: 8, seed: 3 };
  const [mine, other] = await Promise.all([engine.generate(PROMPT, settings), new second.Context(model).generate(PROMPT, settings)]);
  assert.equal(mine.text, other.text);
  assert.throws(() => new Context(model), { name: 'TypeError' });
  await model.close();
});

test('a web stream that another thread reads has every token, and its end there closes the stream', { timeout: 60_000 }, async () => {
  const engine = await context();
  const moved = async (stream) => {
    const { port1, port2 } = new MessageChannel();
    const web = stream.toReadableStream(({ text }) => text);
    port1.postMessage(web, [web]);
    return [await new Promise((resolve) => port2.once('message', resolve)), port1];
  };
  const whole = engine.generateStream(PROMPT, { maxTokens: 12 });
  const [readable, port] = await moved(whole);
  let text = '';
  for await (const piece of readable) text += piece;
  assert.equal(text, whole.text);
  port.close();
  const left = engine.generateStream(PROMPT, ENDLESS);
  const [stopped, other] = await moved(left);
  for await (const _ of stopped) break;
  await until(() => left.finishReason === 'cancelled');
  other.close();
  await until(() => engine.unfinished === 0);
});

test('a stream is read once: a second loop finds nothing, and a loop beside another is refused', async () => {
  const engine = await context();
  const stream = engine.generateStream(PROMPT, { maxTokens: 6, ignoreEos: true, streamDelayMs: 50 });
  await stream.next();
  const read = async () => {
    let count = 0;
    for await (const _ of stream) count++;
    return count;
  };
  const [first, second] = await Promise.allSettled([read(), read()]);
  assert.deepEqual([first.value, second.reason?.code, await read()], [5, 'STREAM_BUSY', 0]);
});

test('streams that failed and that nobody reads raise nothing', { timeout: 60_000 }, async () => {
  const { code, out, err } = await program(`
    import { setTimeout as sleep } from 'node:timers/promises';
    import { Context, Model } from 'mullama';
    const model = await Model.load(${JSON.stringify(DEMO)});
    const context = await new Context(model).ready();
    process.on('unhandledRejection', (error) => console.log('unhandled', error));
    const endless = ${JSON.stringify(ENDLESS)};
    const small = new Context(model, { nCtx: 1 });
    globalThis.kept = [
      context.generateStream('Hi', { ...endless, timeoutMs: 20, streamDelayMs: 10 }),
      context.generateStream(Array(100_000).fill(5)),
      context.generateStream('a\\ud800'),
      context.generateStream('Hi', endless, { signal: AbortSignal.timeout(10) }),
      context.generateStream('Hi', endless, { signal: AbortSignal.abort() }),
      small.generateStream('Hi', endless),
      context.generateStream('Hi', { ...endless, timeoutMs: 20, streamDelayMs: 10 }).toReadableStream(),
    ];
    await small.ready().catch(() => {});
    for (const end = Date.now() + 30_000; context.unfinished + small.unfinished > 0; await sleep(2)) {
      if (Date.now() > end) throw new Error('they have not ended');
    }
    await model.close();
    await sleep(50);
    console.log('quiet');`);
  assert.deepEqual([code, out, err], [0, 'quiet\n', '']);
});

test('await using closes a stream, a context and a model', { skip: Number(process.versions.node.split('.')[0]) < 24 }, async () => {
  const { code, out, err } = await program(`
    import { Context, Model } from 'mullama';
    let seen;
    {
      await using model = await Model.load(${JSON.stringify(DEMO)});
      await using context = new Context(model);
      await using stream = context.generateStream('Hi', ${JSON.stringify(ENDLESS)});
      await stream.next();
      seen = { model, context, stream };
    }
    console.log(seen.stream.finishReason);
    try { seen.context.generateStream('Hi'); } catch (error) { console.log(error.what); }
    await seen.model.tokenize('Hi').catch((error) => console.log(error.what));`);
  assert.deepEqual([code, out, err], [0, 'cancelled\ncontext\nmodel\n', '']);
});

/** Runs a program in a worker, which is ended as soon as it has said something. */
async function cut(code) {
  const prelude = `const { Context, Model } = require(${JSON.stringify(ENTRY)}); const { parentPort } = require('node:worker_threads');
    const DEMO = ${JSON.stringify(DEMO)}; const endless = ${JSON.stringify(ENDLESS)};`;
  const worker = new Worker(`${prelude} (async () => {${code}})();`, { eval: true });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await worker.terminate();
}

test('workers that end in the middle of anything leave no thread and no memory', { timeout: 300_000 }, async () => {
  const programs = [
    // A load, the start of an engine, a long tokenization, a stream, many streams.
    "const load = Model.load(DEMO, { progress: () => parentPort.postMessage('') }); await load; parentPort.postMessage('');",
    "const context = new Context(await Model.load(DEMO)); const read = context.generateStream('Hi', endless).next(); parentPort.postMessage(''); await read;",
    "const model = await Model.load(DEMO); const ids = model.tokenize('word '.repeat(200_000)); parentPort.postMessage(''); await ids;",
    "const context = new Context(await Model.load(DEMO)); for await (const _ of context.generateStream('Hi', endless)) parentPort.postMessage('');",
    "const context = new Context(await Model.load(DEMO)); for (let at = 0; at < 40; at++) context.generateStream('Hi', endless).next(); parentPort.postMessage('');",
  ];
  const engines = () => {
    const tasks = process.platform === 'linux' ? readdirSync('/proc/self/task') : [];
    // A thread may end while they are counted.
    return tasks.filter((id) => {
      try {
        return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').startsWith('mullama-engine');
      } catch {
        return false;
      }
    }).length;
  };
  const rounds = async (count) => {
    for (let round = 0; round < count; round++) for (const code of programs) await cut(code);
  };
  const before = engines();
  await rounds(3);
  const resident = process.memoryUsage().rss;
  await rounds(6);
  await until(() => engines() === before, 'no engine of a worker');
  // The system takes back what they had when their threads have ended.
  const more = () => (process.memoryUsage().rss - resident) / 2 ** 20;
  await until(() => more() < 24, 'less than 24 MB more');
  assert.ok((await (await context()).generate(PROMPT, 3)).text.length > 0);
});
