// The blocks of documentation pages, run as programs of their own in a folder with a model.

import { spawn } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { DEMO, ended, ROOT, until } from './support.mjs';

/** The blocks of a page in one language, in order. */
export function blocks(page, language = 'javascript') {
  const text = readFileSync(page, 'utf8');
  return [...text.matchAll(/^( *)```([^\n]*)\n(.*?)^\1```$/gms)]
    .filter(([, , found]) => found === language)
    .map(([, indent, , code]) => code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''));
}

/** Whether a block is a server, which is a program of its own and runs until it is stopped. */
export const isServer = (code) => /^import (express|\{ WebSocketServer \}) from/m.test(code);

/** A folder as that of a user who installed mullama: `model.gguf` and the packages. */
export function folder() {
  const made = mkdtempSync(join(tmpdir(), 'mullama-page-'));
  symlinkSync(DEMO, join(made, 'model.gguf'));
  mkdirSync(join(made, 'node_modules'));
  for (const name of ['express', 'ws', 'fastify']) symlinkSync(join(ROOT, 'node_modules', name), join(made, 'node_modules', name));
  symlinkSync(ROOT, join(made, 'node_modules', 'mullama'));
  return made;
}

/** Every server listens on a free port of its own, whose number the program writes to stderr. */
const LISTEN = `
import net from 'node:net';
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  this.once('listening', () => process.stderr.write('PORT ' + this.address().port + '\\n'));
  const own = typeof args[0] === 'object' && args[0] !== null ? { ...args[0], port: 0 } : 0;
  return listen.call(this, own, ...args.slice(1));
};
`;

/** A prelude with which a program can be asked how many streams it has, all of which go on until somebody ends them. */
export const OBSERVED = `
import { Context } from 'mullama';
process.on('SIGUSR2', () => process.stdout.write('UNFINISHED ' + globalThis.unfinished() + '\\n'));
const open = Context.prototype.generateStream;
Context.prototype.generateStream = function (prompt, settings, options) {
  globalThis.unfinished = () => this.unfinished;
  const own = typeof settings === 'number' ? {} : settings;
  return open.call(this, prompt, { ...own, ignoreEos: true, maxTokens: 100000, timeoutMs: 0 }, options);
};
`;

/** A function that asks such a program. */
export function unfinished(child) {
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
  return async () => {
    out = '';
    child.kill('SIGUSR2');
    await until(() => /UNFINISHED \d+\n/.test(out), 'an answer');
    return Number(/UNFINISHED (\d+)/.exec(out)[1]);
  };
}

/** Starts a program. `prelude` runs before it, as a module of its own. */
export function start(code, prelude = '') {
  const cwd = folder();
  writeFileSync(join(cwd, 'prelude.mjs'), LISTEN + prelude);
  writeFileSync(join(cwd, 'program.mjs'), code);
  return spawn(process.execPath, ['--import', './prelude.mjs', 'program.mjs'], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Runs a program to its end. */
export function run(code, prelude) {
  return ended(start(code, prelude));
}

/** The port that a program listens on. */
export function port(child) {
  let written = '';
  return new Promise((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text) => {
      written += text;
      const found = /PORT (\d+)\n/.exec(written);
      if (found !== null) resolve(Number(found[1]));
    });
    child.once('exit', () => reject(new Error(`the program has ended: ${written}`)));
  });
}
