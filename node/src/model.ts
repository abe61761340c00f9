import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { checkCallable, checkSignal, isWellFormed, kindOf } from './checks.js';
import type { Message } from './completion.js';
import { StreamConfig } from './config.js';
import { call, EngineClosedError, InvalidConfigError, InvalidPromptError, wrongType } from './errors.js';
import { ENGINES, LOADS, notifier, QUICK, run, turn } from './loop.js';
import { native, ROOT, type NativeContext, type NativeModel } from './native.js';
import { checkNames } from './options.js';
import { chatJson, idsOf, type ChatOptions } from './prompt.js';
import type { StreamSettings } from './settings.js';
import { throwIfAborted } from './signal.js';
import { copied, encode } from './values.js';

/** How a model is loaded. */
export interface ModelOptions {
  /** Layers to offload to a GPU, if there is one; a negative number, the default, offloads all of them. */
  nGpuLayers?: number | undefined;
  /** Maps the file into memory instead of reading it, so that processes share its pages. Default true. */
  useMmap?: boolean | undefined;
  /** Keeps the weights in RAM, as far as the system allows it. Default false. */
  useMlock?: boolean | undefined;
  /** Looks at every weight for a NaN or an infinity. Default false. */
  checkTensors?: boolean | undefined;
  /** Loads the vocabulary and the metadata alone. Such a model tokenizes and renders templates. Default false. */
  vocabOnly?: boolean | undefined;
  /** Downloads a model that is not on this machine. Default true. */
  pull?: boolean | undefined;
  /** Called with how far the load is, from 0 to 1. A download before it is not counted. */
  progress?: ((fraction: number) => void) | undefined;
  /** Ends the load. */
  signal?: AbortSignal | undefined;
}

/** Settings that a model's publisher recommends. */
export interface ModelDefaults {
  /** They apply to every call that has no config of its own. */
  readonly settings: Readonly<StreamSettings>;
  /** Recommended context length in tokens, for information. */
  readonly nCtx: number | null;
  /** Recommended system message, for information. */
  readonly system: string | null;
}

/** How a text is tokenized. */
export interface TokenizeOptions {
  /** Adds the tokens that the model wants at the beginning and end of a text. Default true. */
  addSpecial?: boolean | undefined;
  /** Treats the text of control tokens as those tokens. Default true. */
  parseSpecial?: boolean | undefined;
  /** Ends the call. */
  signal?: AbortSignal | undefined;
}

/** How a conversation is rendered. */
export interface TemplateOptions extends ChatOptions {
  /** Appends the text that starts the assistant's reply. Default true. */
  addGenerationPrompt?: boolean | undefined;
  /** Ends the call. */
  signal?: AbortSignal | undefined;
}

/** Names of the options of a load. */
export const LOAD_OPTIONS = ['nGpuLayers', 'useMmap', 'useMlock', 'checkTensors', 'vocabOnly', 'pull', 'progress', 'signal'];

const TEMPLATE_OPTIONS = ['tools', 'chatTemplate', 'chatTemplateKwargs', 'addGenerationPrompt', 'signal'];

/** The file of the model inside the package. */
export const DEMO = [join(ROOT, 'models', 'demo.gguf'), join(ROOT, '..', 'python', 'mullama', 'models', 'demo.gguf')].find(
  (path) => existsSync(path),
) as string;

/** An engine that contexts of a model share. */
export class Engine {
  native: NativeContext | undefined;
  ready: Promise<NativeContext>;
  /** Number of contexts that are open. */
  users = 0;

  constructor(model: NativeModel, readonly params: string) {
    const started = run<NativeContext>(ENGINES, (key) => native.openContext(model, params, notifier, key), { keepsAlive: false });
    this.ready = started.then((context) => (this.native = context));
    // Whoever reads a stream hears of a failure.
    this.ready.catch(() => {});
  }

  /** Gives the engine up. Streams that wait for it begin before that. */
  close(): void {
    if (this.native === undefined) this.ready.then((context) => context.close(), () => {});
    else this.native.close();
  }
}

/**
 * A loaded model. Contexts generate text with it; any number of them can share it.
 *
 * @example
 * const model = await Model.load('demo');
 * console.log(await model.tokenize('Hello'));
 */
export class Model {
  /** The name that it was found by, in full; for a plain file, its path. */
  declare readonly name: string;
  /** The file that it was loaded from. */
  declare readonly path: string;
  /** Settings that its publisher recommends. */
  declare readonly defaults: ModelDefaults;
  /** The file's metadata, as text. */
  declare readonly metadata: Readonly<Record<string, string>>;
  /** Architecture, size and quantization in a few words. */
  declare readonly description: string;
  /** Context length that the model was trained with, in tokens. */
  declare readonly nCtxTrain: number;
  /** Embedding width. */
  declare readonly nEmbd: number;
  /** Number of layers. */
  declare readonly nLayer: number;
  /** Number of layers on GPUs; 0 if all are on the CPU. */
  declare readonly nGpuLayers: number;
  /** Number of weights. */
  declare readonly nParams: number;
  /** Number of tokens in the vocabulary. */
  declare readonly nVocab: number;
  /** Size of all weights, in bytes. */
  declare readonly size: number;
  /** The beginning-of-sequence token, if the model has one. */
  declare readonly bos: number | null;
  /** The end-of-sequence token, if the model has one. */
  declare readonly eos: number | null;
  /** All end-of-generation tokens. */
  declare readonly endTokens: readonly number[];
  /** @internal */
  declare readonly native: NativeModel;
  /** @internal */
  declare readonly recommended: StreamConfig;
  /** The engine that was used last. */
  #last: [params: string, engine: Engine] | undefined;
  readonly #engines = new Map<string, WeakRef<Engine>>();
  #isClosed = false;

  /** @internal */
  constructor(loaded: NativeModel) {
    if (loaded === undefined) throw wrongType('models are loaded with await Model.load(path)');
    Object.assign(this, JSON.parse(loaded.facts()));
    // Not enumerable, because neither JSON nor the console of a program should show them.
    Object.defineProperty(this, 'native', { value: loaded });
    Object.defineProperty(this, 'recommended', { value: new StreamConfig(this.defaults.settings) });
  }

  /**
   * Loads a model on another thread.
   *
   * @param path A name such as "llama3.2:1b" or "hf.co/user/repo:Q4_K_M", or the path or URL of a GGUF file. An existing
   *   file wins over a name. "demo" is the small model inside the package; a file of that name is "./demo".
   * @throws {@link ModelNotFoundError}, {@link DownloadError}, {@link InvalidConfigError} or {@link ModelLoadError}; the
   *   signal's reason if it aborts.
   */
  static async load(path: string | URL, options: ModelOptions = {}): Promise<Model> {
    checkNames('the options of Model.load', options, LOAD_OPTIONS);
    const { progress, signal, pull = true, ...native_ } = options;
    checkCallable('progress', progress);
    checkSignal(signal);
    const source = JSON.stringify({ ...sourceOf(path), pull, demo: DEMO });
    const own = encode(copied(native_));
    const loaded = await run<NativeModel>(LOADS, (key) => native.loadModel(source, own, notifier, key), {
      signal,
      progress: progress && ((json) => progress(JSON.parse(json) as number)),
    });
    return new Model(loaded);
  }

  /** The token ids of a text. */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<number[]> {
    if (typeof text !== 'string') throw wrongType(`text must be a string, not ${kindOf(text)}`);
    if (!isWellFormed(text)) {
      throw new InvalidPromptError('invalid prompt: the text has a lone surrogate (not valid Unicode)', {
        reason: 'the text has a lone surrogate', token: null, position: null,
      });
    }
    checkNames('the options of tokenize', options, ['addSpecial', 'parseSpecial', 'signal']);
    const { addSpecial = true, parseSpecial = true, signal } = options;
    checkSignal(signal);
    const special: [boolean, boolean] = [addSpecial, parseSpecial];
    return numbers(await run<Int32Array>(QUICK, (key) => this.native.tokenize(text, special, notifier, key), { signal }), signal);
  }

  /** The text of token ids. */
  async detokenize(tokens: readonly number[] | Int32Array | Uint32Array): Promise<string> {
    const ids = idsOf('tokens', tokens);
    return run(QUICK, (key) => this.native.detokenize(ids, notifier, key));
  }

  /**
   * Renders a conversation with the model's Jinja template, as Hugging Face's libraries do. The result is for inspection:
   * as a prompt, control tokens that a user typed into a message would be parsed. `chatStream` treats them as plain text.
   */
  async applyChatTemplate(messages: readonly Message[], options: TemplateOptions = {}): Promise<string> {
    const [text] = await this.#render<string>(messages, options, true);
    return text;
  }

  /** The token ids of a conversation, as `chatStream` computes them. */
  async tokenizeChat(messages: readonly Message[], options: TemplateOptions = {}): Promise<number[]> {
    return numbers(...(await this.#render<Int32Array>(messages, options, false)));
  }

  async #render<T>(messages: readonly Message[], options: TemplateOptions, asText: boolean): Promise<[T, AbortSignal | undefined]> {
    checkNames('the options of a template', options, TEMPLATE_OPTIONS);
    const { signal } = options;
    checkSignal(signal);
    const chat = chatJson(messages, options, options.addGenerationPrompt ?? true);
    if (chat === undefined) {
      const reason = 'a message contains a lone surrogate (not valid Unicode)';
      throw new InvalidPromptError(`invalid prompt: ${reason}`, { reason, token: null, position: null });
    }
    return [await run<T>(QUICK, (key) => this.native.render(chat, asText, notifier, key), { signal }), signal];
  }

  /** Ends all engines of the model, and with them their streams. The weights are freed with the last user. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#last = undefined;
    this.#engines.clear();
    await run(ENGINES, (key) => this.native.close(notifier, key));
  }

  /** Closes the model at the end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal The engine with these params, which starts unless it runs. */
  engine(params: string): Engine {
    if (this.#isClosed) throw new EngineClosedError('the model is closed', { what: 'model' });
    const known = this.#last?.[0] === params ? this.#last[1] : this.#engines.get(params)?.deref();
    const engine = known ?? this.#start(params);
    const before = this.#last?.[1];
    this.#last = [params, engine];
    if (before !== undefined) this.letGo(before);
    return engine;
  }

  #start(params: string): Engine {
    const engine = call(() => new Engine(this.native, params));
    this.#engines.set(params, new WeakRef(engine));
    engine.ready.catch(() => {
      // The next context tries again.
      if (this.#engines.get(params)?.deref() === engine) this.#engines.delete(params);
      if (this.#last?.[1] === engine) this.#last = undefined;
    });
    return engine;
  }

  /** @internal Gives an engine up that no context uses, unless it was used last: the model keeps that for the next context. */
  letGo(engine: Engine): void {
    if (engine.users > 0 || this.#last?.[1] === engine) return;
    if (this.#engines.get(engine.params)?.deref() === engine) this.#engines.delete(engine.params);
    engine.close();
  }
}

/** How many numbers become an array before the event loop has its turn. */
const AT_ONCE = 2 ** 14;
/** The longest array whose memory is taken at once; a much longer one would be a hash table. */
const ALLOCATED = 2 ** 24;

/** Token ids as an array, which takes a moment for each of them. */
async function numbers(ids: Int32Array, signal: AbortSignal | undefined): Promise<number[]> {
  const array = new Array<number>(Math.min(ids.length, ALLOCATED));
  for (let at = 0; at < ids.length; at++) {
    if (at > 0 && at % AT_ONCE === 0) {
      await turn();
      throwIfAborted(signal);
    }
    array[at] = ids[at] as number;
  }
  return array;
}

/** What a program means with the text: a name, or what can only be a path. */
export function sourceOf(path: string | URL): { name: string; isPath: boolean } {
  // The URL may be of another realm.
  if (typeof path === 'object' && typeof path?.href === 'string') {
    if (path.protocol === 'file:') return { name: fileURLToPath(path), isPath: true };
    return { name: path.href, isPath: false };
  }
  if (typeof path !== 'string') throw wrongType(`path must be a string or a URL, not ${kindOf(path)}`);
  if (!isWellFormed(path)) throw invalidPath(JSON.stringify(path), 'text without lone surrogates');
  const name = path.replace(/^~(?=$|[/\\])/, () => homedir());
  return { name, isPath: name === '' || /^(?:[./\\]|[A-Za-z]:[/\\])/.test(name) };
}

function invalidPath(value: string, range: string): InvalidConfigError {
  return new InvalidConfigError(`path is ${value}, but must be ${range}`, { field: 'path', value, range });
}
