"""One live source: the newest frames win, lost connections come back, and nothing grows."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.mjpeg_server import MjpegCamera, wait_until
from tests.rtsp_server import RtspCamera, transport_stream
from tests.utils.streams.pretend_camera import PretendCamera
from utils.errors import DataError
from utils.streams.capture import rate_of
from utils.streams.live_options import LiveOptions
from utils.streams.live_reader import LiveReader
from utils.streams.live_source import LiveSource, live_sources

REPO = Path(__file__).resolve().parents[3]
CAMERA = LiveSource("rtsp://admin:secret@door/live", "door_live")
QUICK = LiveOptions(first_delay=0.01, longest_delay=0.02, reconnect=2)


def reds(reader: LiveReader) -> list[int]:
    """Take what waits, as the red values of the frames."""
    frames = iter(reader.take, None)
    return [int(frame.image[0, 0, 0]) for frame in frames]


def test_the_newest_frames_win_and_the_others_are_counted() -> None:
    with LiveReader(CAMERA, LiveOptions(queue=3, reconnect=1), opener=PretendCamera([10])) as reader:
        wait_until(lambda: reader.error is not None)
        assert reader.ready and not reader.ended
        frames = list(iter(reader.take, None))
        assert reader.ended and not reader.ready
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [8, 9, 10]
    assert [(frame.number, frame.source, frame.path, frame.name) for frame in frames] == [
        (number, "door_live", None, "door_live") for number in (1, 2, 3)
    ]
    assert all(abs(frame.time - time.time()) < 60 for frame in frames)
    assert (reader.counts.delivered, reader.counts.dropped, reader.counts.stale) == (3, 7, 0)


def test_old_frames_are_left_out_and_counted() -> None:
    with LiveReader(CAMERA, LiveOptions(stale=0.02, reconnect=1), opener=PretendCamera([2])) as reader:
        wait_until(lambda: reader.error is not None)
        time.sleep(0.05)
        assert reader.take() is None
    assert (reader.counts.delivered, reader.counts.stale) == (0, 2)


def test_every_third_frame() -> None:
    options = LiveOptions(stride=3, queue=9, reconnect=1)
    with LiveReader(CAMERA, options, opener=PretendCamera([8])) as reader:
        wait_until(lambda: reader.error is not None)
        assert reds(reader) == [1, 4, 7]
    assert reader.counts.dropped == 0


def test_lost_connections_come_back_and_are_counted(caplog) -> None:
    camera = PretendCamera([2, None, 1, 3])
    options = LiveOptions(queue=9, first_delay=0.01, reconnect=3)
    with caplog.at_level(logging.INFO, "yolograph"), LiveReader(CAMERA, options, opener=camera) as reader:
        wait_until(lambda: reader.error is not None)
        assert reds(reader) == [1, 2, 3, 4, 5, 6]
    assert reader.counts.reconnects == 2
    assert camera.opened == camera.released == 4 + 2, "the loss itself is the first of three tries"
    assert "the connection was lost and 3 tries did not bring it back" in str(reader.error)
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "connection lost, trying again in 0.01 s",
        "connected again",
        "connection lost, trying again in 0.01 s",
        "connected again",
        "connection lost, trying again in 0.01 s",
    ]
    assert "secret" not in caplog.text + str(reader.error)


def test_many_losses_do_not_fill_the_log(caplog) -> None:
    camera = PretendCamera([1] * 205)
    options = LiveOptions(first_delay=0, longest_delay=0, reconnect=2)
    with caplog.at_level(logging.INFO, "yolograph"), LiveReader(CAMERA, options, opener=camera) as reader:
        wait_until(lambda: reader.error is not None)
    assert reader.counts.reconnects == 204
    told = [message.partition(": ")[2] for message in caplog.messages]
    lost, again = "connection lost, trying again in 0 s", "connected again"
    often = [
        f"connection lost {n} times, told every 100 times from now on, trying again in 0 s" for n in (10, 100, 200)
    ]
    assert told == [lost, again] * 9 + [each for line in often for each in (line, again)]


@pytest.mark.parametrize(
    ("address", "announced", "words"),
    [
        ("0", 0, "webcam 0: not one frame came in 2 tries; plug it in"),
        ("rtsp://door/live", 0, "rtsp://door/live: not one frame came in 2 tries; see whether the address is right"),
        ("http://door/a.mp4", 9, "unable to send parts of a file; download it"),
    ],
)
def test_a_source_that_never_delivers_is_one_sentence(address: str, announced: int, words: str) -> None:
    opener = PretendCamera([0, 0], announced=announced)
    with LiveReader(live_sources([address])[0], QUICK, opener=opener) as reader:
        wait_until(lambda: reader.ended)
    assert isinstance(reader.error, DataError) and words in str(reader.error)
    assert "\n" not in str(reader.error)


def test_no_end_of_tries() -> None:
    options = LiveOptions(first_delay=0.001, longest_delay=0.001, reconnect=0)
    camera = PretendCamera([None] * 30 + [1])
    with LiveReader(CAMERA, options, opener=camera) as reader:
        wait_until(lambda: reader.ready)
        assert reader.counts.reconnects == 0, "it was never lost"


def test_a_recording_waits_and_ends() -> None:
    source = live_sources(["http://host/a.mp4"])[0]
    with LiveReader(source, LiveOptions(stale=0, queue=2), opener=PretendCamera([7, 7], announced=7)) as reader:
        wait_until(lambda: reader.ready)
        time.sleep(0.02)
        found = []
        while not reader.ended:
            found += reds(reader)
    assert found == [1, 2, 3, 4, 5, 6, 7]
    assert reader.error is None and reader.counts.dropped == reader.counts.stale == 0


def test_a_recording_that_ends_early_is_told(caplog) -> None:
    source, camera = live_sources(["http://host/a.mp4"])[0], PretendCamera([1], announced=7)
    with caplog.at_level(logging.WARNING, "yolograph"), LiveReader(source, opener=camera) as reader:
        wait_until(lambda: reader.ready and not reader._alive)
    assert caplog.messages == ["http://host/a.mp4: announces 7 frames, but only 1 can be read"]


@pytest.mark.parametrize("waits_for", ["frames", "the next try", "room"])
def test_closing_ends_the_thread_at_once(waits_for: str) -> None:
    options = LiveOptions(first_delay=60, longest_delay=60)
    source = live_sources(["http://host/a.mp4"])[0]
    frames, announced = {"frames": (10**9, 0), "the next try": (0, 0), "room": (10**9, 10**9)}[waits_for]
    before = threading.active_count()
    reader = LiveReader(source, options, opener=PretendCamera([frames], announced=announced))
    wait_until(lambda: reader.ready or reader._tries == 1)
    reader.close()
    assert threading.active_count() == before and reader.ended and reader.take() is None


HANGING_AT_THE_END = """
import threading
import time
from tests.utils.streams.pretend_camera import PretendCamera
from utils.streams import live_reader
from utils.streams.live_source import LiveSource

hangs = threading.Event()

class Hanging(PretendCamera):
    def __call__(self, source):
        connection = super().__call__(source)
        connection.grab = lambda: hangs.set() or time.sleep(0.7) or print("came back", flush=True)
        return connection

live_reader.PATIENCE = 0.05
reader = live_reader.LiveReader(LiveSource("rtsp://door/live", "door"), opener=Hanging([1]))
hangs.wait()
reader.close()
print("closed", flush=True)
"""


def test_a_process_ends_after_the_decoders_that_it_left() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING_AT_THE_END], cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (0, ["closed", "came back", ""], "")


def test_a_camera_that_falls_silent_is_lost_in_our_words_alone(capfd, monkeypatch, caplog) -> None:
    monkeypatch.setattr("utils.streams.capture._FRAME_SECONDS", 1)
    with MjpegCamera(rate=100) as camera, LiveReader(live_sources([camera.address])[0]) as reader:
        wait_until(lambda: reader.arrived)
        camera.silent = True
        wait_until(lambda: caplog.messages)
        camera.refusing = True
    assert caplog.messages == [f"{camera.address}: connection lost, trying again in 0.5 s"]
    assert capfd.readouterr().err == ""


def test_what_no_try_can_mend_is_raised_to_whoever_takes() -> None:
    def broken(_: LiveSource) -> cv2.VideoCapture:
        raise ValueError("a fault in the program")

    with LiveReader(CAMERA, opener=broken) as reader:
        wait_until(lambda: reader.ended)
        with pytest.raises(ValueError, match="a fault in the program"):
            reader.take()


def test_a_decoder_that_fails_is_a_lost_connection() -> None:
    class Failing(PretendCamera):
        def __call__(self, source: LiveSource):
            connection = super().__call__(source)
            if self.opened == 1:
                connection.retrieve = lambda: cv2.cvtColor(np.zeros(0), cv2.COLOR_BGR2RGB)
            return connection

    with LiveReader(CAMERA, QUICK, opener=Failing([1, 1])) as reader:
        wait_until(lambda: reader.error is not None)
        assert reds(reader) == [2]


@pytest.fixture
def traced():
    """A function that says how many bytes Python and NumPy hold."""

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    yield held
    tracemalloc.stop()


def test_memory_does_not_grow(traced) -> None:
    size = (60, 80)
    options = LiveOptions(first_delay=0, longest_delay=0, reconnect=3)
    camera = PretendCamera([20] * 1000, size=size)
    levels = []
    with LiveReader(CAMERA, options, opener=camera) as reader:
        for goal in (200, 2000):
            wait_until(lambda goal=goal: camera.frames_given > goal)
            wait_until(lambda: reader.take() is not None)
            levels.append(traced())
            assert len(reader._waiting) <= options.queue
    assert levels[1] - levels[0] < 40 * size[0] * size[1] * 3, "some frames of the 1800 may be on their way"
    assert reader.counts.dropped > 1500 and reader.counts.reconnects > 60


@pytest.mark.parametrize(("named", "taken"), [(12.5, 12.5), (0, 25), (float("nan"), 25), (90000, 25), (-1, 25)])
def test_unlikely_rates_are_25(named: float, taken: float) -> None:
    assert rate_of(PretendCamera([1], rate=named)(CAMERA)) == taken


def test_a_camera_over_http_that_drops_its_connections() -> None:
    with MjpegCamera(rate=200, frames=12) as camera:
        options = LiveOptions(queue=100, first_delay=0.02, reconnect=2)
        with LiveReader(live_sources([camera.address])[0], options) as reader:
            wait_until(lambda: reader.counts.reconnects == 2)
            wait_until(lambda: reader._arrived >= 30)
            camera.refusing = True
            wait_until(lambda: reader.error is not None)
            frames = list(iter(reader.take, None))
    assert camera.connections >= 4, "three that gave pictures, and one that was turned away"
    assert frames[0].image.shape == (48, 64, 3)
    # Red counts the frames of a connection, from 10 in steps of 10.
    counted = [round(int(frame.image[5, 5, 0]) / 10) for frame in frames]
    assert counted[:12] == list(range(1, 13)) and counted[12:24] == list(range(1, 13))
    assert np.abs(frames[0].image[5, 5].astype(int) - (10, 40, 30)).max() <= 3


def test_a_camera_over_rtsp_that_drops_its_connections(tmp_path) -> None:
    with RtspCamera(transport_stream(tmp_path / "door.ts", 20), seconds=0.2) as camera:
        options = LiveOptions(queue=1000, first_delay=0.02, reconnect=0)
        with LiveReader(live_sources([camera.address])[0], options) as reader:
            wait_until(lambda: reader.counts.reconnects == 2)
            frames = list(iter(reader.take, None))
    assert camera.plays >= 3 and reader.rate == 25
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    reds = [int(frame.image[5, 5, 0]) for frame in frames]
    starts = [i for i in range(1, len(reds)) if reds[i] < reds[i - 1]]
    assert len(starts) == 2, "red grows within a connection"
    # A decoder may keep the last frames of a connection that breaks.
    assert np.abs(np.array(reds[: starts[0]]) - np.arange(0, 160, 8)[: starts[0]]).max() <= 6 and starts[0] >= 15
