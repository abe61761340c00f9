// Prompts and messages as the native module takes them.

import { isInt32Array, isStringObject, isUint32Array } from 'node:util/types';

import { isWellFormed, kindOf, loneSurrogate } from './checks.js';
import type { Message } from './completion.js';
import { call, wrongType } from './errors.js';
import { native, type NativeChat, type NativeModel, type NativePrompt } from './native.js';

/** Text to continue, in which control tokens are parsed; token ids; or messages for the model's chat template. */
export type Prompt = string | readonly number[] | Int32Array | Uint32Array | readonly Message[];

/** What a chat has beside its messages. */
export interface ChatOptions {
  /** Tools that the model may call, as JSON schemas in the form of OpenAI's API. */
  tools?: readonly object[] | undefined;
  /** A Jinja template to use instead of the model's own. */
  chatTemplate?: string | undefined;
  /** Additional variables for the template, such as `{ enable_thinking: false }`. */
  chatTemplateKwargs?: Readonly<Record<string, unknown>> | undefined;
}

/** The most token ids that are converted: no context is longer. */
const MOST_IDS = 2 ** 28;

/** The prompt of one stream. A wrong type is a `TypeError`; the stream reports a wrong value of the right type. */
export function promptOf(model: NativeModel, prompt: Prompt, longest: number): NativePrompt {
  if (typeof prompt === 'string') {
    return isWellFormed(prompt) ? native.Prompt.text(prompt) : native.Prompt.loneSurrogate(loneSurrogate(prompt));
  }
  if (!Array.isArray(prompt) && !isIds(prompt)) {
    throw wrongType(`prompt must be a string, an array of token ids or an array of messages, not ${kindOf(prompt)}`);
  }
  if (typeof prompt[0] === 'object') return chatPrompt(prompt as readonly Message[]);
  // What cannot fit is not converted. One id more than fits is enough to know that.
  if (prompt.length > longest) return native.Prompt.tooMany(Math.min(prompt.length, 2 ** 32 - 1));
  return call(() => native.Prompt.tokens(model, idsOf('prompt', prompt as readonly number[])));
}

function isIds(prompt: unknown): prompt is Int32Array | Uint32Array {
  return isInt32Array(prompt) || isUint32Array(prompt);
}

/** Token ids as the native module takes them. */
export function idsOf(name: string, ids: readonly number[] | Int32Array | Uint32Array): Float64Array {
  if (!Array.isArray(ids) && !isIds(ids)) throw wrongType(`${name} must be an array of token ids, not ${kindOf(ids)}`);
  const count = Math.min(ids.length, MOST_IDS);
  const numbers = new Float64Array(count);
  for (let at = 0; at < count; at++) {
    const id: unknown = ids[at];
    if (typeof id !== 'number' || !Number.isInteger(id)) {
      throw wrongType(`${name}[${at}] must be a token id, not ${typeof id === 'number' ? id : kindOf(id)}`);
    }
    numbers[at] = id;
  }
  return numbers;
}

/** A chat as the prompt of one stream. */
export function chatPrompt(messages: readonly Message[], options: ChatOptions = {}): NativePrompt {
  const chat = chatJson(messages, options, true);
  return chat === undefined ? native.Prompt.surrogateInMessage() : call(() => native.Prompt.chat(chat));
}

/** A chat as the native module takes it; undefined if it has a lone surrogate. */
export function chatJson(messages: readonly Message[], options: ChatOptions, startsReply: boolean): NativeChat | undefined {
  if (!Array.isArray(messages)) throw wrongType(`messages must be an array of messages, not ${kindOf(messages)}`);
  messages.forEach((message: unknown, at) => {
    if (kindOf(message) !== 'object') throw wrongType(`messages[${at}] must be an object with a role, not ${kindOf(message)}`);
  });
  const { tools, chatTemplate, chatTemplateKwargs } = options;
  checkKind('tools', tools, 'array');
  checkKind('chatTemplate', chatTemplate, 'string');
  checkKind('chatTemplateKwargs', chatTemplateKwargs, 'object');
  return json({
    messages,
    tools: tools ?? null,
    chat_template: chatTemplate ?? null,
    chat_template_kwargs: chatTemplateKwargs ?? {},
    add_generation_prompt: startsReply,
  });
}

function checkKind(name: string, value: unknown, kind: string): void {
  const article = kind === 'string' ? 'a' : 'an';
  if (value !== undefined && kindOf(value) !== kind) throw wrongType(`${name} must be ${article} ${kind}, not ${kindOf(value)}`);
}

/** What the references to texts begin with; `crates/mullama-node/src/chat.rs` has the same. */
const REFERENCE = '\u0001';
/** Texts of more characters stand beside the JSON, because writing them as JSON takes twenty times as long. */
const LONGEST_IN_JSON = 1024;

/** The chat with its long texts beside the JSON; undefined if a text or a name in it has a lone surrogate. */
function json(chat: object): NativeChat | undefined {
  const texts: string[] = [];
  let wellFormed = true;
  const beside = (key: string, value: unknown): unknown => {
    wellFormed &&= isWellFormed(key);
    // JSON has the text of a string object.
    const plain = isStringObject(value) ? String(value) : value;
    if (typeof plain !== 'string') return plain;
    wellFormed &&= isWellFormed(plain);
    if (plain.length <= LONGEST_IN_JSON && !plain.startsWith(REFERENCE)) return plain;
    return `${REFERENCE}${texts.push(plain) - 1}`;
  };
  try {
    const text = JSON.stringify(chat, beside);
    return wellFormed ? [text, texts] : undefined;
  } catch (error) {
    if (error instanceof RangeError) throw wrongType('messages, tools and variables must not be nested that deeply');
    throw error;
  }
}
