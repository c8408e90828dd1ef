"""One process of a contender: `python -m tests.benchmarks.worker server|client NAME`, the URL in BENCH_URL.

It speaks JSON lines: commands on stdin, events on stdout. The first event is `ready`; each command is
answered by `done` with its figures; `failed` with an error may come at any time and is the last. The end of
stdin ends the process, so that none outlives the one that started it. What a library prints goes to stderr.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

import psutil

from .contenders import BY_NAME, Caller, load
from .load import make_calls, measure

STARTING = 15.0  # seconds to connect and to see the first answer
AT_ONCE = 50  # connections being made
STOPPING = 3.0  # seconds to close in good order

Command = dict[str, Any]
Say = Callable[..., None]
_kept: list[Caller] = []


async def commands(answer: Callable[[Command], Awaitable[Command]], say: Say) -> None:
    """Answer the commands on stdin, one after the other, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        say("done", **await answer(json.loads(line)))


async def server(name: str, url: str, say: Say) -> None:
    """Serve until stdin ends; a server that ends by itself has failed."""
    serving = asyncio.ensure_future(load(name).serve(url, lambda: say("ready")))
    listening = asyncio.ensure_future(commands(_server_command, say))
    try:
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            raise RuntimeError("the server ended by itself")
        listening.result()
    finally:
        listening.cancel()
        serving.cancel()
        await asyncio.wait((serving, listening), timeout=STOPPING)


async def client(name: str, url: str, say: Say) -> None:
    """Connect, make one call, then load on command."""
    async with asyncio.timeout(STARTING):
        caller = await load(name).connect(url)
        await make_calls(caller, 1, 1, STARTING)
    say("ready")
    try:
        await commands(lambda command: _client_command(caller, command), say)
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(caller.close(), STOPPING)


async def _server_command(command: Command) -> Command:
    return {"rss": _resident()}


async def _crowd(count: int) -> Command:
    """Connect so many more, which then do nothing; they are kept until the process ends."""
    name, url = sys.argv[2], os.environ["BENCH_URL"]
    for start in range(0, count, AT_ONCE):
        connecting = (load(name).connect(url) for _ in range(min(AT_ONCE, count - start)))
        _kept.extend(await asyncio.gather(*connecting))
    return {}


async def _client_command(caller: Caller, command: Command) -> Command:
    if command["do"] == "load":
        return asdict(await measure(caller, command["callers"], command["seconds"]))
    if command["do"] == "crowd":
        return await _crowd(command["count"])
    if command["do"] == "calls":
        await make_calls(caller, command["callers"], command["count"], command["deadline"])
        return {}
    return {"rss": _resident()}


def _resident() -> int:
    """Resident bytes of this process after a full collection."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _private_stdout() -> TextIO:
    """The pipe to the parent, kept apart: descriptor 1 now leads to stderr."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return pipe


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if BY_NAME[name].uvloop:
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def main(role: str, name: str, url: str) -> int:
    pipe = _private_stdout()

    def say(event: str, **fields: object) -> None:
        pipe.write(json.dumps({"event": event, **fields}) + "\n")

    try:
        with asyncio.Runner(loop_factory=_loop_factory(name)) as runner:
            runner.run((server if role == "server" else client)(name, url, say))
    except Exception as error:
        with suppress(OSError):
            say("failed", error=_reason(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], os.environ["BENCH_URL"]))
