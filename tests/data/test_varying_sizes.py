"""Loaders of models whose pictures differ in size: what is shown of one does not depend on those beside it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.loader import build_test_loader
from data.sampler import rectangular_batches
from data.samples import Batch, largest_size
from data.transforms.detr import DETRTrainTransform
from data.transforms.letterbox import LetterboxRule, plan_for_stride
from tests.data.fake_dataset import FakeDataset, train_loader
from utils.boxes import scale_to_native
from utils.errors import UsageError

RULE = LetterboxRule("top-left", shrink="antialias", fit="shortest")
RECIPE = {"resize_sides": [32, 64, 16], "crop_sides": [50, 70], "crop_range": [40, 70], "resize_base": 64}
SIZES = [(30, 50), (50, 30), (40, 40), (30, 50), (80, 80), (33, 90), (60, 100), (50, 30), (31, 50)]


def pictures(batches: Iterable[Batch]) -> dict[str, tuple]:
    """Return what is shown of every picture, without its padding, by its name."""
    shown = {}
    for batch in batches:
        canvas = tuple(batch.images.shape[2:])
        assert canvas == largest_size(batch.sizes or [canvas])
        for i, name in enumerate(batch.ids):
            height, width = batch.sizes[i] if batch.sizes else canvas
            masks = () if batch.masks is None else (batch.masks[i, :height, :width].numpy().tobytes(),)
            image = batch.images[i, :, :height, :width].numpy().tobytes()
            shown[name] = (height, width, image, *masks, batch.boxes[i][batch.valid[i]].numpy().tobytes())
    return shown


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_test_shows_of_a_picture_does_not_depend_on_the_batch(workers: int) -> None:
    dataset = FakeDataset(sizes=SIZES)
    alone = pictures(build_test_loader(dataset, 32, 1, 16, 0, letterbox=RULE))
    assert {name: shown[:2] for name, shown in alone.items()} == {
        f"{i}.png": plan_for_stride(size, 32, 16, RULE).out for i, size in enumerate(SIZES)
    }
    grouped = list(build_test_loader(dataset, 32, 4, 16, workers, letterbox=RULE))
    assert all(batch.sizes is None for batch in grouped) and len(grouped) < len(SIZES)
    in_order = list(build_test_loader(dataset, 32, 4, 16, workers, rect=False, letterbox=RULE))
    assert [batch.ids for batch in in_order] == [[f"{i}.png" for i in part] for part in (range(4), range(4, 8), [8])]
    assert [batch.sizes is None for batch in in_order] == [False, False, True]
    assert pictures(grouped) == pictures(in_order) == alone
    for batch in in_order:
        for i, spot in enumerate(batch.placements):
            boxes = scale_to_native(batch.boxes[i][batch.valid[i]], spot)
            np.testing.assert_allclose(boxes, dataset.load(int(batch.ids[i].split(".")[0])).boxes, atol=1e-3)


@given(
    st.lists(st.tuples(st.integers(8, 900), st.integers(8, 900)), min_size=1, max_size=20),
    st.integers(1, 5),
    st.sampled_from([32, 100, 512]),
)
@settings(deadline=None)
def test_batches_of_a_test_hold_pictures_of_one_size(
    sizes: list[tuple[int, int]], batch_size: int, img_size: int
) -> None:
    batches = rectangular_batches(np.array(sizes), batch_size, img_size, 16, letterbox=RULE)
    assert sorted(i for members, _ in batches for i in members) == list(range(len(sizes)))
    for members, shape in batches:
        assert len(members) <= batch_size
        assert {plan_for_stride(sizes[i], img_size, 16, RULE).out for i in members} == {shape}
    shapes = [shape for _, shape in batches]
    full = sum(-(-count // batch_size) for count in (shapes_of(batches).count(shape) for shape in set(shapes)))
    assert len(batches) == full, "no batch is split for nothing"


def shapes_of(batches: list) -> list[tuple[int, int]]:
    return [shape for members, shape in batches for _ in members]


def test_padding_around_pictures_is_refused_where_nothing_is_padded() -> None:
    with pytest.raises(UsageError, match="--pad: this model's pictures are resized to whole strides and not padded"):
        build_test_loader(FakeDataset(), 64, 4, 16, 0, pad=0.5, letterbox=RULE)


def detr() -> DETRTrainTransform:
    return DETRTrainTransform(RECIPE, 64, 16, RULE)


@pytest.mark.parametrize("options", [{}, {"rect": (64, 16)}])
def test_training_samples_depend_on_nothing_but_the_seed_and_their_key(options: dict) -> None:
    dataset = FakeDataset(sizes=SIZES)
    whole = list(train_loader(0, dataset, detr(), **options).batches(1))
    assert any(batch.sizes for batch in whole) and sum(len(batch) for batch in whole) == len(SIZES)
    assert all(side % 16 == 0 for batch in whole for side in batch.images.shape[2:])
    expected = pictures(whole)
    loader = train_loader(2, dataset, detr(), **options)
    assert pictures(loader.batches(1)) == expected
    loader.close()
    halves = [list(train_loader(0, dataset, detr(), share=(rank, 2), **options).batches(1)) for rank in (0, 1)]
    assert pictures(batch for half in halves for batch in half) == expected
    pieces = [piece for batch in whole for piece in batch.cut(3)]
    assert pictures(pieces) == expected
    assert pictures(train_loader(0, dataset, detr(), seed=4, **options).batches(1)) != expected


def test_a_run_goes_on_at_any_batch_with_weights_and_unreadable_pictures() -> None:
    dataset = FakeDataset(sizes=SIZES, broken=(2,))

    def batches(first: int) -> list[Batch]:
        loader = train_loader(0, dataset, detr())
        loader.set_image_weights(np.arange(len(SIZES)), 0)
        stream = loader.stream(first)
        return [next(stream) for _ in range(5 - first)]

    whole, rest = batches(0), batches(2)
    assert [batch.sizes for batch in whole[2:]] == [batch.sizes for batch in rest]
    for one, other in zip(whole[2:], rest, strict=True):
        assert one.ids == other.ids and one.images.equal(other.images) and one.boxes.equal(other.boxes)
    assert all(name != "2.png" for batch in whole for name in batch.ids)
