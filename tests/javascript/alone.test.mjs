// rpckit.js without a network: what it answers to any frame, its bounds, its times.

import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, Client, ConnectionLost, DeadlineExceeded, NotSent, RpcError } from "../../transports/rpckit_websocket/rpckit.js";
import { fake, FakeSocket, silenceConsole, sleep, until } from "./help.mjs";

const request = (id, method, params = []) => ({ jsonrpc: "2.0", id, method, params });
const notification = (method, params = []) => ({ jsonrpc: "2.0", method, params });
const tick = () => sleep(0);

/** What the client answers to one frame. */
async function answers(socket, message) {
  const before = socket.sent.length;
  socket.receive(message);
  await sleep(5);
  return socket.sent.slice(before).map((text) => JSON.parse(text));
}

test("what is not JSON is answered -32700 with id null", async (t) => {
  const { socket } = fake(t);
  const [answer] = await answers(socket, "{not json");
  assert.deepEqual([answer.jsonrpc, answer.id, answer.error.code], ["2.0", null, -32700]);
});

test("what is JSON and no request is answered -32600", async (t) => {
  const { socket } = fake(t);
  const wrong = [notification(5), request({}, "m"), request(1, "m", 5), { method: "m", id: 1 }];
  const invalid = [[], 1, null, "text", {}, ...wrong];
  for (const message of invalid) {
    const [answer] = await answers(socket, JSON.stringify(message));
    assert.equal(answer?.error?.code, -32600, JSON.stringify(message));
  }
});

test("a request is answered, a notification is not, and an unknown method is -32601", async (t) => {
  const calls = [];
  const methods = { add: (a, b) => a + b, named: ({ a }) => a, hear: (x) => void calls.push(x) };
  const { socket } = fake(t, { methods });
  assert.deepEqual(await answers(socket, request(1, "add", [1, 2])), [{ jsonrpc: "2.0", id: 1, result: 3 }]);
  assert.deepEqual(await answers(socket, request("b", "named", { a: 7 })), [{ jsonrpc: "2.0", id: "b", result: 7 }]);
  assert.deepEqual(await answers(socket, request(2, "hear", [5])), [{ jsonrpc: "2.0", id: 2, result: null }]);
  assert.deepEqual(await answers(socket, notification("hear", [6])), []);
  assert.deepEqual(await answers(socket, notification("nobody")), []);
  assert.deepEqual(calls, [5, 6]);
  for (const name of ["nobody", "constructor", "__proto__", "toString"]) {
    assert.equal((await answers(socket, request(3, name)))[0].error.code, -32601, name);
  }
});

test("a batch is answered as one batch, and a batch of notifications not at all", async (t) => {
  const { socket } = fake(t, { methods: { add: (a, b) => a + b } });
  const batch = [request(1, "add", [1, 1]), notification("add", [1, 1]), 5, request(2, "nobody")];
  const frames = await answers(socket, batch);
  assert.equal(frames.length, 1);
  const outcomes = frames[0].map(({ id, result, error }) => [id, result ?? error.code]);
  assert.deepEqual(outcomes, [[1, 2], [null, -32600], [2, -32601]]);
  assert.deepEqual(await answers(socket, [notification("add"), notification("add")]), []);
});

test("replies in a batch settle their calls", async (t) => {
  const { client, socket } = fake(t);
  const calls = Promise.all([client.call("a"), client.call("b")]);
  await tick();
  const [a, b] = socket.messages;
  socket.receive([{ jsonrpc: "2.0", id: b.id, result: "B" }, { jsonrpc: "2.0", id: a.id, result: "A" }]);
  assert.deepEqual(await calls, ["A", "B"]);
});

test("a method that throws is -32603; an RpcError travels as it is, any other is printed once", async (t) => {
  const printed = silenceConsole(t);
  const methods = {
    plain() { throw new RpcError("said aloud"); },
    coded() { throw new RpcError("coded", { code: 7, data: [1] }); },
    async secret() { throw new Error("password"); },
    cyclic() { return 1n; }, // cannot be encoded
  };
  const { socket } = fake(t, { methods });
  const error = async (name) => (await answers(socket, request(name, name)))[0].error;
  assert.deepEqual(await error("plain"), { code: -32603, message: "said aloud" });
  assert.deepEqual(await error("coded"), { code: 7, message: "coded", data: [1] });
  assert.equal(printed.callCount(), 0);
  assert.deepEqual(await error("secret"), { code: -32603, message: "internal error" });
  assert.equal(printed.callCount(), 1);
  assert.deepEqual(await error("cyclic"), { code: -32603, message: "internal error" });
});

test("$/cancelRequest aborts this.signal and is answered -32800, also when the method pays no heed", async (t) => {
  const seen = [];
  const methods = {
    heeds() {
      return new Promise((_, reject) => this.signal.addEventListener("abort", () => {
        seen.push("heeds");
        reject(new Error("stopped"));
      }));
    },
    heedless: () => new Promise(() => {}),
  };
  const { socket } = fake(t, { methods });
  for (const name of ["heeds", "heedless"]) {
    assert.deepEqual(await answers(socket, request(name, name)), []);
    const [answer, ...more] = await answers(socket, notification("$/cancelRequest", { id: name }));
    assert.deepEqual([answer.id, answer.error.code, more], [name, -32800, []]);
  }
  assert.deepEqual(seen, ["heeds"]);
  assert.deepEqual(await answers(socket, notification("$/cancelRequest", { id: "nobody's" })), []);
});

test("when the connection goes, running methods are told and their answers are not sent to the next one", async (t) => {
  const aborted = [];
  let finish;
  const methods = {
    work() {
      this.signal.addEventListener("abort", () => aborted.push(this.signal.reason));
      return new Promise((resolve) => (finish = resolve));
    },
  };
  const { client, socket } = fake(t, { methods });
  socket.receive(request(1, "work"));
  socket.shut(1006);
  assert.ok(aborted[0] instanceof ConnectionLost);
  await until(() => FakeSocket.last !== socket);
  FakeSocket.last.open();
  await client.ready();
  finish("too late");
  await sleep(5);
  assert.deepEqual(FakeSocket.last.messages, []);
});

test("what an old connection still says is not heard", async (t) => {
  let ran = 0;
  const { client, socket } = fake(t, { methods: { run: () => ++ran } });
  const call = client.call("m");
  await tick();
  socket.shut(1006);
  await assert.rejects(call, ConnectionLost);
  socket.receive({ jsonrpc: "2.0", id: socket.messages[0].id, result: 1 });
  socket.receive(request(1, "run"));
  assert.deepEqual([client.lateReplies, ran], [0, 0]);
});

test("a socket that never opens is given up after 10 s, and another is dialled", (t) => {
  t.mock.timers.enable(["setTimeout"]);
  const client = new Client("ws://nowhere/ws", { WebSocket: FakeSocket });
  const first = FakeSocket.last;
  t.mock.timers.tick(9_999);
  assert.deepEqual([FakeSocket.last, first.readyState], [first, 0]);
  t.mock.timers.tick(1);
  assert.equal(first.readyState, 3);
  t.mock.timers.tick(100);
  assert.notEqual(FakeSocket.last, first);
  client.close();
});

test("a WebSocket that says only `error` is dialled again", async (t) => {
  const { client, socket } = fake(t);
  socket.onerror();
  assert.equal(client.state, "reconnecting");
  await until(() => FakeSocket.last !== socket);
});

test("an id in flight is not taken twice", async (t) => {
  const { socket } = fake(t, { methods: { wait: () => new Promise(() => {}) } });
  assert.deepEqual(await answers(socket, request(1, "wait")), []);
  assert.equal((await answers(socket, request(1, "wait")))[0].error.code, -32600);
  assert.deepEqual(await answers(socket, request("1", "wait")), []);
});

test("close ends calls that wait in NotSent and calls that pend in ConnectionLost", async (t) => {
  const { client } = fake(t);
  const pending = assert.rejects(client.call("m"), ConnectionLost);
  const waits = new Client("ws://nowhere/ws", { WebSocket: FakeSocket, timeout: null, sendWait: null });
  const waiting = assert.rejects(waits.call("m"), NotSent);
  await tick();
  await Promise.all([client.close(), waits.close(), pending, waiting]);
  assert.equal(client.pending, 0);
});

test("a signal that fires while the call waits for a connection ends it, and nothing is sent later", async (t) => {
  const client = new Client("ws://nowhere/ws", { WebSocket: FakeSocket, heartbeat: null });
  t.after(() => client.close());
  const socket = FakeSocket.last;
  const [early, late] = [new AbortController(), new AbortController()];
  const first = assert.rejects(client.call("m", [], { signal: early.signal }), (reason) => reason === "early");
  const second = assert.rejects(client.call("m", [], { signal: late.signal }), (reason) => reason === "late");
  early.abort("early");
  await first;
  await assert.rejects(client.call("m", [], { signal: early.signal, timeout: null }), (reason) => reason === "early");
  socket.open();
  late.abort("late"); // between the connection and the call's turn
  await second;
  assert.deepEqual(socket.messages, []);
});

test("the wait for a connection counts toward the call's time", async (t) => {
  const client = new Client("ws://nowhere/ws", { WebSocket: FakeSocket });
  t.after(() => client.close());
  const socket = FakeSocket.last;
  const began = performance.now();
  setTimeout(() => socket.open(), 400);
  await assert.rejects(client.call("m", [], { timeout: 500 }), DeadlineExceeded);
  const took = performance.now() - began;
  assert.ok(took > 490 && took < 800, `${took} ms`);
});

test("call 16,385 that waits for a connection is NotSent at once, and those whose time is up make room", async (t) => {
  const client = new Client("ws://nowhere/ws", { WebSocket: FakeSocket, sendWait: null });
  t.after(() => client.close());
  const short = Array.from({ length: 16_384 }, () => client.call("m", [], { timeout: 50 }));
  await assert.rejects(client.call("m"), /wait for/);
  const ends = await Promise.allSettled(short);
  assert.ok(ends.every(({ reason }) => reason instanceof NotSent));
  const call = assert.rejects(client.call("m"), /closed by close/);
  await client.close();
  await call;
});

test("a reply to nobody is counted, not thrown, and so is the second reply to one call", async (t) => {
  const { client, socket } = fake(t);
  const call = client.call("once");
  await tick();
  const reply = { jsonrpc: "2.0", id: socket.messages[0].id, result: 1 };
  socket.receive(reply);
  socket.receive({ ...reply, result: 2 });
  socket.receive({ jsonrpc: "2.0", id: null, error: { code: -32700, message: "?" } });
  assert.equal(await call, 1);
  assert.equal(client.lateReplies, 2);
});

test("a call leaves nothing on its signal, however it ends", async (t) => {
  const { client, socket } = fake(t);
  const { signal } = new AbortController();
  const added = t.mock.method(signal, "addEventListener").mock;
  const removed = t.mock.method(signal, "removeEventListener").mock;
  const call = client.call("m", [], { signal });
  await tick();
  socket.receive({ jsonrpc: "2.0", id: socket.messages[0].id, result: 1 });
  await call;
  await assert.rejects(client.call("m", [], { signal, timeout: 5 }));
  assert.equal(added.callCount(), 2);
  assert.deepEqual(removed.calls.map((c) => c.arguments[1]), added.calls.map((c) => c.arguments[1]));
});

test("giving up sends $/cancelRequest with the call's id; a signal that fired before sends nothing", async (t) => {
  const { client, socket } = fake(t);
  await assert.rejects(client.call("m", [], { signal: AbortSignal.abort("early") }), (reason) => reason === "early");
  assert.deepEqual(socket.messages, []);
  const abort = new AbortController();
  const call = client.call("m", [], { signal: abort.signal });
  await tick();
  abort.abort("now");
  await assert.rejects(call, (reason) => reason === "now");
  const [sent, cancel] = socket.messages;
  assert.deepEqual(cancel, { jsonrpc: "2.0", method: "$/cancelRequest", params: { id: sent.id } });
});

test("call 16,385 is NotSent, and one that ended makes room", async (t) => {
  const { client, socket } = fake(t);
  const calls = Array.from({ length: 16_384 }, () => client.call("m"));
  await assert.rejects(client.call("m"), NotSent);
  assert.equal(client.pending, 16_384);
  socket.receive({ jsonrpc: "2.0", id: socket.messages[0].id, result: "room" });
  assert.equal(await calls[0], "room");
  const call = client.call("m");
  assert.equal(client.pending, 16_384);
  socket.shut(1006);
  const ends = await Promise.allSettled([...calls.slice(1), call]);
  assert.ok(ends.every(({ reason }) => reason instanceof ConnectionLost));
  assert.equal(client.pending, 0);
});

test("over 8 MiB unsent, calls are NotSent and requests are refused without running", async (t) => {
  let ran = 0;
  const { client, socket } = fake(t, { methods: { run: () => ++ran } });
  socket.bufferedAmount = 8 * 1024 * 1024 + 1;
  await assert.rejects(client.call("m"), NotSent);
  await assert.rejects(client.notify("m"), NotSent);
  assert.equal((await answers(socket, request(1, "run")))[0].error.code, -32000);
  assert.equal(ran, 0);
  assert.equal(client.pending, 0);
  socket.bufferedAmount = 8 * 1024 * 1024;
  assert.equal((await answers(socket, request(2, "run")))[0].result, 1);
  await client.notify("m");
});

test("request 1,025 of those that run at once is refused, and cancelling still works", async (t) => {
  const { socket } = fake(t, { methods: { wait: () => new Promise(() => {}) } });
  for (let id = 0; id < 1_024; id++) socket.receive(request(id, "wait"));
  assert.equal((await answers(socket, request("more", "wait")))[0].error.code, -32000);
  assert.equal((await answers(socket, notification("$/cancelRequest", { id: 3 })))[0].error.code, -32800);
  assert.deepEqual(await answers(socket, request("more", "wait")), []);
});

test("any frame is a sign of life, an error to a ping too; silence is not", async (t) => {
  const { client, socket } = fake(t, { heartbeat: 40 });
  const pings = () => socket.sent.map((text) => JSON.parse(text)).filter(({ method }) => method === "rpc.ping");
  for (let beat = 1; beat <= 4; beat++) {
    await until(() => pings().length === beat);
    socket.receive({ jsonrpc: "2.0", id: pings().at(-1).id, error: { code: -32601, message: "no ping here" } });
  }
  assert.deepEqual([client.state, client.lateReplies], ["connected", 0]);
  await until(() => client.state === "reconnecting", 150);
});

test("ids are unique, and of different clients share nothing", async (t) => {
  const [one, two] = [fake(t), fake(t)];
  for (const { client } of [one, two]) for (let n = 0; n < 100; n++) client.call("m").catch(() => {});
  await tick();
  const ids = [one, two].flatMap(({ socket }) => socket.messages.map(({ id }) => id));
  assert.equal(new Set(ids).size, 200);
  const prefixes = new Set(ids.map((id) => id.split("-")[0]));
  assert.deepEqual([prefixes.size, [...prefixes].every((each) => each.length === 24)], [2, true]);
});

test("back-off: 50 to 500 ms for five minutes, then up to 5 s, half of it jitter", () => {
  const minute = 60_000;
  assert.deepEqual([0, 1, 2, 3, 4, 99].map((n) => backoff(n, 0, 0)), [50, 100, 200, 400, 500, 500]);
  assert.equal(backoff(99, 5 * minute - 1, 0), 500);
  assert.equal(backoff(99, 5 * minute, 0), 5_000);
  assert.equal(backoff(0, 0, 0.5), 37.5);
});

test("a server that accepts and drops at once is dialled ever more slowly", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const { client } = fake(t);
  const dialled = [];
  for (let drop = 0; drop < 4; drop++) {
    const socket = FakeSocket.last;
    const began = performance.now();
    socket.shut(1006);
    await until(() => FakeSocket.last !== socket);
    dialled.push(performance.now() - began);
    FakeSocket.last.open();
  }
  assert.ok(dialled[3] > 390 && dialled[0] < 120, String(dialled));
  assert.equal(client.state, "connected");
});

test("a listener or callback that throws is printed and stops nobody else", async (t) => {
  const printed = silenceConsole(t);
  const fails = () => { throw new Error("mine"); };
  const { client, socket } = fake(t, { onConnect: fails, onDisconnect: async () => fails() });
  const heard = [];
  client.on("topic", fails);
  client.on("topic", (value) => heard.push(value));
  socket.receive(notification("rpc.event", { topic: "topic", params: ["list"] }));
  socket.receive(notification("rpc.event", { topic: "topic", params: { by: "name" } }));
  socket.receive(notification("rpc.event"));
  await tick();
  assert.deepEqual(heard, ["list", { by: "name" }]);
  socket.shut(1006);
  await tick();
  assert.equal(printed.callCount(), 4); // onConnect, two events, onDisconnect
});

test("a pattern hears the topics that it matches: * is one word, # any number of them", async (t) => {
  const { client, socket } = fake(t);
  const heard = {};
  for (const pattern of ["user.*", "user.#", "#.created", "*", "c#", "user.created"]) {
    client.on(pattern, (topic) => (heard[pattern] ??= []).push(topic));
  }
  for (const topic of ["user", "user.created", "user.created.twice", "created", "c#", "cc"]) {
    socket.receive(notification("rpc.event", { topic, params: [topic] }));
  }
  await tick();
  assert.deepEqual(heard, {
    "user.*": ["user.created"],
    "user.#": ["user", "user.created", "user.created.twice"],
    "#.created": ["user.created", "created"],
    "*": ["user", "created", "c#", "cc"],
    "c#": ["c#"],
    "user.created": ["user.created"],
  });
});

test("a topic is subscribed to once for each connection, however many listen and since when", async (t) => {
  const client = new Client("ws://nowhere/ws", { WebSocket: FakeSocket, heartbeat: null });
  t.after(() => client.close());
  const stop = client.on("early", () => {});
  for (let connection = 0; connection < 2; connection++) {
    const socket = FakeSocket.last;
    socket.open();
    client.on("early", () => {});
    if (connection === 0) client.on("late", () => {});
    await tick();
    assert.deepEqual(socket.messages.map(({ params }) => params[0]), ["early", "late"]);
    stop(); // others still listen
    socket.shut(1006);
    await until(() => FakeSocket.last !== socket);
  }
});

test("a subscription the server refuses is printed once", async (t) => {
  const printed = silenceConsole(t);
  const { client, socket } = fake(t);
  client.on("secret", () => {});
  await tick();
  const [{ id, method, params }] = socket.messages;
  assert.deepEqual([method, params], ["rpc.subscribe", ["secret"]]);
  socket.receive({ jsonrpc: "2.0", id, error: { code: -32000, message: "not for you" } });
  await until(() => printed.callCount() === 1);
});

test("mistakes of the caller are TypeErrors and RangeErrors, and leave nothing behind", async (t) => {
  const { client, socket } = fake(t);
  for (const params of ["text", 5, null]) await assert.rejects(client.call("m", params), TypeError);
  for (const timeout of [0, -1, NaN, "5", 2 ** 31]) await assert.rejects(client.call("m", [], { timeout }), RangeError);
  await assert.rejects(client.call("m", [1n]), TypeError);
  assert.throws(() => client.expose({ "rpc.ping": () => {} }), TypeError);
  assert.throws(() => client.expose({ notAFunction: 1 }), TypeError);
  assert.throws(() => new Client("ws://nowhere", { WebSocket: FakeSocket, timeout: 0 }), RangeError);
  assert.deepEqual([socket.messages, client.pending], [[], 0]);
});

test("a proxy is not taken for a promise, and no error shows the password in the URL", async (t) => {
  const { client } = fake(t);
  assert.equal(await Promise.resolve(client.at("s")).then(() => "settled"), "settled");
  const hidden = new Client("ws://me:hunter2@nowhere/ws?token=abc", { WebSocket: FakeSocket, sendWait: 5 });
  t.after(() => hidden.close());
  const error = await hidden.call("m").catch((caught) => caught);
  assert.equal(error.name, "NotSent");
  assert.match(error.message, /nowhere\/ws/);
  assert.doesNotMatch(error.message, /hunter2|abc/);
});
