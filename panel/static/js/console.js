// The screen of a VM (noVNC): keys, paste, views and screenshots. No inline script or style. Connecting, words and power
// buttons: console-link.js.
import { RFB, KeyTable, keysyms } from "../vendor/novnc.js";

import { $, $$, again, choice, choose, connected, fullscreen, note, pause, refuse, root, start, words } from "./console-link.js";

const canvasBox = $("[data-screen]");
const KEY_DOWN_MS = 8;
const KEY_GAP_MS = 22; // slower than any guest's keyboard controller

let rfb = null;

// noVNC gets the socket, so that we see its close code.
function open(socket, current) {
  rfb = new RFB(canvasBox, socket, { shared: true });
  rfb.background = "#0b0e12";
  rfb.addEventListener("connect", () => current() && shown());
  rfb.addEventListener("credentialsrequired", () => refuse(words.passwordText));
  rfb.addEventListener("securityfailure", (event) => refuse(`${words.securityText} ${event.detail.reason ?? ""}`));
  applyView();
}

function shown() {
  connected();
  applyView();
  if (!$("dialog[open]")) rfb.focus();
}

function drop() {
  try {
    rfb?.disconnect();
  } catch {
    // it was never connected
  }
  rfb = null;
  releaseHeld();
}

// ---- keys --------------------------------------------------------------------------------------------------------
// name: [keysym, physical key]
const KEYS = {
  Ctrl: [KeyTable.XK_Control_L, "ControlLeft"], Alt: [KeyTable.XK_Alt_L, "AltLeft"],
  Shift: [KeyTable.XK_Shift_L, "ShiftLeft"], Super: [KeyTable.XK_Super_L, "MetaLeft"],
  Tab: [KeyTable.XK_Tab, "Tab"], Esc: [KeyTable.XK_Escape, "Escape"], Enter: [KeyTable.XK_Return, "Enter"],
  PrintScreen: [KeyTable.XK_Print, "PrintScreen"], C: [0x63, "KeyC"],
  Up: [KeyTable.XK_Up, "ArrowUp"], Down: [KeyTable.XK_Down, "ArrowDown"],
  Left: [KeyTable.XK_Left, "ArrowLeft"], Right: [KeyTable.XK_Right, "ArrowRight"],
};
for (let n = 1; n <= 6; n++) KEYS[`F${n}`] = [KeyTable.XK_F1 + n - 1, `F${n}`];
const held = new Set();

function chord(names) {
  for (const name of names) rfb?.sendKey(...KEYS[name], true);
  for (const name of names.reverse()) if (!held.has(name)) rfb?.sendKey(...KEYS[name], false);
}

function hold(button) {
  const name = button.dataset.hold;
  const down = !held.has(name);
  if (down) held.add(name);
  else held.delete(name);
  button.setAttribute("aria-pressed", String(down));
  rfb?.sendKey(...KEYS[name], down);
}

function releaseHeld() {
  held.clear();
  for (const button of $$("[data-hold]")) button.setAttribute("aria-pressed", "false");
}

// One character. A VNC server turns symbols into keys, but leaves Shift to us.
async function typeCharacter(character, slow) {
  const special = { "\n": KeyTable.XK_Return, "\t": KeyTable.XK_Tab, "\b": KeyTable.XK_BackSpace }[character];
  const symbol = special ?? keysyms.lookup(character.codePointAt(0));
  if (!symbol || !rfb) return;
  const shift = /^[A-Z~!@#$%^&*()_+{}|:"<>?]$/.test(character);
  if (shift) rfb.sendKey(...KEYS.Shift, true);
  rfb.sendKey(symbol, null, true);
  if (slow) await pause(KEY_DOWN_MS);
  rfb?.sendKey(symbol, null, false);
  if (shift && !held.has("Shift")) rfb?.sendKey(...KEYS.Shift, false);
  if (slow) await pause(KEY_GAP_MS);
}

async function typeText() {
  const dialog = $("#console-paste");
  const box = $("#console-paste-text");
  const bar = $("#console-paste-progress");
  const text = [...box.value.replace(/\r\n?/g, "\n")];
  if (!text.length) return note(words.noClipboard);
  const button = $('[data-do="type"]');
  button.disabled = true;
  bar.hidden = false;
  bar.max = text.length;
  for (let i = 0; i < text.length && dialog.open && rfb; i++) {
    await typeCharacter(text[i], true);
    bar.value = i + 1;
  }
  button.disabled = false;
  bar.hidden = true;
  box.value = "";
  dialog.close();
}

// Phones show their keyboard for a text field only, and tell what was typed by what is in it afterwards.
const typing = $("#console-typing");
const PADDING = "_".repeat(100); // something to delete
let typed = PADDING;

function resetTyping() {
  typing.value = typed = PADDING;
  typing.setSelectionRange(PADDING.length, PADDING.length);
}

typing.addEventListener("input", () => {
  const now = typing.value;
  let same = 0;
  while (same < now.length && now[same] === typed[same]) same++;
  for (let i = same; i < typed.length; i++) typeCharacter("\b", false);
  for (const character of now.slice(same)) typeCharacter(character, false);
  typed = now;
  if (now.length > 300 || now.length < 10) resetTyping();
});

// ---- the view ----------------------------------------------------------------------------------------------------
const view = () => choice("console-view", "fit");

function applyView() {
  if (rfb) {
    rfb.scaleViewport = view() !== "real";
    rfb.resizeSession = view() === "resize";
  }
  for (const button of $$("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view()));
    // noVNC has no public word for whether the server takes sizes (1.7)
    if (button.dataset.view === "resize") button.disabled = rfb?._supportsSetDesktopSize === false;
  }
}

function screenshot() {
  rfb?.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${root.dataset.vm}-${new Date().toISOString().slice(0, 19).replace(/:/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}

// ---- buttons -----------------------------------------------------------------------------------------------------
const DO = {
  cad: () => rfb?.sendCtrlAltDel(),
  fullscreen,
  paste: () => $("#console-paste").showModal(),
  reconnect: again,
  screenshot,
  type: typeText,
  typing: () => (resetTyping(), typing.focus()),
};

function pressed(button) {
  const { do: what, keys, hold: holds, view: mode } = button.dataset;
  if (keys) chord(keys.split("+"));
  if (holds) hold(button);
  if (mode) {
    choose("console-view", mode);
    button.closest("[popover]")?.hidePopover();
    applyView();
  }
  if (what) DO[what]();
  if (what === "cad" || mode) rfb?.focus();
}
// A press on the toolbar must not take the phone's keyboard away.
$(".console-bar").addEventListener("pointerdown", (event) => document.activeElement === typing && event.preventDefault());
$("#console-view").addEventListener("beforetoggle", applyView);

start({ open, drop, focus: () => rfb?.focus(), needs: ["cad", "paste", "screenshot", "typing"] }, pressed);
