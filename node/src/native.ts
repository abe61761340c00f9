// Finds and types the native module. Nothing here is public.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { packageName, SUPPORTED } from './platforms.js';
import { checkProcessor } from './processor.js';

export interface NativeNotifier {
  drain(): number[];
}

export interface NativeJob {
  cancel(): void;
  progress(): string | null;
  take(): NativeModel | NativeContext | Int32Array | string | undefined;
}

/** A chat as JSON, and the long texts that the JSON has references to. */
export type NativeChat = [json: string, texts: string[]];

export interface NativeModel {
  facts(): string;
  tokenize(text: string, special: [add: boolean, parse: boolean], notifier: NativeNotifier, key: number): NativeJob;
  render(chat: NativeChat, asText: boolean, notifier: NativeNotifier, key: number): NativeJob;
  detokenize(ids: Float64Array, notifier: NativeNotifier, key: number): NativeJob;
  close(notifier: NativeNotifier, key: number): NativeJob;
}

export interface NativeContext {
  share(): NativeContext;
  contextLen(): number;
  unfinished(): number;
  stats(): string;
  close(): void;
}

/** A prompt for one stream. */
export interface NativePrompt {
  readonly kind?: never;
}

/** Settings that were checked. */
export interface NativeSettings {
  after(waitedMs: number): NativeSettings;
}

/** Text and id; or those with bytes, log-probability, and pairs of ids and log-probabilities. */
export type NativeItem =
  | [text: string, id: number]
  | [text: string, id: number | null | undefined, bytes: Uint8Array, logprob: number | null | undefined, top: [number, number][]];

export interface NativeStream {
  next(): NativeItem | null | undefined;
  cancel(): void;
  close(): void;
  tokensGenerated(): number;
  tokensPerSecond(): number;
  finishReason(): string | null;
  stopSequence(): string | null;
  usage(): [number, number, number];
  timings(): [number, number, number, number, number];
  seed(): number;
  text(): string;
  buffered(): number;
}

export interface Native {
  Notifier: new (signal: () => void) => NativeNotifier;
  Prompt: {
    text(text: string): NativePrompt;
    loneSurrogate(position: number): NativePrompt;
    tokens(model: NativeModel, ids: Float64Array): NativePrompt;
    tooMany(count: number): NativePrompt;
    chat(chat: NativeChat): NativePrompt;
    surrogateInMessage(): NativePrompt;
  };
  Stream: new (
    context: NativeContext,
    prompt: NativePrompt,
    settings: NativeSettings,
    notifier: NativeNotifier,
    key: number,
  ) => NativeStream;
  loadModel(source: string, options: string, notifier: NativeNotifier, key: number): NativeJob;
  openContext(model: NativeModel, params: string, notifier: NativeNotifier, key: number): NativeJob;
  pullModel(name: string, demo: string, renew: boolean, notifier: NativeNotifier, key: number): NativeJob;
  readSettings(json: string): NativeSettings;
  checkContextParams(json: string): void;
  streamSettings(): string;
  contextSettings(): string;
  errorClasses(): string;
  shutdown(): void;
  systemInfo(notifier: NativeNotifier, key: number): NativeJob;
  version(): string;
}

const load = createRequire(__filename);

/** The root of the package, in which the model "demo" is. */
export const ROOT = join(__dirname, '..');

function loadNative(): Native {
  // A checkout builds the module here; packages for each platform bring it to everybody else.
  const built = join(ROOT, 'native', 'mullama.node');
  if (existsSync(built)) {
    checkProcessor(join(ROOT, 'native', 'features.json'));
    return load(built) as Native;
  }
  const wanted = packageName();
  if (wanted === undefined) {
    const here = `${process.platform}-${process.arch}`;
    throw new Error(`mullama has no build for ${here}; there are builds for ${SUPPORTED.join(', ')}`);
  }
  let module: string;
  try {
    module = load.resolve(wanted);
  } catch (cause) {
    const advice = `install it without --omit=optional, or run: npm install ${wanted}`;
    throw new Error(`the native module of mullama, ${wanted}, is not installed: ${advice}`, { cause });
  }
  checkProcessor(join(dirname(module), 'features.json'));
  return load(module) as Native;
}

export const native = loadNative();
