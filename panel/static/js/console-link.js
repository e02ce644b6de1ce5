// What the screen (console.js) and the terminal (terminal.js) of a VM share: the words on the page, talking to the panel,
// staying connected, the VM's state and its power buttons. URLs come from the data attributes of #console.
export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const root = $("#console");
export const words = $("#console-words").dataset;

const STEPS = [500, 1000, 2000, 4000, 8000, 15000, 30000]; // back-off between attempts, ms
const CLOSED = 410; // the VM's side ended
const csrf = () => $('meta[name="csrf-token"]')?.content ?? "";

// The side that shows something: open(socket) when there is one, drop() when it is over; query(): more for the socket's URL,
// needs: buttons that work while connected; stays: whether an end of the VM's side is an end for us (a shell that was left).
let side = null;
let attempt = 0;
let retryTimer = 0;
let generation = 0; // of connections: what an old one still says is ignored
let refusal = ""; // what the screen itself said against us

export const state = () => root.dataset.state;

export function show(now, title = "", text = "") {
  root.dataset.state = now;
  $(".console-link-text").textContent = words[now] ?? "";
  $("#console-link").title = words[now] ?? "";
  $(".console-message-title").textContent = title;
  $(".console-message-text").textContent = text;
  for (const button of $$("[data-when]")) button.hidden = !button.dataset.when.split(" ").includes(now);
  for (const name of side.needs) for (const button of $$(`[data-do="${name}"]`)) button.disabled = now !== "connected";
}

let noteTimer = 0;
export function note(text) {
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
export async function connect(more = {}) {
  clearTimeout(retryTimer);
  const mine = ++generation;
  side.drop();
  refusal = "";
  show("connecting", words.connecting);
  let ticket;
  try {
    ({ ticket } = await call(root.dataset.ticketUrl, { kind: root.dataset.kind }));
  } catch (error) {
    if (mine === generation) failed(error.status, error.message);
    return;
  }
  if (mine !== generation) return;
  const url = new URL(root.dataset.socketUrl, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ ...side.query?.(), ...more });
  // The ticket is a subprotocol: a URL would be written to logs.
  const socket = new WebSocket(url, ["binary", `ticket.${ticket}`]);
  socket.addEventListener("close", (event) => mine === generation && failed(event.code - 4000, event.reason));
  side.open(socket, () => mine === generation);
}

export function again() {
  attempt = 0;
  connect();
}

export function connected() {
  attempt = 0;
  show("connected");
}

/** End it for good, with what the VM's side has against us. */
export function refuse(text) {
  refusal = text;
  side.drop();
}

// status: as of HTTP; a websocket's close code is 4000 + that. Anything else means: try again.
function failed(status, reason) {
  side.drop();
  if (status === 401 || status === 403) return show("ended", words.ended, words.endedText);
  if (status === 404) return show("ended", words.ended, words.goneText);
  if (refusal) return show("ended", words.ended, refusal);
  if (status === CLOSED && side.stays) {
    show("closed", words.ended, reason);
    return look();
  }
  show("waiting", words.waiting, [reason, words.waitingText].filter(Boolean).join(" "));
  for (const button of $$("[data-taken]")) button.hidden = status !== 423;
  const wait = STEPS[Math.min(attempt++, STEPS.length - 1)] * (0.75 + Math.random() / 2);
  retryTimer = setTimeout(connect, wait);
  look();
}

function off() {
  clearTimeout(retryTimer);
  generation++;
  side.drop();
  show("off", words.off, words.offText);
}

// ---- the VM's state ----------------------------------------------------------------------------------------------
async function look() {
  let seen;
  try {
    seen = await call(root.dataset.stateUrl);
  } catch (error) {
    if (error.status === 401 && state() !== "connected") failed(401, "");
    return;
  }
  for (const [action, why] of Object.entries(seen.power)) {
    for (const button of $$(`[data-power="${action}"]`)) {
      button.disabled = Boolean(why);
      button.title = why ?? "";
    }
  }
  const lost = ["waiting", "closed"].includes(state());
  if (state() === "off" && ["running", "suspended"].includes(seen.state)) again();
  else if (lost && ["stopped", "crashed"].includes(seen.state)) off();
  else if (lost && seen.state === "missing") failed(404, "");
}

// Every ten seconds while all is well, every two while not: also when that turns within the ten.
async function watch() {
  for (let rested = 2000; ; rested += 2000) {
    await pause(2000);
    if (state() === "connected" && rested < 10000) continue;
    rested = 0;
    if (!document.hidden && state() !== "ended") await look();
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

// ---- the page ----------------------------------------------------------------------------------------------------
export async function fullscreen() {
  if (document.fullscreenElement) return document.exitFullscreen();
  await root.requestFullscreen?.();
  await navigator.keyboard?.lock?.().catch(() => {}); // Alt+Tab and Esc go to the VM, where the browser allows it
  side.focus();
}

/** Kept for the next visit; in private browsing, for this page only. */
const choices = {};
export function choice(name, fallback) {
  try {
    return localStorage.getItem(name) ?? fallback;
  } catch {
    return choices[name] ?? fallback;
  }
}

export function choose(name, value) {
  choices[name] = value;
  try {
    localStorage.setItem(name, value);
  } catch {
    // it is in `choices`
  }
}

/** Begin. `made`: the side; `pressed(button)` hears of every button of the console's. */
export function start(made, pressed) {
  side = made;
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.power) {
      button.closest("[popover]")?.hidePopover();
      power(button.dataset.power);
    }
    pressed(button);
  });
  window.addEventListener("online", () => state() === "waiting" && connect());
  window.addEventListener("pagehide", () => side.drop());
  connect();
  watch();
}
