// Writes the ESM entry: the same classes as in CommonJS, so that there is one of each in a process.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const dist = new URL('../dist/', import.meta.url);
const names = Object.keys(createRequire(import.meta.url)('../dist/index.js')).filter((name) => name !== '__esModule');
const code = `import mullama from './index.js';\n\nexport const { ${names.sort().join(', ')} } = mullama;\n`;
writeFileSync(new URL('index.mjs', dist), code);
writeFileSync(new URL('index.d.mts', dist), "export * from './index.js';\n");
