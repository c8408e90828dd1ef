"""Workers by the dozen: a process that has imported everything forks one for each line it reads.

``URL ADDRESS LOG CONCURRENCY`` on stdin; ``PID`` on stdout; once it serves, a file beside LOG. A new interpreter
for each takes half a second. Its end, or that of its owner, is the end of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

READY_S = 15.0  # seconds for one worker to serve, on a busy machine


class Nursery:
    """Its side in the test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def fork(self, url: str, address: str, log: Path, concurrency: int) -> int:
        """The process id of a worker that is starting, and that may never get as far as serving."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            stdin.write(f"{url} {address} {log} {concurrency}\n".encode())
            async with asyncio.timeout(READY_S):
                return int(await stdout.readline())

    async def spawn(self, url: str, address: str, log: Path, concurrency: int) -> int:
        """The process id of a worker that serves."""
        pid = await self.fork(url, address, log, concurrency)
        async with asyncio.timeout(READY_S):
            while not _ready_file(log, pid).exists():
                await asyncio.sleep(0.01)
        return pid


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, stdin=pipe, stdout=pipe)
    try:
        yield Nursery(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def lives(pid: int) -> bool:
    """Whether a worker is still there; the nursery leaves no zombies."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _ready_file(log: Path, pid: int) -> Path:
    return log.with_suffix(f".{pid}")


# -- the other process --------------------------------------------------------------------------------


def forked(lines: Iterator[str]) -> Iterator[int]:
    from rpckit import Server  # noqa: F401  # what makes a start slow, once for all
    from rpckit_redis import RedisTransport  # noqa: F401

    sys.path.insert(0, str(Path(__file__).parent))
    import worker

    for line in lines:
        url, address, log, concurrency = line.split()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            worker.ready = _ready_file(Path(log), os.getpid()).touch
            asyncio.run(worker.main(url, address, log, int(concurrency)))
            os._exit(0)
        yield pid


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pids = []
    try:
        for pid in forked(sys.stdin):
            pids.append(pid)
            print(pid, flush=True)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
