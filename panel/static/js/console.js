// The console page: a screen (noVNC) that keeps itself connected, keys, paste, views, screenshots and power buttons.
// No inline script or style. URLs come from the data attributes of #console, words from #console-words.
import { RFB, KeyTable, keysyms } from "../vendor/novnc.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const root = $("#console");
const words = $("#console-words").dataset;
const canvasBox = $("[data-screen]");
const csrf = () => $('meta[name="csrf-token"]')?.content ?? "";
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const STEPS = [500, 1000, 2000, 4000, 8000, 15000, 30000]; // back-off between attempts, ms
const KEY_DOWN_MS = 8;
const KEY_GAP_MS = 22; // slower than any guest's keyboard controller

let rfb = null;
let attempt = 0;
let retryTimer = 0;
let generation = 0; // of connections: what an old one still says is ignored
let refusal = ""; // what the screen itself said against us

// ---- what the page shows -----------------------------------------------------------------------------------------
function show(state, title = "", text = "") {
  root.dataset.state = state;
  $(".console-link-text").textContent = words[state] ?? "";
  $("#console-link").title = words[state] ?? "";
  $(".console-message-title").textContent = title;
  $(".console-message-text").textContent = text;
  for (const button of $$("[data-when]")) button.hidden = !button.dataset.when.split(" ").includes(state);
  for (const button of $$('[data-do="cad"], [data-do="paste"], [data-do="screenshot"], [data-do="typing"]')) {
    button.disabled = state !== "connected";
  }
}

let noteTimer = 0;
function note(text) {
  const box = $("#console-note");
  box.textContent = text;
  box.hidden = !text;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => (box.hidden = true), 6000);
}

// ---- talking to the panel ----------------------------------------------------------------------------------------
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(url, form = null) {
  const options = { headers: { Accept: "application/json", "X-CSRF-Token": csrf() }, redirect: "manual" };
  if (form) Object.assign(options, { method: "POST", body: new URLSearchParams({ ...form, csrf_token: csrf() }) });
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new Refused(0, words.unreachable);
  }
  if (answer.type === "opaqueredirect") throw new Refused(401, "");
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, body?.msg ?? words.unreachable);
  return body?.data ?? {};
}

// ---- connecting, and again ---------------------------------------------------------------------------------------
async function connect() {
  clearTimeout(retryTimer);
  const mine = ++generation;
  drop();
  refusal = "";
  show("connecting", words.connecting);
  let ticket;
  try {
    ({ ticket } = await call(root.dataset.ticketUrl, {}));
  } catch (error) {
    if (mine === generation) failed(error.status, error.message);
    return;
  }
  if (mine !== generation) return;
  const url = new URL(root.dataset.socketUrl, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  // The ticket is a subprotocol: a URL would be written to logs. noVNC gets the socket, so that we see its close code.
  const socket = new WebSocket(url, ["binary", `ticket.${ticket}`]);
  socket.addEventListener("close", (event) => mine === generation && failed(event.code - 4000, event.reason));
  rfb = new RFB(canvasBox, socket, { shared: true });
  rfb.background = "#0b0e12";
  rfb.addEventListener("connect", () => mine === generation && connected());
  rfb.addEventListener("credentialsrequired", () => refuse(words.passwordText));
  rfb.addEventListener("securityfailure", (event) => refuse(`${words.securityText} ${event.detail.reason ?? ""}`));
  applyView();
}

function refuse(text) {
  refusal = text;
  rfb?.disconnect();
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

function connected() {
  attempt = 0;
  show("connected");
  applyView();
  if (!$("dialog[open]")) rfb.focus();
}

// status: as of HTTP; a websocket's close code is 4000 + that. Anything else means: try again.
function failed(status, reason) {
  drop();
  if (status === 401 || status === 403) return show("ended", words.ended, words.endedText);
  if (status === 404) return show("ended", words.ended, words.goneText);
  if (refusal) return show("ended", words.ended, refusal);
  show("waiting", words.waiting, [reason, words.waitingText].filter(Boolean).join(" "));
  const wait = STEPS[Math.min(attempt++, STEPS.length - 1)] * (0.75 + Math.random() / 2);
  retryTimer = setTimeout(connect, wait);
  look();
}

function off() {
  clearTimeout(retryTimer);
  generation++;
  drop();
  show("off", words.off, words.offText);
}

// ---- the VM's state ----------------------------------------------------------------------------------------------
async function look() {
  let seen;
  try {
    seen = await call(root.dataset.stateUrl);
  } catch (error) {
    if (error.status === 401 && root.dataset.state !== "connected") failed(401, "");
    return;
  }
  for (const [action, why] of Object.entries(seen.power)) {
    for (const button of $$(`[data-power="${action}"]`)) {
      button.disabled = Boolean(why);
      button.title = why ?? "";
    }
  }
  const on = ["running", "suspended"].includes(seen.state);
  const state = root.dataset.state;
  if (state === "off" && on) {
    attempt = 0;
    connect();
  } else if (state === "waiting" && ["stopped", "crashed"].includes(seen.state)) {
    off();
  } else if (state === "waiting" && seen.state === "missing") {
    failed(404, "");
  }
}

async function watch() {
  for (;;) {
    await pause(root.dataset.state === "connected" ? 10000 : 2000);
    if (!document.hidden && root.dataset.state !== "ended") await look();
  }
}

async function power(action) {
  const question = { stop: words.sureStop, reset: words.sureReset }[action];
  if (question && !(await sure(question))) return;
  try {
    await call(root.dataset.powerUrl, { action });
    note(words.asked);
  } catch (error) {
    note(error.message);
  }
  for (const ms of [500, 1500]) {
    await pause(ms);
    await look();
  }
}

function sure(question) {
  const dialog = $("#console-sure");
  $(".dialog-text", dialog).textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
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
function view() {
  try {
    return localStorage.getItem("console-view") ?? "fit";
  } catch {
    return "fit";
  }
}

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

async function fullscreen() {
  if (document.fullscreenElement) return document.exitFullscreen();
  await root.requestFullscreen?.();
  await navigator.keyboard?.lock?.().catch(() => {}); // Alt+Tab and Esc go to the VM, where the browser allows it
  rfb?.focus();
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
  reconnect: () => ((attempt = 0), connect()),
  screenshot,
  type: typeText,
  typing: () => (resetTyping(), typing.focus()),
};

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { do: what, keys, hold: holds, view: mode, power: action } = button.dataset;
  if (keys) chord(keys.split("+"));
  if (holds) hold(button);
  if (action) {
    button.closest("[popover]")?.hidePopover();
    power(action);
  }
  if (mode) {
    try {
      localStorage.setItem("console-view", mode);
    } catch {
      // private browsing: for this page only
    }
    button.closest("[popover]")?.hidePopover();
    applyView();
  }
  if (what) DO[what]();
  if (what === "cad" || mode) rfb?.focus();
});
// A press on the toolbar must not take the phone's keyboard away.
$(".console-bar").addEventListener("pointerdown", (event) => document.activeElement === typing && event.preventDefault());
$("#console-view").addEventListener("beforetoggle", applyView);
window.addEventListener("online", () => root.dataset.state === "waiting" && connect());
window.addEventListener("pagehide", drop);

connect();
watch();
