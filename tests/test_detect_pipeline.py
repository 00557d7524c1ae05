"""detect.py with its stages side by side: the same files as one after the other, frames chosen, and clean ends."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from models.predictor import Predictor
from tests.detect_runs import files_below
from tests.mjpeg_server import MjpegCamera
from tests.tiny_detector import make_picture, write_picture
from utils.detecting.defaults import choose_weights, example_sources
from utils.errors import UsageError
from utils.video import VideoReader, VideoWriter


@pytest.fixture
def one_thread():
    """PyTorch with one thread, so that a pass computes the same however many there are."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    yield
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, before[1]), "a run leaves the numbers as they were"
    torch.set_num_threads(before[0])


def write_film(path: Path, frames: int = 10, rate: float = 12.0, size: tuple[int, int] = (48, 64)) -> Path:
    with VideoWriter(path, rate) as writer:
        for seed in range(frames):
            writer.write(make_picture(size, seed))
    return path


def running() -> set[threading.Thread]:
    """Return the threads that run, but for the one of progress bars, which stays."""
    return {thread for thread in threading.enumerate() if "tqdm" not in thread.name}


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as video:
        return list(video)


def test_side_by_side_gives_the_bytes_of_one_after_the_other(run_detect, tmp_path, one_thread):
    (tmp_path / "in").mkdir()
    for seed, size in enumerate([(60, 80), (80, 60), (60, 80), (30, 90), (60, 80), (60, 80)]):
        write_picture(tmp_path / "in" / f"{seed}.png", size, seed)
    (tmp_path / "in" / "2b.png").write_bytes(b"broken")
    write_film(tmp_path / "in" / "film.mp4")
    more = ["--save-txt", "--save-conf", "--save-mask", "--save-crop", "--save-csv", "--save-labelme"]
    logs = {}
    for name, workers in (("one", 1), ("many", 4)):
        before = running()
        code, out, err = run_detect(tmp_path / "in", *more, "--workers", workers, "--name", name)
        assert code == 0, err
        assert running() == before
        logs[name] = [line.split(",")[0] for line in out.splitlines() if line.startswith(("image ", "video "))]
    one, many = tmp_path / "runs" / "one", tmp_path / "runs" / "many"
    assert files_below(one) == files_below(many) and len(files_below(one)) > 60
    different = [name for name in files_below(one) if (one / name).read_bytes() != (many / name).read_bytes()]
    assert different == []
    assert logs["one"] == logs["many"] and [line.split()[1] for line in logs["one"][:3]] == ["1/7", "2/7", "3/7"]


def test_frames_are_left_out_and_the_rest_takes_as_long(run_detect, tmp_path):
    film = write_film(tmp_path / "film.mp4", frames=10, rate=12.0)
    cases = {
        "third": (["--vid-stride", 3], [1, 4, 7, 10], 4.0),
        "both": (["--vid-stride", 2, "--max-frames", 3], [1, 3, 5], 6.0),
    }
    for name, (more, numbers, rate) in cases.items():
        code, out, err = run_detect(film, *more, "--save-txt", "--name", name)
        assert code == 0, err
        folder = tmp_path / "runs" / name
        assert sorted(os.listdir(folder / "labels")) == sorted(f"film_{number}.txt" for number in numbers)
        with VideoReader(folder / "film.mp4") as video:
            assert (len(list(video)), video.rate) == (len(numbers), rate)
        assert f"{len(numbers)} frames at {rate:g} per second" in out and "end early" not in out


@pytest.mark.parametrize("where", ["encoder", "drawing", "model"])
def test_a_stage_that_fails_ends_the_run_with_its_error(run_detect, tmp_path, monkeypatch, where):
    film = write_film(tmp_path / "film.mp4", frames=30)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "film.mp4")

    target = {
        "encoder": "utils.video.VideoWriter.write",
        "drawing": "utils.detecting.run.annotate",
        "model": "models.predictor.Predictor.look",
    }[where]
    monkeypatch.setattr(target, full)
    before = running()
    code, _, err = run_detect(film, "--workers", 2)
    assert code == 1 and err.count("\n") == 1 and "No space left on device" in err
    assert running() == before
    assert files_below(tmp_path / "runs") == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("sign", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_ended_leaves_complete_files(run_detect, tmp_path, monkeypatch, sign):
    (tmp_path / "in").mkdir()
    for name, frames in (("first.mp4", 200), ("second.mp4", 2)):
        write_film(tmp_path / "in" / name, frames, size=(32, 32))
    write = VideoWriter.write

    def write_and_interrupt(self, frame):
        write(self, frame)
        if self.frames_written == 8:
            signal.pthread_kill(threading.main_thread().ident, getattr(signal, sign))

    monkeypatch.setattr(VideoWriter, "write", write_and_interrupt)
    before, handlers = running(), [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    code, out, err = run_detect(tmp_path / "in", "--save-txt", "--save-csv")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    folder = tmp_path / "runs" / "exp"
    assert code == 130 and err == "interrupted\n"
    assert running() == before
    count = len(frames_of(folder / "first.mp4"))
    labels = [f"labels/first_{number}.txt" for number in range(1, count + 1)]
    assert 8 <= count < 200
    assert files_below(folder) == sorted(["first.mp4", "objects.csv", *labels])
    assert f"1 video of {count} frames done" in out and "end early" not in out


def test_without_arguments_the_newest_model_looks_at_the_embedded_set(tmp_path, monkeypatch, tiny_weights, capsys):
    with pytest.raises(UsageError, match=r"no weights: .*give --weights"):
        choose_weights(tmp_path / "runs", tmp_path / "street.safetensors")
    (tmp_path / "street.safetensors").touch()
    assert choose_weights(tmp_path / "runs", tmp_path / "street.safetensors") == (
        tmp_path / "street.safetensors",
        256,
        256,
    )
    for age, name in ((10, "old"), (1, "new"), (5, "middle")):
        best = tmp_path / "runs" / "train" / name / "weights" / "best.safetensors"
        best.parent.mkdir(parents=True)
        best.write_bytes(tiny_weights.read_bytes())
        os.utime(best, (time.time() - age, time.time() - age))
    monkeypatch.chdir(tmp_path)
    newest = Path("runs/train/new/weights/best.safetensors")
    assert choose_weights() == (newest, 640, 640)
    Path("runs/train/new/opt.yaml").write_text("img_size: [96, 64]\nbase_size: null\n")
    assert choose_weights() == (newest, 96, 96)
    (tmp_path / "set").mkdir()
    (tmp_path / "small.yaml").write_text(
        "path: set\nembedded: {train: 1, val: 2, size: [64, 48], seed: 0}\n"
        "detect: {train: images/train, val: images/val, names: [car, person, sign]}\n"
    )
    monkeypatch.setattr("utils.detecting.defaults.EXAMPLE_DATA", tmp_path / "small.yaml")
    monkeypatch.setattr("data.synthetic.embedded.FRAMES", 3)
    sources = example_sources()
    assert [path.name for path in sources.images + sources.videos] == ["000000.png", "000001.png", "street.mp4"]
    detect.main(["--device", "cpu", "--max-frames", "2"])
    assert files_below(tmp_path / "runs" / "detect") == ["exp/000000.png", "exp/000001.png", "exp/street.mp4"]
    out = capsys.readouterr().out
    assert f"taking {newest} at 96 pixels" in out and "2 images and 1 video of 2 frames done" in out


def test_live_sources_share_batches_and_a_slow_one_holds_nobody_up(run_detect, tmp_path, monkeypatch):
    sizes: list[int] = []
    look = Predictor.look

    def counted(self, images, *more):
        sizes.append(len(images))
        return look(self, images, *more)

    monkeypatch.setattr(Predictor, "look", counted)
    with MjpegCamera(rate=60) as fast, MjpegCamera(rate=60) as other, MjpegCamera(rate=2) as slow:
        cameras = (fast, other, slow)
        (tmp_path / "all.streams").write_text("\n".join(camera.address for camera in cameras))
        code, out, err = run_detect(tmp_path / "all.streams", "--batch-size", 3, "--max-frames", 4, "--save-csv")
    assert code == 0, err
    names = [f"127-0-0-1-{camera.port}_live" for camera in cameras]
    for name in names:
        assert len(frames_of(tmp_path / "runs" / "exp" / f"{name}.mp4")) == 4
    ends = [out.index(f"{name}: 64x64, 4 frames at 25 per second") for name in names]
    assert ends == sorted(ends) and "3 streams of 12 frames done" in out
    assert sum(sizes) == 12 and 1 in sizes, "the slow one's last frames came alone"
