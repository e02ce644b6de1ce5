// Keys as a PC's keyboard says them (scan codes, set 1): by the browser's name of the key (KeyboardEvent.code), and the key of each
// character on a US keyboard. An extended key has 0xe0 before it: here, 0x100 + its code.
const ROWS = {
  0x01: "Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace Tab",
  0x10: "KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter ControlLeft",
  0x1e: "KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote ShiftLeft Backslash",
  0x2c: "KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight NumpadMultiply AltLeft Space CapsLock",
  0x3b: "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd",
  0x4f: "Numpad1 Numpad2 Numpad3 NumpadDecimal",
  0x56: "IntlBackslash F11 F12",
  0x70: "KanaMode",
  0x73: "IntlRo",
  0x79: "Convert",
  0x7b: "NonConvert",
  0x7d: "IntlYen",
  0x11c: "NumpadEnter ControlRight",
  0x135: "NumpadDivide",
  0x137: "PrintScreen AltRight",
  0x147: "Home ArrowUp PageUp",
  0x14b: "ArrowLeft",
  0x14d: "ArrowRight",
  0x14f: "End ArrowDown PageDown Insert Delete",
  0x15b: "MetaLeft MetaRight ContextMenu",
};
const CODES = new Map();
for (const [first, names] of Object.entries(ROWS)) names.split(" ").forEach((name, i) => CODES.set(name, Number(first) + i));
CODES.set("Numpad0", 0x52);

/** The code of a key; undefined for one that no PC has. */
export const scancode = (name) => CODES.get(name);

const PLAIN = "1234567890-=qwertyuiop[]asdfghjkl;'`\\zxcvbnm,./ \n\t\b";
const SHIFTED = "!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"~|ZXCVBNM<>?";
const PLACES = [
  ...[0x02, 0x10, 0x1e, 0x2b, 0x2c].flatMap((first, row) => Array.from({ length: [12, 12, 12, 1, 10][row] }, (_, i) => first + i)),
  CODES.get("Space"), CODES.get("Enter"), CODES.get("Tab"), CODES.get("Backspace"),
];

/** The key of a character on a US keyboard, Shift apart; undefined when it has none. */
export function keyOf(character) {
  const at = PLAIN.indexOf(character);
  return PLACES[at >= 0 ? at : SHIFTED.indexOf(character)];
}
