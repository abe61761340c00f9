// Writes the ESM entry: the same classes as in CommonJS, so that there is one of each in a process. Nothing is loaded for that,
// because the native module may be one for other machines.
import { readFileSync, writeFileSync } from 'node:fs';

const dist = new URL('../dist/', import.meta.url);
const compiled = readFileSync(new URL('index.js', dist), 'utf8');
const names = new Set([...compiled.matchAll(/\bexports\.(\w+) =/g)].map(([, name]) => name));
const code = `import mullama from './index.js';\n\nexport const { ${[...names].sort().join(', ')} } = mullama;\n`;
writeFileSync(new URL('index.mjs', dist), code);
writeFileSync(new URL('index.d.mts', dist), "export * from './index.js';\n");
