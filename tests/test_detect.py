"""detect.py as a user runs it: what it writes, what it says, and how it fails."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from data.formats.mask_png import read_mask
from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.weights import load_weights
from tests.detect_runs import files_below, read_labels, video_facts
from tests.tiny_detector import NAMES, write_picture
from utils.errors import run_command
from utils.plots.palette import mask_palette

REPO = Path(__file__).resolve().parents[1]


def make_video(path: Path, frames: int = 6, rate: float = 12.5, size: tuple[int, int] = (48, 64), codec="mp4v") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, size[::-1])
    for seed in range(frames):
        writer.write(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))
    writer.release()
    return path


def test_a_folder_as_a_user_runs_it(tmp_path, tiny_weights):
    for i, name in enumerate(("a.jpg", "b.png")):
        write_picture(tmp_path / "in" / name, seed=i)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (tmp_path / "in" / "notes.md").write_text("ignored")
    make_video(tmp_path / "in" / "clip.avi", codec="MJPG")
    command = [sys.executable, "detect.py", "--weights", tiny_weights, "--source", tmp_path / "in", "--img-size", "64"]
    command += ["--conf-thres", "0.1", "--max-det", "5", "--project", tmp_path / "runs", "--batch-size", "4"]
    done = subprocess.run(list(map(str, command)), cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert files_below(tmp_path / "runs") == ["exp/a.jpg", "exp/b.png", "exp/clip.mp4"]
    assert "image 1/3 a.jpg: 64x64, " in done.stdout
    assert "image 2/3 b.png" in done.stdout
    assert "video 1/1 clip.avi: 64x64, 6 frames at 12.5 per second" in done.stdout
    assert "2 images and 1 video of 6 frames done" in done.stdout
    assert "warning: 1 of 4 inputs failed: broken.jpg" in done.stdout
    stages = ("read ", "preprocess ", "inference ", "postprocess ", "draw ", "write ")
    assert all(stage in done.stdout for stage in stages) and "pictures per second" in done.stdout


def test_picture_labels_and_masks_agree(run_detect, tmp_path):
    source = write_picture(tmp_path / "a.png", (50, 90))
    code, out, _ = run_detect(source, "--save-txt", "--save-conf", "--save-mask")
    folder = tmp_path / "runs" / "exp"
    assert code == 0
    assert files_below(folder) == ["a.png", "labels/a.txt", "masks/a.png", "masks/a_colour.png"]
    labels = read_labels(folder / "labels" / "a.txt")
    assert labels.shape == (5, 6)
    assert (labels[:, 1:] >= 0).all() and (labels[:, 1:] <= 1).all()
    assert (np.diff(labels[:, 5]) <= 0).all() and labels[:, 5].min() > 0.1
    for index, name in enumerate(NAMES["detect"]):
        count = int((labels[:, 0] == index).sum())
        assert (f"{count} {name}" in out) == (count > 0)
    mask = read_mask(folder / "masks" / "a.png")
    assert mask.shape == (50, 90) and mask.dtype == np.uint8 and mask.max() < 2
    colours = cv2.cvtColor(cv2.imread(str(folder / "masks" / "a_colour.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(colours, mask_palette(NAMES["segment"])[mask])


def test_the_overlay_lies_under_the_boxes(run_detect, tmp_path):
    source = write_picture(tmp_path / "a.png", (64, 64))
    original = cv2.imread(str(source))
    run_detect(source, "--name", "mask", "--heads", "segment", "--mask-alpha", "1", "--save-mask")
    run_detect(source, "--name", "both", "--mask-alpha", "1", "--hide-labels", "--line-thickness", "1")
    run_detect(source, "--name", "boxes", "--heads", "detect", "--hide-labels", "--line-thickness", "1")
    mask, both, boxes = (cv2.imread(str(tmp_path / "runs" / name / "a.png")) for name in ("mask", "both", "boxes"))
    np.testing.assert_array_equal(mask, cv2.imread(str(tmp_path / "runs" / "mask" / "masks" / "a_colour.png")))
    untouched = (boxes == original).all(-1)
    assert 0.1 < untouched.mean() < 1
    np.testing.assert_array_equal(both[untouched], mask[untouched])
    assert (both[~untouched] != mask[~untouched]).any(-1).mean() > 0.3


@pytest.mark.parametrize(("name", "rate", "codec"), [("clip.mp4", 12.5, "mp4v"), ("clip.avi", 23.976, "MJPG")])
def test_video_keeps_frames_rate_and_size(run_detect, tmp_path, name, rate, codec):
    make_video(tmp_path / "in" / name, 7, rate, codec=codec)
    code, _, _ = run_detect(tmp_path / "in" / name, "--batch-size", "3", "--save-txt", "--save-mask")
    folder = tmp_path / "runs" / "exp"
    frames, written_rate, size = video_facts(folder / "clip.mp4")
    assert code == 0
    assert (frames, size) == (7, (48, 64))
    assert written_rate == pytest.approx(rate, abs=1e-3)
    assert sorted(os.listdir(folder / "labels")) == [f"clip_{number}.txt" for number in range(1, 8)]
    masks = {f"clip_{number}{kind}.png" for number in range(1, 8) for kind in ("", "_colour")}
    assert set(os.listdir(folder / "masks")) == masks


def test_batches_change_nothing(run_detect, tmp_path):
    for i, size in enumerate([(60, 80), (60, 80), (80, 60), (60, 80), (30, 90)]):
        write_picture(tmp_path / "in" / f"{i}.png", size, seed=i)
    run_detect(tmp_path / "in", "--save-txt", "--save-conf", "--save-mask", "--name", "one")
    run_detect(tmp_path / "in", "--save-txt", "--save-conf", "--save-mask", "--name", "many", "--batch-size", "8")
    one, many = tmp_path / "runs" / "one", tmp_path / "runs" / "many"
    for i in range(5):
        np.testing.assert_allclose(
            read_labels(one / "labels" / f"{i}.txt"), read_labels(many / "labels" / f"{i}.txt"), atol=1e-4
        )
        same = read_mask(one / "masks" / f"{i}.png") == read_mask(many / "masks" / f"{i}.png")
        assert same.mean() > 0.999


def test_equal_names_stay_apart(run_detect, tmp_path):
    sources = [
        write_picture(tmp_path / "in" / name)
        for name in ("x/a.jpg", "y/a.jpg", "y/a.png", "clip_1.png", "a_colour.jpg")
    ]
    sources.append(make_video(tmp_path / "in" / "clip.mp4", 1))
    (tmp_path / "in" / "list.txt").write_text("\n".join(str(path.relative_to(tmp_path / "in")) for path in sources))
    code, _, _ = run_detect(tmp_path / "in" / "list.txt", "--save-txt", "--save-mask")
    written = files_below(tmp_path / "runs" / "exp")
    assert code == 0
    assert sum(name.endswith(".txt") for name in written) == 6
    assert sum(name.startswith("masks") for name in written) == 12
    pictures = [name for name in written if "/" not in name]
    assert pictures == ["a.jpg", "a_2.jpg", "a_3.png", "a_colour.jpg", "clip_1.png", "clip_2.mp4"]


def test_options_reach_the_results(run_detect, tmp_path):
    source = write_picture(tmp_path / "a.png")
    run_detect(source, "--save-txt", "--nosave", "--classes", "1", "--name", "person")
    folder = tmp_path / "runs" / "person"
    assert files_below(folder) == ["labels/a.txt"]
    labels = read_labels(folder / "labels" / "a.txt")
    assert labels.shape[1] == 5 and (labels[:, 0] == 1).all()
    code, out, _ = run_detect(source, "--no-save", "--heads", "segment", "--name", "none")
    assert code == 0 and "car" not in out and " %" in out
    assert not (tmp_path / "runs" / "none").exists()
    code, out, _ = run_detect(source, "--base-size", "96", "--dtype", "bfloat16")
    assert code == 0 and "96x96 and 64x64" in out and "bfloat16" in out


def test_nothing_found_leaves_an_empty_label_file(run_detect, tmp_path):
    code, out, _ = run_detect(write_picture(tmp_path / "a.png"), "--save-txt", "--conf-thres", "1", "--heads", "detect")
    assert code == 0 and "no objects" in out
    assert (tmp_path / "runs" / "exp" / "labels" / "a.txt").read_text() == ""


def save_variant(path: Path, weights: Path, **names: list[str]) -> Path:
    """Write the model of another file with other weights, and other class names where given."""
    checkpoint = load_weights(weights)
    tensors = {"ema": {name: tensor * 1.05 for name, tensor in checkpoint.weights.items()}}
    save_checkpoint(path, Checkpoint("tiny.yaml", checkpoint.graph_yaml, {**checkpoint.names, **names}, tensors))
    return path


def test_augmentation_and_ensembles_change_the_results_and_nothing_else(run_detect, tmp_path, tiny_weights):
    source = write_picture(tmp_path / "a.png", (50, 90))
    other = save_variant(tmp_path / "other.safetensors", tiny_weights)
    results = {}
    for name, more in {
        "plain": ["--iou-thres", "1"],
        "augmented": ["--augment"],
        "two": ["--weights", str(tiny_weights), str(other)],
        "twice": ["--weights", str(tiny_weights), str(tiny_weights), "--iou-thres", "1"],
    }.items():
        code, out, err = run_detect(source, "--save-txt", "--save-conf", "--save-mask", "--name", name, *more)
        assert code == 0, err
        folder = tmp_path / "runs" / name
        assert files_below(folder) == ["a.png", "labels/a.txt", "masks/a.png", "masks/a_colour.png"]
        results[name] = read_labels(folder / "labels" / "a.txt"), read_mask(folder / "masks" / "a.png")
        assert f"{' + '.join(more[1:3]) if name[:2] == 'tw' else tiny_weights} on cpu in float32" in out
    plain, plain_mask = results.pop("plain")
    twice, twice_mask = results.pop("twice")
    for labels, mask in results.values():
        assert not np.array_equal(labels, plain) and not np.array_equal(mask, plain_mask)
    np.testing.assert_allclose(twice[:4:2], twice[1:4:2], atol=1e-4)
    np.testing.assert_allclose(twice[::2], plain[:3], atol=1e-4)
    assert (twice_mask == plain_mask).mean() > 0.999


def test_models_of_other_classes_are_refused(run_detect, tmp_path, tiny_weights):
    other = save_variant(tmp_path / "other.safetensors", tiny_weights, detect=["car", "person", "cat"])
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--weights", str(tiny_weights), str(other))
    assert code == 2 and err.count("\n") == 1
    assert str(tiny_weights) in err and str(other) in err and "'dog'" in err and "'cat'" in err
    assert not (tmp_path / "runs").exists()


def test_half_takes_what_the_cpu_has(run_detect, tmp_path, monkeypatch):
    source = write_picture(tmp_path / "a.png")
    for supported, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        code, out, _ = run_detect(source, "--half", "--name", dtype)
        assert code == 0 and f" on cpu in {dtype}, heads" in out
        assert ("--half: this CPU" in out) != supported


def test_heads_share_one_pass(run_detect, tmp_path, monkeypatch):
    calls = []
    forward = Graph.forward
    monkeypatch.setattr(
        Graph,
        "forward",
        lambda self, images, heads=None: calls.append(list(heads)) or forward(self, images, heads),
    )
    run_detect(write_picture(tmp_path / "a.png"))
    assert calls == [["segment", "detect"]]


def test_a_cut_off_video_is_written_as_far_as_it_goes(run_detect, tmp_path):
    whole = make_video(tmp_path / "whole.avi", 30, codec="MJPG")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, out, _ = run_detect(cut)
    frames, _, _ = video_facts(tmp_path / "runs" / "exp" / "cut.mp4")
    assert code == 0 and 5 < frames < 25
    assert f"announces 30 frames, but only {frames} can be read" in out
    assert "1 of 1 inputs end early: cut.avi" in out


def broken_jpeg(folder: Path) -> Path:
    (folder / "a.jpg").write_bytes(b"\xff\xd8 no")
    return folder / "a.jpg"


def broken_video(folder: Path) -> Path:
    whole = make_video(folder / "a.mp4", 20)
    whole.write_bytes(whole.read_bytes()[:-800])
    return whole


def video_without_frames(folder: Path) -> Path:
    video = make_video(folder / "a.avi", 4, codec="MJPG")
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + 4])
    return video


def only_broken(folder: Path) -> Path:
    for name in ("a.jpg", "b.png", "c.mp4"):
        (folder / name).write_bytes(b"broken")
    return folder


def empty_file(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def empty_folder(folder: Path) -> Path:
    (folder / "in").mkdir()
    return folder / "in"


FAULTY_SOURCES = {
    "broken image": (broken_jpeg, "a.jpg: the image is corrupt"),
    "broken video": (broken_video, "a.mp4: the video is corrupt"),
    "video without frames": (video_without_frames, "a.avi: "),
    "empty video": (empty_file, "zero bytes"),
    "nothing but broken files": (only_broken, "not one of the 3 inputs can be read"),
    "empty folder": (empty_folder, "the folder holds no image and no video"),
    "missing path": (lambda folder: folder / "gone.jpg", "no such file or folder"),
    "glob without match": (lambda folder: folder / "*.jpg", "no file matches"),
}


@pytest.mark.parametrize("case", FAULTY_SOURCES)
def test_faulty_source_is_one_sentence(run_detect, tmp_path, case):
    make, words = FAULTY_SOURCES[case]
    (tmp_path / "faulty").mkdir()
    code, _, err = run_detect(make(tmp_path / "faulty"))
    assert code == 3
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert [name for name in files_below(tmp_path) if name.startswith("runs") and Path(name).suffix == ".mp4"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--conf-thres", "1.5"], "--conf-thres must be in 0..1"),
        (["--mask-alpha", "-1"], "--mask-alpha must be in 0..1"),
        (["--img-size", "0"], "--img-size must be 1 to 16,384 pixels"),
        (["--batch-size", "0"], "--batch-size must be 1 or more"),
        (["--line-thickness", "0"], "--line-thickness must be 1 or more"),
        (["--save-conf"], "--save-txt"),
        (["--classes", "3"], "the model's classes are 0 to 2"),
        (["--heads", "detct"], "Did you mean 'detect'?"),
        (["--heads", "segment", "--save-txt"], "--save-txt needs a head for boxes"),
        (["--heads", "segment", "--classes", "1"], "--classes needs a head for boxes"),
        (["--heads", "detect", "--save-mask"], "--save-mask needs a head for masks"),
        (["--heads", "detect", "--base-size", "96"], "--base-size needs a head for masks"),
        (["--recursive"], "--recursive looks into the subfolders"),
        (["--stale", "1"], "--stale is about webcams and streams"),
        (["--vid-stride", "0"], "--vid-stride must be 1 or more"),
        (["--max-frames", "0"], "--max-frames must be 1 or more"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--device", "tpu"], "--device tpu"),
        (["--dtype", "float16"], "--dtype float16: a CPU does not compute in it"),
        (["--name", "a/b"], "--name"),
    ],
)
def test_wrong_usage_is_one_sentence(run_detect, tmp_path, arguments, words):
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), *arguments)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_the_inputs_are_never_overwritten(run_detect, tmp_path):
    source = write_picture(tmp_path / "runs" / "exp" / "a.png")
    before = source.read_bytes()
    code, _, err = run_detect(source, "--exist-ok")
    assert code == 2 and "would replace" in err
    assert source.read_bytes() == before
    code, _, err = run_detect(source, "--nosave", "--save-txt")
    assert code == 0, err
    assert (tmp_path / "runs" / "exp2" / "labels" / "a.txt").is_file(), "another folder is not in the way"


def test_missing_weights_are_a_model_error(run_detect, tmp_path):
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), model=tmp_path / "gone.safetensors")
    assert code == 4 and "gone.safetensors" in err


def test_full_disk_is_one_sentence(run_detect, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("utils.plots.drawing.atomic_write", full)
    code, _, err = run_detect(write_picture(tmp_path / "a.png"))
    assert code == 1
    assert err.count("\n") == 1 and "No space left on device" in err


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_run_leaves_no_half_video(tmp_path, tiny_weights):
    video = make_video(tmp_path / "clip.avi", 3000, codec="MJPG", size=(32, 32))
    command = [sys.executable, "detect.py", "--weights", tiny_weights, "--source", video, "--img-size", "32"]
    command += ["--project", tmp_path / "runs", "--save-txt"]
    process = subprocess.Popen(list(map(str, command)), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    labels = tmp_path / "runs" / "exp" / "labels"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (labels.is_dir() and len(os.listdir(labels)) > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert any(name.startswith(".clip.") for name in os.listdir(labels.parent)), "the video had been begun"
    assert not (tmp_path / "runs" / "exp" / "clip.mp4").exists()


def test_help_is_a_manual(capsys):
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: detect.main(["--help"]))
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(part in out for part in ("examples:", "exit codes:", "--save-mask", "labels/STEM.txt"))
