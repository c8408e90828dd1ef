"""A reader's session: the steps of a tutorial's README, taken in their order on brokers of ours."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

from rpckit.testing import RabbitMq
from rpckit.url import Url
from tests.interop.processes import ROOT, clean_env, finish, running
from tests.interop.processes import Program as Process
from tests.tutorials.readme import Command, Excerpt, Printed, Program, Saved, Step, Stop, matches

__all__ = ["QUIET", "Session", "stands_in_its_file"]

QUIET = ["-W", "error"]  # what a program leaves behind would be complained about
PRINTED_S = 20.0  # seconds for a server to print what it should
TWO_BROKER_STARTS = 60.0  # seconds; 6 each on two cores
_CONNECTION = re.compile(r"reconnect|connected again")  # what a server logs of a broker that was killed
_SETTINGS = re.compile(r"^((?:\w+=\S+ )*)")  # before a command's name


def stands_in_its_file(excerpt: Excerpt) -> bool:
    """But for empty lines and the margin, which a formatter chooses."""
    shown = _lines(dedent(excerpt.text))
    there = _lines((ROOT / excerpt.path).read_text())
    return shown in there or indent(shown, "    ") in there


class Session:
    """Servers go on in terminals of their own until a step, or the end, stops them.

    brokers: where each broker of the README is here, by the URL that it shows. The first is that of `RPCKIT_URL`.
             A port that is not part of a URL can be said in the same way.
    folder:  where the commands are given, and files saved.
    """

    def __init__(self, brokers: Mapping[str, str], folder: Path = ROOT) -> None:
        self._brokers = brokers
        self._folder = folder
        self._env = clean_env(RPCKIT_URL=next(iter(brokers.values())))
        self._terminals = ExitStack()
        self._servers: list[_Server] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._terminals.close()

    def play(self, step: Step) -> None:
        """Take one step. Raises AssertionError when what comes is not what the README says."""
        match step:
            case Saved():
                (self._folder / step.name).write_text(self._here(step.text))
            case Command() if step.serves:
                self._serve(step)
            case Command():
                self._run_command(step)
            case Program():
                self._run_program(step)
            case Printed():
                servers = [server for server in self._servers if step.by in server.command.line]
                assert servers, f"no server is {step.by}"
                for group in [servers] if step.shared else [[server] for server in servers]:
                    _await_lines(group, step.lines)
            case Stop():
                while self._servers:
                    self._servers.pop().interrupt()

    def _serve(self, command: Command) -> None:
        argv = ["/bin/sh", "-c", _SETTINGS.sub(r"\1exec ", self._here(command.line), count=1)]
        ready = self._here(command.printed.strip(), shown=True).partition("…")[0]
        process = self._start(argv, ready, tries=2 if command.by_others else 1)
        self._servers.append(_Server(command, process, ready))

    def _start(self, argv: Sequence[str], ready: str, tries: int) -> Process:
        """FastStream's page asks itself, and now and then misses it on a stream: see `wake` in tests/interop."""
        try:
            return self._terminals.enter_context(running(argv, ready=ready, env=self._env, cwd=self._folder))
        except AssertionError:
            if tries == 1:
                raise
            return self._start(argv, ready, tries - 1)

    def _run_command(self, command: Command) -> None:
        ran = finish(["/bin/sh", "-c", f"exec 2>&1; {self._here(command.line)}"], env=self._env, cwd=self._folder)
        assert matches(ran.out, command.printed), f"$ {command.line}\n{ran.out}"

    def _run_program(self, program: Program) -> None:
        if program.own_broker and not RabbitMq.installed():
            return
        text = self._here(program.text)
        ran = finish([sys.executable, *QUIET, "-"], stdin=text, env=self._env, timeout=TWO_BROKER_STARTS)
        said = [line for line in ran.err.splitlines() if not (program.own_broker and _CONNECTION.search(line))]
        assert (ran.code, said) == (0, []), ran.err
        assert sorted(ran.out.splitlines()) == sorted(program.printed.splitlines()), f"{text}\n{ran.out}"

    def _here(self, text: str, *, shown: bool = False) -> str:
        """The README's brokers are on localhost, ours elsewhere; `shown`, as rpckit shows it: without a password."""
        for theirs, ours in self._brokers.items():
            url = str(Url.parse(ours)) if shown and "://" in ours else ours
            text = text.replace(theirs, url)
        return text


@dataclass(slots=True)
class _Server:
    """One terminal; `read` of the lines in it, but for that which says `ready`, have been compared with the README."""

    command: Command
    process: Process
    ready: str
    read: int = 0

    @property
    def fresh(self) -> list[str]:
        """What it answers at once may come before it says that it is ready."""
        return [line for line in self.process.output.splitlines() if self.ready not in line][self.read :]

    def interrupt(self) -> None:
        """Ctrl-C. A server of rpckit's ends well; the others end as they do."""
        self.process.send(signal.SIGINT)
        code = self.process.wait()
        assert code == 0 or self.command.by_others


def _await_lines(servers: Sequence[_Server], lines: Sequence[str]) -> None:
    """Until they have printed as much; then it is what it should be."""
    deadline = time.monotonic() + PRINTED_S
    while len(_fresh(servers)) < len(lines) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _fresh(servers) == lines, [server.command.line for server in servers]
    for server in servers:
        server.read += len(server.fresh)


def _fresh(servers: Sequence[_Server]) -> list[str]:
    return sorted(line for server in servers for line in server.fresh)


def _lines(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.strip())
