// What is kept in the browser: conversations and settings in localStorage, the API key in sessionStorage.

const CONVERSATIONS = "mullama.conversations";
const SETTINGS = "mullama.settings";
const KEY = "mullama.key";
/** Maximum number of conversations; the oldest goes first. */
const MOST_CONVERSATIONS = 100;
/** Maximum UTF-16 code units of all conversations together; browsers allow about 5 million. */
const MOST_CHARS = 2_000_000;
const ROLES = ["user", "assistant"];

function read(storage, name, otherwise) {
  try {
    return JSON.parse(storage().getItem(name)) ?? otherwise;
  } catch {
    return otherwise; // Storage is turned off, or holds what another program wrote.
  }
}

function write(storage, name, text) {
  try {
    storage().setItem(name, text);
    return true;
  } catch {
    return false;
  }
}

const local = () => localStorage;
const session = () => sessionStorage;

const isMessage = (message) => message && ROLES.includes(message.role) && typeof message.content === "string";

function isConversation(one) {
  return one && typeof one.id === "string" && typeof one.title === "string" && Array.isArray(one.messages)
    && one.messages.every(isMessage);
}

/** All conversations, the latest first. */
export function loadConversations() {
  const found = read(local, CONVERSATIONS, []);
  return Array.isArray(found) ? found.filter(isConversation).slice(0, MOST_CONVERSATIONS) : [];
}

/** Keeps the conversations that fit, the latest first, and returns those that the browser has no room for. */
export function saveConversations(conversations) {
  const filled = conversations.filter((one) => one.messages.length > 0);
  const kept = [];
  let chars = 2;
  for (const one of filled.slice(0, MOST_CONVERSATIONS)) {
    const text = JSON.stringify(one);
    if (chars + text.length + 1 > MOST_CHARS) continue;
    chars += text.length + 1;
    kept.push({ one, text });
  }
  // The quota may be smaller than what we expect, so the oldest go until the rest fits.
  while (!write(local, CONVERSATIONS, `[${kept.map(({ text }) => text).join(",")}]`)) {
    if (kept.length === 0) break;
    kept.length = Math.floor(kept.length / 2);
  }
  const ids = new Set(kept.map(({ one }) => one.id));
  return filled.filter(({ id }) => !ids.has(id));
}

export function newConversation() {
  // Pages without TLS beyond loopback have no crypto.randomUUID.
  const id = Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("");
  return { id, title: "", messages: [] };
}

/** Calls back when another tab changed the conversations. */
export function onOtherTab(changed) {
  addEventListener("storage", (event) => {
    if (event.key === CONVERSATIONS) changed();
  });
}

export function loadSettings() {
  const found = read(local, SETTINGS, {});
  const settings = {};
  for (const [name, value] of Object.entries(found)) if (typeof value === "string") settings[name] = value;
  return settings;
}

export function saveSettings(settings) {
  write(local, SETTINGS, JSON.stringify(settings));
}

export function loadKey() {
  const key = read(session, KEY, "");
  return typeof key === "string" ? key : "";
}

export function saveKey(key) {
  write(session, KEY, JSON.stringify(key));
}
