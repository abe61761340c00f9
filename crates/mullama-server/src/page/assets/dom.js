// The only place where elements are made. Children are nodes or texts, and texts become text nodes.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, children = []) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A symbol of the page's own set. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, action) {
  const button = element("button", { class: "icon", type: "button", "aria-label": label, title: label }, [icon(name)]);
  button.dataset.action = action;
  return button;
}

/** Tells screen readers, without a place on the screen. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Milliseconds that a note stays for each of its characters, so that it can be read. */
const MS_PER_CHAR = 60;

let hiding;

/** A short note, with at most one action. */
export function toast(text, label, action) {
  const box = byId("toast");
  const [words, button] = box.children;
  words.textContent = text;
  button.hidden = !label;
  button.textContent = label ?? "";
  button.onclick = () => {
    box.hidden = true;
    action();
  };
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { box.hidden = true; }, label ? 8000 : Math.max(2500, text.length * MS_PER_CHAR));
}
