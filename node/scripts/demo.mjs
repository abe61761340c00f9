// Streams the answer to a prompt, from the checkout.
import { Context, Model } from 'mullama';

const context = new Context(await Model.load('demo'));
for await (const token of context.chatStream([{ role: 'user', content: process.argv[2] }])) process.stdout.write(token.text);
console.log();
