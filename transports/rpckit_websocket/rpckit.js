// @ts-check
/**
 * A client of rpckit over one WebSocket: JSON-RPC 2.0 in text frames, calls both ways, events.
 *
 * Invariant: every call ends once, in a result or in one error, no later than its time; tables and buffers are bounded.
 *
 *     RpcError               the other side answered with an error
 *     ├─ NotSent             nothing was sent: not connected in time, refused, too many pending, too much unsent
 *     ├─ ConnectionLost      it was sent and may have run
 *     └─ DeadlineExceeded    it was sent and may have run
 *
 * Follows jsonrpc.org/specification; `$/cancelRequest` and -32800 are the Language Server Protocol's.
 * Times are milliseconds; null means for ever. No dependencies, no build step; browsers and Node.
 */

const FIRST_RETRY_MS = 50; // a server that restarts is back soon
const MOST_RETRY_MS = 500; // while it may still be restarting: people are waiting
const PATIENCE_MS = 300_000; // after five minutes it is an outage, not a restart
const MOST_RETRY_LATER_MS = 5_000; // then: cheap for both sides, and soon enough once it is back
const STEADY_MS = 1_000; // a connection shorter than this does not reset the back-off: accept-and-drop must not spin
const GRACE = 0.1; // of a heartbeat: for frames that have come and are not read yet
const DIAL_MS = 10_000; // a host that takes the connection and never answers the handshake
const CLOSE_WAIT_MS = 1_000; // for the other half of the closing handshake; a half-open link never sends it
const MAX_PENDING = 16_384; // calls sent and not answered; as many may wait for a connection
const MAX_RUNNING = 1_024; // methods the other side has running here
const MAX_UNSENT_BYTES = 8 * 1024 * 1024; // in the socket's own buffer: the other side does not read
const MAX_TIMER_MS = 2 ** 31 - 1; // setTimeout fires at once above it
const REFUSED = new Set([1008, 4401, 4403]); // close codes: policy, unauthorized, forbidden; dialling again cannot help

const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;
const METHOD_NOT_FOUND = -32601;
const INTERNAL_ERROR = -32603;
const CANCELLED = -32800;
const OVERLOADED = -32000; // of the range left to servers: it did not run
const RESERVED = /^(rpc\.|\$\/)/; // method names of the protocol's own

/**
 * @typedef {any[] | Record<string, any>} Params  positional or by name
 * @typedef {"connecting" | "connected" | "reconnecting" | "closed"} State
 * @typedef {{ signal: AbortSignal, client: Client }} Context  `this` of a method that the other side calls
 * @typedef {Record<string, (this: Context, ...params: any[]) => any>} Methods
 * @typedef {new (url: string | URL) => WebSocket} WebSocketConstructor
 * @typedef {{ timeout?: number | null, signal?: AbortSignal }} CallOptions
 *
 * @typedef {object} Options
 * @property {number | null} [timeout]    for each call; 30,000
 * @property {number | null} [sendWait]   how long a call waits for a connection before NotSent; 5,000
 * @property {number | null} [heartbeat]  a half-open link is found within two of these; null: never; 10,000
 * @property {Methods} [methods]          what the other side may call; see `Client.expose`
 * @property {(client: Client) => any} [onConnect]   after each connect
 * @property {(why: string) => any} [onDisconnect]   once for each onConnect
 * @property {WebSocketConstructor} [WebSocket]      globalThis.WebSocket
 */

/** An error the other side answered with; thrown in a method, the error the other side gets. */
export class RpcError extends Error {
  name = "RpcError";

  /**
   * @param {string} message
   * @param {{ code?: number | null, data?: any }} [more]  code: null on errors that did not come from the other side
   */
  constructor(message, { code = null, data } = {}) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

/** Nothing was sent; calling again is safe. */
export class NotSent extends RpcError {
  name = "NotSent";
}

/** The connection dropped while the call was pending; it may have run. */
export class ConnectionLost extends RpcError {
  name = "ConnectionLost";
}

/** No reply came within the call's time; it may have run. */
export class DeadlineExceeded extends RpcError {
  name = "DeadlineExceeded";
}

/** One server, found again whenever it is lost. Dials at once; use it without waiting, or wait with `ready()`. */
export class Client {
  #pending = /** @type {Map<any, Outcome>} */ (new Map()); // by id; each leaves when it ends
  #waiting = /** @type {Set<Outcome>} */ (new Set()); // for a connection
  #running = /** @type {Map<any, AbortController>} */ (new Map()); // methods called by the other side, by their id
  #methods = /** @type {Map<string, Function>} */ (new Map());
  #listeners = /** @type {Map<string, Set<Function>>} */ (new Map()); // by topic
  #ids = new Ids();
  #lateReplies = 0;
  #options;
  #link;

  /**
   * @param {string | URL} url
   * @param {Options} [options]
   * @throws {TypeError} there is no WebSocket here; {RangeError} a time is not one; {SyntaxError} the URL is not one
   */
  constructor(url, { timeout = 30_000, sendWait = 5_000, heartbeat = 10_000, methods = {}, ...options } = {}) {
    this.#options = {
      timeout: milliseconds("timeout", timeout),
      sendWait: milliseconds("sendWait", sendWait),
      onConnect: options.onConnect ?? (() => {}),
      onDisconnect: options.onDisconnect ?? (() => {}),
    };
    this.#methods.set("rpc.ping", () => "pong");
    this.#methods.set("rpc.event", (event) => this.#event(event));
    this.#methods.set("$/cancelRequest", (params) => this.#cancel(params?.id));
    this.expose(methods);
    this.#link = new Link(url, options.WebSocket ?? globalThis.WebSocket, milliseconds("heartbeat", heartbeat), {
      opened: () => this.#opened(),
      received: (text, answer) => this.#received(text, answer),
      lost: (why) => this.#lost(why),
      closed: (why) => this.#end(this.#waiting, new NotSent(why)),
      ping: () => encode({ id: this.#ids.ping(), method: "rpc.ping" }),
    });
  }

  /** @returns {State} */
  get state() {
    return this.#link.state;
  }

  /** Calls sent and not yet ended. */
  get pending() {
    return this.#pending.size;
  }

  /** Replies that came after their call had ended. */
  get lateReplies() {
    return this.#lateReplies;
  }

  /** Methods of the other side: `client.other.fib(30)` calls "fib". */
  get other() {
    return proxy(this, "");
  }

  /** Methods of a service: `client.at("rpc_queue").fib(30)` calls "rpc_queue.fib". @param {string} service */
  at(service) {
    return proxy(this, `${service}.`);
  }

  /**
   * Resolves once there is a connection; rejects with NotSent when there is none in time, or never will be.
   * @param {number | null} [timeout]
   * @returns {Promise<void>}
   */
  async ready(timeout = this.#options.sendWait) {
    await this.#connected(milliseconds("timeout", timeout));
  }

  /**
   * The result of a method of the other side. Ends once: in the result, an RpcError, NotSent, ConnectionLost,
   * DeadlineExceeded or the signal's reason. Giving up tells the other side; what is late then is counted.
   * @param {string} method
   * @param {Params} [params]
   * @param {CallOptions} [options]  timeout includes the wait for a connection
   * @returns {Promise<any>}
   */
  async call(method, params = [], { timeout = this.#options.timeout, signal } = {}) {
    const ms = milliseconds("timeout", timeout);
    const until = performance.now() + ms;
    const id = this.#ids.next();
    const text = request(method, params, id);
    signal?.throwIfAborted();
    if (!this.#link.open) await this.#connected(Math.min(this.#options.sendWait, ms), signal);
    signal?.throwIfAborted();
    const late = () => new DeadlineExceeded(`${method}: no reply within ${ms} ms`);
    return this.#ask(id, text, { ms: until - performance.now(), signal, late });
  }

  /**
   * Resolves when written: at most once, no reply. Rejects with NotSent.
   * @param {string} method
   * @param {Params} [params]
   * @returns {Promise<void>}
   */
  async notify(method, params = []) {
    const text = request(method, params);
    if (!this.#link.open) await this.#connected(this.#options.sendWait);
    this.#link.send(text);
  }

  /**
   * More methods for the other side to call: own functions of an object, by exact name. An array of params is spread;
   * an object is one argument. `this` is `{ signal, client }`; the signal fires when the caller cancels or is gone,
   * and the caller is answered then. An arrow function has no such `this`. An RpcError thrown travels, with its code
   * (-32603 without one); of any other error the caller learns "internal error", and the console the rest.
   * @param {Methods} methods
   */
  expose(methods) {
    for (const [name, method] of Object.entries(methods)) {
      if (typeof method !== "function") throw new TypeError(`expose: ${name} is not a function`);
      if (RESERVED.test(name)) throw new TypeError(`expose: ${name} is a name of the protocol; choose another`);
      this.#methods.set(name, method);
    }
  }

  /**
   * Listen to a topic, or to all that a pattern matches (`*`: one word, `#`: any number of them), again after each reconnect; what is sent in between is missed. A subscription that the
   * server refuses is an error on the console.
   * @param {string} topic
   * @param {(...params: any[]) => any} listener
   * @returns {() => void} stops listening
   */
  on(topic, listener) {
    const known = this.#listeners.get(topic);
    const listeners = known ?? new Set();
    this.#listeners.set(topic, listeners.add(listener));
    if (!known && this.#link.open) this.#subscribe(topic);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(topic) === listeners) this.#listeners.delete(topic);
    };
  }

  /** Publish to a topic. Resolves when written, as `notify`. @param {string} topic @param {any[]} params */
  emit(topic, ...params) {
    return this.notify("rpc.emit", { topic, params });
  }

  /** Calls pending end in ConnectionLost, calls waiting in NotSent. Resolves when closed, within a second. */
  close() {
    return this.#link.close();
  }

  // --- calls of ours ---

  async #connected(ms, signal) {
    const { state, why, place } = this.#link;
    if (this.#link.open) return;
    if (state === "closed") throw new NotSent(why);
    if (this.#waiting.size >= MAX_PENDING) throw new NotSent(`${MAX_PENDING} calls wait for ${place} already`);
    const late = () => new NotSent(`no connection to ${place} within ${ms} ms; the last try: ${this.#link.why}`);
    const outcome = new Outcome({ ms, signal, late, ended: () => this.#waiting.delete(outcome) });
    this.#waiting.add(outcome);
    await outcome.promise;
  }

  #ask(id, text, end) {
    if (this.#pending.size >= MAX_PENDING) throw new NotSent(`${MAX_PENDING} calls are pending; wait for some to end`);
    this.#link.send(text); // a reply cannot come before this turn of the loop ends
    const gaveUp = () => this.notify("$/cancelRequest", { id }).catch(() => {}); // nobody can be told any more
    const outcome = new Outcome({ ...end, gaveUp, ended: () => this.#pending.delete(id) });
    this.#pending.set(id, outcome);
    return outcome.promise;
  }

  #settle({ id, result, error }) {
    if (this.#ids.isPing(id)) return;
    const call = this.#pending.get(id);
    if (!call) this.#lateReplies += 1;
    else if (error) call.reject(new RpcError(String(error.message), { code: error.code, data: error.data }));
    else call.resolve(result);
  }

  // --- the connection ---

  #opened() {
    for (const topic of this.#listeners.keys()) this.#subscribe(topic);
    for (const outcome of this.#waiting) outcome.resolve();
    guarded(() => this.#options.onConnect(this));
  }

  #lost(why) {
    this.#end(this.#pending.values(), new ConnectionLost(why));
    for (const running of this.#running.values()) running.abort(new ConnectionLost(why));
    guarded(() => this.#options.onDisconnect(why));
  }

  #end(outcomes, error) {
    for (const outcome of outcomes) outcome.reject(error);
  }

  #subscribe(topic) {
    this.call("rpc.subscribe", [topic]).catch((error) => {
      if (error instanceof ConnectionLost) return; // the next connection subscribes again
      console.error(`rpckit: not subscribed to ${topic}:`, error);
    });
  }

  // --- calls of theirs ---

  /** One frame. */
  async #received(text, answer) {
    const message = parse(text);
    if (message === undefined) return answer(fault(null, PARSE_ERROR, "invalid JSON"));
    const batch = Array.isArray(message) && message.length > 0; // an empty one is an invalid request
    const messages = batch ? message : [message];
    const answers = (await Promise.all(messages.map((each) => this.#take(each)))).filter(Boolean);
    if (answers.length > 0) answer(batch ? `[${answers.join(",")}]` : /** @type {string} */ (answers[0]));
  }

  /** One request, notification or response; the answer, encoded, if it wants one. */
  async #take(message) {
    if (isResponse(message)) return this.#settle(message);
    if (!isRequest(message)) return fault(isId(message?.id) ? message.id : null, INVALID_REQUEST, "invalid request");
    const answer = await this.#serve(message);
    return "id" in message ? answer : undefined;
  }

  async #serve({ id, method: name, params = [] }) {
    const method = this.#methods.get(name);
    if (!method) return fault(id, METHOD_NOT_FOUND, `no method ${name.slice(0, 200)}`);
    const full = this.#running.size >= MAX_RUNNING || this.#link.clogged;
    if (full && !RESERVED.test(name)) return fault(id, OVERLOADED, "overloaded: it did not run");
    const key = id ?? Symbol(name); // notifications are told apart by nothing else
    if (this.#running.has(key)) return fault(id, INVALID_REQUEST, "this id is in flight");
    return this.#run(id, key, method, params);
  }

  async #run(id, key, method, params) {
    const abort = new AbortController();
    const { signal } = abort;
    this.#running.set(key, abort);
    try {
      const gone = aborted(signal); // listens before the method can: a cancelled method that throws is still cancelled
      const result = await Promise.race([gone, invoke(method, { signal, client: this }, params)]);
      return encode({ id, result: result ?? null });
    } catch (error) {
      if (error instanceof RpcError) return fault(id, error.code ?? INTERNAL_ERROR, error.message, error.data);
      console.error("rpckit: a method failed:", error);
      return fault(id, INTERNAL_ERROR, "internal error");
    } finally {
      this.#running.delete(key);
    }
  }

  #cancel(id) {
    this.#running.get(id)?.abort(new RpcError("cancelled", { code: CANCELLED }));
  }

  #event(event) {
    const params = event?.params ?? [];
    if (typeof event?.topic !== "string") return;
    for (const [topic, listeners] of this.#listeners) {
      if (!hears(topic, event.topic)) continue;
      for (const listener of listeners) guarded(() => invoke(listener, this, params));
    }
  }
}

/** Whether who listens to `pattern` hears what is told on `topic`. @param {string} pattern @param {string} topic */
function hears(pattern, topic) {
  if (pattern === topic) return true;
  /** @type {(wanted: string[], words: string[]) => boolean} */
  const fits = ([wanted, ...more], words) => {
    if (wanted === undefined) return words.length === 0;
    if (wanted === "#") return words.some((_, at) => fits(more, words.slice(at))) || fits(more, []);
    return words.length > 0 && (wanted === "*" || wanted === words[0]) && fits(more, words.slice(1));
  };
  return /(^|\.)[*#](\.|$)/.test(pattern) && fits(pattern.split("."), topic.split("."));
}

/** One WebSocket after another: dialling, back-off, heartbeat. Knows no JSON-RPC; hands frames on while connected. */
class Link {
  /** @type {State} */ state = "connecting";
  why = "still dialling"; // there is no connection
  #socket = /** @type {WebSocket | null} */ (null); // what an older one still says is not heard
  #attempt = 0;
  #lostAt = performance.now();
  #openedAt = Infinity;
  #heard = false; // since the last ping
  #timer; // of the dial, the heartbeat or the retry: there is one at a time
  #closing = /** @type {Promise<void> | null} */ (null);

  /**
   * @param {string | URL} url
   * @param {WebSocketConstructor | undefined} WebSocket
   * @param {number} heartbeat
   * @param {{ opened(): void, received(text: string, answer: (text: string) => void): void, lost(why: string): void,
   *           closed(why: string): void, ping(): string }} owner
   */
  constructor(url, WebSocket, heartbeat, owner) {
    if (!WebSocket) throw new TypeError("no WebSocket here: pass options.WebSocket, or node --experimental-websocket");
    this.url = url;
    this.place = String(url).replace(/\/\/[^/]*@/, "//").replace(/[?#].*/s, ""); // no secrets in errors
    this.WebSocket = WebSocket;
    this.heartbeat = heartbeat;
    this.owner = owner;
    this.#dial();
  }

  /** Whether what is sent now has a chance; false, too, while the closing handshake runs. */
  get open() {
    return this.state === "connected" && this.#socket?.readyState === 1;
  }

  get clogged() {
    return (this.#socket?.bufferedAmount ?? 0) > MAX_UNSENT_BYTES;
  }

  /** Written to the socket's buffer. @param {string} text @throws {NotSent} */
  send(text) {
    if (!this.open) throw new NotSent(`not connected to ${this.place}: ${this.why}`);
    if (this.clogged) throw new NotSent(`${this.place} does not read: over ${MAX_UNSENT_BYTES} bytes are unsent`);
    this.#socket?.send(text);
  }

  close() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #dial() {
    const socket = new this.WebSocket(this.url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(socket, `no handshake within ${DIAL_MS} ms`), DIAL_MS);
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = ({ data }) => this.#received(socket, data);
    socket.onerror = () => this.#lost(socket, "the connection failed"); // not every WebSocket says `close` then
    socket.onclose = ({ code, reason }) => this.#lost(socket, `closed with ${code} ${reason}`.trim(), code);
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#timer);
    this.state = "connected";
    this.#openedAt = performance.now();
    this.#ping(socket); // also says, before the server has to ask, that this is JSON-RPC
    this.owner.opened();
  }

  #received(socket, text) {
    if (socket !== this.#socket) return;
    this.#heard = true;
    this.owner.received(text, (answer) => {
      if (socket.readyState === 1) socket.send(answer); // else nobody waits for it any more
    });
  }

  #ping(socket) {
    this.#heard = false;
    if (socket.readyState === 1) socket.send(this.owner.ping());
    if (this.heartbeat === Infinity) return;
    // In two steps: a loop that was blocked through the first reads what came meanwhile before the second judges.
    const grace = this.heartbeat * GRACE;
    const judge = () => (this.#heard ? this.#ping(socket) : this.#lost(socket, `silent for ${this.heartbeat} ms`));
    this.#timer = setTimeout(() => (this.#timer = setTimeout(judge, grace)), this.heartbeat - grace);
  }

  #lost(socket, why, code = 1006) {
    if (socket !== this.#socket) return;
    this.why = `${this.place}: ${why}`;
    const refused = REFUSED.has(code);
    const wasConnected = this.#leave(refused ? "closed" : "reconnecting");
    socket.close();
    if (!refused) this.#retry(wasConnected);
    if (wasConnected) this.owner.lost(this.why);
    if (refused) this.owner.closed(this.why);
  }

  /** No socket and no timer from here on; whether it was connected. */
  #leave(state) {
    const wasConnected = this.state === "connected";
    this.state = wasConnected || state === "closed" ? state : this.state;
    this.#socket = null;
    clearTimeout(this.#timer);
    return wasConnected;
  }

  #retry(wasConnected) {
    const now = performance.now();
    if (wasConnected && now - this.#openedAt >= STEADY_MS) [this.#attempt, this.#lostAt] = [0, now];
    this.#timer = setTimeout(() => this.#dial(), backoff(this.#attempt++, now - this.#lostAt, Math.random()));
  }

  async #close() {
    const socket = this.#socket;
    if (this.state !== "closed") this.why = `${this.place}: closed by close()`;
    if (this.#leave("closed")) this.owner.lost(this.why);
    this.owner.closed(this.why);
    if (socket) await closed(socket);
  }
}

/** A promise that ends once: by a value, an error, its time or its signal. `gaveUp` runs after the last two. */
class Outcome {
  #settle;
  #timer;
  #options;
  #aborted = () => this.#giveUp(this.#options.signal?.reason);

  /** @param {{ ms: number, signal?: AbortSignal, late(): Error, ended(): void, gaveUp?(): void }} options */
  constructor(options) {
    this.#options = options;
    this.promise = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    if (options.ms !== Infinity) this.#timer = setTimeout(() => this.#giveUp(options.late()), options.ms);
    options.signal?.addEventListener("abort", this.#aborted);
  }

  resolve(value) {
    this.#end();
    this.#settle.resolve(value);
  }

  reject(error) {
    this.#end();
    this.#settle.reject(error);
  }

  #end() {
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener("abort", this.#aborted);
    this.#options.ended();
  }

  #giveUp(error) {
    this.reject(error);
    this.#options.gaveUp?.();
  }
}

/** Ids that no other client uses and nobody guesses. */
class Ids {
  // getRandomValues, not randomUUID: a page without TLS has only that
  #prefix = Array.from(crypto.getRandomValues(new Uint8Array(12)), hex).join("");
  #count = 0;

  next() {
    return `${this.#prefix}-${(this.#count++).toString(36)}`;
  }

  ping() {
    return `ping-${this.next()}`;
  }

  /** @param {any} id */
  isPing(id) {
    return typeof id === "string" && id.startsWith(`ping-${this.#prefix}`);
  }
}

/**
 * How long to wait before dialling again; up to half is taken away, so that clients do not come in step.
 * @param {number} attempt  0 for the first
 * @param {number} elapsed  since the loss
 * @param {number} random   0 ≤ random < 1
 */
export function backoff(attempt, elapsed, random) {
  const most = elapsed < PATIENCE_MS ? MOST_RETRY_MS : MOST_RETRY_LATER_MS;
  return Math.min(most, FIRST_RETRY_MS * 2 ** Math.min(attempt, 16)) * (1 - 0.5 * random);
}

function proxy(client, prefix) {
  const get = (_, name) => {
    if (typeof name === "symbol" || name === "then") return undefined; // it must not look like a promise
    return (...params) => client.call(prefix + name, params);
  };
  return new Proxy({}, { get });
}

/** Two digits. */
function hex(byte) {
  return byte.toString(16).padStart(2, "0");
}

/** null → Infinity. */
function milliseconds(name, value) {
  if (value === null || value === Infinity) return Infinity;
  if (typeof value === "number" && value > 0 && value <= MAX_TIMER_MS) return value;
  throw new RangeError(`${name} is milliseconds above 0, or null for ever; not ${String(value)}`);
}

function encode(message) {
  return JSON.stringify({ jsonrpc: "2.0", ...message });
}

function request(method, params, id) {
  if (typeof method !== "string") throw new TypeError("the method is a string");
  if (typeof params !== "object" || params === null) throw new TypeError(`${method}: params is an array or an object`);
  return encode({ id, method, params });
}

function fault(id, code, message, data) {
  return encode({ id, error: { code, message, data } });
}

/** undefined when it is not JSON, which is never undefined. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isResponse(message) {
  const object = Object(message); // also of null
  return !("method" in object) && ("result" in object || "error" in object);
}

function isRequest(message) {
  if (message?.jsonrpc !== "2.0" || typeof message.method !== "string") return false;
  const { id = null, params = [] } = message;
  return (id === null || isId(id)) && typeof params === "object" && params !== null;
}

function isId(id) {
  return typeof id === "string" || typeof id === "number";
}

/** Async, so that what a method throws at once is a rejection too. */
async function invoke(method, self, params) {
  return method.apply(self, Array.isArray(params) ? params : [params]);
}

/** A callback of the user's: its failure is shown and changes nothing. */
async function guarded(callback) {
  try {
    await callback();
  } catch (error) {
    console.error("rpckit: a callback failed:", error);
  }
}

function aborted(signal) {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

/** Resolves when the closing handshake is over, or is not going to be. @returns {Promise<void>} */
function closed(socket) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, CLOSE_WAIT_MS);
    socket.onclose = socket.onerror = () => {
      clearTimeout(timer);
      resolve();
    };
    socket.close(1000);
  });
}
