// Writes src/settings.ts and src/codes.ts from the core's tables. With --check, it only says whether they are up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const native = createRequire(import.meta.url)('../native/mullama.node');
const src = new URL('../src/', import.meta.url);

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

function settings() {
  const rows = JSON.parse(native.streamSettings());
  return `// Written by scripts/generate.mjs from the core's table of settings.

/** Settings of a stream; those that are missing have their defaults. */
export interface StreamSettings {
${rows.map(field).join('')}}
`;
}

function codes() {
  const rows = JSON.parse(native.errorClasses());
  return `// Written by scripts/generate.mjs from the core's table of errors.

/** The code of each class that the core's errors have. */
export const CODES = {
${rows.map(([name, code]) => `  ${name}: '${code}',\n`).join('')}} as const;

/** Codes of errors, the same in every language and over HTTP. */
export type ErrorCode =
${rows.map(([, code]) => `  | '${code}'\n`).join('')}  | 'STREAM_BUSY';
`;
}

const stale = [['settings.ts', settings()], ['codes.ts', codes()]].filter(([name, text]) => {
  const file = new URL(name, src);
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else return readFileSync(file, 'utf8') !== text;
});
if (stale.length > 0) {
  const names = stale.map(([name]) => `src/${name}`).join(' and ');
  console.error(`${names}: this does not match the core's tables; run "npm run generate" in node/ to write it again`);
  process.exit(1);
}
