// The toolbar of a VM's screen: keys, paste, phones' keyboards, views and pictures, whatever the screen speaks. What speaks it is a
// driver: console.js (VNC) or spice.js. Connecting, words and power buttons: console-link.js.
import { $, $$, again, choice, choose, connect, connected, fullscreen, note, pause, root, start, words } from "./console-link.js";

const KEY_DOWN_MS = 8;
const KEY_GAP_MS = 22; // slower than any guest's keyboard controller

// What startScreen was given: open(socket, current), drop() and focus() as of console-link.js; live(): whether there is a screen;
// key(name, down): a key of the toolbar, and press(key, down): one that keyFor(character) found; look(): apply view(), look at
// what can be chosen; picture(take): the screen as a Blob, or null; stays, query(): as of console-link.js.
let driver = null;

// ---- keys --------------------------------------------------------------------------------------------------------
const held = new Set();

function chord(names) {
  for (const name of names) driver.key(name, true);
  for (const name of names.reverse()) if (!held.has(name)) driver.key(name, false);
}

function hold(button) {
  const name = button.dataset.hold;
  const down = !held.has(name);
  if (down) held.add(name);
  else held.delete(name);
  button.setAttribute("aria-pressed", String(down));
  driver.key(name, down);
}

export function releaseHeld() {
  held.clear();
  for (const button of $$("[data-hold]")) button.setAttribute("aria-pressed", "false");
}

// One character; false when no key makes it. What a key is goes to the VM, but Shift is left to us.
async function typeCharacter(character, slow) {
  const key = driver.live() ? driver.keyFor(character) : null;
  if (!key) return false;
  const shift = /^[A-Z~!@#$%^&*()_+{}|:"<>?]$/.test(character);
  if (shift) driver.key("Shift", true);
  driver.press(key, true);
  if (slow) await pause(KEY_DOWN_MS);
  driver.press(key, false);
  if (shift && !held.has("Shift")) driver.key("Shift", false);
  if (slow) await pause(KEY_GAP_MS);
  return true;
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
  let left = 0;
  for (let i = 0; i < text.length && dialog.open && driver.live(); i++) {
    if (!(await typeCharacter(text[i], true))) left++;
    bar.value = i + 1;
  }
  if (left && driver.live()) note(words.noKey);
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
export const view = () => choice("console-view", "fit");

function applyView() {
  driver.look();
  for (const button of $$("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view()));
}

function screenshot() {
  driver.picture((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${root.dataset.vm}-${new Date().toISOString().slice(0, 19).replace(/:/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}

// ---- buttons -----------------------------------------------------------------------------------------------------
const DO = {
  cad: () => chord(["Ctrl", "Alt", "Delete"]),
  fullscreen,
  paste: () => $("#console-paste").showModal(),
  reconnect: again,
  screenshot,
  "take-over": () => connect({ take_over: "1" }),
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
  if (what === "cad" || mode) driver.focus();
}
/** Begin. */
export function startScreen(made) {
  driver = made;
  // A press on the toolbar must not take the phone's keyboard away.
  $(".console-bar").addEventListener("pointerdown", (event) => document.activeElement === typing && event.preventDefault());
  $("#console-view").addEventListener("beforetoggle", applyView);
  const side = { ...made, open: (socket, current) => (made.open(socket, current), applyView()), needs: ["cad", "paste", "screenshot", "typing"] };
  start(side, pressed);
}

/** It is there: show it, and let it hear the keyboard. */
export function shown() {
  connected();
  applyView();
  if (!$("dialog[open]")) driver.focus();
}
