// Entry of the one noVNC bundle: the client, the key symbols by name, and the code-point to keysym lookup
// (for pasting text as keystrokes).
export { default, default as RFB } from "./core/rfb.js";
export { default as KeyTable } from "./core/input/keysym.js";
export { default as keysyms } from "./core/input/keysymdef.js";
