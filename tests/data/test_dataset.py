"""The data set of one task: labels follow the image, wrong data stop the job, unreadable images are counted."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import data.decoded_images as decoded_images
import data.image_cache as image_cache
import data.mask_reading as mask_reading
import data.split_index as split_index
from data.config import TaskData
from data.dataset import TaskDataset
from data.formats.mask_png import write_mask
from utils.errors import DataError, UsageError

HEIGHT, WIDTH = 60, 80


def pixels(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the place of the system's shared memory."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(image_cache, "SHARED_MEMORY", tmp_path / "shm")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for kind in ("images", "labels", "masks"):
        (tmp_path / kind / "train").mkdir(parents=True)
    for i, name in enumerate("abc"):
        Image.fromarray(pixels(i)).save(tmp_path / f"images/train/{name}.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[: HEIGHT // 2, : WIDTH // 2], mask[-5:] = 1, 11
        write_mask(tmp_path / f"masks/train/{name}.png", mask)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.5 0.5\n")
    (tmp_path / "labels/train/b.txt").write_text("1 0.5 0.5 1 1\n1 0.5 0.5 1 1\n0 0.5 0.5 0 1\n")
    return tmp_path


def detect(root: Path, **changes) -> TaskData:
    data = TaskData("detect", "detect", "yolo_txt", ["x", "y"], {"train": [root / "images/train"]}, root=root)
    return replace(data, **changes)


def segment(root: Path, **changes) -> TaskData:
    data = TaskData(
        task="segment",
        key="segment",
        format="mask_png",
        names=["x", "y"],
        splits={"train": [root / "images/train"]},
        masks={"train": root / "masks"},
        options={"ignore": [11]},
    )
    return replace(data, **changes)


def test_a_single_class_takes_all_objects_and_still_checks_the_files(root: Path) -> None:
    many, one = TaskDataset(detect(root), "train"), TaskDataset(detect(root).single_class(), "train")
    assert many.classes.tolist() == [0, 1, 1] and one.classes.tolist() == [0, 0, 0]
    assert many.names == ["x", "y"] and one.names == ["item"]
    np.testing.assert_array_equal(many.boxes, one.boxes)
    assert TaskDataset(detect(root), "train").classes.tolist() == [0, 1, 1]
    assert TaskDataset(detect(root).single_class(), "train").classes.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match=r"a\.txt"):
        TaskDataset(detect(root, names=["x"]), "train")
    (root / "labels/train/c.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=r"c\.txt"):
        TaskDataset(detect(root).single_class(), "train")


def test_boxes_are_in_pixels_of_the_loaded_image(root: Path) -> None:
    dataset = TaskDataset(detect(root), "train")
    assert len(dataset) == 3 and [Path(path).stem for path in dataset.ids] == ["a", "b", "c"]
    assert dataset.sizes.tolist() == [[HEIGHT, WIDTH]] * 3
    native = dataset.load(0)
    assert np.array_equal(native.image, pixels(0)) and native.id == dataset.ids[0]
    np.testing.assert_allclose(native.boxes, [[20, 15, 60, 45], [0, 0, 40, 30]])
    assert native.boxes.dtype == np.float32 and native.classes.tolist() == [0, 1]
    for long_side, shape in ((40, (30, 40, 3)), (160, (120, 160, 3))):
        sample = dataset.load(0, long_side)
        assert sample.image.shape == shape
        np.testing.assert_allclose(sample.boxes, native.boxes * long_side / WIDTH)
    assert len(dataset.load(2).boxes) == 0 and dataset.load(2).boxes.shape == (0, 4)
    assert dataset.offsets.tolist() == [0, 2, 3, 3] and dataset.classes.tolist() == [0, 1, 1]


def test_what_the_scan_found_is_printed_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "images/train/d.jpg").write_bytes(b"")
    report = TaskDataset(detect(root), "train").report
    assert (report.listed, report.found, report.background, report.objects) == (4, 2, 1, 3)
    assert (report.duplicates, report.degenerate) == (1, 1)
    assert report.corrupt == [str(root / "images/train/d.jpg")]
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    for part in ("3 of 4 images", "1 duplicate", "1 rows without area", "1 unreadable images", "d.jpg", "zero bytes"):
        assert part in printed


def test_keypoints_follow_the_image(root: Path) -> None:
    (root / "people/train").mkdir(parents=True)
    (root / "people/train/a.txt").write_text("0 0.5 0.5 0.5 0.5 0.5 0.25 2 0 0 0\n")
    data = detect(root, task="pose", keypoints=2, names=["person"], options={"labels": "people"})
    dataset = TaskDataset(data, "train")
    np.testing.assert_allclose(dataset.load(0, 160).keypoints, [[[80, 30, 2], [0, 0, 0]]])
    assert dataset.load(1).keypoints.shape == (0, 2, 3)


def test_masks_follow_the_image_and_ignored_values_become_255(root: Path) -> None:
    dataset = TaskDataset(segment(root), "train")
    mask = dataset.load(1).mask
    assert mask.dtype == np.uint8 and mask.shape == (HEIGHT, WIDTH)
    assert np.unique(mask).tolist() == [0, 1, 255] and (mask[-5:] == 255).all()
    shrunk = dataset.load(1, 40)
    assert shrunk.image.shape == (30, 40, 3) and shrunk.mask.shape == (30, 40)
    assert (shrunk.mask[:15, :20] == 1).all() and shrunk.mask[14, 21] == 0
    assert dataset.report.found == 3 and dataset.task == "segment"


def test_cityscapes_label_ids_go_through_the_table(tmp_path: Path) -> None:
    images, masks = tmp_path / "leftImg8bit/train", tmp_path / "gtFine/train"
    for folder in (images / "ulm", masks / "ulm"):
        folder.mkdir(parents=True)
    Image.fromarray(pixels(0, 2, 3)).save(images / "ulm/u_leftImg8bit.png")
    write_mask(masks / "ulm/u_gtFine_labelIds.png", np.array([[7, 8, 0], [33, 1, 26]], np.uint8))
    Image.fromarray(pixels(1, 2, 3)).save(images / "ulm/bdd.jpg")
    write_mask(masks / "ulm/bdd.png", np.array([[7, 8, 255], [0, 1, 18]], np.uint8))
    names = [str(i) for i in range(19)]
    data = segment(
        tmp_path, format="cityscapes", names=names, splits={"train": [images]}, masks={"train": masks}, options={}
    )
    dataset = TaskDataset(data, "train")
    assert dataset.load(0).mask.tolist() == [[7, 8, 255], [0, 1, 18]]
    assert dataset.load(1).mask.tolist() == [[0, 1, 255], [18, 255, 13]]
    (images / "ulm/bdd.jpg").unlink()
    with pytest.raises(DataError, match=r"u_gtFine_labelIds\.png: the mask holds the value 13, .* names 13 classes"):
        TaskDataset(replace(data, names=names[:13]), "train")


def test_images_without_a_mask_are_counted(root: Path) -> None:
    (root / "masks/train/b.png").unlink()
    dataset = TaskDataset(segment(root), "train")
    assert [Path(path).stem for path in dataset.ids] == ["a", "c"]
    assert dataset.report.missing_masks == [str(root / "images/train/b.png")]
    assert dataset.load(1).id.endswith("c.png")
    for mask in (root / "masks/train").glob("*.png"):
        mask.unlink()
    with pytest.raises(DataError, match=rf"none of the 3 images has a mask \(looked for {root}/masks/train/a\.png\)"):
        TaskDataset(segment(root), "train")


def test_no_labels_anywhere_is_said_loudly(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (root / "labels/train").glob("*.txt"):
        file.unlink()
    (root / "labels/train").rmdir()
    (root / "labels").rmdir()
    TaskDataset(detect(root), "train")
    assert f"WARNING: 0 of 3 images have labels; looked for {root}/labels/train/a.txt" in capsys.readouterr().out
    assert not (root / "labels").exists()


@pytest.mark.parametrize(
    ("file", "content", "task", "fault"),
    [
        (
            "labels/train/b.txt",
            "1 .5 .5 .2 .2\n5 .5 .5 .2 .2",
            detect,
            r"labels/train/b\.txt:2: class 5 is out of range",
        ),
        ("labels/train/b.txt", "1 nan .5 .2 .2", detect, r"b\.txt:1: the row holds nan"),
        ("masks/train/b.png", np.full((HEIGHT, WIDTH), 2, np.uint8), segment, r"b\.png: the mask holds the value 2"),
        ("masks/train/b.png", np.zeros((7, 9), np.uint8), segment, r"b\.png: the mask is 9x7, but .* is 80x60"),
        ("masks/train/b.png", pixels(0), segment, r"b\.png: the mask has colour"),
    ],
)
def test_wrong_labels_stop_the_job(root: Path, file: str, content, task, fault: str) -> None:
    if isinstance(content, str):
        (root / file).write_text(content)
    else:
        Image.fromarray(content).save(root / file)
    for _ in range(2):
        with pytest.raises(DataError, match=fault):
            TaskDataset(task(root), "train")


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_set_of_unreadable_images_stops_the_job(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "images/train/only.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"none of the 1 images can be used; the first: .*only\.jpg: the image"):
        TaskDataset(detect(tmp_path), "train")


def test_wrong_arguments(root: Path) -> None:
    with pytest.raises(DataError, match=r"data YAML: `detect` has no split `val`"):
        TaskDataset(detect(root), "val")
    with pytest.raises(UsageError, match="choose ram or disk"):
        TaskDataset(detect(root), "train", cache_images="tape")


def test_the_scan_is_kept_until_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = TaskDataset(detect(root), "train")
    scans = []

    def counting(*args):
        scans.append(args)
        return scan_split(*args)

    scan_split = split_index.scan_split
    monkeypatch.setattr(split_index, "scan_split", counting)
    again = TaskDataset(detect(root), "train")
    assert not scans
    assert again.ids == first.ids and again.report == first.report
    for name in ("sizes", "offsets", "classes", "boxes"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    label = root / "labels/train/a.txt"
    before = label.stat()
    label.write_text("1 0.5 0.5 0.5 0.5\n0 0.25 0.25 0.5 0.5\n")
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert label.stat().st_size == before.st_size
    assert TaskDataset(detect(root), "train").classes.tolist() == [1, 0, 1] and len(scans) == 1
    TaskDataset(detect(root, names=["x", "y", "z"]), "train")
    assert len(scans) == 2


def jpegs(root: Path) -> Path:
    """Take the place of the pictures with large smooth JPEGs of different shapes and with masks of their sizes."""
    for i, (name, size) in enumerate({"a": (480, 640), "b": (660, 470), "c": (250, 600)}.items()):
        (root / f"images/train/{name}.png").unlink()
        image = Image.fromarray(pixels(i, 6, 8)).resize(size[::-1], Image.Resampling.BICUBIC)
        image.save(root / f"images/train/{name}.jpg", quality=90)
        write_mask(root / f"masks/train/{name}.png", np.asarray(image)[..., 0] // 128)
    return root


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize(
    ("reserved", "sides"),
    [
        ((200, None), (200, 100, 200, None)),
        ((None, 150), (96, 150, 64, 160, None)),
        ((None, None), (None, 64, 320)),
    ],
)
@pytest.mark.parametrize("task", [detect, segment])
def test_a_cache_changes_no_pixel(root: Path, cache: str, reserved: tuple, sides: tuple, task) -> None:
    jpegs(root)
    plain, cached = TaskDataset(task(root), "train"), TaskDataset(task(root), "train", cache_images=cache)
    for dataset in (plain, cached):
        dataset.reserve_memory(*reserved)
    for side in sides * 2:
        for index in range(3):
            expected, found = plain.load(index, side), cached.load(index, side)
            assert np.array_equal(found.image, expected.image) and found.image.shape[:2] == expected.image.shape[:2]
            assert side is None or max(found.image.shape) == side
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            if task is segment:
                assert np.array_equal(found.mask, expected.mask)
                found.mask[:] = 0


@pytest.mark.parametrize("cache", [None, "ram", "disk"])
@pytest.mark.parametrize("task", [detect, segment])
def test_what_is_kept_is_not_decoded_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, cache: str | None, task
) -> None:
    dataset = TaskDataset(task(root), "train", cache_images=cache)
    dataset.reserve_memory(40)
    expected = dataset.load(0, 40)
    monkeypatch.setattr(decoded_images, "read_image", lambda *_: pytest.fail("decoded twice"))
    if cache is not None:
        monkeypatch.setattr(mask_reading, "read_mask", lambda *_: pytest.fail("mask decoded twice"))
    found = dataset.load(0, 40)
    assert np.array_equal(found.image, expected.image)
    assert found.mask is None or np.array_equal(found.mask, expected.mask)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_changed_picture_is_decoded_anew(root: Path, cache: str) -> None:
    for expected in (pixels(0), pixels(9)):
        Image.fromarray(expected).save(root / "images/train/a.png")
        dataset = TaskDataset(detect(root), "train", cache_images=cache)
        dataset.reserve_memory(None)
        assert all(np.array_equal(dataset.load(0).image, expected) for _ in range(2))
    folder = root / "labels/train/.yolograph"
    assert len(list(folder.glob("*.pictures"))) == (cache == "disk"), "the file of the old content is gone"


def test_without_room_on_the_disk_it_goes_on_without(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
    dataset = TaskDataset(detect(root), "train", cache_images="disk")
    dataset.reserve_memory(40)
    assert "not cached" in caplog.text
    assert np.array_equal(dataset.load(1, 40).image, TaskDataset(detect(root), "train").load(1, 40).image)
    assert not list(root.rglob("*.pictures"))


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, reductions = TaskDataset(detect(jpegs(root)), "train"), []

    def note(path: str, reduction: int) -> np.ndarray:
        reductions.append(reduction)
        return read_image(path, reduction)

    read_image = decoded_images.read_image
    monkeypatch.setattr(decoded_images, "read_image", note)
    dataset.load(0, 160)
    dataset.reserve_memory(300)
    dataset.load(0, 300)
    dataset.reserve_memory(None, largest=160)
    dataset.load(0, 64)
    dataset.load(0)
    dataset.reserve_memory(None)
    dataset.load(0, 64)
    assert reductions == [4, 2, 4, 1, 1]


def test_an_image_that_breaks_after_the_scan_is_named(root: Path) -> None:
    dataset = TaskDataset(detect(root), "train")
    (root / "images/train/a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: the image has zero bytes"):
        dataset.load(0)


def identity(samples: list) -> list:
    return samples


@pytest.mark.parametrize("cache", [None, "ram"])
def test_workers_share_what_is_reserved(root: Path, monkeypatch: pytest.MonkeyPatch, cache: str | None) -> None:
    dataset = TaskDataset(detect(root), "train", cache_images=cache)
    dataset.reserve_memory(WIDTH)
    loader = DataLoader(
        Sized(dataset), batch_size=1, num_workers=1, collate_fn=identity, multiprocessing_context="fork"
    )
    assert len(list(loader)) == 3
    monkeypatch.setattr(decoded_images, "read_image", lambda *_: pytest.fail("the worker's picture was lost"))
    assert np.array_equal(dataset.load(1, WIDTH).image, pixels(1))


class Sized(Dataset):
    """Asks a data set for its images at one size."""

    def __init__(self, dataset: TaskDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        return self.dataset.load(index, WIDTH)
