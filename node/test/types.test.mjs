import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

import { ROOT } from './support.mjs';

for (const module of ['nodenext', 'esnext']) {
  test(`a program in TypeScript compiles against the package, with --module ${module}`, { timeout: 60_000 }, () => {
    const resolution = module === 'esnext' ? ['--moduleResolution', 'bundler'] : [];
    const options = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2023,esnext.disposable', '--types', 'node', '--skipLibCheck', 'false'];
    const args = ['node_modules/typescript/bin/tsc', '--module', module, ...resolution, ...options, '--moduleDetection', 'force', '--ignoreConfig', 'test/types/program.mts'];
    const { status, stdout } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  });
}

test('the types need neither those of Node.js nor those of the newest JavaScript', { timeout: 60_000 }, () => {
  const { status, stdout } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '--project', 'test/types/plain.json'], { cwd: ROOT, encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});
