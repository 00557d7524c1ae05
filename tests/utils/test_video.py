"""Video files: frames survive the round trip, and a file has its name only when it is whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from utils.errors import DataError, RunError
from utils.video import VideoReader, VideoWriter

REPO = Path(__file__).resolve().parents[2]


def flat_frames(count: int, size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    """Frames of one colour each, red growing, so that order and channels can be told after compression."""
    return [np.full((*size, 3), (20 + 20 * i, 40, 90), np.uint8) for i in range(count)]


def write(path: Path, frames: list[np.ndarray], rate: float = 25.0) -> Path:
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)
    assert writer.frames_written == len(frames)
    return path


@pytest.mark.parametrize("rate", [0.5, 12.5, 24000 / 1001, 30000 / 1001, 59.94, 120.123, 239.76, 1000])
def test_round_trip(tmp_path, rate):
    path = write(tmp_path / "a.mp4", flat_frames(6), rate)
    with VideoReader(path) as video:
        frames = list(video)
    assert video.rate == pytest.approx(rate, abs=0.005)
    assert (video.announced, video.frames_read, video.missing) == (6, 6, 0)
    for before, after in zip(flat_frames(6), frames, strict=True):
        assert after.shape == before.shape
        np.testing.assert_allclose(after.mean((0, 1)), before.mean((0, 1)), atol=6)


@pytest.mark.parametrize(("stride", "numbers"), [(2, [0, 2, 4]), (3, [0, 3]), (9, [0])])
def test_a_stride_leaves_frames_out(tmp_path, stride, numbers):
    with VideoReader(write(tmp_path / "a.mp4", flat_frames(6)), stride) as video:
        frames = list(video)
    assert [round((frame[..., 0].mean() - 20) / 20) for frame in frames] == numbers
    assert (video.announced, video.frames_read, video.missing) == (6, 6, 0)


def test_the_end_of_the_block_waits_for_a_thread_that_reads(tmp_path):
    class SlowCapture:
        steps, started = [], threading.Event()

        def grab(self):
            self.started.set()
            time.sleep(0.2)
            self.steps.append("grabbed")
            return False

        def release(self):
            self.steps.append("released")

    with VideoReader(write(tmp_path / "a.mp4", flat_frames(1))) as video:
        video._capture, video.frames_read = SlowCapture(), 1
        thread = threading.Thread(target=list, args=(video,))
        thread.start()
        assert SlowCapture.started.wait(10)
    thread.join()
    assert SlowCapture.steps == ["grabbed", "released"]


def test_odd_sizes_lose_their_last_row_and_column(tmp_path):
    with VideoReader(write(tmp_path / "a.mp4", flat_frames(2, (33, 47)))) as video:
        assert next(iter(video)).shape == (32, 46, 3)


def test_the_final_name_appears_last(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path, 25) as writer:
        writer.write(flat_frames(1)[0])
        assert path.read_bytes() == b"old"
    assert path.read_bytes() != b"old"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_failed_block_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(flat_frames(1)[0])
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_no_frames_no_file(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25):
        pass
    assert os.listdir(tmp_path) == []


def test_sizes_that_cannot_be_written(tmp_path):
    with pytest.raises(RunError, match="does not fit"), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(flat_frames(1)[0])
        writer.write(flat_frames(1, (16, 16))[0])
    with pytest.raises(RunError, match="cannot be encoded"), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(flat_frames(1, (1, 1))[0])
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_ends_the_job_at_once(tmp_path, monkeypatch):
    free = iter([2**30, 2**30, 0, 0])
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=next(free)))
    with pytest.raises(OSError, match="No space left") as caught, VideoWriter(tmp_path / "a.mp4", 25) as writer:
        for frame in flat_frames(10):
            writer.write(frame)
    assert caught.value.errno == errno.ENOSPC and writer.frames_written == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX limit on file sizes")
def test_frames_that_do_not_reach_the_disk_are_noticed(tmp_path):
    program = f"""
import resource, signal, numpy as np
from utils.video import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0)
with VideoWriter({str(tmp_path / "a.mp4")!r}, 25) as writer:
    for _ in range(60):
        writer.write(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "WARN" not in done.stderr
    assert "RunError" in done.stderr and "frames reached the file" in done.stderr
    assert os.listdir(tmp_path) == []


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    for name, words in (("gone.mp4", "no such video"), ("empty.mp4", "zero bytes"), ("text.mp4", "corrupt")):
        with pytest.raises(DataError, match=words) as caught:
            VideoReader(tmp_path / name)
        assert name in str(caught.value)
