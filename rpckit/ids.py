"""Random identifiers of 128 bits: unguessable, and drawn in bulk so that a call costs no system call."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["IdSource", "new_id"]

ID_BYTES = 16  # 128 bits
BATCH = 256  # ids drawn by one system call
_HEX = ID_BYTES * 2


class IdSource:
    """Calling it gives the next id: 32 hexadecimal digits. `entropy(n)` returns n random bytes."""

    __slots__ = ("_drawn", "_entropy")

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self.reset()

    def reset(self) -> None:
        """Forget what was drawn; a forked child must never repeat its parent's ids."""
        self._drawn: list[str] = []

    def __call__(self) -> str:
        try:
            return self._drawn.pop()
        except IndexError:
            drawn = self._entropy(ID_BYTES * BATCH).hex()
            self._drawn += [drawn[start : start + _HEX] for start in range(0, len(drawn), _HEX)]
            return self._drawn.pop()


new_id = IdSource()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_id.reset)
