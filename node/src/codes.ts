// Written by scripts/generate.mjs from the core's table of errors.

/** The code of each class that the core's errors have. */
export const CODES = {
  ModelNotFoundError: 'MODEL_NOT_FOUND',
  DownloadError: 'DOWNLOAD_ERROR',
  ModelLoadError: 'MODEL_LOAD',
  InvalidConfigError: 'INVALID_CONFIG',
  InvalidPromptError: 'INVALID_PROMPT',
  ContextOverflowError: 'CONTEXT_OVERFLOW',
  ChatTemplateError: 'TEMPLATE_ERROR',
  OverloadedError: 'OVERLOADED',
  StreamTimeoutError: 'STREAM_TIMEOUT',
  GenerationError: 'GENERATION_ERROR',
  EngineClosedError: 'CLOSED',
} as const;

/** Codes of errors, the same in every language and over HTTP. */
export type ErrorCode =
  | 'MODEL_NOT_FOUND'
  | 'DOWNLOAD_ERROR'
  | 'MODEL_LOAD'
  | 'INVALID_CONFIG'
  | 'INVALID_PROMPT'
  | 'CONTEXT_OVERFLOW'
  | 'TEMPLATE_ERROR'
  | 'OVERLOADED'
  | 'STREAM_TIMEOUT'
  | 'GENERATION_ERROR'
  | 'CLOSED'
  | 'STREAM_BUSY';
