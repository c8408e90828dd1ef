// rpckit.js against a server with the service `js`: calls both ways, cancelling, events.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, DeadlineExceeded, NotSent, RpcError } from "../../transports/rpckit_websocket/rpckit.js";
import { connect, PEER, silenceConsole, until } from "./help.mjs";

const SECOND = 1_000; // far above what an answer takes, far below what `slow` is asked for

test("a call returns its result, by position and by name", async (t) => {
  const client = connect(t);
  assert.equal(await client.call("js.add", [2, 3]), 5);
  assert.equal(await client.call("js.add", { a: 4, b: 5 }), 9);
  assert.equal(client.pending, 0);
});

test("a proxy calls with the service's name before the method's", async (t) => {
  const client = connect(t);
  assert.equal(await client.at("js").add(1, 2), 3);
  await assert.rejects(client.other.no_such_method(), { code: -32601 });
});

test("values of JSON survive the way there and back", async (t) => {
  const client = connect(t);
  const value = { text: "Grüße, 世界 \u0000 👋", list: [1, 2.5, null, true, { deep: [] }], empty: "" };
  assert.deepEqual(await client.at("js").echo(value), value);
  const large = "x".repeat(500_000);
  assert.equal(await client.at("js").echo(large), large);
});

test("replies find their calls, however many are pending and in whatever order they come", async (t) => {
  const client = connect(t);
  const delays = Array.from({ length: 50 }, (_, n) => (50 - n) / 500);
  assert.deepEqual(await Promise.all(delays.map((seconds) => client.at("js").slow(seconds))), delays);
  const numbers = Array.from({ length: 1_000 }, (_, n) => n);
  assert.deepEqual(await Promise.all(numbers.map((n) => client.at("js").echo(n))), numbers);
});

test("a fault of the other side is an RpcError and not one of its subclasses", async (t) => {
  const client = connect(t);
  const error = await client.at("js").boom().catch((caught) => caught);
  assert.equal(error.constructor, RpcError);
  assert.equal(error.name, "RpcError");
  assert.equal(typeof error.code, "number");
  assert.match(error.message, /boom|internal error/);
});

test("a call without a reply in its time ends in DeadlineExceeded, and the late reply is counted", async (t) => {
  const client = connect(t);
  await client.ready();
  const began = performance.now();
  await assert.rejects(client.call("js.slow", [10], { timeout: 100 }), DeadlineExceeded);
  assert.ok(performance.now() - began < SECOND);
  assert.equal(client.pending, 0);
  await until(() => client.lateReplies === 1); // at once, though `slow` had ten seconds to go: it was cancelled
});

test("an aborted call rejects with the signal's reason and is cancelled at the other side", async (t) => {
  const client = connect(t);
  await client.ready();
  const abort = new AbortController();
  const call = client.call("js.slow", [10], { signal: abort.signal });
  const reason = new Error("changed my mind");
  setTimeout(() => abort.abort(reason), 50);
  await assert.rejects(call, (error) => error === reason);
  assert.equal(client.pending, 0);
  await until(() => client.lateReplies === 1);
});

test("the other side calls back during a call, and gets the result", async (t) => {
  const client = connect(t, PEER, { methods: { double: (n) => n * 2 } });
  client.expose({ async later(n) { return n + 1; } });
  assert.equal(await client.at("js").call_back("double", 21), 42);
  assert.equal(await client.at("js").call_back("later", 1), 2);
});

test("a method that throws is an error at the other side; only the text of an RpcError travels", async (t) => {
  const printed = silenceConsole(t);
  const methods = {
    secret() { throw new Error("password 1234"); },
    open() { throw new RpcError("out of paper"); },
  };
  const client = connect(t, PEER, { methods });
  await assert.rejects(client.at("js").call_back("secret", 0), (error) => !error.message.includes("1234"));
  assert.equal(printed.callCount(), 1);
  await assert.rejects(client.at("js").call_back("open", 0), RpcError);
  assert.equal(printed.callCount(), 1);
});

test("a method may call the other side and be called again meanwhile", async (t) => {
  const client = connect(t);
  client.expose({ nest: async (n) => (n === 0 ? "bottom" : client.at("js").call_back("nest", n - 1)) });
  assert.equal(await client.at("js").call_back("nest", 5), "bottom");
});

test("an event reaches every listener of its topic, until it stops listening", async (t) => {
  const client = connect(t);
  const [first, second, other] = [[], [], []];
  await client.ready();
  client.on("news", (value) => first.push(value));
  const stop = client.on("news", (value) => second.push(value));
  client.on("weather", (value) => other.push(value));
  await client.at("js").tell("news", "one");
  await until(() => first.length === 1);
  stop();
  await client.at("js").tell("news", "two");
  await until(() => first.length === 2);
  assert.deepEqual([first, second, other], [["one", "two"], ["one"], []]);
});

test("what one client emits another hears, all of its parameters", async (t) => {
  const [speaker, listener] = [connect(t), connect(t)];
  const heard = [];
  await listener.ready();
  listener.on("chat", (...params) => heard.push(params));
  await listener.at("js").echo("the subscription came before");
  await speaker.emit("chat", "hi", 2);
  await until(() => heard.length === 1);
  assert.deepEqual(heard, [["hi", 2]]);
});

test("notify resolves without a reply and leaves nothing pending", async (t) => {
  const client = connect(t);
  const heard = [];
  await client.ready();
  client.on("note", (value) => heard.push(value));
  assert.equal(await client.notify("js.tell", ["note", 7]), undefined);
  await until(() => heard.length === 1);
  assert.deepEqual([heard, client.pending, client.lateReplies], [[7], 0, 0]);
});

test("close is told once, ends the client and lets Node end", async () => {
  const told = [];
  const client = new Client(PEER, { onConnect: () => told.push("on"), onDisconnect: (why) => told.push(why) });
  await client.ready();
  await client.close();
  assert.equal(client.state, "closed");
  assert.equal(told.length, 2);
  assert.match(told[1], /close\(\)/);
  await assert.rejects(client.call("js.echo", [1]), NotSent);
  await assert.rejects(client.ready(), NotSent);
});
