"""What people point detect.py at: lists, trees, cameras and recordings over HTTP, and addresses with slips in them."""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.detect_runs import SMALL, files_below, video_facts, write_video
from tests.mjpeg_server import MjpegCamera, wait_until
from tests.pretend_webcam import environment, is_possible
from tests.rtsp_server import RtspCamera, transport_stream
from tests.tiny_detector import write_picture
from tests.utils.streams.pretend_camera import PretendCamera
from utils.detecting.films import Film
from utils.streams.live_readers import LiveReaders

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_cameras_as_a_user_watches_them_until_ctrl_c(tmp_path, tiny_weights):
    # Where no webcam can be made up, the others are watched without one.
    webcam, machine = ("7", environment(tmp_path)) if is_possible() else ("", {**os.environ})
    folder = tmp_path / "runs" / "exp"
    files = {"/film.avi": write_video(tmp_path / "film.avi", 9, 12.5).read_bytes()}
    with MjpegCamera(rate=40, frames=15, files=files) as camera:
        secret = camera.address.replace("http://", "http://me:password@")
        film = camera.address.replace("live", "film.avi")
        (tmp_path / "yard.streams").write_text(f"# the yard\n{secret}\n{film}  # yesterday\n{webcam}\n")
        command = [
            sys.executable,
            "detect.py",
            "--weights",
            tiny_weights,
            "--source",
            tmp_path / "yard.streams",
            *SMALL,
        ]
        command += ["--project", tmp_path / "runs", "--batch-size", "4"]
        live, film = (f"127-0-0-1-{camera.port}_{path}" for path in ("live", "film-avi"))
        rates = {film: 12.5, live: 25, **({"webcam7": 50} if webcam else {})}
        with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
            process = subprocess.Popen(list(map(str, command)), cwd=REPO, env=machine, stdout=out, stderr=err)
            try:
                wait_until(lambda: "connected again" in (tmp_path / "out").read_text(), 300)
                wait_until(lambda: all(list(folder.glob(f".{name}.*")) for name in rates), 60)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(120)
    out, err = ((tmp_path / name).read_text() for name in ("out", "err"))
    assert process.returncode == 130, err
    assert "password" not in out + err and "Traceback" not in err
    assert files_below(folder) == [f"{name}.mp4" for name in rates]
    counts = []
    for name in rates:
        count, rate, size = video_facts(folder / f"{name}.mp4")
        assert (rate, size) == (rates[name], (48, 64)) and count >= 1
        counts.append(count)
    assert re.search(rf"stream 1/{len(rates)} {live}: \d+ frames.*, \d+ reconnect", out)
    assert f"{len(rates)} streams of {sum(counts)} frames done" in out


def test_a_recording_and_a_source_that_is_gone(run_detect, tmp_path):
    with MjpegCamera(files={"/film.avi": write_video(tmp_path / "film.avi", 7, 12.5).read_bytes()}) as camera:
        film, gone = (camera.address.replace("live", name) for name in ("film.avi", "gone"))
        (tmp_path / "list.txt").write_text(f"{film}\n{gone}\n{write_picture(tmp_path / 'a.png')}\n")
        code, out, err = run_detect(tmp_path / "list.txt", "--reconnect", 1, "--save-txt")
    assert (code, err) == (0, "")
    name = f"127-0-0-1-{camera.port}_film-avi"
    written = files_below(tmp_path / "runs" / "exp")
    assert [path for path in written if "/" not in path] == [f"{name}.mp4", "a.png"]
    assert sum(path.startswith(f"labels/{name}_") for path in written) == 7
    assert video_facts(tmp_path / "runs" / "exp" / f"{name}.mp4") == (7, 12.5, (48, 64))
    assert f"given up: {gone}: not one frame came in 1 try" in out
    assert f"1 of 3 inputs failed: 127-0-0-1-{camera.port}_gone" in out


def test_a_camera_over_rtsp_is_recorded_until_it_is_given_up(run_detect, tmp_path):
    with RtspCamera(transport_stream(tmp_path / "door.ts", 20), seconds=0.4) as camera:
        code, out, err = run_detect(camera.address, "--reconnect", 1, "--save-csv")
    assert (code, err) == (0, "") and camera.plays == 1
    name = re.sub(r"[.:]", "-", camera.address.removeprefix("rtsp://")).replace("/", "_")
    assert files_below(tmp_path / "runs" / "exp") == [f"{name}.mp4", "objects.csv"]
    frames, rate, size = video_facts(tmp_path / "runs" / "exp" / f"{name}.mp4")
    assert (rate, size) == (25, (64, 96)) and f"1 stream of {frames} frames done" in out
    assert f"given up: {camera.address}: the connection was lost and 1 try did not bring it back" in out
    assert f"1 of 1 inputs end early: {name}" in out


def test_a_long_stream_does_not_grow(run_detect, tmp_path, monkeypatch):
    levels = {}

    def add(film: Film, look, outlet, before=Film.add) -> None:
        before(film, look, outlet)
        if look.frame.number in (30, 90):
            gc.collect()
            levels[look.frame.number] = sys.getallocatedblocks()

    # Without lost connections, because pytest keeps every line of the log.
    camera = PretendCamera([10**9], size=(48, 64))
    monkeypatch.setattr("utils.detecting.live.LiveReaders", partial(LiveReaders, opener=camera))
    monkeypatch.setattr(Film, "add", add)
    code, out, err = run_detect("rtsp://door/live", "--max-frames", 91, "--save-txt", "--save-csv", "--save-json")
    assert (code, err) == (0, "") and "1 stream of 91 frames done" in out
    # Up to eight frames are on their way, each ten blocks of memory and more; sixty that are kept would be plain.
    assert levels[90] - levels[30] < 300


def test_a_source_that_changes_its_size_goes_on_in_a_video_of_its_own(run_detect, tmp_path, monkeypatch):
    # Announced frames are those of a recording, of which none is dropped.
    camera, sizes, complete = PretendCamera([9], announced=9), [(48, 64), (32, 64), (48, 64)], []

    def opener(source):
        connection = camera(source)
        plain = connection.retrieve

        def retrieve():
            camera.size = sizes[(camera.frames_given - 1) // 3]
            return plain()

        connection.retrieve = retrieve
        return connection

    def write(film: Film, *more, before=Film.write) -> None:
        before(film, *more)
        complete.append([path.name for path in sorted((tmp_path / "runs" / "exp").glob("[!.]*.mp4"))])

    monkeypatch.setattr("utils.detecting.live.LiveReaders", partial(LiveReaders, opener=opener))
    monkeypatch.setattr(Film, "write", write)
    code, out, err = run_detect("http://host/live", "--save-csv")
    assert (code, err) == (0, "") and "1 stream of 9 frames done" in out
    names = ["host_live.mp4", "host_live_2.mp4", "host_live_3.mp4"]
    assert [video_facts(tmp_path / "runs" / "exp" / name)[::2] for name in names] == [(3, size) for size in sizes]
    assert complete == [[]] * 3 + [names[:1]] * 3 + [names[:2]] * 3, "no encoder waits for the end of the run"


def test_a_tree_with_broken_files(run_detect, tmp_path):
    for i in range(12):
        write_picture(tmp_path / "in" / f"{i % 3}" / f"{i}.png", seed=i)
    for name in ("0/bad.jpg", "2/bad.png"):
        (tmp_path / "in" / name).write_bytes(b"broken")
    (tmp_path / "in" / "1" / "notes.md").touch()
    code, out, _ = run_detect(tmp_path / "in", "--recursive", "--batch-size", 4)
    assert code == 0 and "12 images done" in out
    assert "in: files that are neither images nor videos: 1" in out
    assert "2 of 14 inputs failed: bad.jpg, bad.png" in out
    assert len(files_below(tmp_path / "runs" / "exp")) == 12


def test_a_list_on_standard_input(run_detect, tmp_path, monkeypatch):
    paths = [write_picture(tmp_path / f"{name}.png") for name in "ba"]
    data = "\n".join(map(str, paths)).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, out, _ = run_detect("-")
    assert code == 0 and out.index("image 1/2 b.png") < out.index("image 2/2 a.png")


@pytest.mark.parametrize(
    ("source", "more", "code", "words"),
    [
        ("99", ["--reconnect", 1], 3, "webcam 99: not one frame came in 1 try; plug it in"),
        ("ftp://host/live", [], 2, "ftp://host/live: streams begin with rtsp://, rtmp://, http://, https://"),
        ("http://127.0.0.1:9/live", ["--reconnect", 1], 3, "http://127.0.0.1:9/live: not one frame came in 1 try"),
        ("http://host/live", ["--reconnect", -1], 2, "--reconnect must be 0 or more"),
        ("http://host/live", ["--stale", "nan"], 2, "--stale must be 0.1 or more"),
        ("http://host/live", ["--stale", 0], 2, "--stale must be 0.1 or more, but is 0.0"),
        ("a.png", ["--stale", 1], 2, "--stale is about webcams and streams, but --source names none"),
        ("", [], 2, "--source is empty"),
        ("a.png", ["--recursive"], 2, "--recursive looks into the subfolders of a folder"),
    ],
)
def test_slips_are_one_sentence(run_detect, tmp_path, monkeypatch, source, more, code, words):
    write_picture(tmp_path / "a.png")
    found, _, err = run_detect(tmp_path / source if source == "a.png" else source, *more)
    assert (found, err.count("\n")) == (code, 1) and words in err
