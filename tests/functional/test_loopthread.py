"""A loop in a thread, in a forked process."""

from __future__ import annotations

import os
import sys

import pytest

from rpckit.errors import UsageError
from rpckit.loopthread import LoopThread


async def nothing() -> None: ...


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_make_its_own() -> None:
    loop = LoopThread("the loop", nothing)
    loop.run(nothing)
    child = os.fork()
    if child == 0:
        try:
            loop.run(nothing)
        except UsageError as error:
            os._exit(0 if "before this process was forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.run(nothing)
    loop.stop()
