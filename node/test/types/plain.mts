// A program whose project has neither the types of Node.js nor those of the newest JavaScript.
import { Context, Model } from 'mullama';

export async function write(): Promise<string> {
  const context = new Context(await Model.load('demo'));
  let text = '';
  for await (const token of context.generateStream('Hello', 5)) text += token.text;
  return text;
}
