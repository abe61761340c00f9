import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

import { blocks, isServer, OBSERVED, port, start, unfinished } from './pages.mjs';

const page = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const [express, websocket, ...more] = blocks(page('docs/node.md'), 'js').filter(isServer);
const [, , , , , , announcedExpress, announcedWebsocket] = blocks(page('tests/announced.txt'));

/** The page that was announced does not say what parses bodies. */
const BODY = "import express from 'express'; Object.defineProperty(express.request, 'body', { value: { prompt: 'Hello:' } });";

/** Texts that are long enough to leave in the middle of them, and no longer. */
const LONGER = `import { Context } from 'mullama';
const open = Context.prototype.generateStream;
Context.prototype.generateStream = function (prompt, settings, options) {
  const own = typeof settings === 'number' ? {} : settings;
  return open.call(this, prompt, { ...own, ignoreEos: true, maxTokens: 60, streamDelayMs: 5 }, options);
};
`;

/** Asks until no stream is left, at most ten seconds. */
async function none(asked) {
  for (const end = Date.now() + 10_000; (await asked()) > 0; ) assert.ok(Date.now() < end, 'the slot is not free');
}

/** A client of server-sent events; `read` waits for so many of them, and `leave` closes the connection. */
async function events(url) {
  const sent = request(url, { method: 'POST', headers: { 'content-type': 'application/json' } });
  sent.on('error', () => {});
  sent.end('{"prompt": "Hello:"}');
  const [response] = await once(sent, 'response');
  assert.match(response.headers['content-type'], /^text\/event-stream/);
  const pieces = response.setEncoding('utf8')[Symbol.asyncIterator]();
  const read = async (count) => {
    let text = '';
    while (text.split('\n\n').length <= count) {
      const { value, done } = await pieces.next();
      if (done) break;
      text += value;
    }
    return text;
  };
  return { read, leave: () => sent.destroy() };
}

/** A WebSocket client that has got its first messages. */
async function talking(url, count) {
  const client = new WebSocket(url);
  let received = 0;
  await new Promise((resolve, reject) => {
    client.on('error', reject);
    client.on('open', () => client.send('Write a poem:'));
    client.on('message', (data) => {
      assert.equal(JSON.parse(data).type, 'token');
      if (++received === count) resolve();
    });
  });
  return client;
}

test('the page has a server for Express and one for ws', () => {
  assert.match(express, /from 'express'/);
  assert.match(websocket, /from 'ws'/);
  assert.deepEqual(more, []);
});

for (const [name, code, prelude] of [['our page', express, ''], ['the announced page', announcedExpress, BODY]]) {
  test(`the Express server of ${name} goes on after a client that left halfway`, { timeout: 60_000 }, async (t) => {
    const child = start(code, LONGER + prelude);
    t.after(() => child.kill());
    const url = `http://127.0.0.1:${await port(child)}/generate`;
    const { read, leave } = await events(url);
    assert.match(await read(5), /^(data: \{"text":".*"\}\n\n)+/);
    leave();
    const next = await events(url);
    assert.match(await next.read(Infinity), /^(data: \{"text":".*"\}\n\n){20,60}data: \[DONE\]\n\n$/);
  });
}

test('a client that leaves the Express server halfway frees its slot', { timeout: 60_000 }, async (t) => {
  const child = start(express, OBSERVED);
  t.after(() => child.kill());
  const asked = unfinished(child);
  const { read, leave } = await events(`http://127.0.0.1:${await port(child)}/generate`);
  await read(10);
  assert.equal(await asked(), 1);
  leave();
  await none(asked);
});

test('a client that leaves the ws server halfway frees its slot, and so does one whose connection is cut', { timeout: 60_000 }, async (t) => {
  const child = start(websocket, OBSERVED);
  t.after(() => child.kill());
  const asked = unfinished(child);
  const url = `ws://127.0.0.1:${await port(child)}`;
  for (const leave of ['close', 'terminate']) {
    const client = await talking(url, 10);
    assert.equal(await asked(), 1);
    client[leave]();
    await none(asked);
  }
});

test('the WebSocket server of the announced page goes on after a client that left halfway', { timeout: 60_000 }, async (t) => {
  const child = start(announcedWebsocket, LONGER);
  t.after(() => child.kill());
  const url = `ws://127.0.0.1:${await port(child)}`;
  (await talking(url, 5)).terminate();
  (await talking(url, 5)).close();
});
