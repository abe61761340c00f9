// Compiles the native module with the flags of every other build here, and puts it where the package looks for it.
//
// With --portable and the names of libraries, which tools/release gives it with the environment of a release, it compiles for
// every machine of this platform and puts the module into portable/, and those of llama.cpp's libraries beside it.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [mode, ...libraries] = process.argv.slice(2);
const isPortable = mode === '--portable';
const root = fileURLToPath(new URL('../..', import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? `${root}/target`;

/** Runs a command, whose failure ends the build. */
function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error !== undefined) console.error(`${command} cannot be run: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

const more = (process.env.MULLAMA_CARGO_FLAGS ?? '').split(' ').filter(Boolean);
if (isPortable) more.push('--features', 'portable');
run('cargo', 'build', '--release', '--locked', '--package', 'mullama-node', ...more);

// What the compiler may use, so that the package can refuse an older processor instead of being killed there.
const flags = (process.env.RUSTFLAGS ?? '-C target-cpu=native').split(' ').filter(Boolean);
const { stdout, status } = spawnSync('rustc', ['--print', 'cfg', ...flags], { cwd: root, encoding: 'utf8' });
if (status !== 0) throw new Error('rustc does not say what it compiles for');
const features = [...stdout.matchAll(/^target_feature="([^"]+)"$/gm)].map(([, feature]) => feature);

const names = { darwin: 'libmullama_node.dylib', win32: 'mullama_node.dll' };
const folder = fileURLToPath(new URL(isPortable ? '../portable' : '../native', import.meta.url));
if (isPortable) rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
// A process that uses the old file keeps it.
copyFileSync(`${target}/release/${names[process.platform] ?? 'libmullama_node.so'}`, `${folder}/mullama.new`);
if (isPortable) {
  run('strip', '--strip-unneeded', `${folder}/mullama.new`);
  mkdirSync(`${folder}/lib`);
  for (const name of libraries) copyFileSync(`${target}/release/mullama-lib/${name}`, `${folder}/lib/${name}`);
}
renameSync(`${folder}/mullama.new`, `${folder}/mullama.node`);
writeFileSync(`${folder}/features.json`, JSON.stringify(features));
