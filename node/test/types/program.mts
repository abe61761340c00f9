// What TypeScript programs write; types.test.mjs compiles it, and every line marked as an error has to be one.
import {
  AsyncModel, Completion, Context, type ErrorCode, type FinishReason, Model, MullamaError, pull, StreamConfig, type StreamSettings, Token,
  TokenStream, type Usage,
} from 'mullama';

const model: Model = await Model.load(new URL('file:///model.gguf'), { nGpuLayers: 0, progress: (fraction: number) => void fraction });
const context = new Context(model, { nCtx: 2048, flashAttn: 'auto' });
const settings: StreamSettings = { maxTokens: 5, logitBias: new Map([[1, -1]]), timeoutMs: null };
const config = new StreamConfig(settings);
const maxTokens: number = config.maxTokens;
const stream: TokenStream = context.generateStream('Hello', config, { signal: AbortSignal.timeout(5) });
for await (const token of stream) {
  const { text, id, bytes }: Token = token;
  const parts: [string, number | null, Uint8Array] = [text, id, bytes];
  void parts;
}
const reason: FinishReason | null = stream.finishReason;
const usage: Usage = stream.usage;
const completion: Completion = await context.chat([{ role: 'user', content: 'Hello' }], 5, { tools: [], chatTemplateKwargs: { a: 1 } });
const web: ReadableStream<string> = context.generateStream([1, 2, 3]).toReadableStream((token) => token.text);
const other: AsyncModel = await AsyncModel.load('demo', { contextParams: { nParallel: 2 } });
await using closing = other.generateStream('Hello', 5);
try {
  await pull('demo', { progress: ({ phase, done }) => void [phase, done] });
} catch (error) {
  if (error instanceof MullamaError) {
    const code: ErrorCode = error.code;
    void code;
  }
}
void [maxTokens, reason, usage, completion.message, web, closing];

// @ts-expect-error: a config is frozen
config.maxTokens = 5;
// @ts-expect-error: a name in another spelling
new StreamConfig({ max_tokens: 5 });
// @ts-expect-error: a wrong type
new StreamConfig({ topK: 'many' });
// @ts-expect-error: a model has to be loaded first
new Context('demo');
// @ts-expect-error: no prompt
context.generateStream(5);
// @ts-expect-error: not one of the choices
new Context(model, { flashAttn: 'maybe' });
