"""What the fault tests share: measured figures, printed at the end of the session."""

from __future__ import annotations

from collections.abc import Callable

import pytest

FIGURES = pytest.StashKey[list[str]]()

Figure = Callable[[str, float], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """`figure(what, seconds)` notes a measurement for the summary."""

    def note(what: str, seconds: float) -> None:
        request.config.stash.setdefault(FIGURES, []).append(f"{seconds:8.3f} s  {what}")

    return note
