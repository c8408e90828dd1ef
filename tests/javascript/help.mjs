// What the tests share: a client closed at the end, a wait with a deadline, a WebSocket of wood, a faulty cable.

import { createConnection, createServer } from "node:net";
import { Client } from "../../transports/rpckit_websocket/rpckit.js";

export const PEER = process.env.RPCKIT_TEST_JS_URL; // of a server with the service `js`

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A client that is closed when the test ends. */
export function connect(test, url = PEER, options = {}) {
  if (!url) throw new Error("RPCKIT_TEST_JS_URL is to be the URL of a server with the service js");
  const client = new Client(url, options);
  test.after(() => client.close());
  return client;
}

/** Until `condition()`, or an error after `ms`. */
export async function until(condition, ms = 3_000) {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`still not ${condition}`);
    await sleep(5);
  }
}

/** What `console.error` would have printed during this test. */
export function silenceConsole(test) {
  return test.mock.method(console, "error", () => {}).mock;
}

/** A WebSocket without a network. The test plays the other side: `open()`, `receive(message)`, `shut(code)`. */
export class FakeSocket {
  static all = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];

  constructor() {
    FakeSocket.all.push(this);
  }

  static get last() {
    return FakeSocket.all.at(-1);
  }

  /** Frames sent, without the heartbeat. */
  get messages() {
    return this.sent.map((text) => JSON.parse(text)).filter(({ method }) => method !== "rpc.ping");
  }

  send(text) {
    if (this.readyState !== 1) throw new Error(`sent in state ${this.readyState}`);
    this.sent.push(text);
  }

  close(code = 1005) {
    this.shut(code);
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  receive(message) {
    this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  shut(code, reason = "") {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose({ code, reason });
  }
}

/** A client on a FakeSocket that is open, and that socket. */
export function fake(test, options = {}) {
  const client = connect(test, "ws://nowhere/ws", { WebSocket: FakeSocket, heartbeat: null, ...options });
  const socket = FakeSocket.last;
  socket.open();
  return { client, socket };
}

/** A TCP cable to the peer: `cut()` resets what is connected, `freeze()` passes nothing, `refusing` takes nobody. */
export class Cable {
  #pairs = new Set();
  #server = createServer((near) => this.#join(near));
  frozen = false;
  refusing = false;

  static async to(url, test) {
    const cable = new Cable();
    cable.peer = new URL(url);
    await new Promise((resolve) => cable.#server.listen(0, "127.0.0.1", resolve));
    test.after(() => cable.end());
    return cable;
  }

  get url() {
    return `ws://127.0.0.1:${this.#server.address().port}${this.peer.pathname}`;
  }

  get connected() {
    return this.#pairs.size;
  }

  cut() {
    for (const pair of this.#pairs) for (const side of pair) side.resetAndDestroy();
  }

  freeze() {
    this.frozen = true;
  }

  thaw() {
    this.frozen = false;
  }

  end() {
    this.cut();
    this.#server.close();
  }

  #join(near) {
    if (this.refusing) return near.resetAndDestroy();
    const far = createConnection(this.peer.port, this.peer.hostname);
    const pair = [near, far];
    this.#pairs.add(pair);
    near.on("data", (bytes) => this.frozen || far.write(bytes));
    far.on("data", (bytes) => this.frozen || near.write(bytes));
    for (const side of pair) {
      side.on("error", () => {});
      side.on("close", () => this.#part(pair));
    }
  }

  #part(pair) {
    this.#pairs.delete(pair);
    for (const side of pair) side.destroy();
  }
}
