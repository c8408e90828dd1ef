"""What a tutorial's README shows, taken apart: excerpts, programs and terminal sessions, in their order.

A fence is an excerpt or a program by the comment above it, and a terminal session by its language:

    <!-- file: PATH -->     the Python or TOML below stands in that file, word for word
    <!-- run -->            the Python below is a program; the text below that is what it prints
    <!-- run: broker -->    the same, and it starts a broker of its own
    <!-- save: NAME -->     the code below is a file that the reader saves where the commands are given
    <!-- shown -->          the Python below is for reading: it needs what is not installed, or is a part of something
    <!-- stop -->           the reader stops the servers here
    <!-- printed: PART -->  the text below is what each server printed since, whose command has PART in it
    <!-- shared: PART -->   the same of all of them together
    ```console              `$ command` lines, each with what it prints; … stands for anything
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Excerpt", "Printed", "Program", "Step", "Stop", "matches", "read_steps"]

_MARK = r"<!-- (?P<{}>[^\n]+?) -->"
_FENCE = r"```(?P<language>\w*)\n(?P<text>.*?)^```$"
_PART = re.compile(rf"^(?:{_MARK.format('mark')}\n)?{_FENCE}|^{_MARK.format('alone')}$", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(r"\brpckit serve\b|(_server|_page|/service|/worker|/receive\w*)\.py\b")
_SAVED = re.compile(r"python \w+\.py")
_COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    text: str
    printed: str
    own_broker: bool


@dataclass(frozen=True, slots=True)
class Saved:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    line: str
    printed: str

    @property
    def serves(self) -> bool:
        """Whether it goes on until it is stopped, or the README shows its exit code."""
        return _SERVER.search(self.line) is not None and not self.line.endswith('echo "exit code $?"')

    @property
    def by_others(self) -> bool:
        """Whether it is a program that is not rpckit's: of another library, or saved from the page."""
        return "/peers/" in self.line or "/old/" in self.line or _SAVED.fullmatch(self.line) is not None


@dataclass(frozen=True, slots=True)
class Stop:
    """The servers are stopped."""


@dataclass(frozen=True, slots=True)
class Printed:
    """Lines, in any order, that servers have printed; `shared`: some of them each."""

    by: str
    text: str
    shared: bool

    @property
    def lines(self) -> list[str]:
        return sorted(self.text.splitlines())


Step = Excerpt | Printed | Program | Saved | Command | Stop


def read_steps(readme: Path) -> list[Step]:
    return list(_steps(readme.read_text()))


def matches(printed: str, expected: str) -> bool:
    """Whether a program printed what the README says, … being anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def _steps(text: str) -> Iterator[Step]:
    program: tuple[str, str] | None = None
    for part in _PART.finditer(text):
        mark, language, body = part["mark"] or part["alone"], part["language"], part["text"]
        if mark == "stop":
            yield Stop()
        elif mark == "shown":
            ast.parse(body)  # it is Python, at least
        elif language == "console":
            for command in _COMMAND.finditer(body):
                yield Command(command[1], command[2])
        elif mark and mark.startswith("save: "):
            yield Saved(mark.removeprefix("save: "), body)
        elif language in ("python", "toml") and mark and mark.startswith("file: "):
            yield Excerpt(mark.removeprefix("file: "), body)
        elif language == "python" and mark in ("run", "run: broker"):
            program = (body, mark)
        elif language == "text" and mark and mark.startswith(("printed: ", "shared: ")):
            how, _, by = mark.partition(": ")
            yield Printed(by, body, shared=how == "shared")
        elif language == "text" and program is not None:
            yield Program(program[0], body, own_broker=program[1] == "run: broker")
            program = None
        else:
            raise ValueError(f"nothing says what to do with this part of the README:\n{part[0]}")
