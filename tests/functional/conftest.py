"""What functional tests share: no settings from outside."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _no_settings(no_settings_from_outside: None) -> None: ...
