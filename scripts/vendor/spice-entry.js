// Entry of the one spice-html5 bundle: the client, what it says to the VM, and our websocket in place of the browser's.
export { Constants } from "./src/enums.js";
export { SpiceDisplayConn } from "./src/display.js";
export { SpiceMainConn } from "./src/main.js";
export * as Messages from "./src/spicemsg.js";
export { carry } from "./spice-socket.js";
