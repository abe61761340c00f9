import { isPromise } from 'node:util/types';

import { checkSignal, kindOf } from './checks.js';
import type { Completion, Message } from './completion.js';
import { checkedParams, configOf, nativeSettings, type ContextParams, type Settings } from './config.js';
import { call, EngineClosedError, wrongType } from './errors.js';
import { hold, release } from './loop.js';
import { Model, type Engine } from './model.js';
import type { NativeContext, NativePrompt } from './native.js';
import { checkNames } from './options.js';
import { chatPrompt, promptOf, type ChatOptions, type Prompt } from './prompt.js';
import { readToEnd, TokenStream } from './stream.js';

/** Options of one call. */
export interface StreamOptions {
  /** Stops the stream: the read that is pending, or else the next one, rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Options of one call of a chat. */
export interface ChatStreamOptions extends StreamOptions, ChatOptions {}

/** Steps of one kind; durations are in milliseconds. */
export interface Steps {
  /** Number of steps. */
  readonly count: number;
  /** Their total time. */
  readonly total: number;
  /** The time of the longest of them. */
  readonly longest: number;
}

/** What an engine is doing now, and what it has done since it started. Contexts that share an engine see the same. */
export interface Stats {
  /** Streams that wait for their first slot. */
  readonly queued: number;
  /** Streams that are being computed. */
  readonly running: number;
  /** Streams that are paused by a full buffer or a delay, or preempted for want of KV cells. */
  readonly paused: number;
  /** Size of the KV pool in cells, one per token. */
  readonly cells: number;
  /** KV cells in use. */
  readonly cellsUsed: number;
  /** KV cells that more than one stream or cached prefix holds. */
  readonly cellsShared: number;
  /** KV cells of cached prefixes, including those that running streams share. */
  readonly cellsCached: number;
  /** Bytes of cached prefixes that were offloaded to host memory. */
  readonly prefixBytes: number;
  /** Streams that started from a cached prefix. */
  readonly prefixHits: number;
  /** Prompt tokens that were not recomputed. */
  readonly tokensSaved: number;
  /** Copies of KV to host memory. */
  readonly offloads: number;
  /** Copies of KV back from host memory. */
  readonly restores: number;
  /** How often a stream lost its KV cells to another. */
  readonly preemptions: number;
  /** Tokens generated after prompts. */
  readonly tokensGenerated: number;
  /** Threads of the latest step. */
  readonly threads: number;
  /** Steps that only decoded running streams. */
  readonly decodeSteps: Steps;
  /** Steps that prefilled prompts. */
  readonly prefillSteps: Steps;
}

/** The length of a context whose engine has not started yet, if its params do not say. */
const USUAL_LENGTH = 4096;

/**
 * Generates text with a model. Cheap, also once a request: contexts with equal params on one model share an engine and
 * its KV pool. The first one starts the engine in the background; what goes wrong there, the first read of a stream
 * rejects with.
 *
 * @example
 * const context = new Context(await Model.load('demo'));
 * for await (const token of context.generateStream('Write a poem:', 200)) process.stdout.write(token.text);
 */
export class Context {
  /** The model. */
  readonly model: Model;
  /** The layout of the engine, as it was requested. */
  readonly params: Readonly<ContextParams>;
  #engine: Engine | undefined;
  #native: NativeContext | undefined;

  /**
   * @param params Layout of the engine. Contexts with equal params share one.
   * @throws {@link InvalidConfigError} or {@link EngineClosedError}.
   */
  constructor(model: Model, params: ContextParams = {}) {
    if (!(model instanceof Model)) {
      const isUnloaded = typeof model === 'string' || isPromise(model);
      const hint = isUnloaded ? '; new Context(await Model.load(path)) loads it' : '';
      throw wrongType(`model must be a Model, not ${kindOf(model)}${hint}`);
    }
    const { own, json } = checkedParams(params);
    this.model = model;
    this.params = own;
    this.#engine = model.engine(json);
    this.#engine.users++;
  }

  /** Waits until the engine runs. No call needs that: streams wait for it themselves. */
  async ready(): Promise<this> {
    hold();
    try {
      await this.#open().ready;
      return this;
    } finally {
      release();
    }
  }

  /**
   * Opens a stream of tokens. Never waits; reading the stream does.
   *
   * @param prompt Text, in which control tokens are parsed; token ids; or messages for the model's chat template.
   * @param settings Maximum number of tokens, or a config. Without a config, the settings apply that the model's
   *   publisher recommends.
   * @throws {@link InvalidConfigError}, {@link OverloadedError} or {@link EngineClosedError}. The first read reports
   *   errors of the prompt.
   */
  generateStream(prompt: Prompt, settings?: Settings, options?: StreamOptions): TokenStream {
    const longest = this.#native?.contextLen() ?? this.params.nCtx ?? USUAL_LENGTH;
    return this.#stream(() => promptOf(this.model.native, prompt, longest), settings, options);
  }

  /** Generates a completion: a stream, read to its end. An error has what was generated before it as `completion`. */
  async generate(prompt: Prompt, settings?: Settings, options?: StreamOptions): Promise<Completion> {
    return readToEnd(this.generateStream(prompt, settings, options));
  }

  /**
   * Opens a stream of the reply to a conversation, rendered with the model's chat template. Control tokens inside messages
   * are plain text.
   */
  chatStream(messages: readonly Message[], settings?: Settings, options: ChatStreamOptions = {}): TokenStream {
    return this.#stream(() => chatPrompt(messages, options), settings, options);
  }

  /** Generates the reply to a conversation. */
  async chat(messages: readonly Message[], settings?: Settings, options?: ChatStreamOptions): Promise<Completion> {
    return readToEnd(this.chatStream(messages, settings, options));
  }

  #stream(prompt: () => NativePrompt, settings: Settings | undefined, options: StreamOptions = {}): TokenStream {
    checkNames('the options of a stream', options, ['signal', 'tools', 'chatTemplate', 'chatTemplateKwargs']);
    const { signal } = options;
    checkSignal(signal);
    const engine = this.#open();
    const config = configOf(settings, this.model.recommended);
    const opening = { settings: nativeSettings(config), bufferSize: config.bufferSize, signal };
    return new TokenStream({ ...opening, prompt: prompt(), context: this.#attached(engine) ?? engine.ready });
  }

  #open(): Engine {
    if (this.#engine === undefined) throw new EngineClosedError('the context is closed', { what: 'context' });
    return this.#engine;
  }

  /** The context of the engine; undefined until it runs. */
  #attached(engine: Engine): NativeContext | undefined {
    this.#native ??= engine.native && call(() => engine.native?.share());
    return this.#native;
  }

  /** Maximum number of tokens of one stream, including its prompt; null until the engine runs. */
  get contextLen(): number | null {
    return call(() => this.#attached(this.#open())?.contextLen() ?? null);
  }

  /** Number of streams that have not ended, including those of other contexts on the same engine. */
  get unfinished(): number {
    return call(() => this.#attached(this.#open())?.unfinished() ?? 0);
  }

  /** What the engine is doing now, and what it has done since it started; null until it runs. */
  stats(): Stats | null {
    const json = call(() => this.#attached(this.#open())?.stats());
    return json === undefined ? null : (JSON.parse(json) as Stats);
  }

  /** Releases the engine. Open streams continue; later calls throw `EngineClosedError`. */
  close(): void {
    const engine = this.#engine;
    if (engine === undefined) return;
    this.#engine = undefined;
    this.#native?.close();
    this.#native = undefined;
    engine.users--;
    this.model.letGo(engine);
  }

  /** Closes the context at the end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
