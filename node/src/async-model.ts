import { checkedParams, type ContextParams } from './config.js';
import { Context } from './context.js';
import { Model, type ModelOptions } from './model.js';

/** How a model is loaded together with its context. */
export interface AsyncModelOptions extends ModelOptions {
  /** Layout of the engine. */
  contextParams?: ContextParams | undefined;
}

/**
 * A model and its context in one.
 *
 * @example
 * const model = await AsyncModel.load('demo');
 * for await (const token of model.generateStream('Tell me about Rust:', 200)) process.stdout.write(token.text);
 */
export class AsyncModel extends Context {
  /** Loads a model as `Model.load` does, and starts its engine. */
  static async load(path: string | URL, options: AsyncModelOptions = {}): Promise<AsyncModel> {
    const { contextParams = {}, ...rest } = options;
    // Params that are wrong need no load to be refused.
    checkedParams(contextParams);
    const model = new AsyncModel(await Model.load(path, rest), contextParams);
    return model.ready();
  }
}
