"""Random ids: 128 bits, few system calls, never the same in a forked child."""

from __future__ import annotations

import os

from rpckit.ids import BATCH, ID_BYTES, IdSource, new_id


class CountedEntropy:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        return os.urandom(count)


def test_an_id_is_32_hexadecimal_digits() -> None:
    each = new_id()
    assert len(each) == ID_BYTES * 2
    assert bytes.fromhex(each)


def test_ids_do_not_repeat_over_several_batches() -> None:
    source = IdSource()
    assert len({source() for _ in range(3 * BATCH)}) == 3 * BATCH


def test_one_system_call_serves_a_whole_batch() -> None:
    entropy = CountedEntropy()
    source = IdSource(entropy)
    for _ in range(BATCH):
        source()
    assert entropy.calls == 1
    source()
    assert entropy.calls == 2


def test_reset_forgets_what_was_drawn() -> None:
    entropy = CountedEntropy()
    source = IdSource(entropy)
    first = source()
    source.reset()
    assert source() != first
    assert entropy.calls == 2
