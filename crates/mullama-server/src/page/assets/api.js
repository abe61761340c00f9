// Calls of this server. Paths are relative, so that the page also works below a prefix.

import { loadKey } from "./store.js";

/** Maximum characters of one event of a stream. */
const MOST_EVENT_CHARS = 4_000_000;

/** An answer of the server that says why it cannot answer. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const key = loadKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function failure(response) {
  let message = `The server answered ${response.status}.`;
  try {
    const document = await response.json();
    if (typeof document.error?.message === "string") message = document.error.message;
  } catch {
    // A proxy in between may answer without JSON; the status has to do.
  }
  return new ServerError(response.status, message);
}

export async function getJson(path, signal) {
  const response = await fetch(path, { headers: headers(), signal, cache: "no-store" });
  if (!response.ok) throw await failure(response);
  return response.json();
}

/** The data of each server-sent event of a body. */
async function* events(body) {
  let rest = "";
  for await (const text of pieces(body)) {
    rest += text;
    if (rest.length > MOST_EVENT_CHARS) throw new ServerError(0, "The server sent an event that is too large.");
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    // The connection closes with the reader, which frees the slot on the server.
    reader.cancel().catch(() => {});
  }
}

/** Streams a chat completion: yields `{ text, thought, timings, finish }`, each where the server sent it. */
export async function* streamChat(request, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify({ ...request, stream: true }),
    signal,
  });
  if (!response.ok) throw await failure(response);
  let hasEnded = false;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") {
      hasEnded = true;
      continue;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(0, chunk.error.message ?? "The generation failed.");
    const choice = chunk.choices?.[0];
    const delta = choice?.delta ?? {};
    yield {
      text: delta.content ?? "",
      thought: delta.reasoning_content ?? "",
      finish: choice?.finish_reason,
      timings: chunk.timings,
    };
  }
  if (!hasEnded) throw new ServerError(0, "The connection was lost before the answer ended.");
}
