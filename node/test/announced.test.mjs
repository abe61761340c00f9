import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

import { blocks, port, run, start } from './pages.mjs';

const PAGE = fileURLToPath(new URL('../../tests/announced.txt', import.meta.url));
const [first, config, asynchronous, slow, errors, early, sse, websocket, ...more] = blocks(PAGE);

/** What the fragments of the page take from the blocks above them. */
const ABOVE = `import { Model, Context, StreamConfig } from 'mullama';
const model = await Model.load('./model.gguf');
const context = new Context(model);
let config = new StreamConfig({ maxTokens: 20 });
`;

test('the page has eight blocks', () => {
  assert.deepEqual([typeof websocket, more], ['string', []]);
});

for (const [name, code] of Object.entries({ first, config, asynchronous })) {
  test(`the program "${name}" runs as it was printed`, { timeout: 60_000 }, async () => {
    const { code: exit, out, err } = await run(code);
    assert.deepEqual([exit, err], [0, '']);
    assert.ok(out.length > 20, out);
    if (name === 'asynchronous') assert.match(out, /\nGenerated [1-9]\d* tokens\nTokens\/sec: \d+\.\d\n$/);
  });
}

for (const [name, code] of Object.entries({ slow, errors, early })) {
  test(`the fragment "${name}" runs as it was printed`, { timeout: 60_000 }, async () => {
    const { code: exit, out, err } = await run(`${ABOVE}${code}\nconsole.log('\\nunfinished', context.unfinished);`);
    assert.deepEqual([exit, err], [0, '']);
    assert.match(out, /.+\nunfinished 0\n$/s);
  });
}

test('a deadline is told as the example expects', { timeout: 60_000 }, async () => {
  const late = 'config = new StreamConfig({ timeoutMs: 60, streamDelayMs: 20, ignoreEos: true });';
  const { code, err } = await run(`${ABOVE}${late}${errors}`);
  assert.deepEqual([code, err], [0, '\nGeneration timed out\n']);
});

test('the server of the page streams events to a client', { timeout: 60_000 }, async (t) => {
  // The page does not say what parses bodies.
  const child = start(sse, "import express from 'express'; Object.defineProperty(express.request, 'body', { value: { prompt: 'Hello:' } });");
  t.after(() => child.kill());
  const response = await fetch(`http://127.0.0.1:${await port(child)}/generate`, { method: 'POST' });
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  const events = (await response.text()).split('\n\n').filter(Boolean);
  assert.equal(events.pop(), 'data: [DONE]');
  assert.ok(events.length > 5);
  for (const event of events) assert.equal(typeof JSON.parse(event.replace(/^data: /, '')).text, 'string');
});

test('the WebSocket server of the page streams to a client', { timeout: 60_000 }, async (t) => {
  const child = start(websocket);
  t.after(() => child.kill());
  const client = new WebSocket(`ws://127.0.0.1:${await port(child)}`);
  const messages = await new Promise((resolve, reject) => {
    const received = [];
    client.on('open', () => client.send('Write a poem:'));
    client.on('error', reject);
    client.on('message', (data) => {
      received.push(JSON.parse(data));
      if (received.at(-1).type === 'done') resolve(received);
    });
  });
  client.close();
  assert.ok(messages.length > 5);
  assert.ok(messages.slice(0, -1).every(({ type, text }) => type === 'token' && typeof text === 'string'));
});
