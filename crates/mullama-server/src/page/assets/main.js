// The chat page: one conversation on the screen, one answer at a time.

import { ServerError, streamChat } from "./api.js";
import { announce, byId, element, toast } from "./dom.js";
import { watch } from "./live.js";
import { MessageView, copy, follow, grow, isSend } from "./messages.js";
import { connectSettings, loadModels, model, openSettings, requestFields, systemMessages } from "./settings.js";
import { closeDrawer, connectSidebar, showConversations } from "./sidebar.js";
import { loadConversations, newConversation, onOtherTab, saveConversations } from "./store.js";

const STARTERS = ["Write a poem:", "Explain how a tide works", "Write a sorting function in Python", "Give me five names for a boat"];
/** Characters of a title that is made of the first message. */
const TITLE_CHARS = 60;
/** Milliseconds between two saves while an answer is written. */
const SAVE_EVERY = 2000;

const [prompt, send, stop, messages] = ["prompt", "send", "stop", "messages"].map(byId);
const scroll = follow(byId("scroller"));
let conversations = loadConversations();
let current = newConversation();
/** Conversations for which the browser has no room; the page keeps them as long as it is open. */
let unsaved = [];
/** Conversations that were deleted here while an answer to them may still be on its way. */
const deleted = new Set();
let views = [];
/** The answer that is being written: its controller, view and conversation. */
let running;

/** All conversations: those that every tab has saved, and what this tab has no room to save. */
function refresh() {
  const saved = loadConversations();
  const ids = new Set(saved.map(({ id }) => id));
  conversations = [...unsaved.filter(({ id }) => !ids.has(id)), ...saved];
}

/** Saves a conversation beside those of other tabs. */
function save(one) {
  refresh();
  if (!deleted.has(one.id)) conversations = [one, ...conversations.filter(({ id }) => id !== one.id)];
  store();
}

function store() {
  const before = unsaved.length;
  unsaved = saveConversations(conversations);
  if (unsaved.length > before) {
    toast("This browser has no room for all conversations. What it cannot keep lasts until the tab closes.");
  }
}

function keep() {
  store();
  list();
}

const list = () => showConversations(conversations, current.id, { choose, rename, remove });

function showTitle() {
  document.title = current.title ? `${current.title} · mullama` : "mullama";
}

function show() {
  views = current.messages.map((message, index) => new MessageView(message, index));
  messages.replaceChildren(...views.map(({ node }) => node));
  document.body.classList.toggle("is-empty", views.length === 0);
  showTitle();
  scroll.start();
  list();
}

function open(conversation) {
  abort();
  current = conversation;
  show();
  closeDrawer();
  prompt.focus();
}

function choose(id) {
  open(conversations.find((one) => one.id === id) ?? newConversation());
}

function rename(id, title) {
  refresh();
  for (const one of [current, ...conversations]) if (one.id === id) one.title = title;
  showTitle();
  keep();
}

function remove(id) {
  refresh();
  const index = conversations.findIndex((one) => one.id === id);
  const removed = conversations[index];
  deleted.add(id);
  if (current.id === id) open(newConversation());
  conversations = conversations.filter((one) => one.id !== id);
  unsaved = unsaved.filter((one) => one.id !== id);
  keep();
  return () => {
    deleted.delete(id);
    refresh();
    if (removed) conversations.splice(index, 0, removed);
    keep();
  };
}

function abort() {
  running?.controller.abort();
}

function setRunning(next) {
  running = next;
  send.hidden = Boolean(next);
  stop.hidden = !next;
  messages.setAttribute("aria-busy", String(Boolean(next)));
  watch(model(), Boolean(next));
}

/** Asks for an answer to the messages before `index`, which goes to that place; what came after is dropped. */
async function answer(index) {
  abort();
  const conversation = current;
  current.messages.length = index;
  const message = { role: "assistant", content: "" };
  const asked = current.messages.filter(({ content }) => content !== "").map(({ role, content }) => ({ role, content }));
  current.messages.push(message);
  save(conversation);
  show();
  const mine = { controller: new AbortController(), conversation, view: views.at(-1), at: performance.now() };
  setRunning(mine);
  mine.view.refresh(true);
  announce("The answer is being written.");
  try {
    await receive(mine, message, { ...requestFields(), messages: [...systemMessages(), ...asked] });
    announce(`The answer is complete: ${message.stats?.tokens ?? 0} tokens.`);
  } catch (error) {
    fail(message, error);
  }
  mine.view.refresh(false);
  if (running === mine) setRunning(undefined);
  save(conversation);
  list();
  scroll.update();
}

async function receive(mine, message, request) {
  let count = 0;
  let first;
  let isDrawn = true;
  let saved = performance.now();
  const draw = () => {
    isDrawn = true;
    if (mine.controller.signal.aborted) return;
    mine.view.refresh(running === mine);
    scroll.update();
  };
  for await (const { text, thought, finish, timings } of streamChat(request, mine.controller.signal)) {
    const now = performance.now();
    if (text || thought) {
      count += 1;
      first ??= now;
      message.content += text;
      if (thought) message.thought = (message.thought ?? "") + thought;
    }
    const seconds = (now - first) / 1000;
    const measured = count > 1 && seconds > 0 ? (count - 1) / seconds : 0;
    message.stats = {
      tokens: timings?.predicted_n ?? count,
      perSecond: timings?.predicted_per_second || measured,
      firstToken: first === undefined ? undefined : first - mine.at,
    };
    if (finish === "length") message.note = "stopped at the token limit";
    if (isDrawn) {
      isDrawn = false;
      requestAnimationFrame(draw);
    }
    if (now - saved > SAVE_EVERY) {
      saved = now;
      save(mine.conversation);
    }
  }
}

function fail(message, error) {
  if (error.name === "AbortError") {
    message.note = "stopped";
    announce("The answer was stopped.");
    return;
  }
  const isKnown = error instanceof ServerError;
  message.error = isKnown ? error.message : "The server cannot be reached.";
  message.needsKey = error.status === 401;
}

function submit(text) {
  if (!text.trim() || running) return;
  if (!current.title) current.title = text.trim().replace(/\s+/g, " ").slice(0, TITLE_CHARS);
  current.messages.push({ role: "user", content: text });
  prompt.value = "";
  typed();
  answer(current.messages.length);
}

function typed() {
  grow(prompt);
  send.disabled = prompt.value.trim() === "";
}

/** The actions of messages, by the name on their buttons. */
const actions = {
  copy: (view, button) => copy(view.message.content, button),
  "copy-code": (_, button) => copy(button.closest(".code").querySelector("code").textContent, button),
  again: (_, __, index) => answer(index),
  settings: () => openSettings("key"),
  edit: (view, _, index) => view.edit((text) => {
    if (text === undefined) {
      view.node.querySelector("[data-action=edit]").focus();
      return;
    }
    view.message.content = text;
    prompt.focus();
    answer(index + 1);
  }),
};

messages.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-action]");
  const node = target.closest(".message");
  if (button && node) actions[button.dataset.action]?.(views[node.dataset.index], button, Number(node.dataset.index));
});

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(prompt.value);
});
prompt.addEventListener("input", typed);
prompt.addEventListener("keydown", (event) => {
  if (isSend(event)) {
    event.preventDefault();
    submit(prompt.value);
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !running || byId("settings").open) return;
  abort();
  prompt.focus();
});
stop.addEventListener("click", () => {
  abort();
  prompt.focus();
});
byId("new-conversation").onclick = () => open(newConversation());
byId("starters").append(...STARTERS.map((text) => {
  const button = element("button", { type: "button" }, [text]);
  button.onclick = () => submit(text);
  return button;
}));
byId("toggle-theme").onclick = () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("mullama.theme", root.dataset.theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
};
onOtherTab(() => {
  refresh();
  const same = conversations.find(({ id }) => id === current.id);
  const isSame = !same || JSON.stringify(same.messages) === JSON.stringify(current.messages);
  // An answer or an edit that is on its way here goes on; its end is saved over what the other tab did.
  if (isSame || running || messages.querySelector(".editing")) {
    list();
    return;
  }
  current = same;
  show();
});
addEventListener("pagehide", () => { if (running) save(running.conversation); });

connectSidebar();
connectSettings(() => watch(model(), Boolean(running)));
show();
typed();
prompt.focus();
loadModels().then(() => watch(model(), false));
