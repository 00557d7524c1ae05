from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from data.device_loader import DeviceBatches, build_device_loader, device_bytes, why_not_in_batches, why_not_on_device
from data.loader import TrainLoader, build_train_loader
from data.samples import Batch
from data.transforms import batched_geometry
from data.transforms.detection import DetectionTrainTransform
from data.transforms.letterbox import CENTERED
from data.transforms.rtmdet import RTMDetTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from data.transforms.yolox import YOLOXTrainTransform
from tests.data.smooth_dataset import SmoothDataset
from utils.errors import DataError

CPU = torch.device("cpu")
SIDE = 96
MOVED = {"scale": 0.5, "translate": 0.1}
HSV = {"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4}
RECIPES = {
    "plain": {},
    "single": MOVED,
    "mosaic": MOVED | {"mosaic": 1.0},
    "still mosaic": {"mosaic": 1.0},
    "flips": MOVED | {"mosaic": 0.5, "flipud": 0.5, "fliplr": 0.5},
    "mixup": MOVED | {"mosaic": 0.8, "mixup": 0.6},
    "hsv": HSV,
    "wide hue": {"mosaic": 0.5, "hsv_h": 1.0, "hsv_s": 0.3, "hsv_v": 0.2},
    "no long ones": MOVED | {"mosaic": 0.7, "max_aspect": 1.6},
    "turned": MOVED | {"mosaic": 0.5, "degrees": 30, "shear": 8},
    "perspective": MOVED | {"mosaic": 0.5, "degrees": 5, "perspective": 0.0008},
    "all": MOVED
    | HSV
    | {"mosaic": 0.7, "mixup": 0.4, "degrees": 5, "shear": 2, "perspective": 0.0005, "flipud": 0.5, "fliplr": 0.5},
}
SMALL = [(90, 120), (120, 90), (100, 100), (40, 140), (75, 100), (64, 64)]


@pytest.fixture(autouse=True)
def single_samples_are_warped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches on a device are warped whatever was drawn; single samples that only zoom are rounded to whole pixels."""
    for place in ("mosaic", "upright"):
        monkeypatch.setattr(f"data.transforms.{place}.zoom_and_shift", lambda matrix: None)


def detection(recipe: str) -> DetectionTrainTransform:
    return DetectionTrainTransform(RECIPES[recipe] | {"flip_pairs": [[0, 1], [2, 3]]}, SIDE)


def segmentation(**recipe) -> SegmentationTrainTransform:
    return SegmentationTrainTransform({"fliplr": 0.5} | recipe, 96, (64, 112))


def pair(dataset, transform, device=CPU, batch_size: int = 4, **options) -> tuple[TrainLoader, TrainLoader]:
    """Return the loader of single samples and the one of whole batches for the same run."""
    return (
        build_train_loader(dataset, transform, batch_size, 0, 3, **options),
        build_device_loader(dataset, transform, batch_size, 3, device, **options),
    )


def assert_same_labels(expected: Batch, batch: Batch) -> None:
    assert batch.ids == expected.ids
    assert torch.equal(batch.valid, expected.valid) and torch.equal(batch.classes, expected.classes)
    for name in ("boxes", "keypoints"):
        ours, theirs = getattr(batch, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype and ours.device.type == "cpu"
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def levels_apart(expected: Batch, batch: Batch) -> torch.Tensor:
    assert batch.images.shape == expected.images.shape and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    return (batch.images.cpu().int() - expected.images.int()).abs().float()


def contents(batches) -> list[tuple]:
    """Return names, pixels and labels of batches in a form that can be compared."""
    return [
        (tuple(b.ids), *(t.cpu().numpy().tobytes() for t in (b.images, b.boxes, b.classes, b.masks) if t is not None))
        for b in batches
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_detection_batches_equal_those_of_single_samples(recipe):
    one_by_one, whole = pair(SmoothDataset("pose"), detection(recipe))
    assert len(one_by_one) == len(whole) == 2
    objects = 0
    for number in range(4):
        for expected, batch in zip(one_by_one.batches(number), whole.batches(number), strict=True):
            assert_same_labels(expected, batch)
            apart = levels_apart(expected, batch)
            assert apart.mean() < 0.1 and (apart > 2).float().mean() < 0.001
            assert (expected.images != 114).float().mean() > 0.3, "there is something to compare"
            objects += int(batch.valid.sum())
    assert objects > 20


def test_detection_masks_equal_those_of_single_samples():
    dataset = SmoothDataset("segment")
    one_by_one, whole = pair(dataset, detection("all"))
    for number in range(3):
        for expected, batch in zip(one_by_one.batches(number), whole.batches(number), strict=True):
            assert (batch.masks != expected.masks).float().mean() < 0.001
            assert levels_apart(expected, batch).mean() < 0.1


@pytest.mark.parametrize("hue", [0.0, 0.1])
def test_segmentation_batches_equal_those_of_single_samples(hue):
    one_by_one, whole = pair(SmoothDataset("segment", SMALL), segmentation(seg_jitter=[0.4, 0.4, 0.4, hue]))
    for number in range(4):
        for expected, batch in zip(one_by_one.batches(number), whole.batches(number), strict=True):
            assert_same_labels(expected, batch)
            apart = levels_apart(expected, batch)
            assert apart.mean() < 0.4 and (apart > 5).float().mean() < (0.02 if hue else 0.001)
            # Pixels half-way between two classes may take either.
            assert batch.masks.dtype == torch.uint8 and (batch.masks != expected.masks).float().mean() < 0.04
            assert torch.equal(batch.masks == 255, expected.masks == 255), "padding lies in the same place"


def test_files_larger_than_the_recipe_asks_for_are_resized_twice():
    one_by_one, whole = pair(SmoothDataset("segment", [(400, 500)] * 4), segmentation(seg_jitter=[0, 0, 0, 0]))
    assert whole._pool._transform.pictures.sizes.max() == 160, "the largest size, 1.5 * 96 rounded up to 32"
    for expected, batch in zip(one_by_one.batches(0), whole.batches(0), strict=True):
        assert levels_apart(expected, batch).mean() < 1
        assert (batch.masks != expected.masks).float().mean() < 0.04


def test_what_a_small_picture_does_not_fill_is_black_and_ignored():
    transform = SegmentationTrainTransform({"seg_jitter": [0, 0, 0, 0], "fliplr": 0.5}, 64, (160, 160))
    for batch in build_device_loader(SmoothDataset("segment", SMALL), transform, 4, 3, CPU).batches(0):
        beyond = batch.masks == 255
        assert 0.3 < beyond.float().mean() < 0.95
        assert (batch.images.permute(0, 2, 3, 1)[beyond] == 0).all()


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_run_goes_on_at_any_batch(task):
    transform = detection("all") if task == "detect" else segmentation()
    loader = build_device_loader(SmoothDataset(task), transform, 3, 3, CPU)
    run = contents(batch for number in range(3) for batch in loader.batches(number))
    assert len(run) == 9 and len(set(run)) == 9
    for first in (0, 2, 4):
        stream = loader.stream(first)
        assert contents(next(stream) for _ in range(9 - first)) == run[first:]
    assert contents(loader.batches(1, 2)) == run[5:6]


def test_content_does_not_depend_on_how_many_pixels_are_made_at_once(monkeypatch):
    loaders = [
        build_device_loader(SmoothDataset("detect"), detection("all"), 4, 3, CPU),
        build_device_loader(SmoothDataset("segment"), segmentation(seg_jitter=[0.4, 0.4, 0.4, 0.1]), 4, 3, CPU),
    ]
    expected = [contents(loader.batches(0)) for loader in loaders]
    for pixels in (1, 2 * SIDE * SIDE):
        monkeypatch.setattr(batched_geometry, "PIXELS_AT_ONCE", pixels)
        assert [contents(loader.batches(0)) for loader in loaders] == expected


def test_global_random_numbers_are_neither_read_nor_moved():
    loader = build_device_loader(SmoothDataset(), detection("all"), 4, 3, CPU)
    torch.manual_seed(0), np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    expected = contents(loader.batches(0))
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(9), np.random.seed(9)
    assert contents(loader.batches(0)) == expected


def test_unreadable_pictures_are_replaced_as_single_samples_replace_them():
    dataset = SmoothDataset(broken=(1, 2))
    one_by_one, whole = pair(dataset, detection("mixup"))
    assert whole.skipped == [f"{i}.png: the file is cut off; copy it again" for i in (1, 2)]
    for number in range(3):
        for expected, batch in zip(one_by_one.batches(number), whole.batches(number), strict=True):
            assert_same_labels(expected, batch)
            assert levels_apart(expected, batch).mean() < 0.1
    assert sorted(one_by_one.skipped) == whole.skipped


def test_closing_the_mosaic_and_partners_are_honoured():
    dataset = SmoothDataset(sizes=[(48, 48)] * 300)
    one_by_one, whole = pair(dataset, detection("mixup"), batch_size=20, closing_batch=1)
    assert 0 < len(next(whole._order.keys(0)).samples[0].partners) < len(dataset)
    streams = one_by_one.stream(0), whole.stream(0)
    for _ in range(2):
        expected, batch = (next(stream) for stream in streams)
        assert_same_labels(expected, batch)
        assert levels_apart(expected, batch).mean() < 0.1


def test_image_weights_and_repeated_samples_are_honoured():
    one_by_one, whole = pair(SmoothDataset(), detection("all"))
    for loader in (one_by_one, whole):
        loader.set_image_weights(np.array([1, 0, 0, 5, 0, 0, 1.0]), 0)
    for expected, batch in zip(one_by_one.batches(0), whole.batches(0), strict=True):
        assert_same_labels(expected, batch)
        assert levels_apart(expected, batch).mean() < 0.1
        assert set(batch.ids) <= {"0.png", "3.png", "6.png"}


def test_shares_of_a_batch_are_the_batch_and_may_be_empty():
    dataset, transform = SmoothDataset(), detection("all")
    whole = [b.ids for b in build_device_loader(dataset, transform, 6, 3, CPU).batches(0)]
    shares = [list(build_device_loader(dataset, transform, 6, 3, CPU, share=(rank, 3)).batches(0)) for rank in range(3)]
    assert [[name for share in shares for name in share[i].ids] for i in range(2)] == whole
    empty = [share[1] for share in shares if not share[1].ids]
    assert len(empty) == 2, "the last batch holds one sample"
    for batch in empty:
        assert batch.images.shape == (0, 3, SIDE, SIDE) and batch.boxes.shape[0] == 0 and len(batch) == 0


def test_an_earlier_iteration_does_not_go_on_beside_a_new_one():
    loader = build_device_loader(SmoothDataset(), detection("plain"), 4, 3, CPU)
    earlier = loader.batches(0)
    next(earlier)
    next(loader.batches(1))
    with pytest.raises(RuntimeError, match="another iteration"):
        next(earlier)


def test_a_twin_gives_the_same_batches_beside_the_first_loader():
    loader = build_device_loader(SmoothDataset(), detection("all"), 3, 3, CPU, share=(1, 2), closing_batch=2)
    expected = contents(loader.batches(0))
    twin, stream = loader.twin(), loader.stream(0)
    for number, batch in enumerate(twin.batches(0)):
        assert contents([batch, next(stream)]) == [expected[number]] * 2
    assert twin._pool._transform.pictures is loader._pool._transform.pictures


def test_pictures_without_any_object_make_batches_without_rows():
    dataset = SmoothDataset()
    load = dataset.load

    def bare(index: int, long_side: int | None = None):
        sample = load(index, long_side)
        sample.boxes, sample.classes = sample.boxes[:0], sample.classes[:0]
        return sample

    dataset.load = bare
    batch = next(build_device_loader(dataset, detection("all"), 4, 3, CPU).batches(0))
    assert batch.boxes.shape == (4, 0, 4) and batch.valid.shape == (4, 0)


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataError, match="'detect' is empty"):
        build_device_loader(SmoothDataset(sizes=[]), detection("plain"), 4, 3, CPU)


def test_where_there_is_no_room_the_reason_is_one_sentence(monkeypatch):
    gpu = torch.device("cuda:0")
    needed = device_bytes(SmoothDataset(), detection("plain"))
    assert needed == 7 * SIDE * SIDE * 3
    monkeypatch.setattr("data.device_loader.free_memory", lambda device: 2e9)
    assert why_not_on_device(needed, gpu) is None
    assert why_not_on_device(int(1.19e9), gpu) is None
    reason = why_not_on_device(int(1.25e9), gpu)
    assert "need 1.2 GB" in reason and "60% of the 2.0 GB" in reason and "cuda:0" in reason and "\n" not in reason
    for name in ("cpu", "mps"):
        assert "main memory is used" in why_not_on_device(1, torch.device(name))


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_making_pixels_never_asks_the_device_for_a_value(task):
    """The meta device has no values, so whatever needs one (a size, a branch, an index) fails there."""
    transform = detection("all") if task == "detect" else segmentation(seg_jitter=[0.4, 0.4, 0.4, 0.1])
    loader = build_device_loader(SmoothDataset(task), transform, 4, 3, CPU)
    batches, made = loader._pool, next(loader.batches(0))
    pictures = batches._transform.pictures
    pictures.images = pictures.images.to("meta")
    pictures.masks = None if pictures.masks is None else pictures.masks.to("meta")
    batches._device = torch.device("meta")
    batch = batches.make(next(loader._order.keys(0)))
    assert batch.images.is_meta and batch.images.shape == made.images.shape
    assert batch.images.stride() == made.images.stride()
    assert torch.equal(batch.boxes, made.boxes), "labels stay on the host"


def test_batches_are_handed_from_stream_to_stream(monkeypatch):
    """What a GPU is told, and in which order, with its streams played by a list."""
    said: list[tuple] = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def wait_stream(self, other):
            said.append((self.name, "waits for", other.name))

        def wait_event(self, event):
            said.append((self.name, "waits for", event.number))

    class Event:
        numbers = iter(range(100))

        def record(self, stream):
            self.number = next(self.numbers)
            said.append((stream.name, "has made", self.number))

    user = Stream("user")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: user)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: said.append(("kept for", stream.name)))
    loader = build_device_loader(SmoothDataset(), detection("all"), 2, 3, CPU)
    expected = contents(loader.batches(0))
    batches: DeviceBatches = loader._pool
    overlapping = batches._overlapping(loader._order.keys(0, len(loader)))
    assert contents(overlapping) == expected
    batches.close()
    assert said[0] == ("side", "waits for", "user")
    for number in range(len(loader)):
        assert said.index(("side", "has made", number)) < said.index(("user", "waits for", number))
    assert said.count(("kept for", "user")) == len(loader)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_on_a_gpu_batches_equal_those_of_the_cpu(task):
    transform = detection("all") if task == "detect" else segmentation()
    gpu = torch.device("cuda:0")
    one_by_one, whole = pair(SmoothDataset(task, SMALL), transform, gpu)
    for _ in range(2):
        for expected, batch in zip(one_by_one.batches(0), whole.batches(0), strict=True):
            assert_same_labels(expected, batch)
            assert batch.images.device == gpu and levels_apart(expected, batch).mean() < 0.5
    assert contents(whole.batches(1)) == contents(whole.batches(1))
    whole.close()


def test_pipelines_that_a_device_does_not_have_are_named():
    assert why_not_in_batches(detection("all")) == "" == why_not_in_batches(segmentation())
    assert why_not_in_batches(YOLOXTrainTransform({}, SIDE, CENTERED)) == "the recipe says augment: yolox"
    assert why_not_in_batches(RTMDetTrainTransform({}, SIDE)) == "the recipe says augment: rtmdet"
    reason = why_not_in_batches(DetectionTrainTransform({"clahe": 0.01}, SIDE))
    assert reason == "the recipe has effects (blur, median_blur, grey, clahe)"
