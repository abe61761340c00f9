// Fastify:  npm install fastify mullama  and then  curl -N localhost:3000/generate --json '{"prompt": "Hello"}'
import Fastify from 'fastify';
import { Readable } from 'node:stream';
import { Context, Model } from 'mullama';

const context = await new Context(await Model.load(process.argv[2] ?? 'demo')).ready();
const app = Fastify({ bodyLimit: 65536 });

const body = { type: 'object', required: ['prompt'], properties: { prompt: { type: 'string' } } };

app.post('/generate', { schema: { body } }, (request, reply) => {
  const stream = context.generateStream(request.body.prompt, { maxTokens: 500, bufferSize: 16 });
  // Fastify reads as fast as its client does, and destroys what it reads when the client leaves.
  const events = async function* () {
    for await (const { text } of stream) yield `data: ${JSON.stringify({ text })}\n\n`;
    yield 'data: [DONE]\n\n';
  };
  // Also a stream that waits for a token is closed at once.
  reply.raw.once('close', () => stream.close());
  return reply.type('text/event-stream').header('cache-control', 'no-cache').send(Readable.from(events()));
});

app.setErrorHandler((error, request, reply) => {
  reply.code(error.statusCode ?? (error.code === 'OVERLOADED' ? 429 : 500)).send({ code: error.code, message: error.message });
});

await app.listen({ port: 3000 });
console.log('POST http://localhost:3000/generate');
