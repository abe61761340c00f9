/// <reference lib="esnext.disposable" preserve="true" />
/** Streams text from language models in your own process. */

import { notifier, QUICK, run } from './loop.js';
import { native } from './native.js';

export { AsyncModel, type AsyncModelOptions } from './async-model.js';
export type { ErrorCode } from './codes.js';
export { Completion, type FinishReason, type Message, type Timings, type Usage } from './completion.js';
export { StreamConfig, type ContextParams, type KvType, type Settings } from './config.js';
export { Context, type ChatStreamOptions, type Stats, type Steps, type StreamOptions } from './context.js';
export {
  ChatTemplateError,
  ContextOverflowError,
  DownloadError,
  EngineClosedError,
  GenerationError,
  InvalidConfigError,
  InvalidPromptError,
  ModelLoadError,
  ModelNotFoundError,
  MullamaError,
  OverloadedError,
  StreamBusyError,
  StreamTimeoutError,
} from './errors.js';
export { pull, type LocalModel, type PullOptions, type PullProgress } from './hub.js';
export { Model, type ModelDefaults, type ModelOptions, type TemplateOptions, type TokenizeOptions } from './model.js';
export type { ChatOptions, Prompt } from './prompt.js';
export type { StreamSettings } from './settings.js';
export { TokenStream } from './stream.js';
export { Token, type TokenLogprob } from './token.js';

/** The version of the package. */
export const version: string = native.version();

/** What llama.cpp was compiled for, and the devices that it found. */
export function systemInfo(): Promise<string> {
  return run(QUICK, (key) => native.systemInfo(notifier, key));
}
