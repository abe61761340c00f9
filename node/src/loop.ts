// How native threads wake JavaScript, and what keeps the process alive meanwhile.
//
// Each JavaScript thread has one notifier. Its function is called at most once per engine step, for all streams of the
// thread. It does not keep the process alive: only a read that waits does.

import { AsyncResource } from 'node:async_hooks';
import { setImmediate as current, setInterval } from 'node:timers';
import { isMainThread } from 'node:worker_threads';

import { call, fromNative } from './errors.js';
import { native, type NativeJob } from './native.js';
import { throwIfAborted, unlessAborted } from './signal.js';

/** As it was when the package was loaded: tests replace it, in the module too, and must not stop streams. */
export const setImmediate = current;

const waiting = new Map<number, () => void>();
let lastKey = 0;

function wake(): void {
  for (const key of notifier.drain()) waiting.get(key)?.();
}

export const notifier = new native.Notifier(wake);

// llama.cpp's threads must not run on while the process ends. The objects of a worker are freed when it ends.
if (isMainThread) process.once('exit', () => native.shutdown());

/** The longest delay of a timer. */
const LONGEST_DELAY = 2 ** 31 - 1;
const keepAlive = setInterval(() => {}, LONGEST_DELAY);
keepAlive.unref();
let waits = 0;

/** A key under which a stream or job is woken. */
export function newKey(): number {
  lastKey = (lastKey + 1) >>> 0;
  return lastKey;
}

/** Calls `woken` whenever there is something new under the key, and keeps the process alive until `stopWaiting`. */
export function wait(key: number, woken: () => void): void {
  waiting.set(key, woken);
  hold();
}

export function stopWaiting(key: number): void {
  if (waiting.delete(key)) release();
}

/** Keeps the process alive until `release`. */
export function hold(): void {
  if (waits++ === 0) keepAlive.ref();
}

export function release(): void {
  if (--waits === 0) keepAlive.unref();
}

/** Lets everything else in the event loop have its turn. */
export function turn(): Promise<void> {
  hold();
  return new Promise((resolve) => {
    setImmediate(() => {
      release();
      resolve();
    });
  });
}

/** How many jobs of one kind have a thread at once; others wait. */
export class Lane {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(threads: number) {
    this.#free = threads;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}

/** Calls that take a moment: tokenizing, templates. */
export const QUICK = new Lane(8);
/** Starts and ends of engines. */
export const ENGINES = new Lane(4);
/** Loads and downloads, which may wait for a network. */
export const LOADS = new Lane(8);

export interface JobOptions {
  signal?: AbortSignal | undefined;
  progress?: ((json: string) => void) | undefined;
  /** Whether the process stays alive until the job is done. The default is true. */
  keepsAlive?: boolean;
}

/** Runs a job to its end. Its result is what `take` of the job returns. */
export async function run<T>(lane: Lane, start: (key: number) => NativeJob, options: JobOptions = {}): Promise<T> {
  throwIfAborted(options.signal);
  const keepsAlive = options.keepsAlive ?? true;
  // Waiting for a thread is waiting for the result too.
  if (keepsAlive) hold();
  try {
    return await unlessAborted(lane.run(() => running<T>(start, options)), options.signal);
  } finally {
    if (keepsAlive) release();
  }
}

async function running<T>(start: (key: number) => NativeJob, { signal, progress }: JobOptions): Promise<T> {
  throwIfAborted(signal);
  const key = newKey();
  const job = call(() => start(key));
  // The native module calls from nowhere; the program's function runs as if the call had called it.
  const tell = progress && AsyncResource.bind(progress);
  const finished = new Promise<() => T>((resolve, reject) => {
    const look = (): void => {
      try {
        const said = job.progress();
        if (said !== null) tell?.(said);
      } catch (thrown) {
        return reject(thrown);
      }
      const result = resultOf<T>(job);
      if (result !== undefined) resolve(result);
    };
    waiting.set(key, look);
    look();
  });
  try {
    const result = await unlessAborted(finished, signal);
    // An error is made here, where its stack names those who wait.
    return result();
  } finally {
    waiting.delete(key);
    // Its result is known, or nobody wants it any more.
    job.cancel();
  }
}

/** A function that returns the result or throws the error; undefined until the job is done. */
function resultOf<T>(job: NativeJob): (() => T) | undefined {
  try {
    const result = job.take();
    return result === undefined ? undefined : () => result as T;
  } catch (thrown) {
    return () => {
      throw fromNative(thrown);
    };
  }
}
