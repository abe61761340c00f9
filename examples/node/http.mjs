// Server-sent events with Node.js alone:  node examples/node/http.mjs  and then  curl -N 'localhost:3000/?prompt=Hello'
import { createServer } from 'node:http';
import { once } from 'node:events';
import { Context, Model, MullamaError } from 'mullama';

const context = await new Context(await Model.load(process.argv[2] ?? 'demo')).ready();

const server = createServer(async (request, response) => {
  const prompt = new URL(request.url, 'http://localhost').searchParams.get('prompt');
  if (prompt === null) return response.writeHead(400).end('the query has no prompt\n');
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  try {
    const stream = context.generateStream(prompt, { maxTokens: 500, bufferSize: 16 }, { signal: gone.signal });
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    for await (const { text } of stream) {
      // A client that reads slowly pauses its own stream.
      if (!response.write(`data: ${JSON.stringify({ text })}\n\n`)) await once(response, 'drain', { signal: gone.signal });
    }
    response.end('data: [DONE]\n\n');
  } catch (error) {
    if (gone.signal.aborted) return; // the client has left, and its slot is free
    if (!(error instanceof MullamaError)) throw error;
    if (response.headersSent) response.end(`event: error\ndata: ${JSON.stringify({ code: error.code })}\n\n`);
    else response.writeHead(error.code === 'OVERLOADED' ? 429 : 500).end(error.message);
  }
});

server.listen(3000, () => console.log('http://localhost:3000/?prompt=Hello'));
