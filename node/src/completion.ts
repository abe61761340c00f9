import type { Token } from './token.js';

/**
 * How a stream ended: an end-of-generation token or a stop sequence ("stop"), `maxTokens` or a full context ("length"),
 * its reader ("cancelled"), a time limit ("timeout"), or a failure ("error").
 */
export type FinishReason = 'stop' | 'length' | 'cancelled' | 'timeout' | 'error';

/** Token counts of a stream. */
export interface Usage {
  /** Tokens of the prompt, including those that the model adds. */
  readonly promptTokens: number;
  /** Tokens of the prompt that were reused from a cached prefix instead of being computed. */
  readonly cachedTokens: number;
  /** Tokens computed after the prompt, including an end-of-generation token, which is not an item of the stream. */
  readonly completionTokens: number;
}

/** Where the time of a stream went, in milliseconds. */
export interface Timings {
  /** From the call until the stream got a slot. */
  readonly queue: number;
  /** From getting a slot to the first token, which is mostly the prefill. */
  readonly prefill: number;
  /** From the call to the first token. */
  readonly firstToken: number;
  /** From the first token to the latest. */
  readonly decode: number;
  /** Total time that the stream was paused because its buffer was full. */
  readonly readerWait: number;
}

/** A message of a conversation, in the form of OpenAI's API. Templates may read further fields. */
export interface Message {
  /** "system", "user", "assistant" or "tool". */
  role: string;
  /** A text, or a list of text parts. */
  content?: unknown;
  /** Such as `tool_calls` or `name`. */
  [field: string]: unknown;
}

/** The result of `generate` or `chat`: a stream that was read to its end. As a string, it is its text. */
export class Completion {
  /** The joined text of all tokens. */
  declare readonly text: string;
  /** The tokens. */
  declare readonly tokens: readonly Token[];
  /** How the stream ended. */
  declare readonly finishReason: FinishReason;
  /** The stop sequence that ended the stream, if one did. */
  declare readonly stopSequence: string | null;
  /** Token counts. */
  declare readonly usage: Usage;
  /** Where the time went. */
  declare readonly timings: Timings;
  /** The sampling seed, either given or chosen. */
  declare readonly seed: number;

  /** @internal */
  constructor(fields: Omit<Completion, 'message' | 'toString'>) {
    Object.assign(this, fields);
  }

  /** The answer as a message of the assistant, to append to the messages of a chat. */
  get message(): Message {
    return { role: 'assistant', content: this.text };
  }

  /** The text. */
  toString(): string {
    return this.text;
  }
}
