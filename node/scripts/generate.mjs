// Writes src/settings.ts from the core's table of settings. With --check, it only says whether the file is up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const native = createRequire(import.meta.url)('../native/mullama.node');
const file = new URL('../src/settings.ts', import.meta.url);

const TYPES = [
  [/^(u32|i32|u64|f32)$/, 'number'],
  [/^bool$/, 'boolean'],
  [/^Option<(u32|u64)>$/, 'number | null'],
  [/^Vec<String>$/, 'readonly string[]'],
  [/^Vec<TokenId>$/, 'readonly number[] | Int32Array | Uint32Array'],
  [/^Vec<\(TokenId,f32\)>$/, 'Readonly<Record<number, number>> | ReadonlyMap<number, number>'],
];

function typeOf({ name, type }) {
  const known = TYPES.find(([pattern]) => pattern.test(type.replaceAll(' ', '')));
  if (known === undefined) throw new Error(`${name} has the type ${type}, which scripts/generate.mjs does not know`);
  return known[1];
}

function field(row) {
  const range = row.range === null ? '' : ` Range: ${row.range.replaceAll('None', 'null')}.`;
  const value = row.name === 'logitBias' ? '{}' : JSON.stringify(row.default);
  const doc = `${row.doc.replaceAll('`None`', '`null`').replace(/`([a-z]+(?:_[a-z]+)+)`/g, (_, name) => `\`${camel(name)}\``)}${range}`;
  return `  /** ${doc} Default: \`${value}\`. */\n  ${row.name}?: ${typeOf(row)} | undefined;\n`;
}

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

export function generated() {
  const rows = JSON.parse(native.streamSettings());
  return `// Written by scripts/generate.mjs from the core's table of settings.

/** Settings of a stream; those that are missing have their defaults. */
export interface StreamSettings {
${rows.map(field).join('')}}
`;
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  if (!process.argv.includes('--check')) writeFileSync(file, generated());
  else if (readFileSync(file, 'utf8') !== generated()) {
    console.error('src/settings.ts does not match the core: run npm run generate');
    process.exit(1);
  }
}
