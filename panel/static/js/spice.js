// The screen of a VM that speaks SPICE (spice-html5). No inline script or style. Its toolbar: screen.js. All its channels go over the
// one websocket of the page; the frames are told of in panel/console/spice.py. Keyboard and pointer are ours: spice-html5 knows
// neither other layouts nor a picture that is scaled.
import { Constants, Messages, SpiceDisplayConn, SpiceMainConn, carry } from "../vendor/spice.js";

import { $, refuse, root, words } from "./console-link.js";
import { keyOf, scancode } from "./scancodes.js";
import { releaseHeld, shown, startScreen, view } from "./screen.js";

const box = $("[data-screen]");
const LAST_WORD_MS = 1000; // for the panel to say why it ends

let main = null;
let canvas = null;
let typing = false; // whether it takes keys

// ---- the line ----------------------------------------------------------------------------------------------------
class Line {
  #socket;
  #channels = [];

  constructor(socket) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => {
      const channel = this.#channels[new Uint8Array(data, 0, 1)[0]];
      if (data.byteLength > 1) channel?.hear(data.slice(1));
      else channel?.ended();
    });
  }

  open(channel) {
    this.#say({ open: this.#channels.push(channel) - 1 });
  }

  send(channel, data) {
    const framed = new Uint8Array(1 + data.byteLength);
    framed[0] = this.#channels.indexOf(channel);
    framed.set(new Uint8Array(data), 1);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(framed);
  }

  close(channel) {
    this.#say({ close: this.#channels.indexOf(channel) });
  }

  #say(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}

function open(socket, current) {
  socket.addEventListener("open", () => current() && begin(socket, current));
}

function begin(socket, current) {
  carry(new Line(socket));
  SpiceDisplayConn.prototype.hook_events = function () {
    if (current()) arrived(this.surfaces[this.primary_surface].canvas);
  };
  main = new SpiceMainConn({
    uri: socket.url, // of which it only makes the same for each channel
    password: "", // the host has let the panel in
    screen_id: box.id,
    onerror: () => {
      if (!current()) return;
      // What else a link may fail of passes: QEMU that is still busy with the viewer before.
      if (main?.auth_reply?.auth_code === Constants.SPICE_LINK_ERR_PERMISSION_DENIED) refuse(words.securityText);
      else setTimeout(() => socket.close(), LAST_WORD_MS);
    },
  });
}

function drop() {
  const old = main;
  main = canvas = null;
  typing = false;
  try {
    old?.stop();
  } catch {
    // it was never connected
  }
  box.replaceChildren();
  releaseHeld();
  down.clear();
}

// Theirs are hooked to the canvas; ours, to the box around it. begin() says what to do when there is a canvas.
SpiceDisplayConn.prototype.unhook_events = () => {};

// Of what the VM offers, what is seen and typed. No sound: the policy allows media from this site only.
const WANTED = [Constants.SPICE_CHANNEL_DISPLAY, Constants.SPICE_CHANNEL_INPUTS, Constants.SPICE_CHANNEL_CURSOR];
delete window.MediaSource; // or it would ask for films that it cannot show here
const process = SpiceMainConn.prototype.process_channel_message;
SpiceMainConn.prototype.process_channel_message = function (message) {
  const list = message.type === Constants.SPICE_MSG_MAIN_CHANNELS_LIST;
  if (list) message.data = wanted(message.data);
  const done = process.call(this, message);
  if (list) for (const part of [this.display, this.inputs, this.cursor]) if (part) part.onerror = this.onerror; // its end is the screen's
  if (list && this.inputs) listen(this.inputs);
  return done;
};

// What is typed before the VM's keyboard has said that it is there would be lost.
function listen(inputs) {
  const hear = inputs.process_channel_message;
  inputs.process_channel_message = function (message) {
    const done = hear.call(this, message);
    if (message.type === Constants.SPICE_MSG_INPUTS_INIT && main?.inputs === this) {
      typing = true;
      ready();
    }
    return done;
  };
}

// A number, and as many pairs of a type and an id: of each type, the first.
function wanted(data) {
  const pairs = [...new Uint16Array(data.slice(4))].filter((pair) => WANTED.includes(pair & 0xff) && pair >> 8 === 0);
  const out = new Uint16Array(2 + pairs.length);
  out[0] = pairs.length;
  out.set(pairs, 2);
  return out.buffer;
}

// ---- the view ----------------------------------------------------------------------------------------------------
function arrived(made) {
  canvas = made;
  canvas.tabIndex = 0;
  canvas.setAttribute("aria-label", root.dataset.label);
  ready();
}

function ready() {
  look();
  if (canvas && typing) shown();
}

function look() {
  if (!canvas) return;
  const room = Math.min(box.clientWidth / canvas.width, box.clientHeight / canvas.height);
  const scale = view() === "real" ? 1 : room;
  canvas.style.width = `${Math.floor(canvas.width * scale)}px`;
  canvas.style.height = `${Math.floor(canvas.height * scale)}px`;
}
new ResizeObserver(look).observe(box);

// ---- keys --------------------------------------------------------------------------------------------------------
function say(type, message) {
  if (main?.inputs?.state !== "ready") return;
  const data = new Messages.SpiceMiniData();
  data.build_msg(type, message);
  main.inputs.send_msg(data);
}

const down = new Set();

function press(code, isDown) {
  if (isDown) down.add(code);
  else down.delete(code);
  const last = (code & 0xff) | (isDown ? 0 : 0x80);
  const message = new Messages.SpiceMsgcKeyDown();
  message.code = code & 0x100 ? 0xe0 | (last << 8) : last;
  say(isDown ? Constants.SPICE_MSGC_INPUTS_KEY_DOWN : Constants.SPICE_MSGC_INPUTS_KEY_UP, message);
}

function typed(event) {
  const code = scancode(event.code);
  if (!code || event.target !== canvas) return;
  event.preventDefault();
  press(code, event.type === "keydown");
}
box.addEventListener("keydown", typed);
box.addEventListener("keyup", typed);
// What is held when the keyboard goes elsewhere would stay held.
box.addEventListener("focusout", () => [...down].forEach((code) => press(code, false)));

const NAMES = {
  Ctrl: "ControlLeft", Alt: "AltLeft", Shift: "ShiftLeft", Super: "MetaLeft", Esc: "Escape", C: "KeyC",
  Up: "ArrowUp", Down: "ArrowDown", Left: "ArrowLeft", Right: "ArrowRight",
};

// ---- the pointer -------------------------------------------------------------------------------------------------
const { SPICE_MOUSE_MODE_CLIENT, SPICE_INPUT_MOTION_ACK_BUNCH: BUNCH } = Constants;
const mask = (buttons) => (buttons & 1) | ((buttons & 4) >> 1) | ((buttons & 2) << 1); // right and middle change places

function moved(event) {
  const inputs = main?.inputs;
  if (!canvas || !inputs) return;
  const absolute = main.mouse_mode === SPICE_MOUSE_MODE_CLIENT;
  const message = absolute ? new Messages.SpiceMsgcMousePosition(main, null) : new Messages.SpiceMsgcMouseMotion(main, null);
  const edge = canvas.getBoundingClientRect();
  const at = (place, size, pixels) => Math.min(Math.max(Math.floor((place / size) * pixels), 0), pixels - 1);
  message.x = absolute ? at(event.clientX - edge.left, edge.width, canvas.width) : event.movementX;
  message.y = absolute ? at(event.clientY - edge.top, edge.height, canvas.height) : event.movementY;
  message.buttons_state = mask(event.buttons);
  inputs.waiting_for_ack++;
  say(absolute ? Constants.SPICE_MSGC_INPUTS_MOUSE_POSITION : Constants.SPICE_MSGC_INPUTS_MOUSE_MOTION, message);
}

function button(number, buttons, isDown) {
  const message = isDown ? new Messages.SpiceMsgcMousePress() : new Messages.SpiceMsgcMouseRelease();
  message.button = number;
  message.buttons_state = buttons;
  say(isDown ? Constants.SPICE_MSGC_INPUTS_MOUSE_PRESS : Constants.SPICE_MSGC_INPUTS_MOUSE_RELEASE, message);
}

box.addEventListener("pointermove", (event) => {
  if ((main?.inputs?.waiting_for_ack ?? 0) < 2 * BUNCH) moved(event); // else the VM is behind: it hears where it is later
});
for (const kind of ["pointerdown", "pointerup"]) {
  box.addEventListener(kind, (event) => {
    if (event.target !== canvas) return;
    event.preventDefault();
    if (kind === "pointerdown") {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
    }
    moved(event);
    button(event.button + 1, mask(event.buttons), kind === "pointerdown");
  });
}
box.addEventListener("contextmenu", (event) => event.preventDefault());
box.addEventListener("wheel", (event) => {
  event.preventDefault();
  const number = event.deltaY < 0 ? Constants.SPICE_MOUSE_BUTTON_UP : Constants.SPICE_MOUSE_BUTTON_DOWN;
  for (const isDown of [true, false]) button(number, 0, isDown);
}, { passive: false });

startScreen({
  open,
  drop,
  look,
  press,
  keyFor: (character) => keyOf(character) ?? null,
  focus: () => canvas?.focus({ preventScroll: true }),
  key: (name, isDown) => press(scancode(NAMES[name] ?? name), isDown),
  live: () => Boolean(canvas),
  picture: (take) => canvas?.toBlob(take, "image/png"),
  stays: true,
});
