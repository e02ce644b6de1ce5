// Stands for the global WebSocket within spice-html5, which opens one for each channel: here, each is a channel of the page's one
// websocket. What that carries: panel/console/spice.py. Who carries it: js/spice.js.
let line = null;

/** From now on, channels are of `made`: {open(channel), send(channel, bytes), close(channel)}. */
export function carry(made) {
  line = made;
}

export class WebSocket extends EventTarget {
  binaryType = "arraybuffer";
  readyState = 0;
  url;
  #line = line;

  constructor(url) {
    super();
    this.url = url;
    this.#line.open(this);
    queueMicrotask(() => {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.dispatchEvent(new Event("open"));
    });
  }

  send(data) {
    if (this.readyState === 1) this.#line.send(this, data);
  }

  /** We hang up: nobody is told. */
  close() {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.#line.close(this);
  }

  /** What came for it. */
  hear(data) {
    if (this.readyState !== 3) this.dispatchEvent(new MessageEvent("message", { data }));
  }

  /** The other side hung up. */
  ended() {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.dispatchEvent(new Event("close"));
  }
}
