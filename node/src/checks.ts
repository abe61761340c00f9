// What is common to all checks of what a program passes.

import { wrongType } from './errors.js';

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

/** Refuses a value that is not a signal. */
export function checkSignal(signal: unknown): void {
  const parts = signal as { aborted?: unknown; addEventListener?: unknown } | null | undefined;
  if (signal === undefined || (typeof parts?.aborted === 'boolean' && typeof parts.addEventListener === 'function')) return;
  throw wrongType(`signal must be an AbortSignal, not ${kindOf(signal)}`);
}

/** Refuses a value that is not a function. */
export function checkCallable(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw wrongType(`${name} must be a function, not ${kindOf(value)}`);
}
