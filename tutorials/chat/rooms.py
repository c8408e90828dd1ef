"""What a chat server knows of its rooms: who is here, in every process, and what was said. Pure: time comes in.

Every process keeps all of it, from the events it hears; nothing here grows without a bound.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MAX_NAME", "MAX_TEXT", "Line", "Rooms"]

MAX_NAME = 40  # characters of a name, and of a room's
MAX_TEXT = 2_000  # characters of a line
MAX_LINES = 200  # of a room's history
MAX_ROOMS = 1_000  # with a history; the ones silent for longest leave
GONE_S = 25.0  # seconds without a word from a process: its people are gone; it speaks every 10


@dataclass(frozen=True, slots=True)
class Line:
    """One thing said. id: grows in each room of each process. at: unix seconds."""

    id: str
    room: str
    nickname: str
    text: str
    at: float


@dataclass(slots=True)
class _Room:
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))


class Rooms:
    """`process` is the name of this server among the others."""

    def __init__(self, process: str) -> None:
        self.process = process
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._names: dict[str, tuple[float, dict[str, list[str]]]] = {}  # process: heard at, names by room
        self._serial = 0

    def free_name(self, room: str, wanted: str, own: str | None = None) -> str:
        """`wanted`, or with a number behind it if somebody in the room has it; one's `own` is free."""
        taken, name, number = {*self.who(room)} - {own}, wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted} ({number})"
        return name

    def line(self, room: str, nickname: str, text: str, now: float) -> Line:
        """Something said here, to be told to every process, this one too."""
        self._serial += 1
        return Line(f"{int(now * 1000):013d}-{self.process}-{self._serial:06d}", room, nickname, text, now)

    def add(self, line: Line) -> bool:
        """Keep a line in its place. False: it is known."""
        room = self._rooms.setdefault(line.room, _Room())
        self._rooms.move_to_end(line.room)
        while len(self._rooms) > MAX_ROOMS:
            self._rooms.popitem(last=False)
        if any(known.id == line.id for known in room.lines):
            return False
        later = [room.lines.pop() for known in list(reversed(room.lines)) if known.id > line.id]
        room.lines.extend([line, *reversed(later)])
        return True

    def history(self, room: str, since: str = "") -> list[dict[str, Any]]:
        """What was said in a room, after the line `since`."""
        known = self._rooms.get(room)
        return [asdict(line) for line in known.lines if line.id > since] if known else []

    def everything(self) -> list[dict[str, Any]]:
        """For a process that has just started."""
        return [line for room in self._rooms for line in self.history(room)]

    def hear_names(self, process: str, names: dict[str, list[str]], now: float) -> set[str]:
        """A process says who is connected to it; the rooms in which that changed something."""
        _, before = self._names.get(process, (0.0, {}))
        if names:
            self._names[process] = (now, names)
        else:
            self._names.pop(process, None)
        return {room for room in {*before, *names} if before.get(room) != names.get(room)}

    def forget_silent(self, now: float) -> set[str]:
        """Drop the people of processes that are gone; the rooms they were in."""
        changed: set[str] = set()
        for process in [name for name, (heard, _) in self._names.items() if now - heard > GONE_S]:
            changed |= {*self._names.pop(process)[1]}
        return changed

    def who(self, room: str) -> list[str]:
        return sorted(name for _, names in self._names.values() for name in names.get(room, ()))
