"""A JSON-RPC 2.0 server on one WebSocket path, with websockets: python websockets_jsonrpc.py

What rpckit.js is tested against; it knows nothing of rpckit. Prints `ready URL`. Service `js`: the methods of `Js`.
"""

import asyncio
import contextlib
import itertools
import json
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

SERVICE = "js"
sessions = set()


class Fault(Exception):
    """(code, message), for the caller."""


class Js:
    """The methods: `js.echo` and so on. `session` is the caller's connection."""

    async def echo(self, session, value):
        return value

    async def add(self, session, a, b):
        return a + b

    async def slow(self, session, seconds):
        await asyncio.sleep(seconds)
        return seconds

    async def boom(self, session):
        raise Fault(-32050, "boom")

    async def call_back(self, session, method, value):
        return await session.call(method, [value])

    async def tell(self, session, topic, value):
        await publish(topic, [value])


async def publish(topic, params):
    for session in list(sessions):
        if topic in session.topics:
            await session.send({"method": "rpc.event", "params": {"topic": topic, "params": params}})


class Session:
    """One connection: what it asked for, what it was asked, what it listens to."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.topics = set()
        self.pending = {}
        self.running = {}
        self.ids = itertools.count()

    async def run(self):
        sessions.add(self)
        try:
            async with asyncio.TaskGroup() as tasks:
                with contextlib.suppress(ConnectionClosed):
                    async for frame in self.websocket:
                        self.take(json.loads(frame), tasks)
                for task in self.running.values():
                    task.cancel()
                for waiter in self.pending.values():
                    waiter.cancel()
        finally:
            sessions.discard(self)

    def take(self, message, tasks):
        if "method" not in message:
            self.settle(message)
        elif message["method"] == "$/cancelRequest":
            if task := self.running.get(message["params"]["id"]):
                task.cancel()
        else:
            task = tasks.create_task(self.answer(message))
            self.running[message.get("id", task)] = task

    def settle(self, message):
        waiter = self.pending.pop(message["id"], None)
        if waiter is None or waiter.done():
            return
        if error := message.get("error"):
            waiter.set_exception(Fault(error["code"], error["message"]))
        else:
            waiter.set_result(message["result"])

    async def answer(self, message):
        try:
            reply = {"result": await self.serve(message["method"], message.get("params", []))}
        except Fault as error:
            reply = {"error": {"code": error.args[0], "message": error.args[1]}}
        except asyncio.CancelledError:
            reply = {"error": {"code": -32800, "message": "cancelled"}}
        finally:
            self.running.pop(message.get("id"), None)
        if "id" in message:
            await self.send({"id": message["id"], **reply})

    async def serve(self, name, params):
        if name == "rpc.ping":
            return "pong"
        if name == "rpc.subscribe":
            return self.topics.add(params[0])
        if name == "rpc.emit":
            return await publish(params["topic"], params["params"])
        service, _, method = name.rpartition(".")
        if service != SERVICE or method not in vars(Js):
            raise Fault(-32601, f"no method {name}")
        named = params if isinstance(params, dict) else {}
        positional = params if isinstance(params, list) else []
        return await getattr(Js(), method)(self, *positional, **named)

    async def call(self, method, params):
        number = next(self.ids)
        self.pending[number] = asyncio.get_running_loop().create_future()
        await self.send({"id": number, "method": method, "params": params})
        return await self.pending[number]

    async def send(self, message):
        with contextlib.suppress(ConnectionClosed):
            await self.websocket.send(json.dumps({"jsonrpc": "2.0", **message}))


async def main():
    async with serve(lambda websocket: Session(websocket).run(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"ready ws://127.0.0.1:{port}/ws", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    sys.exit(0)
