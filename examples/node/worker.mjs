// A model in a worker thread, whose main thread stays free for something else:  node examples/node/worker.mjs "Hello"
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Context, Model } from 'mullama';

if (isMainThread) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: process.argv[2] ?? 'Write a poem:' });
  worker.on('message', (text) => process.stdout.write(text));
  worker.on('exit', () => console.log());
} else {
  const context = new Context(await Model.load('demo'));
  // The end of a worker ends its streams; other threads have models of their own, which share the pages of the file.
  for await (const token of context.generateStream(workerData, 200)) parentPort.postMessage(token.text);
}
