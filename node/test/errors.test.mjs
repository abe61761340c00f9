import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import * as mullama from 'mullama';

import { context, DEMO, ENDLESS, program, PROMPT, until } from './support.mjs';

const { Context, Model } = mullama;

/** The error that the call throws or rejects with. */
async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}

const folder = mkdtempSync(join(tmpdir(), 'mullama-'));

/** How each code comes about: the class, and the facts. */
const RAISED = {
  MODEL_NOT_FOUND: ['ModelNotFoundError', () => Model.load('./missing.gguf'), { path: './missing.gguf', modelName: null }],
  MODEL_LOAD: [
    'ModelLoadError',
    () => {
      writeFileSync(join(folder, 'broken.gguf'), readFileSync(DEMO).subarray(0, 1000));
      return Model.load(join(folder, 'broken.gguf'));
    },
    { path: join(folder, 'broken.gguf') },
  ],
  INVALID_CONFIG: ['InvalidConfigError', () => new mullama.StreamConfig({ topP: 2 }), { field: 'topP', value: '2', range: '0.0 to 1.0' }],
  INVALID_PROMPT: ['InvalidPromptError', async () => (await context()).generate('a\ud800b'), { position: 1, token: null }],
  CONTEXT_OVERFLOW: [
    'ContextOverflowError',
    async () => (await context()).generate(Array(100_000).fill(5)),
    { promptTokens: 100_000, isLowerBound: false },
  ],
  TEMPLATE_ERROR: [
    'ChatTemplateError',
    async () => (await context()).chat([{ role: 'user', content: 'x' }], 1, { chatTemplate: '{{ raise_exception("no") }}' }),
    { line: 1 },
  ],
  OVERLOADED: [
    'OverloadedError',
    async () => {
      const engine = await context({ nParallel: 1, maxQueue: 0 });
      const stream = engine.generateStream(PROMPT, ENDLESS);
      try {
        engine.generateStream(PROMPT, 5);
      } finally {
        stream.close();
      }
    },
    { unfinished: 1, limit: 1 },
  ],
  STREAM_TIMEOUT: [
    'StreamTimeoutError',
    async () => (await context()).generate(PROMPT, { ...ENDLESS, timeoutMs: 60, streamDelayMs: 20 }),
    { deadline: 'timeoutMs', limitMs: 60 },
  ],
  GENERATION_ERROR: [
    'GenerationError',
    async () => {
      const path = join(folder, 'changed.gguf');
      writeFileSync(path, readFileSync(DEMO));
      const engine = await new Context(await Model.load(path)).ready();
      writeFileSync(path, Buffer.concat([readFileSync(DEMO), Buffer.from('more')]));
      return engine.generate(PROMPT, 5);
    },
    {},
  ],
  STREAM_BUSY: [
    'StreamBusyError',
    async () => {
      const stream = (await context()).generateStream(PROMPT, { ...ENDLESS, streamDelayMs: 1000 });
      await stream.next();
      void stream.next();
      return stream.next().finally(() => stream.close());
    },
    {},
  ],
  CLOSED: [
    'EngineClosedError',
    async () => {
      const engine = new Context((await context()).model, { nCtx: 99 });
      engine.close();
      return engine.generate(PROMPT);
    },
    { what: 'context' },
  ],
  DOWNLOAD_ERROR: [
    'DownloadError',
    async () => {
      const { out, err } = await program(`
        process.env.MULLAMA_OFFLINE = '1';
        process.env.MULLAMA_MODELS = ${JSON.stringify(folder)};
        const { pull } = await import('mullama');
        await pull('nothing-of-this-name:1b').catch((error) => console.log(JSON.stringify({ ...error, name: error.name, message: error.message })));
      `);
      assert.ok(out, err);
      const { message, name, ...facts } = JSON.parse(out);
      throw Object.assign(new mullama[name](message, facts));
    },
    { reason: 'offline' },
  ],
};

/** The facts that TypeScript knows for a class. */
function declared(name) {
  const types = readFileSync(new URL('../dist/errors.d.ts', import.meta.url), 'utf8');
  const [, body] = new RegExp(`^export declare class ${name} .*?\\{$(.*?)^\\}`, 'ms').exec(types);
  return [...body.matchAll(/^ {4}readonly (\w+):/gm)].map(([, fact]) => fact).filter((fact) => fact !== 'code');
}

for (const [code, [name, raise, facts]] of Object.entries(RAISED)) {
  test(`${code} is raised for real, as ${name} with its facts`, { timeout: 60_000 }, async () => {
    const error = await failure(raise);
    assert.ok(error instanceof mullama[name] && error instanceof mullama.MullamaError && error instanceof Error, `${error}`);
    assert.deepEqual([error.code, error.name], [code, name]);
    assert.ok(error.message.length > 10);
    for (const [fact, value] of Object.entries(facts)) assert.deepEqual(error[fact], value, fact);
    const own = Object.keys(error).filter((property) => property !== 'code');
    assert.deepEqual(own.sort(), declared(name).sort(), 'TypeScript declares the facts that the core has');
    assert.doesNotMatch(error.message, /\b[a-z]+_[a-z]+\b(?!\.gguf)/, 'names are those of JavaScript');
  });
}

test('a call is refused while maxPaused streams are paused', { timeout: 60_000 }, async () => {
  const engine = await context({ nParallel: 1, maxQueue: 0, maxPaused: 1 });
  const stream = engine.generateStream(PROMPT, { ...ENDLESS, bufferSize: 1 });
  await until(() => engine.stats().paused === 1);
  const error = await failure(async () => engine.generateStream(PROMPT, 5));
  stream.close();
  assert.deepEqual([error.code, error.unfinished, error.limit], ['OVERLOADED', 1, 1]);
  assert.match(error.message, /maxPaused/);
  assert.doesNotMatch(error.message, /max_paused/);
});

test('every class and every code of the core is raised by a test', () => {
  const classes = Object.keys(mullama).filter((name) => name.endsWith('Error') && name !== 'MullamaError');
  const raised = Object.entries(RAISED).map(([code, [name]]) => [name, code]);
  assert.deepEqual(classes.sort(), raised.map(([name]) => name).sort());
  const { errorClasses } = createRequire(import.meta.url)('../native/mullama.node');
  // Only a frontend knows that a second reader has come.
  const core = [...JSON.parse(errorClasses()), ['StreamBusyError', 'STREAM_BUSY']];
  assert.deepEqual(core.sort(), raised.sort());
});

test('what was generated before a failure is in the error of generate', async () => {
  const error = await failure(async () => (await context()).generate(PROMPT, { ...ENDLESS, timeoutMs: 200, streamDelayMs: 20 }));
  assert.equal(error.completion.finishReason, 'timeout');
  assert.equal(error.completion.tokens.length, error.completionTokens);
  assert.equal(error.completion.text, error.completion.tokens.join(''));
});

test('closing a model ends its streams with CLOSED', async () => {
  const model = await Model.load(DEMO);
  const engine = await new Context(model).ready();
  const stream = engine.generateStream(PROMPT, ENDLESS);
  await stream.next();
  await model.close();
  const error = await failure(async () => {
    for await (const _ of stream);
  });
  assert.equal(error.code, 'CLOSED');
  assert.throws(() => new Context(model), { code: 'CLOSED', what: 'model' });
  assert.throws(() => engine.generateStream(PROMPT), { code: 'CLOSED' });
  await assert.rejects(model.tokenize('x'), { code: 'CLOSED' });
});

test('a download tells how far it is, and is aborted by a signal', { timeout: 60_000 }, async (t) => {
  const model = readFileSync(DEMO);
  const server = createServer((request, response) => {
    response.setHeader('content-length', model.length);
    response.end(request.method === 'HEAD' ? undefined : model);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${server.address().port}/demo.gguf`;
  const { out, err } = await program(`
    process.env.MULLAMA_MODELS = ${JSON.stringify(join(folder, 'store'))};
    const { Context, Model, pull } = await import('mullama');
    await pull(${JSON.stringify(url)}, { signal: AbortSignal.abort() }).catch((error) => console.log(error.name));
    const seen = [];
    const local = await pull(${JSON.stringify(url)}, { progress: (progress) => seen.push(progress) });
    console.log(local.size, seen.at(-1).phase, seen.at(-1).done);
    const context = new Context(await Model.load(${JSON.stringify(url)}, { pull: false }));
    console.log((await context.generate('Hi', 3)).tokens.length);
  `);
  assert.equal(out, `AbortError\n${model.length} done ${model.length}\n3\n`, err);
});

