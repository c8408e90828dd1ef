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

    __slots__ = ("_drawn", "_entropy", "_offset")

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self.reset()

    def reset(self) -> None:
        """Forget what was drawn; a forked child must never repeat its parent's ids."""
        self._drawn = ""
        self._offset = 0

    def __call__(self) -> str:
        offset = self._offset
        if offset >= len(self._drawn):
            self._drawn = self._entropy(ID_BYTES * BATCH).hex()
            offset = 0
        self._offset = offset + _HEX
        return self._drawn[offset : offset + _HEX]


new_id = IdSource()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_id.reset)
