/** The types of rpckit.js, whose comments say more. Times are milliseconds; null means for ever. */

/** Positional or by name. */
export type Params = readonly unknown[] | { readonly [name: string]: unknown };
export type State = "connecting" | "connected" | "reconnecting" | "closed";
export type WebSocketConstructor = new (url: string | URL) => WebSocket;

/** `this` of a method that the other side calls. */
export interface Context {
  signal: AbortSignal;
  client: Client;
}

/** What the other side may call. */
export type Methods = Record<string, (this: Context, ...params: any[]) => unknown>;

/** Methods of the other side, by their names. */
export type Other = Record<string, (...params: any[]) => Promise<any>>;

export interface CallOptions {
  /** Includes the wait for a connection; that of the client when left out. */
  timeout?: number | null | undefined;
  signal?: AbortSignal | undefined;
}

export interface Options {
  /** For each call; 30,000. */
  timeout?: number | null | undefined;
  /** How long a call waits for a connection before NotSent; 5,000. */
  sendWait?: number | null | undefined;
  /** A half-open link is found within two of these; null: never; 10,000. */
  heartbeat?: number | null | undefined;
  methods?: Methods | undefined;
  /** After each connect. */
  onConnect?: ((client: Client) => unknown) | undefined;
  /** Once for each onConnect. */
  onDisconnect?: ((why: string) => unknown) | undefined;
  /** globalThis.WebSocket. */
  WebSocket?: WebSocketConstructor | undefined;
}

/** An error the other side answered with; thrown in a method, the error the other side gets. */
export class RpcError extends Error {
  constructor(message: string, more?: { code?: number | null; data?: any });
  name: string;
  /** Of JSON-RPC; null on errors that did not come from the other side. */
  code: number | null;
  /** From a server of rpckit an object: its own `code`, the exception's `type`, `details`, `retryable`, `error_id`. */
  data: any;
}

/** Nothing was sent; calling again is safe. */
export class NotSent extends RpcError {}

/** The connection dropped while the call was pending; it may have run. */
export class ConnectionLost extends RpcError {}

/** No reply came within the call's time; it may have run. */
export class DeadlineExceeded extends RpcError {}

/** One server, found again whenever it is lost. Dials at once; use it without waiting, or wait with `ready()`. */
export class Client {
  constructor(url: string | URL, options?: Options);

  readonly state: State;
  /** Calls sent and not yet ended. */
  readonly pending: number;
  /** Replies that came after their call had ended. */
  readonly lateReplies: number;
  /** Methods of the other side: `client.other.fib(30)` calls "fib". */
  readonly other: Other;

  /** Methods of a service: `client.at("rpc_queue").fib(30)` calls "rpc_queue.fib". */
  at(service: string): Other;
  /** Resolves once there is a connection; rejects with NotSent when there is none in time, or never will be. */
  ready(timeout?: number | null): Promise<void>;
  /** The result of a method; or RpcError, NotSent, ConnectionLost, DeadlineExceeded, the signal's reason. */
  call(method: string, params?: Params, options?: CallOptions): Promise<any>;
  /** Resolves when written: at most once, no reply. Rejects with NotSent. */
  notify(method: string, params?: Params): Promise<void>;
  /** More methods for the other side to call. */
  expose(methods: Methods): void;
  /** Listen to a topic, again after each reconnect. What it returns stops that. */
  on(topic: string, listener: (...params: any[]) => unknown): () => void;
  /** Publish to a topic. Resolves when written, as `notify`. */
  emit(topic: string, ...params: unknown[]): Promise<void>;
  /** Calls pending end in ConnectionLost, calls waiting in NotSent. Resolves when closed, within a second. */
  close(): Promise<void>;
}

/** How long to wait before dialling again, in the `attempt`-th try, `elapsed` after the loss; 0 ≤ random < 1. */
export function backoff(attempt: number, elapsed: number, random: number): number;
