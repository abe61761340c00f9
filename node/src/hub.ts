import { checkCallable, checkSignal, isWellFormed, kindOf } from './checks.js';
import { wrongType } from './errors.js';
import { LOADS, notifier, run } from './loop.js';
import { DEMO, type ModelDefaults } from './model.js';
import { native } from './native.js';
import { checkNames } from './options.js';

/** How far a download is. */
export interface PullProgress {
  /** What is being done: "waiting" is for another process that downloads the same file. */
  readonly phase: 'resolving' | 'waiting' | 'downloading' | 'verifying' | 'done';
  /** The file that is being downloaded, for people. */
  readonly file: string;
  /** Bytes of the model that are on the disk, including those of an earlier attempt. */
  readonly done: number;
  /** Bytes of the whole model, if the server says. */
  readonly total: number | null;
}

/** A model on this machine. */
export interface LocalModel {
  /** The name in full, such as "llama3.2:1b"; for a file, its path. */
  readonly name: string;
  /** The GGUF file; for a model in several files, the first of them. */
  readonly path: string;
  /** Whose file it is. */
  readonly location: 'file' | 'mullama' | 'hugging_face' | 'ollama' | 'lm_studio';
  /** Size of all its files in bytes. */
  readonly size: number;
  /** The alias by which it was asked for, if it was. */
  readonly alias: string | null;
  /** Settings that its publisher recommends. */
  readonly defaults: ModelDefaults;
}

/** How a model is downloaded. */
export interface PullOptions {
  /** Called some ten times a second with how far the download is. */
  progress?: ((progress: PullProgress) => void) | undefined;
  /** Ends the download. What has arrived is kept, and the next attempt continues there. */
  signal?: AbortSignal | undefined;
  /** Asks the server for a newer version even if the model is on this machine. Default true. */
  renew?: boolean | undefined;
}

/**
 * Downloads a model, or continues a download.
 *
 * @example
 * await pull('llama3.2:1b', { progress: ({ done, total }) => console.log(done, total) });
 */
export async function pull(name: string, options: PullOptions = {}): Promise<LocalModel> {
  if (typeof name !== 'string') throw wrongType(`name must be a string, not ${kindOf(name)}`);
  if (!isWellFormed(name)) throw wrongType('name must be a text without lone surrogates');
  checkNames('the options of pull', options, ['progress', 'signal', 'renew']);
  const { progress, signal, renew = true } = options;
  checkCallable('progress', progress);
  checkSignal(signal);
  const json = await run<string>(LOADS, (key) => native.pullModel(name, DEMO, renew, notifier, key), {
    signal,
    progress: progress && ((said) => progress(JSON.parse(said) as PullProgress)),
  });
  return JSON.parse(json) as LocalModel;
}
