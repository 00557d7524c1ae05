"""Turns of heads: passes are complete, rounds add up, and everything is a function of the round's number."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import ModelError
from utils.training.turns import RULES, Turns

LENGTHS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1, max_size=4)


@given(LENGTHS, st.sampled_from(RULES), st.integers(0, 300))
def test_taken_is_the_sum_of_the_orders(lengths: dict[str, int], rule: str, rounds: int) -> None:
    turns = Turns(lengths, rule)
    given_so_far: Counter[str] = Counter()
    for done in range(rounds):
        assert all(turns.taken(name, done) == given_so_far[name] for name in lengths)
        given_so_far.update(turns.order(done % turns.rounds))
    assert all(turns.taken(name, rounds) == given_so_far[name] for name in lengths)


@given(LENGTHS, st.integers(1, 3))
def test_proportional_epochs_are_one_pass_over_everything(lengths: dict[str, int], epochs: int) -> None:
    turns = Turns(lengths, "proportional")
    for name, length in lengths.items():
        assert turns.taken(name, epochs * turns.rounds) == epochs * length
    sizes = [len(turns.order(number)) for number in range(turns.rounds)]
    assert sum(sizes) == sum(lengths.values())
    assert all(size == len(lengths) for size in sizes[:-1]) and 1 <= sizes[-1] <= len(lengths)


@given(LENGTHS)
def test_proportional_turns_are_even(lengths: dict[str, int]) -> None:
    turns, total = Turns(lengths, "proportional"), sum(lengths.values())
    line = [name for number in range(turns.rounds) for name in turns.order(number)]
    for name, length in lengths.items():
        for done in range(total + 1):
            # At no moment is a head further from its share than the others together can push it.
            assert abs(line[:done].count(name) - done * length / total) < max(len(lengths) - 1, 1)
    if len(lengths) == 2:
        rarer = min(lengths, key=lengths.__getitem__)
        places = [i for i, name in enumerate(line) if name == rarer]
        gaps = {b - a for a, b in pairwise(places)}
        assert not gaps or max(gaps) - min(gaps) <= 1


@given(LENGTHS, st.sampled_from(["longest", "shortest", "head"]), st.integers(0, 200))
def test_alternating_heads_give_one_batch_each(lengths: dict[str, int], rule: str, rounds: int) -> None:
    first = next(iter(lengths))
    expected = {"longest": max(lengths.values()), "shortest": min(lengths.values()), "head": lengths[first]}[rule]
    turns = Turns(lengths, "alternate", first if rule == "head" else rule)
    assert turns.rounds == expected
    assert {turns.order(number) for number in range(turns.rounds)} == {tuple(lengths)}
    assert {turns.taken(name, rounds) for name in lengths} == {rounds}


@given(LENGTHS, st.sampled_from(RULES), st.integers(0, 100), st.integers(0, 30))
def test_heads_in_rounds(lengths: dict[str, int], rule: str, first: int, count: int) -> None:
    turns = Turns(lengths, rule)
    seen = {name for number in range(first, first + count) for name in turns.order(number % turns.rounds)}
    assert turns.heads_in(first, count) == seen


def test_a_rare_head_is_absent_from_most_rounds() -> None:
    turns = Turns({"detect": 9, "segment": 1}, "proportional")
    assert turns.rounds == 5
    assert [turns.heads_in(number, 1) for number in range(5)].count({"detect"}) == 4
    assert turns.taken("segment", 5) == 1 and turns.taken("detect", 5) == 9


def test_the_furthest_behind_goes_first() -> None:
    turns = Turns({"a": 4, "b": 2}, "proportional")
    assert [turns.order(number) for number in range(3)] == [("a", "b"), ("a", "a"), ("b", "a")]


@pytest.mark.parametrize(
    ("rule", "epoch", "words"),
    [
        ("alternte", "longest", "Did you mean 'alternate'"),
        ("alternate", "longst", "Did you mean 'longest'"),
        ("proportional", "detect", "leave it out"),
    ],
)
def test_mistakes(rule: str, epoch: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Turns({"detect": 3, "segment": 2}, rule, epoch)


def test_rounds_beyond_the_epoch_and_empty_sets_are_refused() -> None:
    with pytest.raises(IndexError):
        Turns({"a": 2}).order(2)
    with pytest.raises(ValueError, match="needs a batch"):
        Turns({"a": 2, "b": 0})
