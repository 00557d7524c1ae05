from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from data.device_pictures import bytes_needed, frame_size, kept_sizes, load_pictures
from tests.data.smooth_dataset import SIZES, SmoothDataset
from utils.boxes import plan_letterbox
from utils.errors import DataError

CPU = torch.device("cpu")
REPO = Path(__file__).resolve().parents[2]


def test_pictures_are_kept_as_the_data_set_gives_them():
    dataset = SmoothDataset("pose")
    pictures = load_pictures(dataset, 96, enlarge=True, masks=False, device=CPU)
    assert pictures.masks is None and pictures.images.shape[2] % 16 == 0
    for index in range(len(dataset)):
        sample = dataset.load(index, long_side=96)
        height, width = sample.image.shape[:2]
        own = slice(pictures.offsets[index], pictures.offsets[index + 1])
        np.testing.assert_array_equal(pictures.images[index, :height, :width].numpy(), sample.image)
        assert (pictures.images[index, height:] == 114).all() and (pictures.images[index, :, width:] == 114).all()
        np.testing.assert_array_equal(pictures.boxes[own], sample.boxes)
        np.testing.assert_array_equal(pictures.classes[own], sample.classes)
        np.testing.assert_array_equal(pictures.keypoints[own], sample.keypoints)
        assert pictures.ids[index] == sample.id and pictures.places[index] == index


def test_masks_keep_their_classes_and_small_pictures_their_size():
    dataset = SmoothDataset("segment")
    pictures = load_pictures(dataset, 110, enlarge=False, masks=True, device=CPU)
    for index, size in enumerate(SIZES):
        sample = dataset.load(index, long_side=min(110, max(size)))
        height, width = pictures.sizes[index]
        assert (height, width) == sample.image.shape[:2] and max(height, width) == min(110, max(size))
        np.testing.assert_array_equal(pictures.masks[index, :height, :width].numpy(), sample.mask)
        assert (pictures.masks[index, height:] == 255).all() and (pictures.masks[index, :, width:] == 255).all()


@pytest.mark.parametrize("long_side", [33, 96, 640])
def test_sizes_follow_the_letterbox_plan(long_side):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 900, (200, 2))
    expected = [plan_letterbox((h, w), (long_side, long_side)).resized for h, w in sizes.tolist()]
    np.testing.assert_array_equal(kept_sizes(sizes, long_side, enlarge=True), expected)
    kept = kept_sizes(sizes, long_side, enlarge=False)
    assert (kept.max(1) == np.minimum(sizes.max(1), long_side)).all()


@pytest.mark.parametrize(("task", "enlarge"), [("detect", True), ("segment", False)])
def test_pictures_take_what_was_said(task, enlarge):
    dataset = SmoothDataset(task)
    pictures = load_pictures(dataset, 100, enlarge, task == "segment", CPU)
    taken = pictures.images.nbytes + (0 if pictures.masks is None else pictures.masks.nbytes)
    assert taken == bytes_needed(dataset.sizes, 100, enlarge, task == "segment")
    height, width = frame_size(pictures.sizes)
    assert taken == len(dataset) * height * width * (4 if task == "segment" else 3)


def test_a_set_of_wide_pictures_is_not_padded_to_squares():
    assert bytes_needed(np.array([(480, 640)] * 10), 640, enlarge=True, masks=False) == 10 * 480 * 640 * 3


def test_unreadable_pictures_are_named_and_replaced_by_the_next():
    dataset = SmoothDataset(broken=(2, 3, 6))
    pictures = load_pictures(dataset, 96, enlarge=True, masks=False, device=CPU)
    assert pictures.places.tolist() == [0, 1, 4, 4, 4, 5, 0]
    assert pictures.skipped == [f"{i}.png: the file is cut off; copy it again" for i in (2, 3, 6)]


def test_twenty_unreadable_pictures_in_a_row_are_the_first_ones_error():
    dataset = SmoothDataset(sizes=[(20, 20)] * 30, broken=tuple(range(5, 25)))
    with pytest.raises(DataError, match=r"^5\.png: the file is cut off"):
        load_pictures(dataset, 32, enlarge=True, masks=False, device=CPU)
    dataset.broken = tuple(range(5, 24))
    assert load_pictures(dataset, 32, enlarge=True, masks=False, device=CPU).places[5] == 24


def test_a_picture_of_another_size_than_was_scanned_is_named():
    dataset = SmoothDataset()
    load = dataset.load
    dataset.load = lambda index, long_side=None: load((index + 1) % 3, long_side)
    with pytest.raises(DataError, match=r"^1\.png: .*90x120|^1\.png: .*has the file changed"):
        load_pictures(dataset, 96, enlarge=True, masks=False, device=CPU)


def test_other_errors_reach_the_caller_and_leave_no_thread():
    dataset = SmoothDataset()
    dataset.load = lambda index, long_side=None: 1 // 0
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        load_pictures(dataset, 96, enlarge=True, masks=False, device=CPU)
    assert threading.active_count() == before


def test_only_a_few_decoded_pictures_wait_in_main_memory(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    dataset = SmoothDataset(sizes=[(40, 40)] * 120)
    load, started, taken, most = dataset.load, [], [], []

    def counted(index: int, long_side: int | None = None):
        started.append(index)
        return load(index, long_side)

    def bar(*args, **options):
        class Bar:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def update(self):
                taken.append(1)
                most.append(len(started) - len(taken))

        return Bar()

    dataset.load = counted
    monkeypatch.setattr("data.device_pictures.tqdm", bar)
    load_pictures(dataset, 32, enlarge=True, masks=False, device=CPU)
    assert len(taken) == 120 and max(most) <= 8


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process' peak memory")
def test_loading_needs_little_more_memory_than_the_pictures():
    program = """
        import cv2, numpy as np, torch
        from data.device_pictures import bytes_needed, load_pictures
        from data.samples import Sample

        class Flat:
            task, sizes = "detect", np.array([(240, 320)] * 900)
            def __len__(self): return 900
            def load(self, index, long_side=None):
                return Sample(image=np.full((240, 320, 3), index % 256, np.uint8), id=str(index))

        def peak():
            # Not getrusage, which counts what the parent held before it became this process.
            with open("/proc/self/status") as lines:
                return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

        before, said = peak(), bytes_needed(Flat.sizes, 320, True, False)
        pictures = load_pictures(Flat(), 320, True, False, torch.device("cpu"))
        assert (pictures.images[:, 5, 5, 0].long() == torch.arange(900) % 256).all()
        print(said, peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    said, taken = map(int, subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout.split())
    assert said == 900 * 240 * 320 * 3
    assert 0.95 * said <= taken <= said + 60e6, "32 frames and the pictures that wait, not the set twice"
