// The load of the server, shown while the page is in view: its slots as dots, and what waits.

import { getJson } from "./api.js";
import { byId, element } from "./dom.js";

/** Milliseconds between two looks while the server is writing answers, and otherwise. */
const WHILE_BUSY = 500;
const WHILE_IDLE = 3000;
/** More slots than this are shown as a number only. */
const MOST_DOTS = 16;

let timer;
let isBusy = false;
let model = "";

/** Tells whether this page waits for an answer, and from which model. */
export function watch(name, busy) {
  model = name;
  isBusy = busy;
  schedule(0);
}

function schedule(after) {
  clearTimeout(timer);
  timer = setTimeout(look, after);
}

async function look() {
  if (document.hidden) return;
  let isServing = false;
  try {
    const status = await getJson("status", AbortSignal.timeout(5000));
    isServing = status.models.some(({ running, queued }) => running + queued > 0);
    show(status);
  } catch (error) {
    show(undefined, error.status === 401 ? "needs an API key" : "no connection");
  }
  schedule(isBusy || isServing ? WHILE_BUSY : WHILE_IDLE);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) schedule(0); });

function show(status, problem) {
  const one = status?.models.find(({ name }) => name === model) ?? status?.models[0];
  const live = byId("live");
  live.classList.toggle("unknown", !one);
  if (!one) return write([problem ?? "no model"], []);
  if (!one.is_loaded) return write([one.is_loading ? "loading the model" : "loads on first use"], []);
  const running = Math.min(one.running, one.slots);
  const states = Array.from({ length: one.slots <= MOST_DOTS ? one.slots : 0 }, (_, index) => index < running);
  const words = [`${one.running} of ${one.slots} slots`];
  if (one.queued > 0) words.push(`${one.queued} queued`);
  if (one.paused > 0) words.push(`${one.paused} paused`);
  write(words, states);
}

function write(words, states) {
  const [slots, load] = [byId("slots"), byId("load")];
  load.replaceChildren(...words.map((word) => element("span", {}, [word])));
  while (slots.children.length > states.length) slots.lastElementChild.remove();
  while (slots.children.length < states.length) slots.append(element("i"));
  states.forEach((isRunning, index) => slots.children[index].classList.toggle("running", isRunning));
}
