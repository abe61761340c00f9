// Messages on the screen: how each looks, with its actions and its numbers.

import { byId, element, icon, iconButton } from "./dom.js";
import { renderMarkdown } from "./markdown.js";

const THOUGHT_START = "<think>";
const THOUGHT_END = "</think>";

/** What a model thought and what it said; some models write their thoughts into the text. */
function parts(message) {
  const text = message.content;
  if (message.thought || !text.trimStart().startsWith(THOUGHT_START)) return [message.thought ?? "", text];
  const start = text.indexOf(THOUGHT_START) + THOUGHT_START.length;
  const end = text.indexOf(THOUGHT_END, start);
  return end < 0 ? [text.slice(start), ""] : [text.slice(start, end), text.slice(end + THOUGHT_END.length).trimStart()];
}

const rate = (value) => (value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));
const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

const sentence = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

function numbers({ stats, note }) {
  const pieces = [];
  if (stats?.tokens) pieces.push(`${stats.tokens.toLocaleString("en")} ${stats.tokens === 1 ? "token" : "tokens"}`);
  if (stats?.perSecond) pieces.push(`${rate(stats.perSecond)} tokens/s`);
  if (stats?.firstToken !== undefined) pieces.push(`first token ${duration(stats.firstToken)}`);
  if (note) pieces.push(note);
  return pieces.map((piece) => element("span", {}, [piece]));
}

/** One message as an article. `refresh()` shows it again after it changed. */
export class MessageView {
  constructor(message, index) {
    this.message = message;
    this.isUser = message.role === "user";
    this.body = element("div", { class: "body" });
    this.meta = element("div", { class: "meta" });
    this.actions = element("div", { class: "actions" });
    this.node = element("article", { class: `message ${message.role}`, "aria-label": this.isUser ? "You" : "Answer" },
      [this.body, element("footer", {}, [this.meta, this.actions])]);
    this.node.dataset.index = index;
    this.actions.append(iconButton("copy", "Copy message", "copy"),
      this.isUser ? iconButton("edit", "Edit message", "edit") : iconButton("again", "Regenerate answer", "again"));
    this.refresh(false);
  }

  refresh(isStreaming) {
    const [thought, text] = parts(this.message);
    this.node.classList.toggle("streaming", isStreaming);
    this.node.setAttribute("aria-busy", String(isStreaming));
    if (this.isUser) this.body.textContent = text;
    else this.#answer(thought, text, isStreaming);
    this.meta.replaceChildren(...numbers(this.message));
    this.#problem();
  }

  #answer(thought, text, isStreaming) {
    if (!this.text) {
      this.text = element("div", { class: "prose" });
      this.waiting = element("div", { class: "waiting", "aria-hidden": "true" }, [element("i"), element("i"), element("i")]);
      this.body.append(this.text, this.waiting);
    }
    if (thought && !this.thought) {
      this.thought = element("div", { class: "prose" });
      this.details = element("details", { class: "thought" }, [element("summary", {}, ["Thoughts"]), this.thought]);
      this.body.prepend(this.details);
    }
    if (thought) renderMarkdown(this.thought, thought);
    renderMarkdown(this.text, text);
    this.waiting.hidden = !isStreaming || text !== "" || thought !== "";
  }

  #problem() {
    this.problem?.remove();
    this.node.classList.toggle("failed", Boolean(this.message.error));
    this.node.classList.toggle("partial", this.message.content !== "");
    if (!this.message.error) return;
    const again = element("button", { class: "quiet", type: "button" }, ["Try again"]);
    again.dataset.action = "again";
    const buttons = [again];
    if (this.message.needsKey) {
      const settings = element("button", { class: "quiet", type: "button" }, ["Enter an API key"]);
      settings.dataset.action = "settings";
      buttons.unshift(settings);
    }
    this.problem = element("div", { class: "problem", role: "alert" },
      [element("p", {}, [sentence(this.message.error)]), element("div", {}, buttons)]);
    this.body.append(this.problem);
  }

  /** Turns the message into a field. `done` gets the new text, or nothing if the edit was given up. */
  edit(done) {
    const field = element("textarea", { "aria-label": "Edit message", rows: "1", maxlength: "1000000" });
    field.value = this.message.content;
    const save = element("button", { type: "submit", class: "filled" }, ["Send"]);
    const cancel = element("button", { type: "button", class: "quiet" }, ["Cancel"]);
    const form = element("form", { class: "edit" }, [field, element("div", {}, [cancel, save])]);
    const end = (text) => {
      form.replaceWith(this.body);
      this.node.classList.remove("editing");
      done(text);
    };
    cancel.onclick = () => end();
    form.onsubmit = (event) => {
      event.preventDefault();
      if (field.value.trim()) end(field.value);
    };
    field.oninput = () => grow(field);
    field.onkeydown = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        end();
      } else if (isSend(event)) {
        event.preventDefault();
        form.requestSubmit();
      }
    };
    this.body.replaceWith(form);
    this.node.classList.add("editing");
    grow(field);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}

/** Whether a key sends. While an input method composes, Enter picks a word. */
export function isSend(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

/** Gives a field the height of its text. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, window.innerHeight * 0.4)}px`;
}

/** Copies text, also where the page has no clipboard because it is not served over TLS. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = element("textarea", { class: "visually-hidden", readonly: "" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const before = button.querySelector("svg");
  const after = icon("done");
  before.replaceWith(after);
  setTimeout(() => after.replaceWith(before), 1200);
}

/** Keeps the latest line in view, unless the reader has scrolled away from it. */
export function follow(scroller) {
  const toLatest = byId("to-latest");
  let isFollowing = true;
  const isAtEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };
  scroller.addEventListener("scroll", () => {
    isFollowing = isAtEnd();
    toLatest.hidden = isFollowing;
  }, { passive: true });
  const start = () => {
    isFollowing = true;
    toLatest.hidden = true;
    toEnd();
  };
  toLatest.onclick = start;
  return { start, update: () => { if (isFollowing) toEnd(); } };
}
