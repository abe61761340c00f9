// Express:  npm install express mullama  and then  curl -N localhost:3000/generate --json '{"prompt": "Hello"}'
import express from 'express';
import { once } from 'node:events';
import { Context, Model } from 'mullama';

const context = await new Context(await Model.load(process.argv[2] ?? 'demo')).ready();
const app = express();
app.use(express.json({ limit: '64kb' }));

app.post('/generate', async (request, response) => {
  const { prompt } = request.body ?? {};
  if (typeof prompt !== 'string') return response.status(400).json({ message: 'prompt must be a string' });
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  const { signal } = gone;
  // What is wrong with the settings is thrown here, before the headers are sent.
  const stream = context.generateStream(prompt, { maxTokens: 500, bufferSize: 16 }, { signal });
  response.set({ 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  try {
    for await (const { text } of stream) {
      if (!response.write(`data: ${JSON.stringify({ text })}\n\n`)) await once(response, 'drain', { signal });
    }
    response.end('data: [DONE]\n\n');
  } catch (error) {
    if (!signal.aborted) response.end(`event: error\ndata: ${JSON.stringify({ code: error.code })}\n\n`);
  }
});

app.use((error, request, response, next) => {
  if (response.headersSent) return next(error);
  // A body that is not JSON has a status of its own.
  const status = { OVERLOADED: 429, INVALID_CONFIG: 400 }[error.code] ?? error.status ?? 500;
  response.status(status).json({ code: error.code, message: error.message });
});

app.listen(3000, () => console.log('POST http://localhost:3000/generate'));
