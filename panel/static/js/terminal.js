// The terminal of a VM (xterm.js): its bytes, its size, long pastes, keys for phones. No inline script or style. Connecting,
// words and power buttons: console-link.js. What text messages say: panel/console/terminal.py.
import { FitAddon, Terminal, strictStyles } from "../vendor/xterm.js";
import { $, $$, again, choice, choose, connect, connected, fullscreen, note, pause, root, start, state, words } from "./console-link.js";

const CHUNK = 4 * 1024; // of a paste, in bytes
const QUEUED = 64 * 1024; // in the browser, towards the panel
const TELL = 32 * 1024; // drawn bytes, until the panel hears of them
const SIZES = [10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 28];
const COLOURS = {
  dark: { background: "#0b0e12", foreground: "#d9e0e8", cursor: "#d9e0e8", selectionBackground: "#2f6fe0aa" },
  light: {
    background: "#ffffff", foreground: "#1b2433", cursor: "#1b2433", selectionBackground: "#2f6fe055",
    black: "#1b2433", red: "#b3261e", green: "#1c6b34", yellow: "#7a5600", blue: "#1b53ba", magenta: "#84329b", cyan: "#0b6672",
    white: "#5c6675", brightBlack: "#5c6675", brightRed: "#b3261e", brightGreen: "#1c6b34", brightYellow: "#7a5600",
    brightBlue: "#1b53ba", brightMagenta: "#84329b", brightCyan: "#0b6672", brightWhite: "#1b2433",
  },
};

const box = $("[data-terminal]");
const encoder = new TextEncoder();
strictStyles();
const term = new Terminal({
  cursorBlink: true,
  fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK SC", monospace',
  fontSize: Number(choice("terminal-font", "14")),
  scrollback: 5000,
  screenReaderMode: choice("terminal-reader", "") === "on",
});
const fit = new FitAddon();
term.loadAddon(fit);
term.open(box);
term.textarea.setAttribute("aria-label", root.dataset.label);

let socket = null;
let sticky = false; // Ctrl of the key bar: for the next key
let drawn = 0;
let sending = Promise.resolve();

// ---- the line ----------------------------------------------------------------------------------------------------
function open(made, current) {
  socket = made;
  socket.binaryType = "arraybuffer";
  drawn = 0;
  sending = Promise.resolve();
  socket.addEventListener("message", ({ data }) => {
    if (!current()) return;
    if (typeof data === "string") greeted(JSON.parse(data));
    else term.write(new Uint8Array(data), () => tell(made, data.byteLength));
  });
}

function greeted({ resizes }) {
  for (const item of $$("[data-do=tell-size]")) item.hidden = resizes;
  connected();
  fit.fit();
  resized();
  if (!$("dialog[open]")) term.focus();
}

function drop() {
  const old = socket;
  socket = null;
  old?.close();
  hold(false);
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function tell(made, count) {
  if (made !== socket) return;
  drawn += count;
  if (drawn < TELL) return;
  say({ shown: drawn });
  drawn = 0;
}

/** Send it piece by piece, one text after the other: no faster than the panel takes it. */
function send(text) {
  const mine = socket;
  const bytes = encoder.encode(text);
  if (bytes.length > QUEUED) note(words.pasting);
  sending = sending.then(async () => {
    for (let at = 0; at < bytes.length; at += CHUNK) {
      while (mine === socket && mine?.bufferedAmount > QUEUED) await pause(20);
      if (mine !== socket || mine?.readyState !== WebSocket.OPEN) return;
      mine.send(bytes.subarray(at, at + CHUNK));
    }
  });
}

term.onData((text) => {
  if (state() !== "connected") return;
  send(sticky && text.length === 1 ? control(text) : text);
  hold(false);
});
term.onBinary((text) => socket?.send(Uint8Array.from(text, (character) => character.charCodeAt(0))));

function control(character) {
  const code = character.toUpperCase().charCodeAt(0);
  return code >= 0x40 && code < 0x60 ? String.fromCharCode(code & 0x1f) : character;
}

// ---- the size ----------------------------------------------------------------------------------------------------
let resizeTimer = 0;
function resized() {
  say({ resize: [term.cols, term.rows] });
}

term.onResize(() => {
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(resized, 100);
});
new ResizeObserver(() => fit.fit()).observe(box);

function font(step) {
  const at = SIZES.findIndex((size) => size >= term.options.fontSize);
  term.options.fontSize = SIZES[Math.max(0, Math.min(SIZES.length - 1, at + step))];
  choose("terminal-font", String(term.options.fontSize));
  fit.fit();
}

function colours(name) {
  choose("terminal-colours", name);
  root.dataset.colours = name;
  term.options.theme = COLOURS[name];
  term.options.minimumContrastRatio = 4.5;
  for (const button of $$("[data-colours]")) {
    if (button !== root) button.setAttribute("aria-pressed", String(button.dataset.colours === name));
  }
}

function reader(on) {
  term.options.screenReaderMode = on;
  choose("terminal-reader", on ? "on" : "");
  $("[data-do=reader]").setAttribute("aria-pressed", String(on));
}

// ---- keys and the clipboard --------------------------------------------------------------------------------------
const KEYS = { Esc: "\x1b", Tab: "\t", Up: "A", Down: "B", Right: "C", Left: "D" };

function key(name) {
  const code = KEYS[name];
  const arrow = code.length === 1 && code >= "A" && code <= "D";
  const prefix = term.modes.applicationCursorKeysMode ? "\x1bO" : "\x1b[";
  send(arrow ? (sticky ? `\x1b[1;5${code}` : prefix + code) : code);
  hold(false);
}

function hold(down) {
  sticky = down;
  $("[data-hold]").setAttribute("aria-pressed", String(down));
}

async function copy() {
  const text = term.getSelection();
  if (!text) return note(words.nothingSelected);
  try {
    await navigator.clipboard.writeText(text);
    note(words.copied);
  } catch {
    note(words.notCopied);
  }
}

function paste() {
  const area = $("#console-paste-text");
  $("#console-paste").close();
  if (area.value) term.paste(area.value);
  area.value = "";
  term.focus();
}

term.attachCustomKeyEventHandler((event) => {
  if (!event.ctrlKey || !event.shiftKey || event.type !== "keydown") return true;
  if (event.code === "KeyC") {
    event.preventDefault();
    copy();
  }
  return !["KeyC", "KeyV"].includes(event.code); // Ctrl+Shift+V: the browser pastes
});

// ---- buttons -----------------------------------------------------------------------------------------------------
const DO = {
  copy,
  fullscreen,
  larger: () => font(1),
  paste: () => $("#console-paste").showModal(),
  reader: () => reader(!term.options.screenReaderMode),
  reconnect: again,
  smaller: () => font(-1),
  "take-over": () => connect({ take_over: "1" }),
  "tell-size": () => send(`stty cols ${term.cols} rows ${term.rows}\r`),
  type: paste,
};

function pressed(button) {
  const { do: what, key: name, hold: holds, colours: scheme } = button.dataset;
  if (name) key(name);
  if (holds) hold(!sticky);
  if (scheme) colours(scheme);
  if (what) DO[what]();
  if (name || holds || what === "tell-size") term.focus();
}
// A press on a key must not take the phone's keyboard away.
$(".console-keybar").addEventListener("pointerdown", (event) => event.preventDefault());

colours(choice("terminal-colours", "dark"));
reader(term.options.screenReaderMode);
fit.fit();
start(
  { open, drop, focus: () => term.focus(), needs: ["paste", "tell-size"], stays: true,
    query: () => ({ columns: term.cols, rows: term.rows }) },
  pressed,
);
