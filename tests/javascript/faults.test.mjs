// rpckit.js when the cable to its server is cut, frozen or not there.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import { ConnectionLost, NotSent } from "../../transports/rpckit_websocket/rpckit.js";
import { Cable, connect, PEER, sleep, until } from "./help.mjs";

test("a cut connection ends its calls at once in ConnectionLost, and the client comes back by itself", async (t) => {
  const cable = await Cable.to(PEER, t);
  const told = [];
  const options = { onConnect: () => told.push("on"), onDisconnect: () => told.push("off") };
  const client = connect(t, cable.url, options);
  await client.ready();
  const call = assert.rejects(client.at("js").slow(10), ConnectionLost);
  await until(() => client.pending === 1);
  const began = performance.now();
  cable.cut();
  await call;
  assert.ok(performance.now() - began < 500);
  assert.equal(client.state, "reconnecting");
  assert.equal(await client.at("js").add(1, 1), 2); // waits for the connection
  assert.deepEqual(told, ["on", "off", "on"]);
});

test("events arrive again after a reconnect", async (t) => {
  const cable = await Cable.to(PEER, t);
  const client = connect(t, cable.url);
  const heard = [];
  client.on("again", (value) => heard.push(value)); // before there is a connection
  await client.ready();
  await client.at("js").tell("again", 1);
  await until(() => heard.length === 1);
  cable.cut();
  await until(() => client.state === "reconnecting");
  await client.at("js").tell("again", 2);
  await until(() => heard.length === 2);
  assert.deepEqual(heard, [1, 2]);
});

test("a half-open link is found within two heartbeats", async (t) => {
  const cable = await Cable.to(PEER, t);
  const client = connect(t, cable.url, { heartbeat: 300 });
  await client.ready();
  await sleep(1_000); // three heartbeats are answered
  assert.equal(client.state, "connected");
  cable.freeze();
  const began = performance.now();
  await assert.rejects(client.at("js").echo("into the void"), ConnectionLost);
  const took = performance.now() - began;
  assert.ok(took < 2 * 300 + 250, `${took} ms`);
  cable.thaw();
  assert.equal(await client.at("js").echo("back"), "back");
});

test("a loop that is blocked after each ping reads the answer before it calls the link dead", async (t) => {
  const lost = [];
  let pings = 0;
  class Blocking extends WebSocket {
    send(text) {
      super.send(text);
      if (!text.includes("rpc.ping")) return;
      pings += 1;
      setTimeout(() => block(1_250), 0); // two heartbeats and a half; the answer comes meanwhile
    }
  }
  const options = { WebSocket: Blocking, heartbeat: 500, onDisconnect: (why) => lost.push(why) };
  connect(t, PEER, options);
  await until(() => pings === 3, 20_000);
  assert.deepEqual(lost, []);
});

test("without a server a call is NotSent after sendWait, and goes through when the server comes in time", async (t) => {
  const cable = await Cable.to(PEER, t);
  cable.refusing = true;
  const client = connect(t, cable.url, { sendWait: 1_000 }); // above the longest back-off of a new outage
  const began = performance.now();
  await assert.rejects(client.at("js").echo(1), NotSent);
  const took = performance.now() - began;
  assert.ok(took > 950 && took < 1_500, `${took} ms`);
  await assert.rejects(client.ready(100), NotSent);
  const call = client.call("js.echo", [2]);
  cable.refusing = false;
  assert.equal(await call, 2);
});

test("a call's own time also bounds its wait for a connection", async (t) => {
  const cable = await Cable.to(PEER, t);
  cable.refusing = true;
  const client = connect(t, cable.url, { sendWait: 5_000 });
  const began = performance.now();
  await assert.rejects(client.call("js.echo", [1], { timeout: 100 }), NotSent);
  assert.ok(performance.now() - began < 1_000);
});

test("after close nobody dials again", async (t) => {
  const cable = await Cable.to(PEER, t);
  const client = connect(t, cable.url);
  await client.ready();
  const call = assert.rejects(client.at("js").slow(10), ConnectionLost);
  await client.close();
  await call;
  await until(() => cable.connected === 0);
  await sleep(700); // longer than the longest back-off of a new outage
  assert.equal(cable.connected, 0);
  assert.equal(client.state, "closed");
});

for (const code of [1008, 4401, 4403]) {
  test(`a server that closes with ${code} is not asked again, and the error says so`, async (t) => {
    const server = await refusing(t, code);
    const client = connect(t, server.url);
    await until(() => client.state === "closed");
    const error = await client.call("js.echo", [1]).catch((caught) => caught);
    assert.ok(error instanceof NotSent);
    assert.match(error.message, new RegExp(`closed with ${code}`));
    await sleep(700);
    assert.equal(server.dialled, 1);
  });
}

test("a server that closes with 1013 is asked again", async (t) => {
  const server = await refusing(t, 1013);
  const client = connect(t, server.url);
  await until(() => server.dialled >= 3);
  assert.notEqual(client.state, "closed");
});

/** A server that takes every handshake and closes with `code`. */
async function refusing(t, code) {
  const server = createServer();
  const counted = { dialled: 0, url: "" };
  server.on("upgrade", (request, socket) => {
    counted.dialled += 1;
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`; // RFC 6455, 4.2.2
    const accept = createHash("sha1").update(key).digest("base64");
    const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
    socket.write(`${[...lines, `Sec-WebSocket-Accept: ${accept}`].join("\r\n")}\r\n\r\n`);
    socket.on("error", () => {});
    socket.end(Buffer.from([0x88, 2, code >> 8, code & 255]));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  counted.url = `ws://127.0.0.1:${server.address().port}/ws`;
  return counted;
}

/** The event loop stands still, and leaves the processor to the server. */
function block(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
