// Leaves of a style sheet what this panel can use. A rule stays when every class of one of its selectors is a word of our
// templates, scripts or Python, wherever it stands there; "btn-" before something that is put in keeps all of btn-*. So too
// much stays rather than too little, and tests/test_vendor.py holds templates against classes.txt, all that have a rule of their own.
//
//   node scripts/vendor/purge.mjs SHEET.css ROOT    prints what stays
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { argv, stdout } from "node:process";

const PLACES = ["templates", "static/js", "static/css", "pages", "console"];
const TEXT = /\.(html|js|css|py)$/;

function texts(folder) {
  return readdirSync(folder, { recursive: true }).filter((name) => TEXT.test(name)).sort()
    .map((name) => readFileSync(join(folder, name), "utf8"));
}

/** The words of our files; those that end in "-" are beginnings. */
export function wordsOf(root) {
  const all = PLACES.flatMap((place) => texts(join(root, "panel", place))).join("\n").match(/[A-Za-z][\w-]*/g);
  const words = new Set(all);
  return { words, beginnings: [...words].filter((word) => word.length > 2 && word.endsWith("-")) };
}

/** The names of the classes in a selector or sheet, unescaped. */
export function classesOf(text) {
  return [...text.matchAll(/\.(-?[A-Za-z_](?:[\w-]|\\.)*)/g)].map((found) => found[1].replace(/\\(.)/g, "$1"));
}

/** Split at a character that is not within brackets or a string. */
function split(text, at) {
  const parts = [];
  let depth = 0, from = 0, quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\\") i++;
    else if (quote) quote = c === quote ? "" : quote;
    else if (c === '"' || c === "'") quote = c;
    else if (c === "(" || c === "[") depth++;
    else if (c === ")" || c === "]") depth--;
    else if (c === at && !depth) parts.push(text.slice(from, i)), (from = i + 1);
  }
  return [...parts, text.slice(from)];
}

/** [prelude, body] of each rule; the body of a statement such as @charset is null. */
function rules(css) {
  const found = [];
  let depth = 0, from = 0, open = 0, quote = "";
  for (let i = 0; i < css.length; i++) {
    const c = css[i];
    if (c === "\\") i++;
    else if (quote) quote = c === quote ? "" : quote;
    else if (c === '"' || c === "'") quote = c;
    else if (c === "{" && !depth++) open = i;
    else if (c === "}" && !--depth) found.push([css.slice(from, open), css.slice(open + 1, i)]), (from = i + 1);
    else if (c === ";" && !depth) found.push([css.slice(from, i), null]), (from = i + 1);
  }
  if (depth || css.slice(from).trim()) throw new Error(`not understood: ${css.slice(from, from + 80)}`);
  return found;
}

/** The classes that have a rule of their own, without another beside them. */
export function aloneIn(sheet) {
  const found = new Set();
  const look = (css) => rules(css).forEach(([prelude, body]) => {
    if (body !== null && /^@(media|supports|layer|container)/.test(prelude.trim())) return look(body);
    if (body === null || prelude.trim().startsWith("@")) return;
    for (const one of split(prelude, ",")) {
      const names = classesOf(outside(one));
      if (names.length === 1) found.add(names[0]);
    }
  });
  look(sheet.replace(/\/\*[\s\S]*?\*\//g, ""));
  return [...found].sort();
}

function outside(selector) {
  let bare = selector, before;
  do [before, bare] = [bare, bare.replace(/\([^()]*\)/g, "")]; while (before !== bare);
  return bare; // what is in :not(), :is() and the like is no reason to drop a rule
}

function kept(css, good) {
  return rules(css).map(([prelude, body]) => {
    const head = prelude.trim();
    if (body === null) return `${head};`;
    if (/^@(media|supports|layer|container)/.test(head)) {
      const inner = kept(body, good);
      return inner && `${head}{${inner}}`;
    }
    if (head.startsWith("@")) return `${head}{${body}}`;
    const selectors = split(head, ",").filter((one) => classesOf(outside(one)).every(good));
    return selectors.length ? `${selectors.join(",")}{${body}}` : "";
  }).join("");
}

/** Variables and @keyframes that nothing names any more. */
function named(css, more) {
  for (let before = ""; before !== css;) {
    before = css;
    const used = new Set((css + more).match(/var\(\s*--[\w-]+|--[\w-]+(?=["'])/g)?.map((one) => one.replace(/var\(\s*/, "")));
    css = css.replace(/([{;])((?:--[\w-]+:[^;{}]*;?)+)/g, (_all, start, list) =>
      start + split(list, ";").filter((one) => !one || used.has(one.split(":")[0])).join(";"));
    css = css.replace(/[^{}]+\{;*\}/g, (rule) => (rule.trim().startsWith("@") ? rule : ""));
    css = css.replace(/@(?:-webkit-)?keyframes ([\w-]+)\{(?:[^{}]*\{[^{}]*\})*\}/g, (rule, name, at) =>
      new RegExp(`animation(?:-name)?:[^;}]*\\b${name}\\b`).test(css.slice(0, at) + css.slice(at + rule.length) + more) ? rule : "");
  }
  return css;
}

export function purge(sheet, root) {
  const { words, beginnings } = wordsOf(root);
  const good = (name) => words.has(name) || beginnings.some((one) => name.startsWith(one));
  const banner = sheet.match(/^(?:@charset "[^"]*";)?\s*\/\*![\s\S]*?\*\//)?.[0] ?? "";
  const bare = sheet.slice(banner.length).replace(/\/\*[\s\S]*?\*\//g, "");
  const ours = PLACES.flatMap((place) => texts(join(root, "panel", place))).join("\n");
  return banner + named(kept(bare, good), ours) + "\n";
}

if (import.meta.url === `file://${argv[1]}`) stdout.write(purge(readFileSync(argv[2], "utf8"), argv[3]));
