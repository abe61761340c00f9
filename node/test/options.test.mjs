import assert from 'node:assert/strict';
import { test } from 'node:test';
import vm from 'node:vm';

import { AsyncModel, Context, Model, pull, StreamConfig } from 'mullama';

import { context, PROMPT } from './support.mjs';

test('an object that can have no options is refused instead of being taken as no options', async () => {
  const engine = await context();
  const { signal } = new AbortController();
  const objects = [signal, new AbortController(), new Map([['maxTokens', 5]]), new Set(), Promise.resolve({}), new Date(), Object(5), /x/, new Int32Array(0)];
  for (const wrong of objects) {
    const error = { name: 'TypeError', message: new RegExp(`must be an object, not ${wrong.constructor.name}`) };
    assert.throws(() => engine.generateStream(PROMPT, 5, wrong), error);
    assert.throws(() => engine.chatStream([{ role: 'user', content: 'x' }], 5, wrong), error);
    assert.throws(() => engine.generateStream(PROMPT, wrong), error);
    assert.throws(() => new StreamConfig(wrong), error);
    assert.throws(() => new Context(engine.model, wrong), error);
    await assert.rejects(engine.model.tokenize('x', wrong), error);
    await assert.rejects(Model.load('demo', wrong), error);
    await assert.rejects(AsyncModel.load('demo', wrong), error);
    await assert.rejects(AsyncModel.load('demo', { contextParams: wrong }), error);
    await assert.rejects(pull('demo', wrong), error);
  }
  assert.throws(() => engine.generateStream(PROMPT, 5, signal), /\{ signal \} is one/);
  assert.throws(() => engine.generateStream(PROMPT, Promise.resolve(5)), /await it first/);
  assert.throws(() => new Context(Promise.resolve(engine.model)), /new Context\(await Model\.load\(path\)\)/);
  for (const wrong of [5, 'x', null, []]) await assert.rejects(AsyncModel.load('demo', wrong), { code: 'ERR_INVALID_ARG_TYPE' });
  // An object of a program's own class, of another realm or without a prototype has options.
  class Own {
    maxTokens = 5;
  }
  for (const own of [new Own(), vm.runInNewContext('({ maxTokens: 5 })'), Object.assign(Object.create(null), { maxTokens: 5 })]) {
    assert.equal(new StreamConfig(own).maxTokens, 5);
  }
});

test('a value is what it is, and not what its JSON would be', () => {
  const imposters = [Object(5), { $: ['number', '5'] }, { toJSON: () => 5 }, new (class extends Number {})(5), vm.runInNewContext('Object(5)')];
  for (const wrong of imposters) {
    for (const field of ['maxTokens', 'bufferSize', 'temperature', 'seed', 'priority']) {
      assert.throws(() => new StreamConfig({ [field]: wrong }), { name: 'TypeError', message: new RegExp(`^${field} must be .* not .*object$`) });
    }
    assert.throws(() => new StreamConfig({ stopTokens: [1, wrong] }), { name: 'TypeError', message: /^stopTokens\[1\]/ });
    assert.throws(() => new StreamConfig({ logitBias: { 5: wrong } }), { name: 'TypeError', message: /^logitBias\[5\]/ });
  }
  for (const wrong of [{ $: ['list', '0'] }, { $: ['text', 'x'] }, new Date(), new DataView(new ArrayBuffer(4)), Object('x')]) {
    assert.throws(() => new StreamConfig({ stopTokens: wrong }), { name: 'TypeError', message: /^stopTokens must be an array/ });
    assert.throws(() => new StreamConfig({ stopSequences: [wrong] }), { name: 'TypeError', message: /^stopSequences\[0\] must be a string/ });
  }
  assert.throws(() => new StreamConfig({ deterministic: Object(false) }), TypeError);
  assert.throws(() => new StreamConfig({ logitBias: new Date() }), TypeError);
  assert.throws(() => new StreamConfig({ logitBias: { $: ['number', '5'] } }), TypeError);
});

test('a program may give bigint a notation in JSON', () => {
  BigInt.prototype.toJSON = function () {
    return `${this}`;
  };
  try {
    const config = new StreamConfig({ priority: -5n, timeoutMs: 2n ** 63n, stopTokens: [1n, 2] });
    assert.deepEqual([config.priority, config.timeoutMs, config.stopTokens], [-5, 2n ** 63n, [1, 2]]);
  } finally {
    delete BigInt.prototype.toJSON;
  }
});

test('a value that has itself in it is of a wrong type', () => {
  const list = [];
  list.push(list);
  const map = {};
  map.map = map;
  for (const wrong of [list, map]) {
    for (const field of ['maxTokens', 'stopSequences', 'stopTokens', 'logitBias']) {
      assert.throws(() => new StreamConfig({ [field]: wrong }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }, field);
    }
  }
});

test('each option is read once, so what is checked is what is used', async () => {
  const { model } = await context();
  const counted = (fields) => {
    const read = new Set();
    const get = (target, name) => (Object.hasOwn(target, name) && read.size === read.add(name).size ? 'something else' : target[name]);
    return new Proxy(fields, { get });
  };
  const fresh = new Context(model, counted({ nCtx: 600, nParallel: 2 }));
  assert.deepEqual(fresh.params, { nCtx: 600, nParallel: 2 });
  const stream = fresh.generateStream(PROMPT, counted({ maxTokens: 2 }), counted({ signal: new AbortController().signal }));
  for await (const _ of stream);
  assert.equal(stream.tokensGenerated, 2);
  await model.tokenizeChat([{ role: 'user', content: 'x' }], counted({ signal: new AbortController().signal }));
  fresh.close();
});

test('a name of a hundred megabytes is refused in a moment', () => {
  const options = { ['word_'.repeat(20_000_000)]: 1 };
  const began = process.cpuUsage();
  assert.throws(() => new StreamConfig(options), { name: 'TypeError', message: /has no field (?:word_)+;/ });
  assert.ok(process.cpuUsage(began).user < 1_500_000);
});
