// Markdown to DOM nodes. Text becomes text nodes only: nothing here parses HTML, so no text can become markup.

import { inline } from "./inline.js";
import { highlighted } from "./highlight.js";
import { element, icon } from "./dom.js";

/** Lists and quotations deeper than this are shown as their text. */
const MOST_DEPTH = 12;
/** Tables with more columns are shown as their text: browsers take minutes to lay them out. */
const MOST_COLUMNS = 100;

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const DIVIDER = /^ *\|?(?: *:?-+:? *\|)+ *(?::?-+:? *)?$/;

/** Shows `text` in `container`. Blocks that are the same as before keep their nodes, so that streaming is cheap. */
export function renderMarkdown(container, text) {
  const blocks = split(text.split("\n"), 0);
  const shown = container.children;
  blocks.forEach((block, index) => {
    if (shown[index]?.source === block.source) return;
    const node = draw(block, 0);
    node.source = block.source;
    if (shown[index]) shown[index].replaceWith(node);
    else container.append(node);
  });
  while (shown.length > blocks.length) container.lastElementChild.remove();
}

/** The blocks of these lines: each has a type, its content and its source. */
function split(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const [block, end] = take(lines, at, depth);
    block.source = `${block.type} ${lines.slice(at, end).join("\n")}`;
    blocks.push(block);
    at = end;
  }
  return blocks;
}

function take(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return takeCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return [{ type: "heading", level: heading[1].length, text: heading[2].trim() }, at + 1];
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (depth < MOST_DEPTH && QUOTE.test(line)) return takeQuote(lines, at);
  if (depth < MOST_DEPTH && ITEM.test(line)) return takeList(lines, at);
  if (line.includes("|") && isDivider(lines[at + 1] ?? "")) return takeTable(lines, at);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !startsBlock(lines[end])) end += 1;
  return [{ type: "paragraph", text: lines.slice(at, end).join("\n") }, end];
}

const startsBlock = (line) =>
  FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

const isDivider = (line) => DIVIDER.test(line) && cells(line).length <= MOST_COLUMNS;

function takeCode(lines, at, [, mark, language]) {
  const isEnd = (line) => line.trim().startsWith(mark) && line.trim().replaceAll(mark[0], "") === "";
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end += 1;
  return [{ type: "code", language, text: lines.slice(at + 1, end).join("\n") }, Math.min(end + 1, lines.length)];
}

function takeQuote(lines, at) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  return [{ type: "quote", lines: lines.slice(at, end).map((line) => line.replace(QUOTE, "")) }, end];
}

function takeList(lines, at) {
  const first = ITEM.exec(lines[at]);
  const isOrdered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  let isBlank = false;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const mark = ITEM.exec(line);
    const indent = items.at(-1)?.indent ?? 0;
    if (line.trim() === "") {
      isBlank = true;
      items.at(-1).lines.push("");
      continue;
    }
    const depth = line.length - line.trimStart().length;
    const isSibling = items.length === 0 || depth < Math.max(indent, 2);
    if (mark && isSibling && /\d/.test(mark[2]) === isOrdered && !RULE.test(line)) {
      items.push({ indent: mark[0].trimEnd().length + 1, lines: [line.slice(mark[0].length)] });
    } else if (items.length > 0 && (depth >= 2 || (!isBlank && !startsBlock(line)))) {
      items.at(-1).lines.push(line.slice(Math.min(depth, indent)));
    } else break;
    isBlank = false;
  }
  const start = isOrdered ? Number.parseInt(first[2], 10) : 1;
  return [{ type: "list", isOrdered, start, items: items.map((item) => item.lines) }, end];
}

function takeTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const rows = [lines[at], ...lines.slice(at + 2, end)].map(cells);
  const sides = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : ""));
  return [{ type: "table", rows, sides }, end];
}

const cells = (line) => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());

function draw(block, depth) {
  switch (block.type) {
    case "heading":
      // The page's own title is the first level.
      return element(`h${Math.min(block.level + 1, 6)}`, {}, inline(block.text));
    case "rule":
      return element("hr");
    case "code":
      return drawCode(block);
    case "quote":
      return element("blockquote", {}, split(block.lines, depth + 1).map((inner) => draw(inner, depth + 1)));
    case "list":
      return drawList(block, depth);
    case "table":
      return drawTable(block);
    default:
      return element("p", {}, inline(block.text));
  }
}

function drawCode({ language, text }) {
  const copy = element("button", { class: "quiet copy-code", type: "button", "aria-label": "Copy code" }, [icon("copy"), "Copy"]);
  copy.dataset.action = "copy-code";
  const name = /^[\w+#.-]{1,24}$/.test(language) ? language : "text";
  return element("div", { class: "code" }, [
    element("div", { class: "code-head" }, [element("span", {}, [name]), copy]),
    element("pre", { tabindex: "0", "aria-label": `Code, ${name}` }, [element("code", {}, highlighted(text, name))]),
  ]);
}

function drawList({ isOrdered, start, items }, depth) {
  const list = element(isOrdered ? "ol" : "ul");
  if (isOrdered && start !== 1) list.start = start;
  for (const lines of items) {
    const blocks = split(lines, depth + 1);
    const isTight = blocks[0]?.type === "paragraph" && !lines.slice(0, -1).includes("");
    const nodes = blocks.flatMap((block) =>
      isTight && block.type === "paragraph" ? inline(block.text) : [draw(block, depth + 1)]);
    list.append(element("li", {}, nodes));
  }
  return list;
}

function drawTable({ rows, sides }) {
  // Rows are not filled up to the width of the head: a wide head with many short rows would freeze the page.
  const row = (texts, tag) => element("tr", {}, texts.slice(0, sides.length).map((text, index) =>
    element(tag, sides[index] ? { class: sides[index] } : {}, inline(text))));
  const head = element("thead", {}, [row(rows[0], "th")]);
  const body = element("tbody", {}, rows.slice(1).map((texts) => row(texts, "td")));
  return element("div", { class: "table", tabindex: "0" }, [element("table", {}, [head, body])]);
}
