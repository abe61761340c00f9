// Values of a program as JSON for the native module, which checks them. What JSON has no notation for becomes an object
// with the one field `$`: its kind, and the value as text.

import { isMap, isSet } from 'node:util/types';

import { wrongType } from './errors.js';

/** More items or entries are only counted: the core refuses so many for any setting. */
const MOST_ITEMS = 2 ** 20;

function special(kind: string, shown: string): { $: [string, string] } {
  return { $: [kind, shown] };
}

function encodeValue(_key: string, value: unknown): unknown {
  switch (typeof value) {
    case 'number':
      return Number.isFinite(value) ? value : special('number', String(value));
    case 'bigint':
      return special('number', String(value));
    case 'string':
      return isWellFormed(value) ? value : special('text', 'a text with a lone surrogate');
    case 'function':
    case 'symbol':
      return special(typeof value, `a ${typeof value}`);
    case 'object':
      return encodeObject(value);
    default:
      return value;
  }
}

function encodeObject(value: object | null): unknown {
  if (value === null) return null;
  if (isSet(value)) return special('set', 'a set');
  const isList = Array.isArray(value) || ArrayBuffer.isView(value);
  const count = isList ? (value as unknown as ArrayLike<unknown>).length : isMap(value) ? value.size : Object.keys(value).length;
  if (count > MOST_ITEMS) return special('list', String(count));
  if (isMap(value)) return Object.fromEntries(value);
  return isList ? Array.from(value as unknown as ArrayLike<unknown>) : value;
}

/** The fields as JSON; those that are undefined are left out. */
export function encode(fields: object): string {
  return JSON.stringify(fields, encodeValue);
}

/** Whether a text has no lone surrogates. */
export function isWellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed();
}

/** The index of the first lone surrogate of a text that has one. */
export function loneSurrogate(text: string): number {
  for (let at = 0; ; at++) {
    const unit = text.charCodeAt(at);
    if (unit < 0xd800 || unit > 0xdfff) continue;
    const next = text.charCodeAt(at + 1);
    if (unit > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return at;
    at++;
  }
}

/** What a value is, for messages about values of a wrong type. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}

/** Names in other libraries. */
const ELSEWHERE: Record<string, string> = {
  maxnewtokens: 'maxTokens',
  npredict: 'maxTokens',
  numpredict: 'maxTokens',
  stop: 'stopSequences',
  timeout: 'timeoutMs',
  ctxsize: 'nCtx',
  contextsize: 'nCtx',
  gpulayers: 'nGpuLayers',
  numgpu: 'nGpuLayers',
  threads: 'nThreads',
};

/** Refuses an argument that is no object, or has a field with an unknown name. */
export function checkNames(what: string, given: unknown, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw wrongType(`${what} must be an object, not ${kindOf(given)}`);
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const plain = (word: string): string => word.replaceAll('_', '').toLowerCase();
    const meant = known.find((each) => plain(each) === plain(name)) ?? ELSEWHERE[plain(name)];
    const hint = meant !== undefined && known.includes(meant) ? `did you mean ${meant}?` : `it has ${known.join(', ')}`;
    throw wrongType(`${what} has no field ${name.slice(0, 100)}; ${hint}`);
  }
}

/** Refuses what is no signal. */
export function checkSignal(signal: unknown): void {
  const parts = signal as { aborted?: unknown; addEventListener?: unknown } | null | undefined;
  if (signal === undefined || (typeof parts?.aborted === 'boolean' && typeof parts.addEventListener === 'function')) return;
  throw wrongType(`signal must be an AbortSignal, not ${kindOf(signal)}`);
}

/** Refuses what is no function. */
export function checkCallable(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw wrongType(`${name} must be a function, not ${kindOf(value)}`);
}
