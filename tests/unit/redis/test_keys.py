"""Names of keys and channels."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.errors import UsageError
from rpckit.topics import matches
from rpckit_redis._keys import MAX_ADDRESS, PlaceKind, claim_key, event_key, place_of, topic_place


def test_an_address_without_a_prefix_is_a_key_of_ours_in_the_urls_kind() -> None:
    for kind in PlaceKind:
        place = place_of("rpc_queue", kind)
        assert (place.kind, place.key, place.own) == (kind, f"rpckit:{{rpc_queue}}:{kind}", True)


@pytest.mark.parametrize("kind", PlaceKind)
def test_a_prefix_names_the_key_itself_whatever_the_url_says(kind: PlaceKind) -> None:
    place = place_of("list:test-list", kind)
    assert (place.kind, place.key, place.own) == (PlaceKind.LIST, "test-list", False)


def test_what_belongs_to_a_key_lies_in_its_cluster_slot() -> None:
    for place in (place_of("x", PlaceKind.LIST), place_of("list:x", PlaceKind.STREAM)):
        for satellite in (place.dead, place.tries, place.consumers, place.doing("c")):
            assert "{x}" in satellite
    tagged = place_of("list:a{b}c", PlaceKind.STREAM)
    assert tagged.dead.count("{") == 1


def test_ours_and_a_strangers_key_of_one_name_are_apart() -> None:
    ours, theirs = place_of("x", PlaceKind.LIST), place_of("list:x", PlaceKind.LIST)
    assert ours.key != theirs.key
    assert ours.alive == "rpckit:alive:rpckit:{x}:list"


@pytest.mark.parametrize("address", ["", "list:", "a{b", "a}b", "x" * (MAX_ADDRESS + 1), "ü" * MAX_ADDRESS])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        place_of(address, PlaceKind.STREAM)


def test_each_group_claims_an_event_apart_from_the_others() -> None:
    keys = {event_key("billing", "m"), event_key("mail", "m"), event_key("billing", "n"), claim_key("m", 1)}
    assert len(keys) == 4
    assert len(keys | {event_key("mail", "m", "user.*"), event_key("mail", "m", "user.#")}) == 6


def test_a_topic_has_a_channel_of_ours_and_a_foreign_one_its_own() -> None:
    ours, theirs = topic_place("rpckit.event.news"), topic_place("channel:news")
    assert (ours.channel, ours.is_pattern, ours.foreign) == ("rpckit:topic:rpckit.event.news", False, False)
    assert (theirs.channel, theirs.is_pattern, theirs.foreign) == ("news", False, True)
    assert theirs.topic("news") == "channel:news"


def test_of_what_a_glob_matches_only_what_the_pattern_does_has_a_topic() -> None:
    place = topic_place("channel:news.*")
    assert (place.channel, place.is_pattern) == ("news.*", True)
    assert place.topic("news.today") == "channel:news.today"
    assert place.topic("news.today.late") is None


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5).map(".".join),
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5).map(".".join),
)
def test_a_glob_matches_all_that_its_pattern_does(pattern: str, topic: str) -> None:
    place = topic_place(f"channel:{pattern}")
    if matches(pattern, topic):
        assert fnmatchcase(topic, place.channel)
    assert place.topic(topic) == (f"channel:{topic}" if matches(pattern, topic) else None)
    assert not re.search(r"\.[*]?#", place.channel)


@pytest.mark.parametrize("kind", PlaceKind)
def test_what_is_heard_in_one_database_is_not_heard_in_another(kind: PlaceKind) -> None:
    """Redis's channels are one for all databases."""
    zero, three = place_of("x", kind), place_of("x", kind, 3)
    assert three.alive == f"rpckit:db3:alive:rpckit:{{x}}:{kind}"
    assert (zero.key != three.key) is (kind is PlaceKind.CHANNEL)
    assert topic_place("news", 3).channel == "rpckit:db3:topic:news"
    assert topic_place("user.*", 3).topic("rpckit:db3:topic:user.7") == "user.7"


@pytest.mark.parametrize("kind", PlaceKind)
def test_a_key_of_others_is_of_its_database_and_a_channel_of_others_of_all(kind: PlaceKind) -> None:
    zero, three = place_of(f"{kind}:x", kind), place_of(f"{kind}:x", kind, 3)
    assert zero.key == three.key == "x"
    assert (zero.alive == three.alive) is (kind is PlaceKind.CHANNEL)
    assert topic_place("channel:news", 3).channel == "news"
