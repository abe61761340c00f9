// Compiles the native module with the flags of every other build here, and puts it where the package looks for it.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const more = (process.env.MULLAMA_CARGO_FLAGS ?? '').split(' ').filter(Boolean);
const args = ['build', '--release', '--locked', '--package', 'mullama-node', ...more];
const built = spawnSync('cargo', args, { cwd: root, stdio: 'inherit' });
if (built.status !== 0) process.exit(built.status ?? 1);

// What the compiler may use, so that the package can refuse an older processor instead of being killed there.
const flags = (process.env.RUSTFLAGS ?? '-C target-cpu=native').split(' ').filter(Boolean);
const { stdout, status } = spawnSync('rustc', ['--print', 'cfg', ...flags], { cwd: root, encoding: 'utf8' });
if (status !== 0) throw new Error('rustc does not say what it compiles for');
const features = [...stdout.matchAll(/^target_feature="([^"]+)"$/gm)].map(([, feature]) => feature);

const names = { darwin: 'libmullama_node.dylib', win32: 'mullama_node.dll' };
const folder = fileURLToPath(new URL('../native/', import.meta.url));
mkdirSync(folder, { recursive: true });
// A process that uses the old file keeps it.
copyFileSync(`${root}/target/release/${names[process.platform] ?? 'libmullama_node.so'}`, `${folder}/mullama.new`);
renameSync(`${folder}/mullama.new`, `${folder}/mullama.node`);
writeFileSync(`${folder}/features.json`, JSON.stringify(features));
