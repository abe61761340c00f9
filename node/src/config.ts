import { call, wrongType } from './errors.js';
import { native, type NativeSettings } from './native.js';
import { checkNames } from './options.js';
import type { StreamSettings } from './settings.js';
import { copied, encode } from './values.js';

interface Row {
  name: keyof StreamSettings;
  type: string;
  default: unknown;
}

const TABLE = JSON.parse(native.streamSettings()) as Row[];
const NAMES = TABLE.map(({ name }) => name);
// Pairs of ids and biases in Rust are an object here.
const DEFAULTS = copied(Object.fromEntries(TABLE.map(({ name, default: value }) => [name, name === 'logitBias' ? {} : value])));

const natives = new WeakMap<StreamConfig, NativeSettings>();

type All = { readonly [Name in keyof StreamSettings]-?: Exclude<StreamSettings[Name], undefined> };

// The class has the fields of the table, which TypeScript knows from the interface.
export interface StreamConfig extends All {}

/**
 * How a stream is generated and delivered. Configs are frozen. All values are checked on creation: `InvalidConfigError`
 * names the field, the value and the range, and a value of a wrong type is a `TypeError`.
 *
 * @example
 * const config = new StreamConfig({ maxTokens: 200, temperature: 0.7 });
 */
export class StreamConfig {
  constructor(settings: StreamSettings = {}) {
    checkNames('StreamConfig', settings, NAMES);
    const own = copied(settings);
    const given = encode(own);
    natives.set(this, call(() => native.readSettings(given)));
    for (const name of NAMES) Object.defineProperty(this, name, { value: own[name] === undefined ? DEFAULTS[name] : own[name], enumerable: true });
    Object.freeze(this);
  }
}

/** The checked settings of a config. */
export function nativeSettings(config: StreamConfig): NativeSettings {
  const settings = natives.get(config);
  if (settings === undefined) throw wrongType('a StreamConfig must be created with new StreamConfig()');
  return settings;
}

/** A maximum number of tokens, all settings, or those that differ from their defaults. */
export type Settings = number | StreamConfig | StreamSettings;

/** The config of a call. What the model's publisher recommends applies where the call has no config of its own. */
export function configOf(settings: Settings | undefined, recommended: StreamConfig): StreamConfig {
  if (settings instanceof StreamConfig) return settings;
  if (settings === undefined) return recommended;
  if (typeof settings !== 'number') return new StreamConfig(settings);
  return new StreamConfig({ ...recommended, maxTokens: settings });
}

/** Layout of an engine. Contexts with equal params on one model share one engine and its KV pool. */
export interface ContextParams {
  /** Maximum number of tokens of one stream, including its prompt. Default: the model's, at most 4096. */
  nCtx?: number | null | undefined;
  /** Number of slots: streams that are computed at the same time, 1 to 256. Default 8. */
  nParallel?: number | undefined;
  /** Size of the KV pool that all streams share, in tokens. Default: `nCtx`, which is also the minimum. */
  kvCells?: number | null | undefined;
  /** Maximum number of tokens in one decode call. Default 2048. */
  nBatch?: number | undefined;
  /** Maximum number of tokens in one pass through the graph. Default 512. */
  nUbatch?: number | undefined;
  /** Threads for steps that only decode, 1 to 512. Default: the physical cores that this process may use. */
  nThreads?: number | null | undefined;
  /** Threads for steps that prefill prompts, 1 to 512. Default: the same as `nThreads`. */
  nThreadsBatch?: number | null | undefined;
  /** Whether to use flash attention; "auto", the default, uses it if the model and the backend support it. */
  flashAttn?: 'auto' | 'on' | 'off' | undefined;
  /** Data type of the K cache. Default "f16". */
  typeK?: KvType | undefined;
  /** Data type of the V cache; quantized types need flash attention. Default "f16". */
  typeV?: KvType | undefined;
  /** Maximum host memory for offloaded prefixes, in bytes; 0 keeps none. Default 512 MiB. */
  prefixCacheBytes?: number | undefined;
  /** Number of streams that may wait for a slot. Default 64: a call is refused while `nParallel + maxQueue` run or wait. */
  maxQueue?: number | undefined;
  /**
   * Number of streams that may be paused, 1 to 1048576. Default 1024. Any stream may be paused later, so a call is refused
   * while as many run, wait or are paused. A number smaller than `nParallel + maxQueue` is raised to that.
   */
  maxPaused?: number | undefined;
}

/** Data type of a KV cache. */
export type KvType = 'f32' | 'f16' | 'bf16' | 'q8_0' | 'q5_1' | 'q5_0' | 'q4_1' | 'q4_0' | 'iq4_nl';

const PARAMS = (JSON.parse(native.contextSettings()) as { name: string }[]).map(({ name }) => name);

/** Params that were checked: a copy, and the same as JSON, in which equal params are equal texts. */
export function checkedParams(params: ContextParams): { own: Readonly<ContextParams>; json: string } {
  checkNames('ContextParams', params, PARAMS);
  const own = copied(params);
  const json = encode(Object.fromEntries(PARAMS.map((name) => [name, own[name]])));
  call(() => native.checkContextParams(json));
  return { own, json };
}
