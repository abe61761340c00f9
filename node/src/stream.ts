import { performance } from 'node:perf_hooks';

import { checkCallable } from './checks.js';
import { Completion, type FinishReason, type Timings, type Usage } from './completion.js';
import { call, fromNative, MullamaError, StreamBusyError, wrongType } from './errors.js';
import { hold, newKey, notifier, release, setImmediate, stopWaiting, wait } from './loop.js';
import { native, type NativeContext, type NativeItem, type NativePrompt, type NativeSettings, type NativeStream } from './native.js';
import { abortedBy, onAbort } from './signal.js';
import { Token } from './token.js';

type Result = IteratorResult<Token, undefined>;

/** What a stream needs to begin. */
export interface Opening {
  prompt: NativePrompt;
  settings: NativeSettings;
  bufferSize: number;
  /** The context; a promise while its engine starts. */
  context: NativeContext | Promise<NativeContext>;
  signal: AbortSignal | undefined;
}

/** Ends a read that is pending. */
type Read = (result: Result | Promise<never>) => void;

/** Ends the calls of signals that outlive their streams. */
const abandoned = new FinalizationRegistry((stop: () => void) => stop());

/** The clock as it was when the package was loaded: tests replace it. */
const now = performance.now.bind(performance);
/** Tokens after which the event loop has its turn, also where a buffer holds more: they take about a millisecond. */
const LONGEST_RUN = 256;
/** The longest wait that the native module takes, in milliseconds. */
const LONGEST_WAIT = 2 ** 32 - 1;

const NO_USAGE = [0, 0, 0] as const;
const NO_TIMINGS = [0, 0, 0, 0, 0] as const;

/**
 * A stream of tokens, each available as soon as it exists. `generateStream` and `chatStream` open it; generation starts
 * at once. Read it with `for await`.
 *
 * At most `bufferSize` tokens are computed ahead of the reader, so a slow loop pauses its own stream, and no other.
 * Leaving the loop in any way stops the generation within one step. A stream that nothing refers to any more stops too,
 * but only when its memory is collected. A pending read keeps the process alive; a stream that nobody reads does not.
 *
 * A stream has one reader at a time: a second read rejects with `StreamBusyError`.
 */
export class TokenStream implements AsyncIterableIterator<Token> {
  readonly #key = newKey();
  /** Tokens that are read until the event loop can do something else. */
  readonly #longestRun: number;
  #native: NativeStream | undefined;
  /** The read that is pending. */
  #read: Read | undefined;
  /** Why the next read rejects; an array, because anything can be a reason. */
  #failure: [unknown] | undefined;
  #isOver = false;
  /** Whether the stream ended because its engine did not start, or refused it. */
  #wasNotOpened = false;
  /** Tokens that were read since the event loop could last do something else. */
  #inARow = 0;
  #returned = 0;
  #stopListening: (() => void) | undefined;

  /** @internal */
  constructor(opening: Opening) {
    if (opening?.prompt === undefined) throw wrongType('streams are opened with generateStream or chatStream');
    const { prompt, settings, bufferSize, context, signal } = opening;
    this.#longestRun = Math.min(bufferSize, LONGEST_RUN);
    const called = now();
    const open = (ready: NativeContext): void => {
      // Deadlines count from the call, also where the engine had to start.
      const own = context instanceof Promise ? settings.after(Math.min(Math.round(now() - called), LONGEST_WAIT)) : settings;
      this.#native = call(() => new native.Stream(ready, prompt, own, notifier, this.#key));
    };
    this.#failure = abortedBy(signal);
    if (this.#failure !== undefined) return;
    if (context instanceof Promise) {
      void this.#openLater(context, open);
    } else {
      open(context);
    }
    if (signal !== undefined) this.#listen(signal);
  }

  async #openLater(context: Promise<NativeContext>, open: (ready: NativeContext) => void): Promise<void> {
    try {
      const ready = await context;
      if (this.#isOver || this.#failure !== undefined) return;
      open(ready);
    } catch (error) {
      // A stream that was closed or aborted meanwhile has its end.
      if (this.#isOver || this.#failure !== undefined) return;
      this.#wasNotOpened = true;
      this.#failure = [error];
    }
    if (this.#read !== undefined) this.#proceed();
  }

  /** A function of its own, because functions of one scope keep everything that any of them uses. */
  static #callback(self: WeakRef<TokenStream>): (reason: unknown) => void {
    return (reason) => {
      const stream = self.deref();
      if (stream !== undefined) stream.#abort(reason);
    };
  }

  /** Stops the stream when the signal says so. The signal does not keep the stream in memory. */
  #listen(signal: AbortSignal): void {
    const stop = onAbort(signal, TokenStream.#callback(new WeakRef(this)));
    abandoned.register(this, stop, this);
    this.#stopListening = () => {
      abandoned.unregister(this);
      stop();
    };
  }

  #abort(reason: unknown): void {
    if (this.#isOver) return;
    this.#failure = [reason];
    this.#native?.close();
    this.#stopListening?.();
    if (this.#read !== undefined) this.#proceed();
  }

  /** The stream itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next token: at once if it is buffered. */
  next(): Promise<Result> {
    if (this.#read !== undefined) return Promise.reject(new StreamBusyError());
    if (this.#inARow >= this.#longestRun && !this.#isOver && this.#failure === undefined) return this.#nextTurn();
    const taken = this.#take();
    if (taken === undefined) return this.#wait();
    return taken instanceof Promise ? taken : Promise.resolve(taken);
  }

  /** What can be returned now; undefined if nothing can. */
  #take(): Result | Promise<never> | undefined {
    const failure = this.#failure;
    if (failure !== undefined) return this.#fail(() => failure[0]);
    if (this.#isOver) return { value: undefined, done: true };
    if (this.#native === undefined) return undefined;
    let item: NativeItem | null | undefined;
    try {
      item = this.#native.next();
    } catch (thrown) {
      return this.#fail(() => fromNative(thrown));
    }
    if (item === undefined) return undefined;
    if (item === null) {
      this.#end();
      return { value: undefined, done: true };
    }
    this.#inARow++;
    return { value: new Token(item, this.#returned++), done: false };
  }

  /** Ends the stream. The error is made once the read waits for it, so that its stack names those who wait for the read. */
  async #fail(reason: () => unknown): Promise<never> {
    this.#failure = undefined;
    this.#end();
    // One turn until the read takes this promise, and one until it waits.
    await undefined;
    await undefined;
    throw reason();
  }

  #end(): void {
    this.#isOver = true;
    this.#stopListening?.();
  }

  /** Waits until the notifier says that there is something. */
  #wait(): Promise<Result> {
    this.#inARow = 0;
    return new Promise((resolve) => {
      this.#read = resolve;
      wait(this.#key, () => this.#proceed());
    });
  }

  /** Lets everything else in the event loop have its turn before the next token. */
  #nextTurn(): Promise<Result> {
    this.#inARow = 0;
    hold();
    return new Promise((resolve) => {
      this.#read = resolve;
      setImmediate(() => {
        release();
        // Somebody may have ended the read meanwhile, and another one may have begun.
        if (this.#read !== resolve) return;
        wait(this.#key, () => this.#proceed());
        this.#proceed();
      });
    });
  }

  /** Goes on with the read that is pending, if there is something for it. */
  #proceed(): void {
    const read = this.#read;
    if (read === undefined) return;
    const taken = this.#take();
    if (taken === undefined) return;
    this.#read = undefined;
    stopWaiting(this.#key);
    read(taken);
  }

  /** Stops the generation. What was produced can still be read; then the stream ends as "cancelled". */
  cancel(): void {
    if (this.#native === undefined) this.close();
    else this.#native.cancel();
  }

  /** Stops the generation and discards what was not read. Leaving a `for await` loop does the same. */
  close(): void {
    this.#native?.close();
    this.#failure = undefined;
    this.#end();
    this.#proceed();
  }

  /** What `break` and `return` in a `for await` loop call: closes the stream. */
  return(): Promise<Result> {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** Closes the stream and rejects with the error. */
  throw(error?: unknown): Promise<Result> {
    this.close();
    return Promise.reject(error);
  }

  /** Closes the stream at the end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** Items returned so far. */
  get tokensGenerated(): number {
    return this.#returned;
  }

  /** Completion tokens per second from the first to the latest; 0 until there are two. */
  tokensPerSecond(): number {
    return this.#native?.tokensPerSecond() ?? 0;
  }

  /** How the stream ended; null until everything before the end was read. */
  get finishReason(): FinishReason | null {
    if (this.#native === undefined) return this.#isOver ? (this.#wasNotOpened ? 'error' : 'cancelled') : null;
    return this.#native.finishReason() as FinishReason | null;
  }

  /** The stop sequence that ended the stream, if one did. */
  get stopSequence(): string | null {
    return this.#native?.stopSequence() ?? null;
  }

  /** Token counts so far. */
  get usage(): Usage {
    const [promptTokens, cachedTokens, completionTokens] = this.#native?.usage() ?? NO_USAGE;
    return { promptTokens, cachedTokens, completionTokens };
  }

  /** Where the time went so far, in milliseconds. */
  get timings(): Timings {
    const [queue, prefill, firstToken, decode, readerWait] = this.#native?.timings() ?? NO_TIMINGS;
    return { queue, prefill, firstToken, decode, readerWait };
  }

  /** The seed in use, given or chosen; null until the engine has started. */
  get seed(): number | null {
    return this.#native?.seed() ?? null;
  }

  /** All text returned so far. */
  get text(): string {
    return this.#native?.text() ?? '';
  }

  /** Number of tokens computed and not yet returned: at most `bufferSize`, and one that ends the stream. */
  get buffered(): number {
    return this.#native?.buffered() ?? 0;
  }

  /**
   * The stream as a web `ReadableStream`, with what `map` makes of each token. It reads no further ahead than its reader
   * asks, and cancelling it closes the stream.
   *
   * @example
   * const encoder = new TextEncoder();
   * return new Response(stream.toReadableStream((token) => encoder.encode(token.text)));
   */
  toReadableStream(): ReadableStream<Token>;
  toReadableStream<T>(map: (token: Token) => T): ReadableStream<T>;
  toReadableStream<T>(map?: (token: Token) => T): ReadableStream<T | Token> {
    checkCallable('map', map);
    return new ReadableStream<T | Token>(
      {
        pull: async (controller) => {
          const { value, done } = await this.next();
          if (done === true) return controller.close();
          try {
            controller.enqueue(map === undefined ? value : map(value));
          } catch (error) {
            this.close();
            throw error;
          }
        },
        cancel: () => this.close(),
      },
      { highWaterMark: 0 },
    );
  }
}

/** Reads a stream to its end. An error gets what was generated before it as `completion`. */
export async function readToEnd(stream: TokenStream): Promise<Completion> {
  const tokens: Token[] = [];
  try {
    for await (const token of stream) tokens.push(token);
  } catch (error) {
    // The reason of a signal is the program's own, and may be that of many calls.
    if (error instanceof MullamaError && Object.isExtensible(error)) {
      Object.defineProperty(error, 'completion', { value: completionOf(stream, tokens), configurable: true });
    }
    throw error;
  }
  return completionOf(stream, tokens);
}

function completionOf(stream: TokenStream, tokens: Token[]): Completion {
  const { text, stopSequence, usage, timings } = stream;
  const finishReason = stream.finishReason ?? 'cancelled';
  return new Completion({ text, tokens, finishReason, stopSequence, usage, timings, seed: stream.seed ?? 0 });
}
