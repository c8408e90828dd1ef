"""Topics: what is one, what a pattern matches, and what belongs to other programs."""

from __future__ import annotations

import re
from itertools import product
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.errors import UsageError
from rpckit.topics import (
    ForeignTopic,
    TopicTable,
    check_topic,
    event_topic,
    foreign_topic,
    in_bounds,
    is_pattern,
    matches,
    user_topic,
)

WORDS = st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=5).map(".".join)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5).map(".".join)


@pytest.mark.parametrize(
    "pattern, topic, heard",
    [
        ("user.*", "user.created", True),
        ("user.*", "user", False),
        ("user.*", "user.created.twice", False),
        ("*.created", "user.created", True),
        ("user.#", "user", True),
        ("user.#", "user.created.twice", True),
        ("user.#", "users.created", False),
        ("#", "user", True),
        ("#.created", "created", True),
        ("#.created", "user.created.twice", False),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.*", "a", False),
        ("a.#.*", "a.b", True),
        ("*.#.*", "a", False),
        ("user.created", "user.created", True),
        ("c#.x", "c#.x", True),
        ("c#.x", "cc.x", False),
    ],
)
def test_a_star_is_one_word_and_a_hash_any_number(pattern: str, topic: str, heard: bool) -> None:
    assert matches(pattern, topic) is heard


@given(PATTERNS, WORDS)
def test_it_is_the_rule_that_a_regular_expression_says(pattern: str, topic: str) -> None:
    """Each word with the dot behind it; a dot behind the last one too."""
    word = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    expected = "".join(word.get(each, re.escape(f"{each}.")) for each in pattern.split("."))
    assert matches(pattern, topic) is (re.fullmatch(expected, f"{topic}.") is not None)


def test_no_pattern_takes_long() -> None:
    began = perf_counter()
    assert not matches(".".join(["#", "a"] * 60) + ".b", ".".join("a" * 120))
    assert perf_counter() - began < 1


@pytest.mark.parametrize("topic", ["user.*", "#", "*", "a.#.b", "topic:logs/kern.*", "topic:logs/#", "channel:a.*"])
def test_a_pattern_is_for_those_who_listen(topic: str) -> None:
    assert check_topic(topic, listening=True) == topic
    with pytest.raises(UsageError, match="it is a pattern, for those who listen"):
        check_topic(topic)


@pytest.mark.parametrize(
    "topic", ["user*", "c#", "a.b*.c", "fanout:logs*", "fanout:*", "direct:logs/*", "topic:*/a", "topic:l/a*", "**"]
)
def test_a_sign_within_a_word_is_refused(topic: str) -> None:
    with pytest.raises(UsageError, match="alone between two dots"):
        check_topic(topic, listening=True)


@pytest.mark.parametrize("topic", [".".join("a" * 33), ".".join("#" * 33), "topic:logs/" + ".".join("a" * 33)])
def test_a_topic_has_a_limit_of_words(topic: str) -> None:
    with pytest.raises(UsageError, match="a topic has at most 32 words"):
        check_topic(topic, listening=True)
    assert not in_bounds(event_topic(topic))
    assert in_bounds(event_topic(check_topic(topic[:-2], listening=True)))


@pytest.mark.parametrize("topic", ["fanout:", "direct:logs", "direct:logs/", "direct:/info", "topic:logs", "channel:"])
def test_half_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(UsageError, match=r"it is written .*:NAME"):
        check_topic(topic)


def test_foreign_topics_keep_their_names_and_others_are_apart_from_ours() -> None:
    assert foreign_topic("fanout:logs") == ForeignTopic("fanout", "logs")
    assert foreign_topic("topic:my.logs/kern.*") == ForeignTopic("topic", "my.logs", "kern.*")
    assert foreign_topic("direct:logs/a/b") == ForeignTopic("direct", "logs", "a/b")
    assert foreign_topic("channel:news.a/b") == ForeignTopic("channel", "news.a/b")
    assert foreign_topic("headers:x") is foreign_topic("user.created") is foreign_topic("fanout") is None
    assert event_topic("fanout:logs") == user_topic("fanout:logs") == "fanout:logs"
    assert event_topic("news") == "rpckit.event.news"
    assert user_topic(event_topic("news")) == "news"


def test_a_table_finds_who_hears_by_name_and_by_pattern() -> None:
    table: TopicTable[str] = TopicTable()
    for topic, listener in (("a.b", "name"), ("a.b", "again"), ("a.*", "star"), ("#", "all"), ("b", "other")):
        table.add(topic, listener)
    assert table.hearing("a.b") == [["name", "again"], ["star"], ["all"]]
    assert table.hearing("a") == [["all"]]
    assert list(table) == ["a.b", "b", "a.*", "#"]
    assert [table.remove("a.b", listener) for listener in ("name", "name", "again")] == [False, False, True]
    assert table.remove("#", "all")
    assert table.hearing("a.b") == [["star"]]
    assert ("a.*" in table, "a.b" in table) == (True, False)


def test_only_a_word_of_its_own_makes_a_pattern() -> None:
    signs = {"*", "#"}
    for first, second in product(["a", "*", "#", "c#", "*a"], repeat=2):
        assert is_pattern(f"{first}.{second}") is bool({first, second} & signs)
