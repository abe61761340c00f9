// Writes the reference of docs/ from the types in dist/. With --check, it only says whether its pages are up to date.
import { readFileSync, writeFileSync } from 'node:fs';

const dist = new URL('../dist/', import.meta.url);
const docs = new URL('../../docs/', import.meta.url);

/** The public declarations of a file by name: each with its comment. */
function declarations(file) {
  const found = new Map();
  const comment = String.raw`^(?:\/\*\*(?:[^*]|\*(?!\/))*\*\/\n)?export (?:declare )?(?:abstract )?`;
  const text = readFileSync(new URL(file, dist), 'utf8');
  for (const end of ['(?:class|interface) (\\w+)[^]*?^}', '(?:type|function|const) (\\w+)[^]*?;$']) {
    for (const [whole, name] of text.matchAll(new RegExp(comment + end, 'gm'))) {
      // A class whose fields come from an interface is the class.
      if (!found.has(name) || !whole.includes('interface ')) found.set(name, whole);
    }
  }
  return found;
}

/** The words of a comment, on one line for each paragraph, and its example. */
function comment(text) {
  const inner = text.replace(/^\s*\/\*\*|\*\/\s*$/g, '').replace(/^[ \t]*\* ?/gm, '').trim();
  const [words, example] = inner.split(/^@example\n/m);
  const paragraphs = words.split(/\n\n+|\n(?=@)/).map((paragraph) => paragraph.replaceAll(/\s*\n\s*/g, ' ').trim());
  const tagged = paragraphs.map((paragraph) =>
    paragraph
      .replace(/^@param (\w+)/, '`$1`:')
      .replace(/^@throws /, 'Throws ')
      .replaceAll(/\{@link (\w+)\}/g, '`$1`'),
  );
  return { words: tagged, example: example?.trim() };
}

const cell = (text) => text.replaceAll('|', String.raw`\|`);

/** The public members of a class or an interface, as rows of a table. */
function members(body) {
  const rows = [];
  const pattern = /^ {4}((?:\/\*\*(?:[^*]|\*(?!\/))*\*\/\s*)?)((?!#private|private |protected ).+?);$/gm;
  for (const [, about, signature] of body.matchAll(pattern)) {
    const { words } = comment(about);
    const short = signature.replaceAll(/\s+/g, ' ').replace(/^get (\w+)\(\)/, '$1').replace(/^readonly /, '').replace(/ \| undefined$/, '');
    rows.push(`| \`${cell(short)}\` | ${cell(words.join(' '))} |`);
  }
  return rows;
}

/** A declaration as Markdown. */
function shown(name, text) {
  const about = /^\/\*\*[^]*?\*\/\n/.exec(text)?.[0] ?? '';
  const code = text.slice(about.length).replace(/^export (?:declare )?/, '');
  const { words, example } = comment(about);
  const body = /^(?:abstract )?(?:class|interface) /.test(code) ? members(code) : undefined;
  const base = / extends (\w+)/.exec(code.split('{')[0])?.[1];
  return [
    `### ${name}${base === undefined || base === 'Error' || base === 'All' ? '' : `: ${base}`}`,
    ...words.filter(Boolean),
    ...(example === undefined ? [] : [`\`\`\`ts\n${example}\n\`\`\``]),
    ...(body === undefined ? [`\`\`\`ts\n${code}\n\`\`\``] : []),
    ...(body?.length > 0 ? [['| member | meaning |', '|---|---|', ...body].join('\n')] : []),
  ].join('\n\n');
}

const PAGES = {
  'node-reference.md': {
    title: 'Node.js reference',
    more: 'Settings, statistics and errors are on [a page of their own](node-values.md).',
    sections: {
      'Models and contexts': ['Model', 'Context', 'AsyncModel', 'ModelOptions', 'AsyncModelOptions', 'TokenizeOptions', 'TemplateOptions'],
      Streams: ['TokenStream', 'Token', 'TokenLogprob', 'Completion', 'FinishReason', 'Usage', 'Timings'],
      Calls: ['Prompt', 'Message', 'StreamOptions', 'ChatOptions', 'ChatStreamOptions'],
      'Models by name': ['pull', 'PullOptions', 'PullProgress', 'LocalModel', 'ModelDefaults'],
      Others: ['systemInfo', 'version'],
    },
  },
  'node-values.md': {
    title: 'Node.js settings and errors',
    more: 'Models and streams are on [the other page](node-reference.md).',
    sections: {
      Settings: ['StreamConfig', 'Settings', 'StreamSettings', 'ContextParams', 'KvType'],
      Statistics: ['Stats', 'Steps'],
      Errors: [
        'MullamaError', 'ErrorCode', 'ModelNotFoundError', 'DownloadError', 'ModelLoadError', 'InvalidConfigError', 'InvalidPromptError',
        'ContextOverflowError', 'ChatTemplateError', 'OverloadedError', 'StreamTimeoutError', 'GenerationError', 'StreamBusyError',
        'EngineClosedError',
      ],
    },
  },
};

/** All public declarations by name. */
function all() {
  const index = readFileSync(new URL('index.d.ts', dist), 'utf8');
  const known = declarations('index.d.ts');
  const exported = new Set(known.keys());
  for (const [, names, file] of index.matchAll(/export (?:type )?\{([^}]+)\} from '\.\/([\w-]+)\.js'/g)) {
    const listed = names.split(',').map((name) => name.replace('type ', '').trim());
    listed.filter(Boolean).forEach((name) => exported.add(name));
    for (const [name, text] of declarations(`${file}.d.ts`)) known.set(name, text);
  }
  const listed = Object.values(PAGES).flatMap(({ sections }) => Object.values(sections).flat());
  const missing = [...exported].filter((name) => !listed.includes(name));
  const unknown = listed.filter((name) => !exported.has(name) || !known.has(name));
  if (missing.length + unknown.length > 0) throw new Error(`scripts/reference.mjs: missing ${missing}; unknown ${unknown}`);
  return known;
}

function generated({ title, more, sections }, known) {
  const text = Object.entries(sections).map(
    ([name, names]) => `## ${name}\n\n${names.map((each) => shown(each, known.get(each))).join('\n\n')}\n`,
  );
  const about = `The package \`mullama\` for Node.js, as TypeScript sees it. [Node.js](node.md) shows how to use it. ${more}`;
  return `# ${title}\n\n${about}\n\n${text.join('\n')}`;
}

const known = all();
for (const [name, page] of Object.entries(PAGES)) {
  const file = new URL(name, docs);
  const text = generated(page, known);
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    console.error(`docs/${name} does not match the types: run npm run reference`);
    process.exitCode = 1;
  }
}
