"""A run of given hours: it ends in time, its schedule ends with it and has no jumps."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.schedules import cosine_factor
from utils.training.deadline import RunLength


def test_the_first_epoch_does_not_count_once_there_are_others() -> None:
    # 1000 s for the first epoch, 100 s for each of the next four.
    length = RunLength(100)
    length.note(0.01, 200)
    length.note(1, 1000)
    assert length.fit(1.0, 5, 1400)
    assert length.epochs == 5 + 22


def test_a_part_of_the_first_epoch_is_enough_and_the_start_does_not_count() -> None:
    # Five minutes to begin, then ten minutes per epoch.
    length = RunLength(100)
    assert not length.fit(1.0, 0.02, 312), "the first step alone tells nothing"
    assert length.fit(1.0, 0.12, 372)
    assert length.epochs == 5
    assert not length.fit(1.0, 1, 900) and length.epochs == 5


def test_an_epoch_of_a_single_step_tells_its_time() -> None:
    length = RunLength(100)
    assert length.fit(1.0, 1, 600)
    assert length.epochs == 1 + 5


def test_there_is_always_an_epoch_in_which_the_schedule_ends() -> None:
    length = RunLength(100, start_epochs=0.1, start_seconds=100, first_seconds=3000)
    assert length.fit(1.0, 3, 9000)
    assert length.epochs == 4
    assert not length.fit(1.0, 4, 12000)


def test_a_run_whose_time_is_not_up_goes_on_at_the_last_rate() -> None:
    # The first epoch was slow, and so many seemed not to fit.
    length = RunLength(100)
    length.fit(1.0, 0.01, 30)
    length.fit(1.0, 0.1, 330)
    assert length.epochs == 1
    assert length.fit(1.0, 1, 600)
    assert length.epochs == 1 + 5 and length.share_at(3) == 1


def test_without_a_deadline_the_share_is_that_of_the_epochs() -> None:
    length = RunLength(30)
    assert [length.share_at(epoch) for epoch in (0, 7.25, 30)] == [0, 7.25 / 30, 1]


def simulate(hours: float, start: float, durations: list[float], epochs: int) -> tuple[RunLength, float, list[float]]:
    """Train on paper; return the length, the seconds, and the schedule's share at tenths of the epochs."""
    length, seconds, done, shares = RunLength(epochs), start, 0, []
    while done < length.epochs:
        duration = durations[done % len(durations)]
        for tenth in range(10):
            if done == 0 and tenth in (1, 2):
                length.fit(hours, tenth / 10, start + tenth / 10 * duration)
            shares.append(length.share_at(done + tenth / 10))
        seconds += duration
        done += 1
        shares.append(length.share_at(done))
        length.fit(hours, done, seconds)
    return length, seconds, shares


@given(
    st.floats(0.1, 50),
    st.floats(0, 3000),
    st.lists(st.floats(20, 4000), min_size=1, max_size=6),
    st.integers(1, 400),
)
def test_the_schedule_runs_from_0_to_1_without_a_step_back(
    hours: float, start: float, durations: list[float], epochs: int
) -> None:
    _, seconds, shares = simulate(hours, start, durations, epochs)
    assert shares[0] == 0 and shares[-1] == pytest.approx(1)
    assert all(one <= two + 1e-12 for one, two in pairwise(shares))
    # The plan of the moment may be wrong by an epoch that takes longer than all before it, and no more.
    if seconds > hours * 3600:
        assert seconds - hours * 3600 <= start + 2 * max(durations)


def test_equal_epochs_fill_the_time_and_no_more() -> None:
    length, seconds, shares = simulate(2.0, 0.0, [100.0], 5)
    assert length.epochs == 72 and seconds == 7200
    rates = [cosine_factor(share, 1, 0.01) for share in shares]
    assert rates[-1] == pytest.approx(0.01)
    assert max(one - two for one, two in pairwise(rates)) < 0.05


def test_a_resumed_run_goes_on_with_its_length() -> None:
    length = RunLength(100)
    length.fit(1.0, 1, 400)
    stored = json.loads(json.dumps(length.state()))
    again = RunLength.from_state(stored, 100)
    assert again == length
    assert length.fit(1.0, 2, 500) and again.fit(1.0, 2, 500)
    assert again == length and length.epochs == 2 + 31
    assert RunLength.from_state({}, 40) == RunLength(40)
