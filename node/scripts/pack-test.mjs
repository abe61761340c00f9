// Packs the packages, installs them into an empty project, and runs a program there, as ESM and as CommonJS. publint and attw
// look at the main one.
//
// With --portable, the package of the platform is the one for every machine, and its libraries must be loaded from its own
// folder, whatever the environment names. With --out, the archives are left in that folder.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { portable: { type: 'boolean', default: false }, out: { type: 'string' } } });
const root = fileURLToPath(new URL('..', import.meta.url));
const project = realpathSync(mkdtempSync(join(tmpdir(), 'mullama-project-')));
const npm = (...args) => execFileSync('npm', ['--silent', '--no-audit', '--no-fund', ...args], { cwd: project, encoding: 'utf8' });

/** Runs a program of the project, and returns what it writes. */
function run(name, code, env = {}) {
  writeFileSync(join(project, name), code);
  const options = { cwd: project, encoding: 'utf8', timeout: 120_000, env: { ...process.env, ...env } };
  const { status, stdout, stderr } = spawnSync(process.execPath, [name], options);
  if (status !== 0 || stderr !== '') throw new Error(`${name}: ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

function checkPrograms() {
  const body = `const context = new Context(await Model.load('demo'));
    for await (const token of context.generateStream('Write a poem:', 200)) process.stdout.write(token.text);`;
  const esm = run('esm.mjs', `import { Model, Context } from 'mullama';\n${body}`);
  const cjs = run('cjs.cjs', `const { Model, Context } = require('mullama');\n(async () => {${body}})();`);
  if (esm.length < 50 || cjs.length < 50) throw new Error(`the programs write too little:\n${esm}\n${cjs}`);
}

/** Which of llama.cpp's libraries a process has loaded. */
const LOADED = `import { Context, Model } from 'mullama';
import { readFileSync } from 'node:fs';
await new Context(await Model.load('demo')).generate('Hi', 2);
const paths = readFileSync('/proc/self/maps', 'utf8').match(/\\/.*lib(?:llama|ggml).*$/gm);
console.log(JSON.stringify([...new Set(paths)]));`;

function checkLibraries() {
  const elsewhere = join(project, 'elsewhere');
  const own = join(project, 'node_modules', '@mullama');
  for (const name of ['NOTICES.txt', 'RUST-STANDARD-LIBRARY.html', 'LICENSE']) statSync(join(own, readdirSync(own)[0], name));
  // Libraries that would be loaded if the environment had a say.
  execFileSync('cp', ['-r', join(own, readdirSync(own)[0], 'lib'), elsewhere]);
  const paths = JSON.parse(run('loaded.mjs', LOADED, { LD_LIBRARY_PATH: elsewhere, GGML_BACKEND_PATH: elsewhere }));
  const foreign = paths.filter((path) => !path.startsWith(`${own}/`));
  const variants = paths.filter((path) => path.includes('libggml-cpu-'));
  if (foreign.length > 0 || variants.length !== 1) throw new Error(`these libraries are loaded: ${paths.join(', ')}`);
  console.log(`loaded for this processor: ${basename(variants[0])}`);
}

try {
  execFileSync(process.execPath, [join(root, 'scripts', 'platforms.mjs'), ...(values.portable ? ['--portable'] : [])], { stdio: 'inherit' });
  const archives = readdirSync(join(root, 'out')).map((name) => npm('pack', join(root, 'out', name)).trim());
  writeFileSync(join(project, 'package.json'), '{"private": true}');
  npm('install', '--offline', '--omit=optional', ...archives.map((name) => `./${name}`));
  checkPrograms();
  if (values.portable) checkLibraries();
  const bin = (name) => join(root, 'node_modules', '.bin', name);
  execFileSync(bin('publint'), ['--strict'], { cwd: join(root, 'out', 'mullama'), stdio: 'inherit' });
  execFileSync(bin('attw'), ['--pack', '.', '--format', 'ascii'], { cwd: join(root, 'out', 'mullama'), stdio: 'inherit' });
  for (const name of archives) {
    console.log(`${name} (${statSync(join(project, name)).size.toLocaleString('en')} bytes)`);
    if (values.out !== undefined) copyFileSync(join(project, name), join(values.out, name));
  }
  console.log('the packages work in an empty project, as ESM and as CommonJS');
} finally {
  rmSync(project, { recursive: true, force: true });
}
