// Packs the packages, installs them into an empty project, and runs a program there, as ESM and as CommonJS. publint and attw
// look at the main one.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const project = mkdtempSync(join(tmpdir(), 'mullama-project-'));
const npm = (...args) => execFileSync('npm', ['--silent', '--no-audit', '--no-fund', ...args], { cwd: project, encoding: 'utf8' });

try {
  execFileSync(process.execPath, [join(root, 'scripts', 'platforms.mjs')], { stdio: 'inherit' });
  const archives = readdirSync(join(root, 'out')).map((name) => `./${npm('pack', join(root, 'out', name)).trim()}`);
  writeFileSync(join(project, 'package.json'), '{"private": true}');
  npm('install', '--offline', '--omit=optional', ...archives);
  const body = `const context = new Context(await Model.load('demo'));
    for await (const token of context.generateStream('Write a poem:', 200)) process.stdout.write(token.text);`;
  writeFileSync(join(project, 'esm.mjs'), `import { Model, Context } from 'mullama';\n${body}`);
  writeFileSync(join(project, 'cjs.cjs'), `const { Model, Context } = require('mullama');\n(async () => {${body}})();`);
  for (const program of ['esm.mjs', 'cjs.cjs']) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program], { cwd: project, encoding: 'utf8', timeout: 120_000 });
    if (status !== 0 || stderr !== '' || stdout.length < 50) throw new Error(`${program}: ${status}\n${stdout}\n${stderr}`);
  }
  const bin = (name) => join(root, 'node_modules', '.bin', name);
  execFileSync(bin('publint'), ['--strict'], { cwd: join(root, 'out', 'mullama'), stdio: 'inherit' });
  execFileSync(bin('attw'), ['--pack', '.', '--format', 'ascii'], { cwd: join(root, 'out', 'mullama'), stdio: 'inherit' });
  console.log('the packages work in an empty project, as ESM and as CommonJS');
} finally {
  rmSync(project, { recursive: true, force: true });
}
