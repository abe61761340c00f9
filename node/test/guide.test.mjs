import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { blocks, isServer, OBSERVED, port, run, start, unfinished } from './pages.mjs';
import { ended } from './support.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXAMPLES = `${ROOT}/examples/node`;

/** The blocks as one program: imports come first, each once. */
function program(page) {
  const code = blocks(`${ROOT}/${page}`, 'js').filter((block) => !isServer(block)).join('\n');
  const names = new Set();
  for (const [, found] of code.matchAll(/^import \{([^}]+)\} from 'mullama';$/gm)) found.split(',').forEach((name) => names.add(name.trim()));
  const others = new Set(code.match(/^import .* from '(?!mullama').*;$/gm));
  const body = code.replaceAll(/^import .*;\n/gm, '');
  return [`import { ${[...names].join(', ')} } from 'mullama';`, ...others, body].join('\n');
}

for (const page of ['README.md', 'node/README.md', 'docs/node.md', 'docs/streaming.md']) {
  test(`the blocks of ${page} are a program that runs`, { timeout: 120_000 }, async () => {
    const { code, out, err } = await run(program(page));
    assert.deepEqual([code, err.replaceAll(/^PORT .*\n/gm, '')], [0, ''], out);
    assert.ok(out.length > 20, out);
  });
}

test('the examples in the declarations are programs that run', { timeout: 60_000 }, async () => {
  const sources = readdirSync(`${ROOT}/node/src`).map((name) => readFileSync(`${ROOT}/node/src/${name}`, 'utf8')).join('');
  const found = [...sources.matchAll(/^ +\* @example\n((?: +\* .*\n)+)/gm)].map(([, lines]) => lines.replaceAll(/^ +\* /gm, ''));
  // The one that downloads a model needs a network.
  const examples = found.filter((code) => !code.startsWith('await pull('));
  assert.equal(examples.length, found.length - 1);
  assert.ok(examples.length >= 5);
  const setup = `import { AsyncModel, Context, Model, StreamConfig } from 'mullama';
    const stream = new Context(await Model.load('demo')).generateStream('Hello', 5);`;
  const { code, out, err } = await run([setup, ...examples.map((each) => `await (async () => {\n${each}})();`)].join('\n'));
  assert.deepEqual([code, err], [0, ''], out);
});

test('there is an example for each framework', () => {
  assert.deepEqual(readdirSync(EXAMPLES).sort(), ['express.mjs', 'fastify.mjs', 'http.mjs', 'next-route.mjs', 'worker.mjs']);
  for (const name of readdirSync(EXAMPLES)) assert.ok(readFileSync(`${EXAMPLES}/${name}`, 'utf8').split('\n').length <= 41, name);
});

const REQUESTS = {
  'http.mjs': ['/?prompt=Hello', {}],
  'express.mjs': ['/generate', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"prompt": "Hello"}' }],
  'fastify.mjs': ['/generate', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"prompt": "Hello"}' }],
};

for (const [name, [path, request]] of Object.entries(REQUESTS)) {
  test(`${name} streams events, and a client that leaves halfway frees its slot`, { timeout: 60_000 }, async (t) => {
    const child = start(readFileSync(`${EXAMPLES}/${name}`, 'utf8'), OBSERVED);
    t.after(() => child.kill());
    const asked = unfinished(child);
    const leaving = new AbortController();
    const response = await fetch(`http://127.0.0.1:${await port(child)}${path}`, { ...request, signal: leaving.signal });
    assert.match(response.headers.get('content-type'), /^text\/event-stream/);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let events = '';
    while (events.split('\n\n').length < 10) events += (await reader.read()).value;
    assert.match(events, /^(data: \{"text":".*"\}\n\n)+/);
    assert.equal(await asked(), 1);
    leaving.abort();
    await assert.rejects(async () => {
      while (!(await reader.read()).done);
    });
    for (const end = Date.now() + 10_000; (await asked()) > 0; ) assert.ok(Date.now() < end, 'the slot is not free');
  });
}

test('next-route.mjs answers a request, and its signal stops it', { timeout: 60_000 }, async () => {
  // The examples are outside of the package, whose name they could not resolve from there.
  const own = JSON.stringify(new URL('../dist/index.mjs', import.meta.url).href);
  const code = readFileSync(`${EXAMPLES}/next-route.mjs`, 'utf8').replace("from 'mullama'", `from ${own}`);
  const { POST } = await import(`data:text/javascript,${encodeURIComponent(code)}`);
  const ask = (signal) => new Request('http://localhost/', { method: 'POST', body: '{"prompt": "Hello"}', ...(signal && { signal }) });
  const response = await POST(ask());
  assert.ok((await response.text()).length > 5);
  const controller = new AbortController();
  const stopped = await POST(ask(controller.signal));
  const reader = stopped.body.getReader();
  await reader.read();
  controller.abort();
  await assert.rejects(async () => {
    for (;;) if ((await reader.read()).done) break;
  }, { name: 'AbortError' });
});

test('worker.mjs streams from its worker', { timeout: 60_000 }, async () => {
  const { code, out, err } = await ended(start(readFileSync(`${EXAMPLES}/worker.mjs`, 'utf8')));
  assert.deepEqual([code, err], [0, '']);
  assert.ok(out.length > 20);
});
