// Values of a program for the native module, which checks them: a copy that nobody changes, and the same as JSON. What JSON
// has no notation for becomes an object with the one field `$`: its kind, and the value as text.

import { isDataView, isMap } from 'node:util/types';

import { isWellFormed, kindOf } from './checks.js';
import { builtIn } from './options.js';

/** More items or entries are only counted: the core refuses so many for any setting. */
const MOST_ITEMS = 2 ** 20;

/** A list that was only counted. */
class Long {
  constructor(readonly count: number) {}
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * A copy of the fields, with frozen copies of lists and maps in it. Each property is read once, so what is checked is what
 * is used.
 */
export function copied(fields: object): Fields {
  return Object.freeze(Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, copy(value)])));
}

function copy(value: unknown): unknown {
  if (typeof value === 'bigint') return plainNumber(value);
  if (typeof value !== 'object' || value === null) return value;
  const isList = Array.isArray(value) || (ArrayBuffer.isView(value) && !isDataView(value));
  if (isList) {
    const list = value as unknown as ArrayLike<unknown>;
    return list.length > MOST_ITEMS ? new Long(list.length) : Object.freeze(Array.from(list, plainNumber));
  }
  if (isMap(value)) return value.size > MOST_ITEMS ? new Long(value.size) : Object.freeze(Object.fromEntries(value));
  if (builtIn(value) !== undefined) return value;
  const count = Object.keys(value).length;
  return count > MOST_ITEMS ? new Long(count) : Object.freeze({ ...value });
}

/** A `bigint` as the number that it is, unless it is too large for that. */
function plainNumber(value: unknown): unknown {
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/**
 * A copy as JSON. Fields that are undefined are left out. No value is asked for its own notation: a program may have given
 * `bigint` one.
 */
export function encode(fields: Fields): string {
  const named = Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [`${JSON.stringify(name)}:${field(value)}`]));
  return `{${named.join()}}`;
}

function field(value: unknown): string {
  if (Array.isArray(value)) return `[${(value.every(Number.isFinite) ? value : value.map(item)).join()}]`;
  if (value instanceof Long) return special('list', String(value.count));
  if (typeof value !== 'object' || value === null || builtIn(value) !== undefined) return item(value);
  // Most maps have numbers alone, and may have many. An escape in their text is that of a lone surrogate in a key.
  if (Object.values(value).every(Number.isFinite)) {
    const text = JSON.stringify(value);
    if (!text.includes('\\')) return text;
  }
  return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(keyOf(key))}:${item(each)}`).join()}}`;
}

function keyOf(key: string): string {
  return isWellFormed(key) ? key : 'a text with a lone surrogate';
}

/** What is no list and no map; one within another is of a wrong type for every setting. */
function item(value: unknown): string {
  switch (typeof value) {
    case 'number':
      return Number.isFinite(value) ? String(value) : special('number', String(value));
    case 'bigint':
      return special('number', String(value));
    case 'string':
      return isWellFormed(value) ? JSON.stringify(value) : special('text', 'a text with a lone surrogate');
    case 'boolean':
      return String(value);
    case 'undefined':
      return 'null';
    default:
      return value === null ? 'null' : special(kind(value), `a ${kind(value)}`);
  }
}

/** Such as "object", "function" or "Date object". */
function kind(value: unknown): string {
  const own = typeof value === 'object' && value !== null && !Array.isArray(value) ? builtIn(value) : undefined;
  return own === undefined ? kindOf(value) : `${own} object`;
}

function special(name: string, shown: string): string {
  return JSON.stringify({ $: [name, shown] });
}
