"""Deformable attention: all forms against a sum over every place, finite differences, each other; broken numbers."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.layers import deformable_attention
from models.layers import sampled_sum as module
from models.layers.deformable_attention import (
    FORMS,
    MSDeformAttn,
    bag_attention,
    gather_attention,
    grid_attention,
)
from models.layers.framed_maps import Corners
from models.memory import Shapes

SHAPES = ((4, 6), (2, 3), (1, 1))
Inputs = tuple[Tensor, Tensor, Tensor]


def made_up(shapes: Shapes = SHAPES, queries: int = 5, seed: int = 0, images: int = 2) -> Inputs:
    """Return values, locations and weights in float64; places lie in the maps, on their borders and beyond."""
    draw = torch.Generator().manual_seed(seed)
    tokens, heads, points = sum(h * w for h, w in shapes), 2, 3
    values = torch.randn(images, tokens, heads, 4, generator=draw, dtype=torch.float64)
    locations = torch.rand(images, queries, heads, len(shapes), points, 2, generator=draw, dtype=torch.float64)
    weights = torch.rand(locations.shape[:-1], generator=draw, dtype=torch.float64)
    return values, locations * 1.8 - 0.4, weights


def place_by_place(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Return the sums, every cell of every level weighed by how near it is to a place."""
    total, first = 0.0, 0
    for level, (rows, columns) in enumerate(shapes):
        cells = values[:, first : first + rows * columns].unflatten(1, (rows, columns))
        x = locations[:, :, :, level, :, 0] * columns - 0.5
        y = locations[:, :, :, level, :, 1] * rows - 0.5
        near_x = (1 - (x[..., None] - torch.arange(columns)).abs()).clamp(min=0)
        near_y = (1 - (y[..., None] - torch.arange(rows)).abs()).clamp(min=0)
        total = total + torch.einsum("bqmk,bqmkr,bqmkc,brcmd->bqmd", weights[:, :, :, level], near_y, near_x, cells)
        first += rows * columns
    return total.flatten(2)


def gradients(form: str, shapes: Shapes, inputs: Inputs) -> list[Tensor]:
    """Return a form's result and the gradients of its inputs."""
    given_inputs = [part.clone().requires_grad_() for part in inputs]
    values, locations, weights = given_inputs
    made = FORMS[form](values, shapes, locations, weights)
    pull = torch.randn(made.shape, generator=torch.Generator().manual_seed(7), dtype=made.dtype)
    return [made.detach(), *torch.autograd.grad(made, given_inputs, pull)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_sums_over_places(form: str) -> None:
    values, locations, weights = made_up()
    found = FORMS[form](values, SHAPES, locations, weights)
    assert torch.allclose(found, place_by_place(values, SHAPES, locations, weights))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_differences(form: str) -> None:
    inputs = [part.requires_grad_() for part in made_up(((2, 3), (1, 1)), queries=2, images=1)]
    assert torch.autograd.gradcheck(lambda *given: FORMS[form](given[0], ((2, 3), (1, 1)), *given[1:]), inputs)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3), st.integers(0, 99))
def test_forms_agree_in_gradients_too(shapes: list[tuple[int, int]], seed: int) -> None:
    inputs = made_up(tuple(shapes), queries=3, seed=seed)
    bag, *others = (gradients(form, tuple(shapes), inputs) for form in FORMS)
    for other in others:
        assert all(torch.allclose(a, b) for a, b in zip(bag, other, strict=True))


@pytest.mark.parametrize("queries", [2, 60])
@pytest.mark.parametrize("margin", [0, 1])
def test_few_points_and_many_have_the_same_gradients(
    queries: int, margin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients("grid", SHAPES, made_up(queries=queries))
    monkeypatch.setattr(module, "_frames_for", lambda shapes, weights: module.frames_of(shapes, margin))
    found = gradients("bag", SHAPES, made_up(queries=queries))
    assert all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))


def test_maps_have_frames_where_many_points_look_at_them() -> None:
    few, many = (module._frames_for(SHAPES, torch.empty(1, queries, 2, 9)).margin for queries in (3, 4))
    assert (few, many) == (0, 1)


def test_parts_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradients("bag", SHAPES, made_up(queries=7))
    monkeypatch.setattr(module, "POINTS_AT_ONCE", 40)
    assert all(torch.allclose(a, b) for a, b in zip(whole, gradients("bag", SHAPES, made_up(queries=7)), strict=True))


@pytest.mark.parametrize("rows", [9, 99])
def test_products_are_those_of_rows_that_may_come_twice(rows: int) -> None:
    """Of 20 corners; with fewer rows than that, another way has to be taken, which is that of other devices too."""
    corners = Corners(torch.randint(0, rows, (3, 2, 4, 5)).int(), torch.rand(3, 2, 4, 5), torch.empty(0))
    grad, table = torch.randn(3, 2, 6), torch.randn(rows, 6)
    expected = (table[corners.rows.long()] * grad[:, :, None, None]).sum(-1)
    assert torch.allclose(module._products(corners, grad, table), expected, atol=1e-5)


def test_a_map_of_one_cell_with_many_points_has_gradients() -> None:
    values, locations, weights = made_up(((1, 1),), queries=2)
    inputs = values[:, :, :1], *(part[:, :, :1].repeat_interleave(9, 4) for part in (locations, weights))
    bag, grid = (gradients(form, ((1, 1),), inputs) for form in ("bag", "grid"))
    assert all(torch.allclose(a, b) for a, b in zip(bag, grid, strict=True))


@pytest.mark.parametrize("margin", [0, 1])
def test_whole_cells_have_the_gradients_of_grid_sampling(margin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the beginning of a training: places are the very middles of cells, of the last ones too."""
    monkeypatch.setattr(module, "_frames_for", lambda shapes, weights: module.frames_of(shapes, margin))
    values, _, weights = made_up(((4, 4),), queries=16, images=1)
    cell = (
        torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"), -1)
        .double()
        .view(1, 16, 1, 1, 1, 2)
    )
    locations = ((cell + 0.5) / 4).expand(1, 16, 2, 1, 3, 2).contiguous()
    bag, grid = (gradients(form, ((4, 4),), (values, locations, weights)) for form in ("bag", "grid"))
    assert all(torch.allclose(a, b) for a, b in zip(bag, grid, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_places_far_beyond_all_maps_find_nothing(form: str) -> None:
    values, locations, weights = made_up()
    far = (locations.sign() * 1e30, locations.sign() * math.inf) if form == "bag" else (locations.sign() * 50,)
    for beyond in far:
        assert FORMS[form](values, SHAPES, beyond, weights).abs().max() == 0


@pytest.mark.parametrize("margin", [0, 1])
def test_what_is_no_number_stays_so_and_harms_nobody_else(margin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_frames_for", lambda shapes, weights: module.frames_of(shapes, margin))
    values, locations, weights = made_up(queries=60)
    broken = locations.clone()
    broken[1, 3] = math.nan
    found, *grads = gradients("bag", SHAPES, (values, broken, weights))
    whole = bag_attention(values, SHAPES, locations, weights)
    assert found[1, 3].isnan().all()
    assert torch.allclose(found[0], whole[0])
    assert torch.allclose(found[1, 4:], whole[1, 4:])
    assert grads[1][1, 3].isnan().all()
    assert grads[1][0].isfinite().all()
    assert grads[0][0].isfinite().all()


def test_nobody_hears_of_sparse_tensors() -> None:
    module._hear_of_sparse_tensors.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients("bag", SHAPES, made_up())


def lively(levels: int = 3, dtype: torch.dtype = torch.float64) -> MSDeformAttn:
    torch.manual_seed(0)
    made = MSDeformAttn(8, 2, levels, 3).to(dtype)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("corner_cost", [0, 1e9])
def test_the_layer_has_the_same_gradients_in_every_form(
    corner_cost: float, size: int, learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deformable_attention, "CORNER_COST", corner_cost)
    layer, draw = lively(), torch.Generator().manual_seed(1)
    query, source = torch.randn(2, 5, 8, generator=draw).double(), torch.randn(2, 31, 8, generator=draw).double()
    references = torch.rand(2, 5, 3 if learns else 1, size, generator=draw).double().requires_grad_(learns)
    mask = torch.rand(2, 31, generator=draw) > 0.3
    inputs = [query.requires_grad_(), source.requires_grad_(), *layer.parameters(), *([references] if learns else [])]
    answers = []
    for form in FORMS:
        layer.form = form
        made = layer(query, references, source, SHAPES, mask)
        answers.append([made.detach(), *torch.autograd.grad(made.sin().sum(), inputs)])
    for other in answers[1:]:
        assert all(torch.allclose(a, b) for a, b in zip(answers[0], other, strict=True))


def test_few_queries_sum_before_they_project() -> None:
    layer = MSDeformAttn(256, 8, 4, 4)
    memory, some, many = torch.zeros(1, 17821, 256), torch.zeros(1, 300, 256), torch.zeros(1, 900, 256)
    assert layer._sums_first(some, memory)
    assert not layer._sums_first(many, memory)
    assert not layer._sums_first(some.bfloat16(), memory.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not layer._sums_first(some, memory)


@pytest.mark.parametrize("corner_cost", [0, 1e9])
def test_tokens_of_padding_are_not_seen(corner_cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable_attention, "CORNER_COST", corner_cost)
    layer, query, source = lively(), torch.randn(1, 5, 8).double(), torch.randn(1, 31, 8).double()
    references, mask = torch.rand(1, 5, 1, 2).double(), torch.arange(31)[None] % 3 > 0
    found = layer(query, references, source, SHAPES, mask)
    source[~mask] = 1e6
    assert torch.equal(layer(query, references, source, SHAPES, mask), found)
    assert not torch.allclose(layer(query, references, source, SHAPES), found)


def test_offsets_count_cells_around_points_and_half_sides_around_boxes() -> None:
    layer = MSDeformAttn(8, 4, 2, 3)
    shapes = ((8, 10), (4, 5))
    point = layer._locations(torch.zeros(1, 1, 8), torch.full((1, 1, 1, 2), 0.5), shapes) - 0.5
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    steps = directions[:, None, None] * torch.arange(1, 4)[:, None]
    sides = torch.tensor([[10.0, 8], [5, 4]])[:, None]
    assert torch.allclose(point[0, 0], steps / sides, atol=1e-6)
    box = layer._locations(torch.zeros(1, 1, 8), torch.tensor([0.5, 0.5, 0.2, 0.4]).view(1, 1, 1, 4), shapes) - 0.5
    assert torch.allclose(box[0, 0], (steps / 3 * torch.tensor([0.1, 0.2])).expand(4, 2, 3, 2), atol=1e-6)


def test_all_points_weigh_the_same_at_first() -> None:
    layer = MSDeformAttn(8, 2, 1, 2)
    torch.nn.init.eye_(layer.value_proj.weight)
    torch.nn.init.eye_(layer.output_proj.weight)
    rows = torch.arange(25.0).view(1, 25, 1).expand(1, 25, 8)
    # Cells to the right of the middle for the first head, to its left for the second.
    found = layer(torch.randn(1, 1, 8), torch.full((1, 1, 1, 2), 0.5), rows, ((5, 5),))
    assert torch.allclose(found[0, 0], torch.tensor([13.5] * 4 + [10.5] * 4))


def test_places_are_exact_where_networks_run_in_bfloat16() -> None:
    shapes = ((40, 60), (20, 30), (10, 15))
    layer = lively(3, torch.float32)
    query, source = torch.randn(1, 5, 8), torch.randn(1, 3150, 8)
    references = torch.rand(1, 5, 1, 2)
    seen: list[Tensor] = []
    whole = layer(query, references, source, shapes)
    with torch.autocast("cpu", torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "within_frame", lambda cells, steps: seen.append(cells) or torch.zeros_like(cells))
        layer(query, references, source, shapes)
    assert seen[0].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        reduced = layer(query.requires_grad_(), references, source, shapes)
        reduced.float().sum().backward()
    assert query.grad.dtype == torch.float32
    assert (reduced - whole).abs().max() < 0.1 * whole.abs().max()


def test_copies_and_saved_states_carry_their_own_form() -> None:
    layer = MSDeformAttn(8, 2, 1, 2)
    layer.form = "grid"
    assert "form" not in layer.state_dict()
    assert MSDeformAttn(8, 2, 1, 2).form == "bag"


def test_compilers_and_exports_never_see_the_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, query, source = lively(), torch.randn(1, 5, 8).double(), torch.randn(1, 31, 8).double()
    given_inputs = query, torch.rand(1, 5, 1, 2).double(), source, SHAPES
    expected = layer(*given_inputs)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "embedding_bag", None)
    assert torch.allclose(layer(*given_inputs), expected)


@pytest.mark.parametrize("numbers", [(8, 3, 1, 1), (8, 2, 0, 1), (8, 2, 1, 0), (8, 0, 1, 1)])
def test_numbers_that_do_not_fit_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="heads that divide its channels"):
        MSDeformAttn(*numbers)


def test_forms_are_functions_of_the_same_arguments() -> None:
    assert list(FORMS.values()) == [bag_attention, grid_attention, gather_attention]
