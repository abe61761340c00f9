// A little colour for code: comments, strings, numbers and the keywords of common languages, in one pass.

import { element } from "./dom.js";

/** Longer code stays plain. */
const MOST_CHARS = 20_000;
const KEYWORDS = new Set(("abstract and as assert async await base begin bool boolean break case catch char class const continue crate def "
  + "default defer del delete do done double elif else end enum esac except export extends extern false fi final finally float fn for foreach "
  + "from func function go goto if impl implements import in include int interface is lambda let local long loop match mod module move mut "
  + "namespace new nil none not null of or override package pass private protected pub public raise range ref return select self set short "
  + "signed sizeof static string struct super switch template then this throw trait true try type typedef typeof union unsafe unsigned until "
  + "use using var virtual void where while with yield").split(" "));
const UPPER = new Set("SELECT FROM WHERE INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE JOIN ON GROUP BY ORDER LIMIT AND OR NOT NULL True False None".split(" "));
const HASH = new Set("python py bash sh shell zsh yaml yml toml ruby rb r dockerfile makefile perl ini conf".split(" "));
const DASH = new Set("sql lua haskell hs".split(" "));
const STRINGS = "\"(?:[^\"\\\\\\n]|\\\\.)*\"|'(?:[^'\\\\\\n]|\\\\.)*'|`(?:[^`\\\\]|\\\\.)*`";
const REST = "\\b\\d[\\w.]*|[A-Za-z_]\\w*";

function pattern(language) {
  const comment = HASH.has(language) ? "#[^\\n]*" : DASH.has(language) ? "--[^\\n]*" : "//[^\\n]*|/\\*[^]*?\\*/";
  return new RegExp(`(${comment})|(${STRINGS})|(${REST})`, "g");
}

/** The nodes of a piece of code. */
export function highlighted(text, language) {
  const name = language.toLowerCase();
  if (name === "text" || text.length > MOST_CHARS) return [text];
  const nodes = [];
  let plain = 0;
  for (const found of text.matchAll(pattern(name))) {
    const [piece, comment, string] = found;
    const kind = comment ? "comment" : string ? "string" : /^\d/.test(piece) ? "number"
      : KEYWORDS.has(piece) || UPPER.has(piece) ? "keyword" : "";
    if (!kind) continue;
    if (found.index > plain) nodes.push(text.slice(plain, found.index));
    nodes.push(element("span", { class: `code-${kind}` }, [piece]));
    plain = found.index + piece.length;
  }
  nodes.push(text.slice(plain));
  return nodes;
}
