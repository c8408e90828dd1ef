"""A server program we started, together with every process it started.

Invariant: none of them outlives us. A guard, a small shell in a session of its own, holds the reading end of
a pipe that only this process writes to; when the pipe closes, because we asked or because we were killed, it
kills the process group it was last told of and removes the scratch directory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["Guard", "ProcessTree"]

KILL_TIMEOUT = 10.0  # seconds for the kernel to end killed processes; it takes milliseconds
POLL = 0.01  # seconds between two looks
TAIL_BYTES = 4096  # of the log, in an error

GUARD_SCRIPT = """
group=
while read -r line; do group=$line; done
[ -z "$group" ] || { kill -s KILL -- "-$group" 2>/dev/null; sleep 0.1; }
rm -rf -- "$1"
"""


class Guard:
    """Kills the group it was told of last and removes `scratch`, at the latest when this process ends.

    `holding` are descriptors, such as of a locked file, that stay open until it has done so.
    """

    def __init__(self, scratch: Path, *, holding: Sequence[int] = ()) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", GUARD_SCRIPT, "guard", str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=holding,
            start_new_session=True,  # Ctrl-C at our terminal does not reach it
        )

    def watch(self, group: int | None) -> None:
        """Remember `group` in place of the last one; None when it has ended."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(b"%d\n" % group if group else b"\n")
        self._shell.stdin.flush()

    def release(self) -> None:
        """Let it do its work now, and wait for that."""
        self._shell.communicate(timeout=KILL_TIMEOUT)


class ProcessTree:
    """One running program and its descendants, signalled as one thing. Their output goes to `log`."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._root = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def group(self) -> int:
        """The process group of the program: its own pid."""
        return self._root.pid

    def running(self) -> bool:
        return self._root.poll() is None

    def pids(self) -> list[int]:
        """The program and its descendants, also those that moved to a session of their own."""
        return list(_descendants(self._root.pid)) if self.running() else []

    def signal(self, number: signal.Signals) -> None:
        """Send to every process of the tree; those already gone are passed over."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL the tree and wait until none of it is left."""
        pids = self.pids()
        self.signal(signal.SIGKILL)
        self._root.wait(KILL_TIMEOUT)
        _wait_gone(pids)

    def terminate(self, timeout: float) -> None:
        """SIGTERM the program and wait for its own end; after `timeout` seconds kill it."""
        pids = self.pids()
        self._root.terminate()
        try:
            self._root.wait(timeout)
            _wait_gone(pids)
        except (TimeoutError, subprocess.TimeoutExpired):
            self.kill()

    def tail(self) -> str:
        """The end of what the program printed."""
        return self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()


def _wait_gone(pids: Sequence[int]) -> None:
    deadline = time.monotonic() + KILL_TIMEOUT
    while left := _running(pids):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {left} did not end within {KILL_TIMEOUT:g} s")
        time.sleep(POLL)


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _process_table():
        children.setdefault(parent, []).append(pid)
    queue = [root]
    while queue:
        pid = queue.pop()
        yield pid
        queue.extend(children.get(pid, ()))


def _running(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that run. A zombie does not: it only waits for a parent that may never ask."""
    return [pid for pid, _, state in _process_table() if pid in pids and not state.startswith("Z")]


def _process_table() -> Iterator[tuple[int, int, str]]:
    """(pid, parent, state) of every process. Asks ps where there is no /proc."""
    proc = Path("/proc/self/stat")
    return _table_from_proc() if proc.exists() else _table_from_ps()


def _table_from_proc() -> Iterator[tuple[int, int, str]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended between the listing and the reading
                stat = Path("/proc", name, "stat").read_text(errors="replace")
                state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
                yield int(name), int(parent), state


def _table_from_ps() -> Iterator[tuple[int, int, str]]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state="],
        capture_output=True,
        text=True,
        check=True,
        timeout=KILL_TIMEOUT,
    )
    for line in listing.stdout.splitlines():
        pid, parent, state = line.split()
        yield int(pid), int(parent), state
