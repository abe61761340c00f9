// Chats reach the template as they are, whatever is in their texts.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { InvalidPromptError, Model } from '../dist/index.mjs';

const model = await Model.load('demo');
const TEMPLATE = '{% for message in messages %}{{ message.content }}|{% endfor %}{{ extra }}{{ tools[0].text if tools }}';
const render = (contents, options) =>
  model.applyChatTemplate(
    contents.map((content) => ({ role: 'user', content })),
    { chatTemplate: TEMPLATE, chatTemplateKwargs: { extra: '' }, ...options },
  );

test('texts of every length and alphabet arrive as they are', async () => {
  const letters = ['a', '"\\\n', 'é', '日本', '🙂', '\u0001', '\u0001' + '0', '\u0000', '\\ud800'];
  const contents = letters.flatMap((text) => [1, 1023, 1024, 1025, 5000].map((length) => text.repeat(length)));
  assert.equal(await render(contents), contents.map((text) => `${text}|`).join(''));
});

test('a text that looks like a reference is a text', async () => {
  const contents = ['long '.repeat(1000), '\u00010', '\u00011', '\u000199', '\u0001'];
  assert.equal(await render(contents), contents.map((text) => `${text}|`).join(''));
});

test('string objects are their texts', async () => {
  const contents = ['long '.repeat(1000), new String('\u00010'), new String('long '.repeat(1000)), new String('short')];
  assert.equal(await render(contents), contents.map((text) => `${text}|`).join(''));
  await assert.rejects(render([new String('\ud800')]), InvalidPromptError);
});

test('long texts stand in variables, tools and templates too', async () => {
  const long = 'word '.repeat(1000);
  const options = { chatTemplateKwargs: { extra: `${long}1` }, tools: [{ text: `${long}2` }], chatTemplate: TEMPLATE + long };
  assert.equal(await render(['a'], options), `a|${long}1${long}2${long}`);
});

test('a lone surrogate is refused wherever it is', async () => {
  for (const text of ['\ud800', 'a'.repeat(2000) + '\udc00']) {
    await assert.rejects(render([text]), InvalidPromptError);
    await assert.rejects(render(['a'], { chatTemplateKwargs: { extra: text } }), InvalidPromptError);
    await assert.rejects(render(['a'], { chatTemplateKwargs: { [text]: 'a' } }), InvalidPromptError);
  }
});

test('what a program changes after the call does not reach the template', async () => {
  const messages = [{ role: 'user', content: 'before '.repeat(1000) }];
  const rendered = model.applyChatTemplate(messages, { chatTemplate: TEMPLATE, chatTemplateKwargs: { extra: '' } });
  messages[0].content = 'after';
  messages.push({ role: 'user', content: 'after' });
  assert.equal(await rendered, `${'before '.repeat(1000)}|`);
});
