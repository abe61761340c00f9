import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as esm from 'mullama';

import { program } from './support.mjs';

const require = createRequire(import.meta.url);

test('ESM and CommonJS have the same classes', () => {
  const cjs = require('mullama');
  const names = Object.keys(cjs).filter((name) => name !== '__esModule');
  assert.deepEqual(Object.keys(esm).sort(), names.sort());
  for (const name of names) assert.equal(esm[name], cjs[name], name);
});

test('the package has the version of its native module', () => {
  assert.equal(require('mullama/package.json').version, esm.version);
});

test('a program that only imports the package ends at once', { timeout: 20_000 }, async () => {
  const { code, out, err } = await program("import 'mullama'; console.log('imported');");
  assert.deepEqual([code, out, err], [0, 'imported\n', '']);
});

test('a platform without a build is told so', async () => {
  const { code, err } = await program(`
    Object.defineProperty(process, 'platform', { value: 'sunos' });
    const { createRequire } = await import('node:module');
    const { packageName, SUPPORTED } = createRequire(process.cwd() + '/')('./dist/platforms.js');
    if (packageName() !== undefined || SUPPORTED.length < 3) process.exit(1);
  `);
  assert.equal(code, 0, err);
});

test('looking for the C library does not wait for the names of peers', { skip: process.report.excludeNetwork === undefined || process.platform !== 'linux' }, () => {
  const { packageName } = require('../dist/platforms.js');
  const own = process.report.getReport;
  const excluded = [];
  process.report.getReport = function () {
    excluded.push(process.report.excludeNetwork);
    return own.call(process.report);
  };
  try {
    assert.match(packageName(), /^@mullama\/linux-/);
  } finally {
    process.report.getReport = own;
  }
  assert.deepEqual([excluded, process.report.excludeNetwork], [[true], false]);
});

test('the types are commented for people', () => {
  const types = readFileSync(new URL('../dist/stream.d.ts', import.meta.url), 'utf8');
  assert.match(types, /At most `bufferSize` tokens are computed ahead of the reader/);
  assert.doesNotMatch(types, /@internal|NativeStream/);
});

test('a processor that lacks what the module was compiled for is refused by the names of the features', () => {
  const { missing, checkProcessor } = require('../dist/processor.js');
  assert.deepEqual(missing(['avx2', 'sse4.1', 'fxsr', 'fma'], 'sse sse4_1 avx'), ['avx2', 'fma']);
  assert.deepEqual(missing(['avx2'], ''), []);
  const file = join(mkdtempSync(join(tmpdir(), 'mullama-')), 'features.json');
  writeFileSync(file, '["sse2", "sve2", "avx512vp2intersect"]');
  assert.throws(() => checkProcessor(file), /compiled for a processor with .*(sve2|avx512vp2intersect).*MULLAMA_PORTABLE=1/);
  checkProcessor(fileURLToPath(new URL('../native/features.json', import.meta.url)));
});
