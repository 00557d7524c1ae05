"""When a live source is tried again, and when it is given up."""

from __future__ import annotations

import pytest

from utils.streams.live_options import LiveCounts, LiveOptions


def test_delays_double_up_to_their_limit() -> None:
    options = LiveOptions()
    assert [options.delay(tries) for tries in (1, 2, 3, 6, 7, 8)] == [0.5, 1, 2, 16, 30, 30]
    assert options.delay(10**9) == 30


@pytest.mark.parametrize(
    ("reconnect", "delivered", "last"), [(10, True, 10), (10, False, 3), (1, False, 1), (2, True, 2), (0, True, None)]
)
def test_tries_end(reconnect: int, delivered: bool, last: int | None) -> None:
    options = LiveOptions(reconnect=reconnect)
    ends = [tries for tries in range(1, 1000) if options.gives_up(tries, delivered)]
    assert ends[:1] == ([] if last is None else [last])


def test_counts_as_words() -> None:
    assert str(LiveCounts(1)) == "1 frame"
    assert str(LiveCounts(20, 3, 2, 1)) == "20 frames, 3 dropped, 2 stale, 1 reconnect"
