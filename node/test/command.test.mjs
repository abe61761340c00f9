import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { ended } from './support.mjs';

const COMMAND = fileURLToPath(new URL('../bin/mullama.mjs', import.meta.url));

const run = (...args) => ended(spawn(process.execPath, [COMMAND, ...args], { stdio: ['ignore', 'pipe', 'pipe'] }));

test('the command streams an answer, and continues a text with --raw', { timeout: 60_000 }, async () => {
  for (const more of [[], ['--raw']]) {
    const { code, out, err } = await run('run', 'demo', 'Write a poem:', '--max-tokens', '20', '--seed', '1', ...more);
    assert.deepEqual([code, err], [0, '']);
    assert.ok(out.length > 20 && out.endsWith('\n'));
  }
});

test('errors have the exit codes of the command line in Python, and no stack', { timeout: 60_000 }, async () => {
  const cases = [[['run', 'demo', 'x', '--temperature', 'warm'], 2], [['run', './missing.gguf', 'x'], 3], [['walk'], 2], [['run', 'demo'], 2], [['--nonsense'], 2]];
  for (const [args, expected] of cases) {
    const { code, err } = await run(...args);
    assert.equal(code, expected, args.join(' '));
    assert.match(err, /^mullama: /);
    assert.doesNotMatch(err, /\n {4}at /);
  }
  const { code, out } = await run('--help');
  assert.deepEqual([code, out.startsWith('usage:')], [0, true]);
});

test('Ctrl-C and a reader that leaves end the generation', { timeout: 60_000 }, async () => {
  const long = [COMMAND, 'run', 'demo', 'Write a story:', '--raw', '--max-tokens', '100000'];
  const child = spawn(process.execPath, long, { stdio: ['ignore', 'pipe', 'pipe'] });
  const result = ended(child);
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  const { code, signal } = await result;
  // The demo's context may be full before the signal arrives.
  assert.ok(code === 130 || code === 0, `${code} ${signal}`);
  const piped = spawnSync('sh', ['-c', `"$0" "$@" | head -c 5`, process.execPath, ...long], { encoding: 'utf8', timeout: 30_000 });
  assert.deepEqual([piped.status, piped.stdout.length, piped.stderr], [0, 5, '']);
});

test('what cannot be written is an error, and so is a number that is empty', { timeout: 60_000, skip: process.platform !== 'linux' }, async () => {
  const full = spawnSync('sh', ['-c', '"$0" "$@" > /dev/full', process.execPath, COMMAND, 'run', 'demo', 'Hi'], { encoding: 'utf8', timeout: 30_000 });
  assert.deepEqual([full.status, full.stderr], [1, 'mullama: cannot write: ENOSPC: no space left on device, write\n']);
  for (const option of ['--max-tokens=', '--temperature= ', '--seed=']) {
    const { code, out, err } = await run('run', 'demo', 'Hi', option);
    assert.deepEqual([code, out], [2, '']);
    assert.match(err, /^mullama: --[a-z-]+ needs a number\nusage: /);
  }
  const { code, out } = await run('-h');
  assert.deepEqual([code, out.startsWith('usage:')], [0, true]);
});
