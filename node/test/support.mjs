import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { Context, Model } from 'mullama';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
export const DEMO = fileURLToPath(new URL('../../python/mullama/models/demo.gguf', import.meta.url));

/** A prompt after which the demo model goes on for long, and settings with which it does not end by itself. */
export const PROMPT = 'Write a poem:';
export const ENDLESS = { maxTokens: 100_000, ignoreEos: true, timeoutMs: 0, seed: 1 };

let model;

/** A context on the one model of the test's process. Other params are another engine. */
export async function context(params) {
  model ??= await Model.load(DEMO);
  return new Context(model, params).ready();
}

/** Waits until the condition holds, at most ten seconds. */
export async function until(condition, what = String(condition)) {
  for (const end = Date.now() + 10_000; !condition(); await sleep(2)) {
    if (Date.now() > end) throw new Error(`after ten seconds there is still not: ${what}`);
  }
}

/** Collects what nothing refers to. */
export async function collect() {
  for (let round = 0; round < 3; round++) {
    globalThis.gc();
    await sleep(1);
  }
}

/** Runs a program, which is killed after the limit; `code` is null then. */
export function program(code, { args = [], limit = 60_000, cwd = ROOT } = {}) {
  const child = spawn(process.execPath, [...args, '--input-type=module', '--eval', code], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  return ended(child, limit);
}

export function ended(child, limit = 60_000) {
  const written = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => (written.out += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (written.err += text));
  const timer = setTimeout(() => child.kill('SIGKILL'), limit);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, ...written });
    });
  });
}

/**
 * A program's own count of the threads of its engines. llama.cpp's compute threads, whose number changes, have the name of
 * their engine's.
 */
export const ENGINE_THREADS = `
import { readdirSync, readFileSync } from 'node:fs';
const nameOf = (id) => {
  try {
    return readFileSync('/proc/self/task/' + id + '/comm', 'utf8');
  } catch {
    return ''; // It has ended since the list was read.
  }
};
const threads = () => readdirSync('/proc/self/task').filter((id) => nameOf(id).startsWith('mullama-engine')).length;
`;
