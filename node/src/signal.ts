// One listener on a signal for all calls that it may end: Node.js warns of a leak at the eleventh.

type Callback = (reason: unknown) => void;

interface Watched {
  callbacks: Set<Callback>;
  listener: () => void;
}

const watched = new WeakMap<AbortSignal, Watched>();

/** Why a signal has aborted. Signals of older libraries do not say. */
function reasonOf(signal: AbortSignal): unknown {
  return signal.reason === undefined ? new DOMException('This operation was aborted', 'AbortError') : signal.reason;
}

/** The reason in an array, because anything can be one; undefined if the signal has not aborted. */
export function abortedBy(signal: AbortSignal | undefined): [reason: unknown] | undefined {
  return signal?.aborted === true ? [reasonOf(signal)] : undefined;
}

/** Throws the reason of a signal that has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  const aborted = abortedBy(signal);
  if (aborted !== undefined) throw aborted[0];
}

function watch(signal: AbortSignal): Watched {
  const callbacks = new Set<Callback>();
  const listener = (): void => {
    const reason = reasonOf(signal);
    watched.delete(signal);
    for (const callback of callbacks) callback(reason);
  };
  signal.addEventListener('abort', listener, { once: true });
  return { callbacks, listener };
}

/** Calls back once when the signal aborts, unless the function that is returned was called before. */
export function onAbort(signal: AbortSignal, callback: Callback): () => void {
  const own = watched.get(signal) ?? watch(signal);
  watched.set(signal, own);
  own.callbacks.add(callback);
  return () => {
    if (!own.callbacks.delete(callback) || own.callbacks.size > 0 || watched.get(signal) !== own) return;
    watched.delete(signal);
    signal.removeEventListener('abort', own.listener);
  };
}

/** The result of the work, unless the signal aborts first. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  // The stack of an error names those who wait for it, through `await` and `resolve`, but not through `Promise.race`.
  if (signal === undefined) return await work;
  let stop = (): void => {};
  try {
    return await new Promise<T>((resolve, reject) => {
      const aborted = abortedBy(signal);
      if (aborted === undefined) stop = onAbort(signal, reject);
      else reject(aborted[0]);
      work.then(resolve, reject);
    });
  } finally {
    stop();
  }
}
