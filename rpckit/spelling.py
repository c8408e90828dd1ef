"""The known word that a misspelt one most likely means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str], spelt: Callable[[str], str] = str) -> str:
    """` Did you mean …?` to stand behind a sentence, the word as `spelt` has it; empty when none is close."""
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {spelt(close[0])}?" if close else ""
