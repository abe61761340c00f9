// What is common to all objects of options.

import { kindOf } from './checks.js';
import { wrongType } from './errors.js';

/** How much of a name messages show. */
const SHOWN = 100;

/** Names in other libraries. */
const ELSEWHERE: Readonly<Record<string, string>> = {
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

/** Ways out for what is given by mistake. */
const HINTS: Readonly<Record<string, string>> = {
  Promise: '; await it first',
  AbortSignal: '; { signal } is one',
  AbortController: '; { signal: controller.signal } is one',
};

/** The name of the built-in class of an object such as a date, a map or a signal, in any realm; undefined if it has none. */
export function builtIn(value: object): string | undefined {
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  return tag !== 'Object' && typeof (globalThis as Record<string, unknown>)[tag] === 'function' ? tag : undefined;
}

/** Refuses what can have no fields, a map or a signal among others, and a field with an unknown name. */
export function checkNames(what: string, given: unknown, known: readonly string[]): void {
  const isObject = typeof given === 'object' && given !== null && !Array.isArray(given);
  const other = isObject ? builtIn(given) : kindOf(given);
  if (!isObject || other !== undefined) {
    const isSignal = other?.startsWith('Abort') === true;
    const hint = (isSignal && !known.includes('signal') ? undefined : HINTS[other ?? '']) ?? '';
    throw wrongType(`${what} must be an object, not ${other}${hint}`);
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const plain = (word: string): string => word.slice(0, SHOWN).replaceAll('_', '').toLowerCase();
    const asked = plain(name);
    const meant = known.find((each) => plain(each) === asked) ?? (Object.hasOwn(ELSEWHERE, asked) ? ELSEWHERE[asked] : undefined);
    const hint = meant !== undefined && known.includes(meant) ? `did you mean ${meant}?` : `it has ${known.join(', ')}`;
    throw wrongType(`${what} has no field ${name.slice(0, SHOWN)}; ${hint}`);
  }
}
