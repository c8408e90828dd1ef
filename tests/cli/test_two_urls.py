"""One service on two transports at once: `rpckit serve --url A --url B`."""

from __future__ import annotations

import signal
from pathlib import Path

from rpckit.url import Url
from tests.cli.conftest import Command
from tests.interop.processes import clean_env, rpckit, running


def test_it_answers_on_each_of_them(amqp_url: str, redis_url: str, address: str, folder: Path, run: Command) -> None:
    urls = [amqp_url, redis_url.replace("redis://", "redis+list://")]
    command = rpckit("serve", "cases:service", *(word for url in urls for word in ("--url", url)))
    with running(command, ready="serving cases", env=clean_env(ADDRESS=address), cwd=folder) as server:
        assert all(str(Url.parse(url)) in server.output for url in urls)
        for url in urls:
            assert run("call", f"{address}.double", "21", "--url", url) == (0, "42\n", "")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    for url in urls:
        assert run("call", f"{address}.double", "21", "--url", url).code == 3
