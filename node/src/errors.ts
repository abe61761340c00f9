import { isNativeError } from 'node:util/types';

import { CODES, type ErrorCode } from './codes.js';
import type { Completion } from './completion.js';

type Facts = Record<string, unknown>;

/** Base class of all errors of mullama. An error belongs to one request; all others continue. */
export abstract class MullamaError extends Error {
  /** Stable name of the failure, the same in every language. */
  abstract readonly code: ErrorCode;
  /** What had been generated before the failure, if `generate` or `chat` rejected with it. */
  declare completion?: Completion;

  /** @internal */
  constructor(message: string, facts: Facts = {}) {
    super(message);
    Object.defineProperty(this, 'name', { value: new.target.name, configurable: true, writable: true });
    Object.assign(this, facts);
  }
}

/** There is no file at the path, or no model has the name. */
export class ModelNotFoundError extends MullamaError {
  readonly code = CODES.ModelNotFoundError;
  /** The path; null if it is a name that was not found. */
  declare readonly path: string | null;
  /** The name; null if it is a path. */
  declare readonly modelName: string | null;
  /** For a name, the places that were looked at, with what was found there. */
  declare readonly tried: readonly string[] | null;
}

/** A model could not be downloaded. What has arrived is kept, and the next attempt continues there. */
export class DownloadError extends MullamaError {
  readonly code = CODES.DownloadError;
  /** The name of the model. */
  declare readonly modelName: string;
  /** The kind of failure, such as "network", "status", "digest", "disk", "offline" or "cancelled". */
  declare readonly reason: string;
  /** What was asked for, without credentials and query. */
  declare readonly url: string | null;
  /** The HTTP status, if that is the failure. */
  declare readonly status: number | null;
}

/** The file exists, but it cannot be loaded as a model. */
export class ModelLoadError extends MullamaError {
  readonly code = CODES.ModelLoadError;
  /** The path. */
  declare readonly path: string;
  /** What is wrong, and where in the file. */
  declare readonly reason: string;
}

/** The value of a setting is out of range. */
export class InvalidConfigError extends MullamaError {
  readonly code = CODES.InvalidConfigError;
  /** Name of the field. */
  declare readonly field: string;
  /** The value that was given, as text. */
  declare readonly value: string;
  /** The allowed values, as text. */
  declare readonly range: string;
}

/** The prompt cannot be processed. */
export class InvalidPromptError extends MullamaError {
  readonly code = CODES.InvalidPromptError;
  /** What is wrong with it. */
  declare readonly reason: string;
  /** The token id that is not in the model's vocabulary, if that is the reason. */
  declare readonly token: number | null;
  /** Index of the offending character or token, if there is a single one. */
  declare readonly position: number | null;
}

/** The prompt leaves no room for a generated token. */
export class ContextOverflowError extends MullamaError {
  readonly code = CODES.ContextOverflowError;
  /** Number of tokens in the prompt, including those that the model adds. */
  declare readonly promptTokens: number;
  /** Whether the prompt has at least `promptTokens` tokens: a long text is not tokenized to its end. */
  declare readonly isLowerBound: boolean;
  /** Maximum number of tokens of one stream (`nCtx`). */
  declare readonly contextLen: number;
}

/** The model has no chat template, or the template cannot render the messages. */
export class ChatTemplateError extends MullamaError {
  readonly code = CODES.ChatTemplateError;
  /** What went wrong, or the template's own error message. */
  declare readonly reason: string;
  /** Line of the template, counted from 1; null if there is no template. */
  declare readonly line: number | null;
}

/**
 * Too many streams run or wait, too many run, wait or are paused, or too much text waits to be tokenized. Retry when a
 * stream has ended.
 */
export class OverloadedError extends MullamaError {
  readonly code = CODES.OverloadedError;
  /**
   * Number of streams at the time of the call that run or wait, or that run, wait or are paused; null if there is too
   * much text.
   */
  declare readonly unfinished: number | null;
  /**
   * Maximum number of streams that run or wait (`nParallel + maxQueue`), or that run, wait or are paused (`maxPaused`),
   * or of bytes of prompts that wait in the process.
   */
  declare readonly limit: number;
}

/** The stream exceeded one of its time limits. All tokens produced before that were delivered first. */
export class StreamTimeoutError extends MullamaError {
  readonly code = CODES.StreamTimeoutError;
  /** The setting that limits the time: "timeoutMs", "ttftTimeoutMs" or "queueTimeoutMs". */
  declare readonly deadline: string;
  /** Its value, in milliseconds. */
  declare readonly limitMs: number;
  /** Number of tokens generated before the deadline. */
  declare readonly completionTokens: number;
}

/** The engine could not continue the stream. */
export class GenerationError extends MullamaError {
  readonly code = CODES.GenerationError;
  /** The cause, with the last message from llama.cpp. */
  declare readonly reason: string;
}

/** Another read of the same stream is pending. That read continues undisturbed. */
export class StreamBusyError extends MullamaError {
  readonly code = 'STREAM_BUSY';

  /** @internal */
  constructor(message = 'another read of this stream is pending; a stream has one reader at a time') {
    super(message);
  }
}

/** The model, context or engine is closed. */
export class EngineClosedError extends MullamaError {
  readonly code = CODES.EngineClosedError;
  /** What is closed: "model", "context" or "engine". */
  declare readonly what: string;
}

// A class of the core that is missing here does not compile.
const CLASSES: Record<keyof typeof CODES, new (message: string, facts: Facts) => Error> = {
  ModelNotFoundError,
  DownloadError,
  ModelLoadError,
  InvalidConfigError,
  InvalidPromptError,
  ContextOverflowError,
  ChatTemplateError,
  OverloadedError,
  StreamTimeoutError,
  GenerationError,
  EngineClosedError,
};

/** Makes the error of what a native function threw: its message is JSON. */
export function fromNative(thrown: unknown): unknown {
  // The native module's errors are of the main realm, which is another one where a test runner has made its own.
  if (!isNativeError(thrown) || !thrown.message.startsWith('{"class":')) return thrown;
  const { class: name, message, facts } = JSON.parse(thrown.message) as { class: string; message: string; facts: Facts };
  if (name === 'TypeError') return wrongType(message);
  const known = CLASSES[name as keyof typeof CODES] as (typeof CLASSES)[keyof typeof CODES] | undefined;
  if (known === undefined) return thrown;
  // The property `name` is that of the class.
  if ('name' in facts) {
    facts['modelName'] = facts['name'];
    delete facts['name'];
  }
  return new known(message, facts);
}

/** Calls a native function. */
export function call<T>(native: () => T): T {
  try {
    return native();
  } catch (thrown) {
    throw fromNative(thrown);
  }
}

/** A `TypeError` of an argument, with the code that Node.js gives to those. */
export function wrongType(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_TYPE' });
}
