// Measures Node.js streams beside a bare llama.cpp loop, and beside node-llama-cpp where a folder has it installed.
//
//     node benches/node_streams.mjs MODEL [--tokens 200] [--pairs 11] [--threads 2] [--abandoned 10000] [--peer FOLDER]
//
// The bare loop runs in a process of its own (`cargo bench … --bench ratios -- MODEL --raw`), a run for each line that it is
// sent, so that the two take turns. Ratios are of medians. `--abandoned 0` leaves the abandoned streams out.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { Context, Model } from '../node/dist/index.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '200' },
    pairs: { type: 'string', default: '11' },
    threads: { type: 'string', default: '2' },
    abandoned: { type: 'string', default: '10000' },
    peer: { type: 'string' },
  },
});
const [path] = positionals;
const [tokens, pairs, threads, abandoned] = ['tokens', 'pairs', 'threads', 'abandoned'].map((name) => Number(values[name]));

const PROMPT = 'Once upon a time';
const CELLS = 4096;
const context = await new Context(await Model.load(path), { nCtx: CELLS / 8, kvCells: CELLS, nThreads: threads }).ready();
const settings = { maxTokens: tokens, ignoreEos: true, seed: 1, timeoutMs: null };

/** The bare loop: is sent a number of streams, and answers with tokens a second. */
function rawLoop() {
  const build = ['bench', '--profile', 'release', '-p', 'mullama', '--bench', 'ratios', '--no-run', '--message-format=json'];
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  const built = execFileSync('cargo', build, { cwd, encoding: 'utf8', maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'ignore'] });
  const artifacts = built.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const { executable } = artifacts.find(({ target, executable }) => target?.name === 'ratios' && executable);
  const child = spawn(executable, [path, '--raw', '--tokens', `${tokens}`, '--threads', `${threads}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const run = async (streams) => {
    child.stdin.write(`${streams}\n`);
    return Number((await answers.next()).value);
  };
  return { run, close: () => child.stdin.end() };
}

/** So many streams at once, in tokens a second. */
async function ours(streams) {
  const began = performance.now();
  const read = async () => {
    let count = 0;
    for await (const _ of context.generateStream(PROMPT, settings)) count++;
    return count;
  };
  const counts = await Promise.all(Array.from({ length: streams }, read));
  return (counts.reduce((sum, count) => sum + count) * 1000) / (performance.now() - began);
}

/** One stream of node-llama-cpp, in tokens a second. */
async function peerOf(folder) {
  const entry = join(resolve(folder), 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
  const { getLlama, LlamaCompletion } = await import(pathToFileURL(entry).href);
  const llama = await getLlama({ build: 'never', gpu: false, maxThreads: threads });
  const model = await llama.loadModel({ modelPath: path });
  const loaded = await model.createContext({ contextSize: CELLS / 8, threads });
  const completion = new LlamaCompletion({ contextSequence: loaded.getSequence() });
  return async () => {
    let count = 0;
    const began = performance.now();
    const options = { maxTokens: tokens, temperature: 1, topK: 40, topP: 0.9, seed: 1, onToken: (ids) => (count += ids.length) };
    await completion.generateCompletion(PROMPT, options);
    return (count * 1000) / (performance.now() - began);
  };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** Prints the ratio of the medians of interleaved runs, after one of each to warm up. */
async function row(name, mine, other) {
  await mine();
  await other();
  const runs = [];
  for (let pair = 0; pair < pairs; pair++) runs.push([await mine(), await other()]);
  const [a, b] = [median(runs.map(([run]) => run)), median(runs.map(([, run]) => run))];
  console.log(`| ${name} | ${(a / b).toFixed(3)} | ${a.toFixed(1)} | ${b.toFixed(1)} |`);
}

/** Microseconds for a token that is buffered. */
async function buffered() {
  const count = Math.min(2 * tokens, context.contextLen - 64);
  const end = performance.now() + 20_000;
  const times = [];
  for (let round = 0; round < 30 && (round < 3 || performance.now() < end); round++) {
    const stream = context.generateStream(PROMPT, { ...settings, maxTokens: count, bufferSize: count });
    while (stream.buffered < count) await new Promise((resolve) => setTimeout(resolve, 5));
    const began = performance.now();
    for (let token = 0; token < count - 1; token++) await stream.next();
    times.push(((performance.now() - began) * 1000) / (count - 1));
    stream.close();
  }
  // The first ones are compiled meanwhile.
  return median(times.slice(Math.floor(times.length / 3)));
}

/** How long the main thread was ready to run and had no core, in milliseconds (Linux). */
function waitedForCore() {
  return existsSync('/proc/self/schedstat') ? Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6 : 0;
}

const HEARTBEAT = 5;

/** How late a heartbeat is while so many streams are read again and again: in all, and without the waits for a core. */
async function heartbeat(streams, seconds = 6) {
  const [late, own] = [[], []];
  let [last, waited] = [performance.now(), waitedForCore()];
  const timer = setInterval(() => {
    const [now, wait] = [performance.now(), waitedForCore()];
    late.push(now - last - HEARTBEAT);
    own.push(now - last - HEARTBEAT - (wait - waited));
    [last, waited] = [now, wait];
  }, HEARTBEAT);
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    if (streams > 0) await ours(streams);
    else await new Promise((resolve) => setTimeout(resolve, 500));
  }
  clearInterval(timer);
  const percentiles = (numbers) => {
    const sorted = numbers.sort((a, b) => a - b);
    return [0.5, 0.99].map((share) => Math.max(0, sorted[Math.floor(sorted.length * share)]).toFixed(1)).join(' / ');
  };
  return `${percentiles(late)} (without waits for a core ${percentiles(own)})`;
}

const raw = rawLoop();
console.log('| case | ratio | ours | beside |\n|---|---|---|---|');
await row('`for await` / raw', () => ours(1), () => raw.run(1));
await row('8 streams / raw batch of 8', () => ours(8), () => raw.run(8));
if (values.peer !== undefined) await row('`for await` / node-llama-cpp', () => ours(1), await peerOf(values.peer));
raw.close();
console.log(`| reading a buffered token (µs) | | ${(await buffered()).toFixed(2)} | |`);
console.log(`| how late a 5 ms heartbeat is beside 8 streams, median / p99 (ms) | | ${await heartbeat(8)} | |`);
console.log(`| the same without streams | | ${await heartbeat(0)} | |`);
const resident = () => (process.memoryUsage().rss / 2 ** 20).toFixed(0);
const before = resident();
for (let number = 0; number < abandoned; number++) {
  const ids = Array(8).fill((number % 256) + 3);
  for await (const _ of context.generateStream(ids, { ...settings, maxTokens: 5 })) break;
}
if (abandoned > 0) console.log(`| memory before and after ${abandoned} abandoned streams (MiB) | | ${before} | ${resident()} |`);
process.exit();
