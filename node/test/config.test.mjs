import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Context, InvalidConfigError, Model, pull, StreamConfig } from 'mullama';

import { context, PROMPT } from './support.mjs';

const native = createRequire(import.meta.url)('../native/mullama.node');
const TABLE = JSON.parse(native.streamSettings());

test('TypeScript knows every setting of the core', () => {
  const script = fileURLToPath(new URL('../scripts/generate.mjs', import.meta.url));
  const checked = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
  assert.equal(checked.status, 0, checked.stderr);
});

test('a config has every setting of the core, with its default', () => {
  const config = new StreamConfig();
  assert.deepEqual(Object.keys(config), TABLE.map(({ name }) => name));
  for (const { name, default: value } of TABLE) assert.deepEqual(config[name], name === 'logitBias' ? {} : value, name);
  assert.equal(config.topP, 0.9);
  const again = new StreamConfig(JSON.parse(JSON.stringify(config)));
  assert.deepEqual(again, config);
});

/** The fields of an interface with their comments, as TypeScript has them. */
function declared(name) {
  const types = readFileSync(new URL('../dist/config.d.ts', import.meta.url), 'utf8');
  const [, body] = new RegExp(`^export interface ${name} \\{$(.*?)^\\}`, 'ms').exec(types);
  const fields = body.matchAll(/\/\*\*((?:[^*]|\*(?!\/))*)\*\/\s*(\w+)\?: (.*);/g);
  return Object.fromEntries([...fields].map(([, about, field, type]) => [field, { about, type }]));
}

test('TypeScript knows every setting of an engine, and its values', () => {
  const rows = JSON.parse(native.contextSettings());
  const fields = declared('ContextParams');
  assert.deepEqual(Object.keys(fields), rows.map(({ name }) => name));
  const types = readFileSync(new URL('../dist/config.d.ts', import.meta.url), 'utf8');
  for (const { name, range, names } of rows) {
    const { about, type } = fields[name];
    const stated = / (\d+) to (\d+)/.exec(about);
    if (stated !== null) assert.deepEqual(stated.slice(1).map(Number), range, name);
    if (names === null) continue;
    const union = type.startsWith('KvType') ? /export type KvType = (.*);/.exec(types)[1] : type;
    assert.deepEqual([...union.matchAll(/'(\w+)'/g)].map(([, each]) => each), names, name);
  }
});

test('every setting refuses a value of a wrong type by its name', () => {
  for (const { name } of TABLE) {
    for (const value of [{ no: 1 }, Symbol('no'), () => 1, 'no', true]) {
      const isBoolean = value === true && /^(deterministic|ignoreEos)$/.test(name);
      if (isBoolean) continue;
      assert.throws(() => new StreamConfig({ [name]: value }), (error) => {
        assert.ok(error instanceof TypeError || error instanceof InvalidConfigError, `${name}: ${error}`);
        assert.match(error.message, new RegExp(`(?:^| )${name}\\b`));
        return true;
      }, name);
    }
  }
});

test('every number out of its range is refused, with name, value and range', () => {
  const numbers = TABLE.filter(({ type }) => /32|64/.test(type) && !type.startsWith('Vec'));
  assert.ok(numbers.length > 20);
  for (const { name, range } of numbers) {
    for (const value of [NaN, Infinity, -Infinity, 1e300, -1e300, 10n ** 40n]) {
      assert.throws(() => new StreamConfig({ [name]: value }), (error) => {
        assert.ok(error instanceof InvalidConfigError, `${name} ${value}: ${error}`);
        assert.equal(error.code, 'INVALID_CONFIG');
        assert.deepEqual([error.field, error.range], [name, range.replaceAll('None', 'null')], `${value}`);
        assert.match(error.message, new RegExp(`^${name} is .+, but must be `));
        return true;
      });
    }
  }
  assert.throws(() => new StreamConfig({ topK: 1.5 }), { field: 'topK', value: '1.5', range: '0 to 2147483647' });
  assert.throws(() => new StreamConfig({ seed: -1 }), { message: 'seed is -1, but must be null or 0 to 4294967294' });
});

test('values come in the shapes that JavaScript has for them', () => {
  const config = new StreamConfig({
    timeoutMs: null,
    seed: undefined,
    priority: -5n,
    stopTokens: Int32Array.of(1, 2),
    logitBias: new Map([[5, -Infinity]]),
    stopSequences: ['END'],
  });
  assert.equal(config.timeoutMs, null);
  assert.equal(config.seed, null);
  assert.deepEqual([...config.stopTokens], [1, 2]);
  assert.deepEqual({ ...config.logitBias }, { 5: -Infinity });
  new StreamConfig(config);
});

test('lists and texts have bounds', () => {
  assert.throws(() => new StreamConfig({ stopTokens: new Int32Array(2 ** 21) }), { field: 'stopTokens' });
  assert.throws(() => new StreamConfig({ stopSequences: Array(300).fill('x') }), { field: 'stopSequences' });
  assert.throws(() => new StreamConfig({ stopSequences: ['\ud800'] }), { field: 'stopSequences' });
  assert.throws(() => new StreamConfig({ stopSequences: [''] }), { field: 'stopSequences' });
  assert.throws(() => new StreamConfig({ logitBias: { x: 1 } }), TypeError);
  const entries = Array.from({ length: 200_000 }, (_, id) => [id, 1]);
  for (const logitBias of [Object.fromEntries(entries.slice(0, 70_000)), Object.fromEntries(entries), new Map(entries)]) {
    const count = logitBias.size ?? Object.keys(logitBias).length;
    const expected = { field: 'logitBias', value: `a list of ${count}`, range: 'at most 65536 tokens' };
    assert.throws(() => new StreamConfig({ logitBias }), { name: 'InvalidConfigError', ...expected });
  }
  // More than the core takes for any setting, which are only counted.
  const many = new Map(Array.from({ length: 2 ** 20 + 1 }, (_, id) => [id, 1]));
  for (const logitBias of [many, Object.fromEntries(many)]) {
    assert.throws(() => new StreamConfig({ logitBias }), { name: 'InvalidConfigError', field: 'logitBias', value: /1048577/ });
  }
});

test('an unknown name is refused, with the name that was meant', () => {
  assert.throws(() => new StreamConfig({ max_tokens: 5 }), { name: 'TypeError', message: /did you mean maxTokens\?/ });
  assert.throws(() => new StreamConfig({ stop: ['x'] }), /did you mean stopSequences\?/);
  assert.throws(() => new StreamConfig({ nonsense: 5 }), /it has maxTokens, temperature/);
  for (const wrong of [null, 5, 'x', []]) assert.throws(() => new StreamConfig(wrong), TypeError);
});

test('params of an engine are checked by the constructor', async () => {
  const { model } = await context();
  assert.throws(() => new Context(model, { nParallel: 0 }), { message: 'nParallel is 0, but must be 1 to 256' });
  assert.throws(() => new Context(model, { typeK: 'f8' }), { code: 'INVALID_CONFIG', field: 'typeK' });
  assert.throws(() => new Context(model, { n_ctx: 5 }), /did you mean nCtx\?/);
  assert.throws(() => new Context('demo'), /new Context\(await Model\.load\(path\)\)/);
});

test('a wrong argument of a call is refused at once', async () => {
  const engine = await context();
  assert.throws(() => engine.generateStream(5), /prompt must be a string/);
  assert.throws(() => engine.generateStream([1.5]), /prompt\[0\] must be a token id, not 1\.5/);
  assert.throws(() => engine.generateStream(PROMPT, 'ten'), TypeError);
  assert.throws(() => engine.generateStream(PROMPT, -1), { code: 'INVALID_CONFIG', field: 'maxTokens' });
  assert.throws(() => engine.generateStream(PROMPT, 5, { singal: 1 }), TypeError);
  assert.throws(() => engine.chatStream('Hello'), /messages must be an array/);
});

test('what is no signal and no function is refused by its name', async () => {
  const engine = await context();
  assert.throws(() => engine.generateStream(PROMPT, 5, { signal: {} }), /signal must be an AbortSignal, not object/);
  await assert.rejects(engine.model.tokenize('x', { signal: 5 }), /signal must be an AbortSignal, not number/);
  await assert.rejects(Model.load('demo', { progress: 5 }), /progress must be a function, not number/);
  await assert.rejects(pull('demo', { progres: 5 }), /has no field progres/);
  await assert.rejects(Model.load(5), /path must be a string or a URL, not number/);
});

test('what a program throws in a progress function is what the load rejects with', async () => {
  const mine = new Error('{"class":"mine"}');
  const throws = () => {
    throw mine;
  };
  await assert.rejects(Model.load('demo', { progress: throws }), (error) => error === mine);
  const seen = [];
  await Model.load('demo', { progress: (fraction) => seen.push(fraction) });
  assert.ok(seen.length > 0 && seen.every((fraction) => fraction >= 0 && fraction <= 1), `${seen}`);
});

test('many calls of the tokenizer at once are answered in a few threads', async () => {
  const { model } = await context();
  const texts = Array.from({ length: 500 }, (_, at) => `number ${at}`);
  const ids = await Promise.all(texts.map((text) => model.tokenize(text, { addSpecial: false })));
  assert.deepEqual(await Promise.all(ids.map((each) => model.detokenize(each))), texts);
});

test('a config stores what was checked, and nothing that is inherited', () => {
  assert.equal(new StreamConfig(Object.create({ maxTokens: 5 })).maxTokens, 256);
  let reads = 0;
  const changing = { get maxTokens() { return ++reads; } };
  assert.equal(new StreamConfig(changing).maxTokens, 1);
});

test('wrong parts of a chat are refused by their names', async () => {
  const engine = await context();
  const chat = (options, message = { role: 'user', content: 'x' }) => () => engine.chatStream([message], 1, options);
  assert.throws(chat({ tools: 5 }), { name: 'TypeError', message: 'tools must be an array, not number' });
  assert.throws(chat({ chatTemplate: {} }), /chatTemplate must be a string, not object/);
  assert.throws(chat({ chatTemplateKwargs: [] }), /chatTemplateKwargs must be an object, not array/);
  let deep = [];
  for (let level = 0; level < 20_000; level++) deep = [deep];
  assert.throws(chat({}, { role: 'user', content: 'x', deep }), /must not be nested that deeply/);
  assert.throws(() => engine.generateStream([Infinity]), /prompt\[0\] must be a token id, not Infinity/);
  assert.throws(() => new Model(), /Model\.load/);
});
