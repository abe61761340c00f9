// Puts the packages of all platforms together in out/: the main one, and the one with the native module of this machine. With
// --portable, that one has the module of portable/, and llama.cpp's libraries.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const built = process.argv.includes('--portable') ? 'portable' : 'native';
const root = fileURLToPath(new URL('..', import.meta.url));
const { packageName, SUPPORTED } = createRequire(import.meta.url)('../dist/platforms.js');
const main = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
const { version, license, engines } = main;

const CPUS = { x64: 'x64', arm64: 'arm64' };
// The folder is that of llama.cpp's libraries.
const FILES = ['mullama.node', 'features.json', 'lib', 'NOTICES.txt', 'RUST-STANDARD-LIBRARY.html', 'LICENSE'];
const LIBCS = { gnu: 'glibc', musl: 'musl' };

/** The package with the native module of one platform. */
function platform(name) {
  const [os, cpu, libc] = name.split('-');
  const only = LIBCS[libc] === undefined ? {} : { libc: [LIBCS[libc]] };
  return {
    name: `@mullama/${name}`,
    version,
    description: `The native module of mullama for ${name}`,
    license,
    engines,
    os: [os],
    cpu: [CPUS[cpu]],
    ...only,
    main: 'mullama.node',
    files: FILES,
  };
}

rmSync(`${root}/out`, { recursive: true, force: true });
mkdirSync(`${root}/out/mullama/models`, { recursive: true });
for (const name of ['bin', 'dist', 'README.md']) cpSync(`${root}/${name}`, `${root}/out/mullama/${name}`, { recursive: true });
cpSync(`${root}/../LICENSE`, `${root}/out/mullama/LICENSE`);
cpSync(`${root}/../python/mullama/models/demo.gguf`, `${root}/out/mullama/models/demo.gguf`);
const { devDependencies: _dev, scripts: _scripts, ...published } = main;
const optionalDependencies = Object.fromEntries(SUPPORTED.map((name) => [`@mullama/${name}`, version]));
writeFileSync(`${root}/out/mullama/package.json`, `${JSON.stringify({ ...published, optionalDependencies }, null, 2)}\n`);

const here = packageName();
if (here === undefined) throw new Error('there is no package for this machine');
const folder = `${root}/out/${here.replace('@mullama/', '')}`;
mkdirSync(folder);
writeFileSync(`${folder}/package.json`, `${JSON.stringify(platform(here.replace('@mullama/', '')), null, 2)}\n`);
for (const file of FILES.filter((name) => existsSync(`${root}/${built}/${name}`))) {
  cpSync(`${root}/${built}/${file}`, `${folder}/${file}`, { recursive: true });
}
cpSync(`${root}/../LICENSE`, `${folder}/LICENSE`);
console.log(`out/mullama and ${folder.slice(root.length)}`);
