// The marks inside a paragraph: code, strong, emphasis, strikethrough and links, as DOM nodes.

import { element } from "./dom.js";

/** Marks nested deeper than this are shown as text. */
const MOST_DEPTH = 6;
/** Maximum characters of a link's words, and of its address. */
const MOST_LINK_CHARS = 2000;
const SCHEMES = ["http:", "https:", "mailto:"];
const PAIRS = [["***", ["strong", "em"]], ["**", ["strong"]], ["__", ["strong"]], ["~~", ["del"]], ["*", ["em"]], ["_", ["em"]]];
const BARE_LINK = /^https?:\/\/[^\s<>"'`]+/;
const SPECIAL = /[\\`*_~[!<h\n]/g;
const WORD = /[\p{L}\p{N}]/u;

/** Only addresses of the web and of mail become links; others, `javascript:` among them, stay text. */
function address(text) {
  try {
    const url = new URL(text);
    return SCHEMES.includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function link(text, href, children) {
  const url = address(href);
  if (!url) return text;
  return element("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

/** The nodes of a text. */
export function inline(text, depth = 0) {
  const nodes = [];
  // Where a mark is known to have no partner further on, so that hostile text costs linear time.
  const alone = new Set();
  let plain = 0;
  let at = 0;
  const push = (node, start, end) => {
    if (start > plain) nodes.push(text.slice(plain, start));
    nodes.push(node);
    plain = at = end;
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const special = SPECIAL.exec(text);
    if (!special) break;
    at = special.index;
    const found = depth < MOST_DEPTH ? markAt(text, at, alone, depth) : undefined;
    if (found) push(found.node, at, found.end);
    else at += 1;
  }
  if (plain < text.length) nodes.push(text.slice(plain));
  return nodes;
}

function markAt(text, at, alone, depth) {
  switch (text[at]) {
    case "\\":
      return /[\\`*_~[\]()#+\-.!|<>{}]/.test(text[at + 1] ?? "") ? { node: text[at + 1], end: at + 2 } : undefined;
    case "\n":
      return { node: element("br"), end: at + 1 };
    case "`":
      return codeAt(text, at, alone);
    case "!":
      // A remote image would tell its server who reads this, so it is a link.
      return text[at + 1] === "[" ? linkAt(text, at + 1, depth) : undefined;
    case "[":
      return linkAt(text, at, depth);
    case "<":
    case "h":
      return bareLinkAt(text, at);
    default:
      return pairAt(text, at, alone, depth);
  }
}

/** The place of `mark` from `from` on; -1 is remembered for the rest of the text. */
function find(text, mark, from, alone) {
  if (alone.has(mark)) return -1;
  const at = text.indexOf(mark, from);
  if (at < 0) alone.add(mark);
  return at;
}

function codeAt(text, at, alone) {
  const mark = /^`+/.exec(text.slice(at, at + 16))[0];
  const end = find(text, mark, at + mark.length, alone);
  if (end < 0) return undefined;
  return { node: element("code", {}, [text.slice(at + mark.length, end).trim()]), end: end + mark.length };
}

function linkAt(text, at, depth) {
  const middle = at + text.slice(at, at + MOST_LINK_CHARS).indexOf("](");
  const end = middle + text.slice(middle, middle + MOST_LINK_CHARS).indexOf(")");
  if (middle < at || end < middle) return undefined;
  const href = text.slice(middle + 2, end).trim().split(/\s/)[0].replace(/^<(.*)>$/, "$1");
  const words = text.slice(at + 1, middle);
  return { node: link(text.slice(at, end + 1), href, inline(words || href, depth + 1)), end: end + 1 };
}

function bareLinkAt(text, at) {
  const start = text[at] === "<" ? at + 1 : at;
  if (start === at && at > 0 && WORD.test(text[at - 1])) return undefined;
  const found = BARE_LINK.exec(text.slice(start, start + MOST_LINK_CHARS));
  if (!found) return undefined;
  const href = start === at ? found[0].replace(/[.,;:!?)\]}*_~]+$/, "") : found[0];
  const end = start + href.length + (start > at && text[start + href.length] === ">" ? 1 : 0);
  return { node: link(href, href, [href]), end };
}

function pairAt(text, at, alone, depth) {
  for (const [mark, tags] of PAIRS) {
    if (!text.startsWith(mark, at)) continue;
    const start = at + mark.length;
    // Marks beside spaces are arithmetic, and underscores inside words are names.
    if (/\s/.test(text[start] ?? " ")) return undefined;
    if (mark[0] === "_" && at > 0 && WORD.test(text[at - 1])) return undefined;
    const end = find(text, mark, start + 1, alone);
    if (end < 0) continue;
    if (/\s/.test(text[end - 1]) || (mark[0] === "_" && WORD.test(text[end + mark.length] ?? " "))) return undefined;
    const children = inline(text.slice(start, end), depth + 1);
    const node = tags.reduceRight((inner, tag) => [element(tag, {}, inner)], children)[0];
    return { node, end: end + mark.length };
  }
  return undefined;
}
