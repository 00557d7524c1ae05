"""Several live sources: what is there goes together, nobody waits for a slow one, and lost ones are named."""

from __future__ import annotations

import logging
import threading

import cv2
import numpy as np
import pytest

from tests.mjpeg_server import MjpegCamera, wait_until
from tests.utils.streams.pretend_camera import PretendCamera
from utils.errors import DataError
from utils.streams.live_options import LiveOptions
from utils.streams.live_readers import LiveReaders
from utils.streams.live_source import LiveSource, live_sources

QUICK = LiveOptions(queue=100, first_delay=0.01, longest_delay=0.01, reconnect=1)


def openers(**cameras: PretendCamera):
    """Return an opener that leads each source to the camera of its name."""
    return lambda source: cameras[source.name](source)


def sources(*names: str) -> list[LiveSource]:
    return [LiveSource(f"rtsp://{name}", name) for name in names]


def test_all_frames_of_all_sources_one_of_each_at_a_time() -> None:
    cameras = {"a": PretendCamera([5]), "b": PretendCamera([2]), "c": PretendCamera([4])}
    with LiveReaders(sources(*cameras), QUICK, openers(**cameras)) as readers:
        wait_until(lambda: all(reader.error for reader in readers.readers.values()))
        batches = [[(frame.source, frame.number) for frame in frames] for frames in readers.batches(8)]
    assert [sorted(batch) for batch in batches] == [
        [("a", 1), ("b", 1), ("c", 1)],
        [("a", 2), ("b", 2), ("c", 2)],
        [("a", 3), ("c", 3)],
        [("a", 4), ("c", 4)],
        [("a", 5)],
    ]
    assert sorted(readers.failures) == ["a", "b", "c"]


@pytest.mark.parametrize("most", [1, 2])
def test_where_places_are_few_all_get_their_turn(most: int) -> None:
    cameras = {name: PretendCamera([6]) for name in "abc"}
    with LiveReaders(sources(*cameras), QUICK, openers(**cameras)) as readers:
        wait_until(lambda: all(reader.error for reader in readers.readers.values()))
        turns = [frame.source for frames in readers.batches(most) for frame in frames]
    assert turns == ["a", "b", "c"] * 6


def test_nobody_waits_for_a_slow_source() -> None:
    reached = threading.Event()

    def opener(source: LiveSource):
        if source.name == "slow":
            reached.wait(20)
        return PretendCamera([3])(source)

    with LiveReaders(sources("slow", "quick"), QUICK, opener) as readers:
        batches = readers.batches(2)
        first = [frame.source for _ in range(3) for frame in next(batches)]
        reached.set()
        rest = [frame.source for frames in batches for frame in frames]
    assert first == ["quick"] * 3 and rest == ["slow"] * 3


def test_a_lost_source_is_named_and_the_others_go_on(caplog) -> None:
    cameras = {"a": PretendCamera([3]), "b": PretendCamera([])}
    with (
        caplog.at_level(logging.WARNING, "yolograph"),
        LiveReaders(sources("a", "b"), QUICK, openers(**cameras)) as all_,
    ):
        assert sum(len(frames) for frames in all_.batches(2)) == 3
    assert "rtsp://b: not one frame came in 1 try" in str(all_.failures["b"])
    assert any(message.startswith("given up: rtsp://b") for message in caplog.messages)


def test_where_none_delivers_the_run_ends_with_a_sentence() -> None:
    cameras = {"a": PretendCamera([]), "b": PretendCamera([0])}
    with (
        LiveReaders(sources("a"), QUICK, openers(**cameras)) as one,
        pytest.raises(DataError, match="rtsp://a: not one"),
    ):
        list(one.batches(1))
    words = "none of the 2 live sources gave a frame: rtsp://a, rtsp://b"
    with LiveReaders(sources("a", "b"), QUICK, openers(**cameras)) as two, pytest.raises(DataError, match=words):
        list(two.batches(1))


def test_a_fault_in_the_program_is_raised_even_where_other_sources_fill_every_batch() -> None:
    def opener(source: LiveSource):
        if source.name == "b":
            raise ValueError("a fault")
        return PretendCamera([3])(source)

    with LiveReaders(sources("a", "b"), QUICK, opener) as readers:
        wait_until(lambda: all(not reader._alive for reader in readers.readers.values()))
        with pytest.raises(ValueError, match="a fault"):
            list(readers.batches(1))


def test_a_source_that_was_stopped_holds_nobody_up_though_its_thread_hangs() -> None:
    reached = threading.Event()

    class Hanging(PretendCamera):
        def __call__(self, source: LiveSource):
            reached.wait(20)
            return super().__call__(source)

    with LiveReaders(sources("a"), QUICK, Hanging([3])) as readers:
        readers.readers["a"].stop()
        assert list(readers.batches(1)) == [] and not readers.failures
        assert readers.readers["a"]._alive
        reached.set()


def test_closing_ends_all_threads_and_batches_that_wait() -> None:
    before = threading.active_count()
    waiting = LiveOptions(first_delay=60, longest_delay=60)
    readers = LiveReaders(sources("a", "b"), waiting, openers(a=PretendCamera([0]), b=PretendCamera([0])))
    found: list = []
    watcher = threading.Thread(target=lambda: found.extend(readers.batches(2)))
    watcher.start()
    wait_until(lambda: all(reader._tries for reader in readers.readers.values()))
    readers.close()
    watcher.join(10)
    assert threading.active_count() == before and found == [] and readers.failures == {}


def test_cameras_and_recordings_over_http_together(tmp_path) -> None:
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (64, 48))
    for level in range(0, 200, 20):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    with MjpegCamera(rate=100, files={"/film.avi": film.read_bytes()}) as camera:
        addresses = [camera.address, camera.address.replace("live", "film.avi"), camera.address.replace("live", "gone")]
        seen: dict[str, list[int]] = {}
        with LiveReaders(live_sources(addresses), LiveOptions(first_delay=0.01, reconnect=2)) as readers:
            live, recording, gone = readers.readers.values()
            for frames in readers.batches(3):
                for frame in frames:
                    seen.setdefault(frame.source, []).append(int(frame.image[5, 5, 0]))
                if recording.ended and gone.ended and len(seen[live.source.name]) >= 20:
                    camera.refusing = True
    assert np.abs(np.array(seen[recording.source.name]) - np.arange(0, 200, 20)).max() <= 3
    assert recording.rate == 12.5 and recording.error is None and recording.counts.dropped == 0
    assert list(readers.failures) == [gone.source.name, live.source.name]
    assert live.counts.delivered >= 20
