"""Class maps from logits: as by way of all logits at full size, without ever having them; coarse masks as masks.

Small inputs for the way that coarse logits take on a CPU are in ``test_class_map_tiles.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import utils.mask_results as mask_results
from data.samples import Placement
from models.predictions import CoarseMasks, Masks, named_outputs
from models.views import Pass
from utils.boxes import plan_letterbox, plan_top_left

SIZE = (64, 96)
# Padded above and below, padded to the left and right, in the corner, smaller than the input, and unpadded.
PLACES = [
    plan_letterbox((50, 100), SIZE).placement,
    plan_letterbox((130, 90), SIZE).placement,
    plan_top_left((77, 103), SIZE).placement,
    plan_letterbox((20, 30), SIZE).placement,
    Placement(*SIZE),
]


def coarse_logits(seed: int = 0, pictures: int = len(PLACES), classes: int = 7) -> Tensor:
    return torch.randn(pictures, classes, 8, 12, generator=torch.Generator().manual_seed(seed)) * 2


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)


def by_tiles(masks: Masks, places: list[Placement]) -> list[Tensor]:
    """Return the class maps as they are made of coarse logits on a CPU, also of those that planes are better for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_results, "MOST_BY_TILES", 1.0)
        return [result.class_map for result in mask_results.mask_results(masks, places)]


def by_planes(masks: Masks, places: list[Placement]) -> list[Tensor]:
    """Return the class maps as they are made on a GPU, and of logits at the input's size."""
    return [mask_results.class_map_by_planes(masks, i, place) for i, place in enumerate(places)]


both_ways = pytest.mark.parametrize("maps_of", [by_tiles, by_planes])


def check(class_map: Tensor, logits: Tensor, place: Placement) -> None:
    """Hold a class map against all logits at full size; where two classes round to one logit, either may be told."""
    top, left = round(place.top), round(place.left)
    rows, columns = int(place.height * place.scale_y + 1e-6), int(place.width * place.scale_x + 1e-6)
    area = logits[None, :, top : top + rows, left : left + columns]
    native = enlarge(area, (place.height, place.width))[0]
    assert class_map.dtype == torch.uint8 and class_map.is_contiguous() and class_map.shape == native.shape[1:]
    told = native.gather(0, class_map[None].long())[0]
    assert (native.amax(0) - told).max() < 1e-5 and (native.argmax(0) != class_map).sum() <= 2


@both_ways
@pytest.mark.parametrize("at_once", [1, 2 * 64 * 96, 1 << 30], ids=["one class", "some classes", "all classes"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_class_maps_are_those_of_all_logits_at_full_size(
    maps_of: Any, at_once: int, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_results, "PIXELS_AT_ONCE", at_once)
    coarse = coarse_logits()
    full = enlarge(coarse, SIZE)
    for masks in (CoarseMasks(coarse.to(memory_format=memory_format), SIZE), Masks(full)):
        maps = maps_of(masks, PLACES)
        for logits, place, class_map in zip(full, PLACES, maps, strict=True):
            check(class_map, logits, place)
    assert len(maps[0].unique()) == 7


def test_coarse_logits_without_areas_are_enlarged_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, asked = CoarseMasks(coarse_logits(classes=19), SIZE), []
    monkeypatch.setattr(mask_results, "class_map_by_planes", lambda *given: asked.append(given) or torch.zeros(1))
    mask_results.mask_results(masks, PLACES)
    assert len(asked) == len(PLACES)
    masks.coarse[:, 4] += 20
    assert (mask_results.mask_results(masks, PLACES)[0].class_map == 4).all() and len(asked) == len(PLACES)


def test_areas_are_whole_pixels_however_their_scale_rounds() -> None:
    for rows in range(1, 100):
        for native in (7, 49, 97, 1080):
            area = mask_results.area_of(Placement(native, native, rows / native, rows / native))
            assert (area.rows, area.columns) == (rows, rows)


@both_ways
@pytest.mark.parametrize("at_once", [1, 1 << 30], ids=["one class", "all classes"])
def test_of_equal_logits_the_first_class_counts(maps_of: Any, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_results, "PIXELS_AT_ONCE", at_once)
    same = torch.zeros(1, 5, 8, 12)
    same[0, 2:4] = 1
    assert (maps_of(CoarseMasks(same, SIZE), [Placement(*SIZE)])[0] == 2).all()


@both_ways
def test_one_class_and_255_of_them(maps_of: Any) -> None:
    alone = maps_of(CoarseMasks(coarse_logits(classes=1), SIZE), PLACES)
    assert all(not class_map.any() and class_map.shape for class_map in alone)
    many = coarse_logits(1, 1, 255)
    many[0, 254] = 99
    assert (maps_of(CoarseMasks(many, SIZE), PLACES[:1])[0] == 254).all()


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, Tensor) and not any(entry.alias_info for entry in func._schema.returns):
                self.numel = max(self.numel, part.numel())
        return result


@both_ways
def test_no_map_of_all_classes_is_ever_made(maps_of: Any) -> None:
    masks = CoarseMasks(torch.randn(3, 19, 8, 16), (64, 128))
    with Largest() as largest:
        maps_of(masks, [Placement(600, 1200, 128 / 1200, 64 / 600)] * 3)
    assert largest.numel == 600 * 1200


def test_coarse_masks_are_masks() -> None:
    coarse = coarse_logits(2, 2)
    masks, full = CoarseMasks(coarse, SIZE), Masks(enlarge(coarse, SIZE))
    assert torch.equal(masks.logits, full.logits)
    torch.testing.assert_close(masks.planes(1, 2, 5), full.planes(1, 2, 5))
    assert masks.num_classes == full.num_classes == 7 and masks.device == full.device
    assert torch.equal(named_outputs(masks)["logits"], full.logits)
    view = Pass(0.5, mirrored=True).view(SIZE)
    assert torch.equal(masks.undo(view).logits, full.undo(view).logits)
    assert torch.equal(type(masks).combine([masks, masks]).logits, Masks.combine([full, full]).logits)
    joined = type(masks).stack([masks, masks], [[0, 2], [3, 1]], (80, 96)).logits
    assert torch.equal(joined, Masks.stack([full, full], [[0, 2], [3, 1]], (80, 96)).logits)
