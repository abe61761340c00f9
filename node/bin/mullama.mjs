#!/usr/bin/env node
// npx mullama run MODEL PROMPT: the smallest part of the command line of the Python package.
import { once } from 'node:events';
import { parseArgs } from 'node:util';

import { AsyncModel, MullamaError, version } from 'mullama';

const USAGE = `usage: mullama run MODEL PROMPT [--max-tokens N] [--temperature T] [--seed N] [--raw]

MODEL is "demo", a name such as llama3.2:1b, or the path of a GGUF file. --raw continues the text instead of answering it.`;

const NAMES = { 'max-tokens': 'maxTokens', temperature: 'temperature', seed: 'seed' };
/** Exit codes of errors, the same as those of the command line in Python. */
const EXIT_CODES = {
  MODEL_NOT_FOUND: 3, MODEL_LOAD: 3, INVALID_CONFIG: 2, INVALID_PROMPT: 2, CONTEXT_OVERFLOW: 2, TEMPLATE_ERROR: 2, OVERLOADED: 5,
  STREAM_TIMEOUT: 4, DOWNLOAD_ERROR: 6,
};

function fail(message, code) {
  console.error(`mullama: ${message}`);
  process.exit(code);
}

function parsed() {
  const text = { type: 'string' };
  const flag = { type: 'boolean' };
  const options = { 'max-tokens': text, temperature: text, seed: text, raw: flag, help: { ...flag, short: 'h' }, version: flag };
  try {
    return parseArgs({ allowPositionals: true, options });
  } catch (error) {
    return fail(`${error.message}\n${USAGE}`, 2);
  }
}

async function run(name, prompt, given) {
  const settings = { timeoutMs: 0 };
  for (const [option, field] of Object.entries(NAMES)) {
    const number = given[option];
    if (number === undefined) continue;
    // An empty text would be the number 0.
    if (number.trim() === '') fail(`--${option} needs a number\n${USAGE}`, 2);
    settings[field] = Number(number);
  }
  // A reader such as `head` that leaves ends the program quietly, and a disk that is full does not.
  process.stdout.once('error', (error) => (error.code === 'EPIPE' ? process.exit(0) : fail(`cannot write: ${error.message}`, 1)));
  const model = await AsyncModel.load(name);
  const messages = [{ role: 'user', content: prompt }];
  const stopped = new AbortController();
  process.once('SIGINT', () => stopped.abort());
  const options = { signal: stopped.signal };
  const stream = given.raw ? model.generateStream(prompt, settings, options) : model.chatStream(messages, settings, options);
  for await (const { text } of stream) {
    // Ctrl-C ends the wait for a reader that does not go on.
    if (!process.stdout.write(text)) await once(process.stdout, 'drain', options);
  }
  process.stdout.write('\n');
}

const { values, positionals } = parsed();
const [command, model, prompt, ...more] = positionals;
if (values.version) console.log(version);
else if (values.help || positionals.length === 0) console.log(USAGE);
else if (command !== 'run' || prompt === undefined || more.length > 0) fail(`what to do is not clear\n${USAGE}`, 2);
else {
  await run(model, prompt, values).catch((error) => {
    if (error.name === 'AbortError') process.exit(130);
    if (!(error instanceof MullamaError)) throw error;
    fail(error.message, EXIT_CODES[error.code] ?? 1);
  });
}
