"""Class maps tile by tile: as by enlarging all logits, exactly where that is exact, and with little to compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import utils.class_map_tiles as class_map_tiles
import utils.mask_results as mask_results
from data.samples import Placement
from models.predictions import CoarseMasks
from utils.boxes import plan_letterbox, plan_top_left

SIDES = st.integers(1, 70)


def logits_of(kind: str, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Return (C, rows, columns) logits: of large areas, of none, of a few whole numbers, or the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "areas":
        few = torch.randn(1, shape[0], 2, 3, generator=generator) * 5
        return F.interpolate(few, shape[1:], mode="bilinear", align_corners=True)[0]
    if kind == "noise":
        return torch.randn(shape, generator=generator) * 100
    if kind == "whole numbers":
        return torch.randint(-2, 3, shape, generator=generator).float()
    return torch.randn(shape[0], 1, 1, generator=generator).expand(shape)


def native_logits(coarse: Tensor, size: tuple[int, int], place: Placement) -> Tensor:
    """Return the (C, h, w) logits of all classes."""
    whole = F.interpolate(coarse[None], size, mode="bilinear", align_corners=True)
    top, left = round(place.top), round(place.left)
    rows, columns = (max(int(side + 1e-6), 1) for side in (place.height * place.scale_y, place.width * place.scale_x))
    area = whole[..., top : top + rows, left : left + columns]
    return F.interpolate(area, (place.height, place.width), mode="bilinear", align_corners=True)[0]


def class_map(coarse: Tensor, size: tuple[int, int], place: Placement, most: float = 1.0) -> Tensor:
    """Return the class map, by tiles where no more than a share of the logits is needed; 1 is always."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_results, "MOST_BY_TILES", most)
        return mask_results.mask_results(CoarseMasks(coarse[None], size), [place])[0].class_map


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["areas", "noise", "whole numbers", "even"]),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(SIDES, SIDES),
    native=st.tuples(SIDES, SIDES),
    centred=st.booleans(),
    copies=st.integers(0, 2),
    at_once=st.sampled_from([1, 500, 1 << 20]),
    most=st.sampled_from([0.6, 1.0]),
    seed=st.integers(0, 1000),
)
@example("noise", (3, 1, 1), (1, 1), (1, 1), True, 1, 1, 1.0, 0)
@example("areas", (4, 6, 9), (48, 72), (70, 23), True, 1, 500, 0.6, 0)
def test_class_maps_are_those_of_all_logits_at_full_size(
    kind: str,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    native: tuple[int, int],
    centred: bool,
    copies: int,
    at_once: int,
    most: float,
    seed: int,
) -> None:
    """No class has a smaller logit than another but for rounding; of equal classes tiles take the first."""
    place = (plan_letterbox if centred else plan_top_left)(native, size).placement
    coarse = logits_of(kind, shape, seed)
    coarse = torch.cat([coarse] * (1 + copies))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_map_tiles, "PIXELS_AT_ONCE", at_once)
        found = class_map(coarse, size, place, most)
    assert found.shape == native and found.dtype == torch.uint8 and found.is_contiguous()
    # Planes of one class are not rounded quite like those of another.
    assert most < 1 or found.max() < shape[0]
    right = native_logits(coarse, size, place)
    told = right.gather(0, found[None].long())[0]
    assert (right.amax(0) - told).max() <= 1e-6 * coarse.abs().max()


@settings(max_examples=30, deadline=None)
@given(
    cells=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    first=st.sampled_from([1, 2, 4]),
    second=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_they_are_equal_where_enlarging_is_exact(cells: tuple[int, int], first: int, second: int, seed: int) -> None:
    """Whole logits and steps of a half, a quarter ... of a cell: many ties, and no rounding that could hide them."""
    size = tuple((side - 1) * first + 1 for side in cells)
    height, width = ((side - 1) * second + 1 for side in size)
    place = Placement(height, width, size[1] / width, size[0] / height)
    coarse = logits_of("whole numbers", (5, *cells), seed)
    # NumPy promises the first of equal ones.
    right = native_logits(coarse, size, place).numpy().argmax(0)
    assert (class_map(coarse, size, place).numpy() == right).all()


def test_a_logit_that_is_no_number_harms_only_the_pixels_around_it() -> None:
    coarse, size = logits_of("areas", (4, 8, 12), 3), (64, 96)
    place = plan_letterbox((128, 192), size).placement
    right = class_map(coarse, size, place)
    coarse[2, 1, 1] = float("nan")
    found = class_map(coarse, size, place)
    # Of the 7 and 11 steps between cells, those to and from the broken one are not looked at.
    assert (found[40:] == right[40:]).all() and (found[:, 40:] == right[:, 40:]).all() and found.max() < 4


def test_what_was_planned_in_inference_mode_serves_outside_of_it() -> None:
    coarse, size = logits_of("areas", (4, 5, 7), 3), (40, 56)
    place = Placement(83, 111, 56 / 111, 40 / 83)
    with torch.inference_mode():
        right = class_map(coarse, size, place)
    assert torch.equal(class_map(coarse.clone().requires_grad_(), size, place), right)


class Made(TorchDispatchMode):
    """Counts the numbers that operations make."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, Tensor) and not any(entry.alias_info for entry in func._schema.returns):
                self.total += part.numel()
        return result


def test_only_classes_that_can_win_are_enlarged() -> None:
    """A picture of two halves takes a small part of one whose every cell could be any class."""
    noise = torch.randn(19, 16, 32, generator=torch.Generator().manual_seed(0))
    halves = noise.clone()
    halves[4, :, :16] += 20
    halves[7, :, 16:] += 20
    size, place = (128, 256), Placement(360, 720, 256 / 720, 128 / 360)
    made = {}
    for name, coarse in (("noise", noise), ("halves", halves)):
        # The first time, sides are planned.
        class_map(coarse, size, place)
        with Made() as counted:
            class_map(coarse, size, place)
        made[name] = counted.total
    assert made["halves"] < made["noise"] / 4
    assert made["noise"] > 19 * 360 * 720
