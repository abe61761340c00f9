import type { NativeItem } from './native.js';

const encoder = new TextEncoder();

/** One of the most likely tokens at a position. */
export interface TokenLogprob {
  /** The token's id. */
  readonly id: number;
  /** Natural logarithm of its probability before sampling. */
  readonly logprob: number;
}

/** One item of a stream: the text that became certain with one generated token. As a string, it is its text. */
export class Token {
  /** Text that became certain with this token. May be empty; always whole characters. */
  readonly text: string;
  /** The token's id; null for text that was held back when the stream ended. */
  readonly id: number | null;
  /** Index in the stream, from 0. */
  readonly index: number;
  /** Natural logarithm of the token's probability before sampling; null unless `logprobs` was set. */
  readonly logprob: number | null;
  /** The most likely tokens at this index, most likely first; empty unless `logprobs` was set. */
  readonly topLogprobs: readonly TokenLogprob[];
  readonly #bytes: Uint8Array | undefined;

  /** @internal */
  constructor(item: NativeItem, index: number) {
    this.text = item[0];
    this.id = item[1] ?? null;
    this.index = index;
    if (item.length === 2) {
      this.logprob = null;
      this.topLogprobs = NONE;
    } else {
      this.#bytes = item[2];
      this.logprob = item[3] ?? null;
      this.topLogprobs = item[4].map(([id, logprob]) => ({ id, logprob }));
    }
  }

  /** The token's own bytes, which may end within a character. */
  get bytes(): Uint8Array {
    return this.#bytes ?? encoder.encode(this.text);
  }

  /** The text. */
  toString(): string {
    return this.text;
  }

  /** The fields as JSON can hold them. */
  toJSON(): object {
    const { text, id, index, logprob, topLogprobs } = this;
    return { text, id, bytes: [...this.bytes], index, logprob, topLogprobs };
  }
}

const NONE: readonly TokenLogprob[] = Object.freeze([]);
