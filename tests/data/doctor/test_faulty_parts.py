"""Faulty parts are found by halving, all of them and no other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data.checks.faulty_parts import MOST_FAULTS, find_faulty_parts
from utils.errors import DataError


def reader(faulty, readings):
    def read(begin, end):
        readings.append((begin, end))
        bad = next((place for place in range(begin, end) if place in faulty), None)
        if bad is not None:
            raise DataError(f"part {bad}")

    return read


@given(st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0)), max_size=n))))
def test_all_faulty_parts_and_no_others_are_found(case):
    count, faulty = case
    found = find_faulty_parts(count, reader(faulty, []))
    assert found.places == sorted(faulty)
    assert found.sentences == [f"part {place}" for place in sorted(faulty)]
    assert found.complete


def test_few_faults_take_few_readings():
    readings = []
    assert find_faulty_parts(100_000, reader({77_777}, readings)).places == [77_777]
    assert len(readings) < 40


def test_a_file_of_nothing_but_faults_is_given_up():
    found = find_faulty_parts(1000, reader(set(range(1000)), []))
    assert not found.complete
    assert found.places == list(range(MOST_FAULTS))
