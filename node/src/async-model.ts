import { checkedParams, type ContextParams } from './config.js';
import { Context } from './context.js';
import { LOAD_OPTIONS, Model, type ModelOptions } from './model.js';
import { checkNames } from './options.js';
import { unlessAborted } from './signal.js';

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
    checkNames('the options of AsyncModel.load', options, ['contextParams', ...LOAD_OPTIONS]);
    const { contextParams = {}, ...rest } = options;
    // Params that are wrong need no load to be refused.
    const { own } = checkedParams(contextParams);
    const model = await Model.load(path, rest);
    try {
      return await unlessAborted(new AsyncModel(model, own).ready(), rest.signal);
    } catch (error) {
      // Nobody else has the model, whose weights would wait for the garbage collector.
      model.close().catch(() => {});
      throw error;
    }
  }
}
