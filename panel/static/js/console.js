// The screen of a VM that speaks VNC (noVNC). No inline script or style. Its toolbar: screen.js.
import { RFB, KeyTable, keysyms } from "../vendor/novnc.js";

import { $, $$, refuse, words } from "./console-link.js";
import { releaseHeld, shown, startScreen, view } from "./screen.js";

const canvasBox = $("[data-screen]");

let rfb = null;

// noVNC gets the socket, so that we see its close code.
function open(socket, current) {
  rfb = new RFB(canvasBox, socket, { shared: true });
  rfb.background = "#0b0e12";
  rfb.addEventListener("connect", () => current() && shown());
  rfb.addEventListener("credentialsrequired", () => refuse(words.passwordText));
  rfb.addEventListener("securityfailure", (event) => refuse(`${words.securityText} ${event.detail.reason ?? ""}`));
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

// name: [keysym, physical key]
const KEYS = {
  Ctrl: [KeyTable.XK_Control_L, "ControlLeft"], Alt: [KeyTable.XK_Alt_L, "AltLeft"],
  Shift: [KeyTable.XK_Shift_L, "ShiftLeft"], Super: [KeyTable.XK_Super_L, "MetaLeft"],
  Tab: [KeyTable.XK_Tab, "Tab"], Esc: [KeyTable.XK_Escape, "Escape"], Enter: [KeyTable.XK_Return, "Enter"],
  PrintScreen: [KeyTable.XK_Print, "PrintScreen"], C: [0x63, "KeyC"],
  Up: [KeyTable.XK_Up, "ArrowUp"], Down: [KeyTable.XK_Down, "ArrowDown"],
  Delete: [KeyTable.XK_Delete, "Delete"],
  Left: [KeyTable.XK_Left, "ArrowLeft"], Right: [KeyTable.XK_Right, "ArrowRight"],
};
for (let n = 1; n <= 6; n++) KEYS[`F${n}`] = [KeyTable.XK_F1 + n - 1, `F${n}`];

// A VNC server turns symbols into keys.
function keyFor(character) {
  const special = { "\n": KeyTable.XK_Return, "\t": KeyTable.XK_Tab, "\b": KeyTable.XK_BackSpace }[character];
  return special ?? keysyms.lookup(character.codePointAt(0));
}

function look() {
  if (rfb) {
    rfb.scaleViewport = view() !== "real";
    rfb.resizeSession = view() === "resize";
  }
  // noVNC has no public word for whether the server takes sizes (1.7)
  for (const button of $$('[data-view="resize"]')) button.disabled = rfb?._supportsSetDesktopSize === false;
}

startScreen({
  open,
  drop,
  keyFor,
  look,
  focus: () => rfb?.focus(),
  key: (name, down) => rfb?.sendKey(...KEYS[name], down),
  live: () => Boolean(rfb),
  picture: (take) => rfb?.toBlob(take, "image/png"),
  press: (symbol, down) => rfb?.sendKey(symbol, null, down),
});
