// A route handler of Next.js: app/api/generate/route.js, with serverExternalPackages: ['mullama'] in next.config.js.
import { Context, Model, MullamaError } from 'mullama';

export const runtime = 'nodejs';

// One model per process, also where the development server loads this file again.
globalThis.mullamaModel ??= Model.load(process.env.MODEL ?? 'demo');
const encoder = new TextEncoder();

export async function POST(request) {
  const { prompt } = await request.json().catch(() => ({}));
  if (typeof prompt !== 'string') return Response.json({ message: 'prompt must be a string' }, { status: 400 });
  try {
    const context = new Context(await globalThis.mullamaModel);
    // The signal of the request aborts when the client leaves.
    const stream = context.generateStream(prompt, { maxTokens: 500, bufferSize: 16 }, { signal: request.signal });
    return new Response(stream.toReadableStream((token) => encoder.encode(token.text)), {
      headers: { 'content-type': 'text/plain; charset=utf-8' },
    });
  } catch (error) {
    if (!(error instanceof MullamaError)) throw error;
    return Response.json({ code: error.code }, { status: error.code === 'OVERLOADED' ? 429 : 400 });
  }
}
