"""Position tables: numbers of PyTorch's bicubic, grids by shape, gradients, and nothing old is ever handed out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.graph import Graph
from models.layers.position_tables import PositionTables, fix_tables, grid_of, new_table, resize_table
from models.tokens import TokenWidth
from tests.models.tiny_vision_transformer import tiny_transformer
from utils.ema import ModelEma

SIDES = st.integers(1, 12)


def by_pytorch(table: Tensor, table_grid: tuple[int, int], grid: tuple[int, int], suffix: int) -> Tensor:
    """Return the table as torch.nn.functional.interpolate resizes it."""
    end = table.shape[1] - suffix
    middle = table[:, 1:end].transpose(1, 2).unflatten(2, table_grid)
    middle = F.interpolate(middle, grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    return torch.cat((table[:, :1], middle, table[:, end:]), 1)


@settings(max_examples=25, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 3), st.integers(0, 99))
def test_a_resized_table_is_that_of_pytorch(
    table_grid: tuple[int, int], grid: tuple[int, int], suffix: int, seed: int
) -> None:
    length = 1 + table_grid[0] * table_grid[1] + suffix
    table = torch.randn(1, length, 3, generator=torch.Generator().manual_seed(seed))
    found = resize_table(table, table_grid, grid, 1, suffix)
    assert torch.allclose(found, by_pytorch(table, table_grid, grid, suffix), atol=1e-4)
    assert torch.equal(found[:, 0], table[:, 0])
    assert torch.equal(found[:, found.shape[1] - suffix :], table[:, length - suffix :])


def test_landscape_and_portrait_of_one_count_have_different_tables() -> None:
    """A grid of 54x32 has as many patches as a table of 32x54, and must be resized all the same."""
    torch.manual_seed(0)
    layout = TokenWidth(4, 16, 1, 2)
    table = torch.randn(1, 1 + 32 * 54 + 2, 4)
    tables = PositionTables((32, 54), layout)
    assert tables.positions(table, (32, 54)) is table
    portrait = tables.positions(table, (54, 32))
    assert torch.allclose(portrait, by_pytorch(table, (32, 54), (54, 32), 2), atol=1e-4)
    assert (portrait - table).abs().max() > 0.5
    assert torch.equal(resize_table(table, (32, 54), (32, 54), 1, 2), table)


def test_every_picture_of_a_padded_batch_has_the_table_of_its_own_grid() -> None:
    torch.manual_seed(0)
    table, grids, canvas = torch.randn(1, 1 + 12 + 2, 3), ((2, 5), (4, 3), (6, 5)), (6, 5)
    found = resize_table(table, (3, 4), canvas, 1, 2, grids)
    assert found.shape == (3, 1 + 30 + 2, 3)
    for positions, grid in zip(found, grids, strict=True):
        alone = resize_table(table, (3, 4), grid, 1, 2)[0]
        assert torch.equal(positions[0], table[0, 0]) and torch.equal(positions[-2:], table[0, -2:])
        placed = positions[1:-2].unflatten(0, canvas)
        assert torch.allclose(placed[: grid[0], : grid[1]], alone[1:-2].unflatten(0, grid), atol=1e-5)
        assert not placed[grid[0] :].any() and not placed[:, grid[1] :].any()


def test_gradients_reach_the_table_as_in_pytorch() -> None:
    torch.manual_seed(0)
    layout = TokenWidth(4, 16, 1, 2)
    table = new_table((3, 4), layout)
    weights = torch.randn(1, 1 + 20 + 2, 4)
    found = torch.autograd.grad((PositionTables((3, 4), layout).positions(table, (4, 5)) * weights).sum(), table)[0]
    wanted = torch.autograd.grad((by_pytorch(table, (3, 4), (4, 5), 2) * weights).sum(), table)[0]
    assert torch.allclose(found, wanted, atol=1e-5) and wanted.abs().max() > 0.1


def test_autocast_and_reduced_types_do_not_show_in_the_positions() -> None:
    torch.manual_seed(0)
    table = torch.randn(1, 1 + 12, 3)
    exact = resize_table(table, (3, 4), (5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize_table(table, (3, 4), (5, 5)), exact)
    half = resize_table(table.bfloat16(), (3, 4), (5, 5))
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, resize_table(table.bfloat16().float(), (3, 4), (5, 5)).bfloat16())


def answers(graph: Graph) -> Tensor:
    """Return what a model says of an image that no table fits, without gradients."""
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return graph(images, heads=("detect",))["detect"].logits


def fresh_answers(graph: Graph) -> Tensor:
    """Return the same from a model that has never kept a table."""
    other = Graph(graph.spec).eval()
    other.load_state_dict(graph.state_dict())
    return answers(other)


def tables_of(graph: Graph) -> list[nn.Parameter]:
    return [p for name, p in graph.named_parameters() if name.endswith("pos_embed")]


def by_a_step(optimizer: Callable[..., torch.optim.Optimizer], **options: object) -> Callable[[Graph], None]:
    """Fused steps are not counted by the tensors that they change."""

    def step(graph: Graph) -> None:
        graph(torch.rand(1, 3, 48, 64), heads=("detect",))["detect"].logits.square().sum().backward()
        answers(graph)  # between the passes and the step, with everything as before
        optimizer(tables_of(graph), lr=0.1, **options).step()

    return step


def by_a_compiled_step(graph: Graph) -> None:
    """As training with --compile goes from one validation to the next; a row is enough, and quick to compile."""
    graph.train()
    compiled = torch.compile(lambda x: graph.model[0](x).values, backend="eager", fullgraph=True)
    compiled(torch.rand(1, 3, 48, 64)).square().sum().backward()
    torch.optim.AdamW(tables_of(graph), lr=0.1, fused=True).step()
    graph.eval()


def by_loading(graph: Graph) -> None:
    graph.load_state_dict(tiny_transformer(seed=3).state_dict())


def by_assigning(graph: Graph) -> None:
    graph.load_state_dict(tiny_transformer(seed=3).state_dict(), assign=True)


def by_hand(graph: Graph) -> None:
    with torch.inference_mode():
        for table in tables_of(graph):
            table.mul_(2)


def by_type(graph: Graph) -> None:
    graph.double()
    for table in tables_of(graph):
        table.data = table.data * 2
    graph.float()


CHANGES = {
    "SGD": by_a_step(torch.optim.SGD, momentum=0.9),
    "AdamW": by_a_step(torch.optim.AdamW),
    "AdamW, fused": by_a_step(torch.optim.AdamW, fused=True),
    "AdamW, one by one": by_a_step(torch.optim.AdamW, foreach=False),
    "AdamW, fused, compiled": by_a_compiled_step,
    "load_state_dict": by_loading,
    "load_state_dict that assigns": by_assigning,
    "in inference mode": by_hand,
    "another type and back": by_type,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_table_is_never_an_old_one(change: str) -> None:
    graph = tiny_transformer()
    with torch.inference_mode():
        before = answers(graph).clone()
    assert torch.equal(answers(graph), before)
    CHANGES[change](graph)
    after = answers(graph)
    assert torch.equal(after, fresh_answers(graph))
    assert not torch.allclose(after, before, atol=1e-3)


def test_an_average_that_is_updated_answers_anew() -> None:
    graph = tiny_transformer().train()
    ema = ModelEma(graph, decay=0.5, tau=0.1)
    before = answers(ema.module).clone()
    with torch.no_grad():
        for table in tables_of(graph):
            table.add_(torch.randn_like(table))
    ema.update()
    after = answers(ema.module)
    assert torch.equal(after, fresh_answers(ema.module)) and not torch.allclose(after, before, atol=1e-3)


def test_copies_keep_tables_of_their_own() -> None:
    graph = tiny_transformer()
    before = answers(graph)
    changed = copy.deepcopy(graph)
    by_hand(changed)
    assert torch.equal(answers(graph), before)
    assert torch.equal(answers(changed), fresh_answers(changed))


def test_tables_are_kept_where_nothing_learns_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for several grids, but not without end."""
    graph = tiny_transformer()
    calls: list[tuple[int, int]] = []
    original = resize_table
    monkeypatch.setattr(
        "models.layers.position_tables.resize_table",
        lambda table, own, grid, *rest: calls.append(grid) or original(table, own, grid, *rest),
    )
    tables = sum(isinstance(getattr(module, "tables", None), PositionTables) for module in graph.modules())
    assert tables == 3
    images = {width: torch.rand(1, 3, 64, width) for width in range(16, 176, 16)}
    with torch.no_grad():
        for width in (16, 32, 16, 32):
            graph(images[width])
        assert len(calls) == 2 * tables
        for x in images.values():
            graph(x)
    embed = graph.model[0].tables
    assert len(embed._kept[-1]) == 8
    calls.clear()
    graph(images[160])["detect"].logits.sum().backward()
    assert len(calls) == tables and graph.model[0].pos_embed.grad.abs().max() > 0


def test_what_inference_mode_has_kept_serves_where_gradients_flow() -> None:
    graph = tiny_transformer().requires_grad_(False)
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        graph(images)
    images.requires_grad_()
    graph(images)["detect"].logits.sum().backward()
    assert images.grad.abs().max() > 0


def test_tables_can_be_resized_for_good() -> None:
    graph = tiny_transformer()
    before = answers(graph)
    fix_tables(graph, (64, 96))
    assert all(table.shape == (1, 1 + 24 + 5, 24) for table in tables_of(graph))
    assert torch.equal(answers(graph), before)


@pytest.mark.parametrize("wrong", [[512], [512, 864, 3], [8, 64], [64.0, 64], [True, 64], []])
def test_a_wrong_pe_size_is_refused(wrong: list[object]) -> None:
    with pytest.raises(ValueError, match="height and width in pixels"):
        grid_of(wrong, 16)
    assert grid_of([800, 1333], 16) == (50, 83)
