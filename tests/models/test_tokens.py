"""Rows of tokens in a graph: padded batches, recomputation, the table, compiling, and what the registry knows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from models.graph import Graph, load_graph, with_classes
from models.layers.vit import ViTBlock
from models.recompute import run_with_recomputation, segments
from models.spec import load_spec
from models.table import format_table, tabulate_model
from models.tokens import Tokens, TokenWidth, padded_sizes, tensors_of, token_mask
from tests.models.test_recompute import saved_bytes
from tests.models.tiny_vision_transformer import enlarge_weights, tiny_spec, tiny_transformer, tiny_values

SHAPES = [(96, 128), (128, 96), (64, 64), (112, 144)]
CANVAS = (128, 144)


def padded_batch(shapes: list[tuple[int, int]], canvas: tuple[int, int]) -> Tensor:
    """Return pictures in the top left corner of a canvas, with something loud in the padding."""
    images = torch.rand(len(shapes), 3, *canvas, generator=torch.Generator().manual_seed(0))
    for image, (height, width) in zip(images, shapes, strict=True):
        image[:, height:], image[:, :, width:] = 9, -9
    return images


@pytest.fixture(scope="module")
def published_width() -> Graph:
    """The width, heads, [DET] tokens and table of YOLOS-Ti in three blocks, two of them with a table of their own."""
    torch.manual_seed(0)
    pe_size = [800, 1333]
    graph = Graph(tiny_spec(width=192, heads=3, det_tokens=100, pe_size=pe_size, nc=91)).eval()
    enlarge_weights(graph)
    return graph


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_padded_batch_of_four_shapes_equals_four_single_runs(
    published_width: Graph, dtype: torch.dtype | None
) -> None:
    """Landscape, portrait and square; also nearly so in a reduced type."""
    graph, images = published_width, padded_batch(SHAPES, CANVAS)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        together = graph(images, heads=("detect",), sizes=SHAPES)["detect"]
        unaware = graph(images, heads=("detect",))["detect"]
        for i, (height, width) in enumerate(SHAPES):
            alone = graph(images[i : i + 1, :, :height, :width], heads=("detect",))["detect"]
            tolerance = 1e-4 if dtype is None else 0.3
            assert torch.allclose(together.logits[i], alone.logits[0], atol=tolerance)
            assert torch.allclose(together.boxes[i], alone.boxes[0], atol=tolerance / 3)
    assert together.sizes == tuple(SHAPES) and (unaware.logits - together.logits).abs().max() > 0.5


def test_training_with_padding_teaches_the_same_as_pictures_alone() -> None:
    shapes, canvas = [(48, 64), (64, 32), (64, 80)], (64, 80)
    images = padded_batch(shapes, canvas)
    graph = tiny_transformer().train()
    other = copy.deepcopy(graph)
    graph(images, heads=("detect",), sizes=shapes)["detect"].logits.square().sum().backward()
    for image, (height, width) in zip(images, shapes, strict=True):
        other(image[None, :, :height, :width], heads=("detect",))["detect"].logits.square().sum().backward()
    for (name, ours), theirs in zip(graph.named_parameters(), other.parameters(), strict=True):
        if theirs.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, atol=2e-5 * theirs.grad.abs().max()), name


def test_sizes_that_fill_the_input_change_nothing_at_all() -> None:
    graph, images = tiny_transformer(), torch.rand(2, 3, 64, 96)
    seen: list[Tokens] = []
    graph.model[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        plain = graph(images)["detect"]
        filled = graph(images, sizes=[(64, 96), (64, 96)])["detect"]
        graph(images, sizes=[(64, 96), (64, 90)])
    assert torch.equal(plain.logits, filled.logits) and filled.sizes is None
    assert [x.mask is None for x in seen] == [True, True, False]
    assert seen[-1].sizes == ((64, 96), (64, 90))


def test_a_size_that_is_no_multiple_of_a_patch_counts_whole_patches() -> None:
    """As for a picture alone: the strip is left out."""
    graph = tiny_transformer()
    images = padded_batch([(64, 64), (55, 40)], (64, 64))
    with torch.no_grad():
        together = graph(images, heads=("detect",), sizes=[(64, 64), (55, 40)])["detect"]
        alone = graph(images[1:, :, :55, :40], heads=("detect",))["detect"]
    assert torch.allclose(together.logits[1], alone.logits[0], atol=1e-5)


def test_the_map_of_a_padded_picture_is_zero_beyond_it() -> None:
    graph = tiny_transformer()
    with torch.no_grad():
        maps = []
        graph.model[4].register_forward_hook(lambda *args: maps.append(args[-1]))
        graph(padded_batch([(64, 96), (32, 48)], (64, 96)), sizes=[(64, 96), (32, 48)])
    assert not maps[0][1, :, 2:].any() and not maps[0][1, :, :, 3:].any() and maps[0][1, :, :2, :3].all()


@pytest.mark.parametrize(
    ("sizes", "words"),
    [([(64, 96)], "2 pictures have 1 sizes"), ([(64, 96), (64, 97)], "64x97"), ([(0, 5), (64, 96)], "0x5")],
)
def test_sizes_that_do_not_fit_are_refused(sizes: list[tuple[int, int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_transformer()(torch.rand(2, 3, 64, 96), sizes=sizes)


def test_a_batch_of_no_pictures() -> None:
    graph = tiny_transformer().train()
    raw = graph(torch.rand(0, 3, 64, 96), heads=("detect",), sizes=[])["detect"]
    assert raw.logits.shape == (0, 5, 4) and raw.sizes is None
    (raw.logits.sum() + raw.boxes.sum()).backward()
    assert not graph.model[0].pos_embed.grad.any()


def test_only_models_with_such_rows_take_sizes() -> None:
    assert tiny_transformer().takes_sizes
    with torch.device("meta"):
        assert not load_graph("yolov5n").takes_sizes


def test_mask_of_the_tokens() -> None:
    mask = token_mask(((2, 1), (1, 2)), (2, 2), 1, 2, torch.device("cpu"))
    assert mask.shape == (2, 1, 1, 7) and mask.dtype == torch.bool
    assert mask[:, 0, 0].int().tolist() == [[1, 1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 1, 1]]


def test_width_of_tokens_is_a_number_that_knows_more() -> None:
    width = copy.deepcopy(TokenWidth(192, 16, 1, 100))
    assert width == 192 and (width.patch, width.prefix, width.suffix) == (16, 1, 100)
    x = Tokens(torch.zeros(1, 1 + 6 + 3, 8), (2, 3), 1, 3)
    assert x.layout == "1+2x3+3 tokens of 8" and x.rows == 2
    assert list(tensors_of([x, {"a": (x.values, None)}])) == [x.values, x.values]
    assert padded_sizes(None, x.values) is None


# Recomputation


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("sizes", [None, [(64, 80), (32, 64)]])
def test_recomputed_gradients_are_the_same_to_the_bit(
    sizes: list[tuple[int, int]] | None, dtype: torch.dtype | None
) -> None:
    found = []
    for recompute in (False, True):
        graph = tiny_transformer().train()
        graph.recompute = recompute
        for block in (module for module in graph.modules() if isinstance(module, ViTBlock)):
            block.drop1.rate = block.drop2.rate = 0.5
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            raw = graph(torch.rand(2, 3, 64, 80), sizes=sizes)
        (raw["detect"].logits.square().sum() + raw["segment"][0].square().sum()).backward()
        found.append({name: p.grad for name, p in graph.named_parameters() if p.grad is not None})
    plain, again = found
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)


def test_every_block_keeps_its_input_alone() -> None:
    """What is kept grows by one sequence of tokens per block."""
    kept = []
    for blocks in (2, 10):
        values = copy.deepcopy(tiny_spec().values)
        values["backbone"][2][1] = blocks
        graph = Graph(tiny_spec(backbone=values["backbone"])).train()
        graph.recompute = True
        kept.append(saved_bytes(graph, ("segment",)))
    tokens = 2 * (1 + 64 + 5) * 24 * 4
    assert kept[1] - kept[0] == 8 * tokens


def test_every_row_of_tokens_runs_again_by_itself() -> None:
    graph = tiny_transformer().train()
    plan = graph.plan(("segment", "detect"))
    parts = [[step.row for step in part] for part in segments(graph, plan)]
    assert parts == [[0], [1], [2], [3], [4, 5], [6, 7], [8]]
    raw = run_with_recomputation(graph, torch.rand(1, 3, 64, 64), ("detect",))
    assert set(raw) == {"detect"}


# Compiling and export


def one_block() -> Graph:
    """Return a transformer that is quick to record: a block with a table of its own, and the head."""
    values = tiny_values()
    rows = [values["backbone"][0], [-1, 1, *values["backbone"][1][2:]]]
    return tiny_transformer(backbone=rows, head=[[-1, 1, "YOLOSDetect", ["nc"]]])


@torch.no_grad()
def test_compiled_answers_are_the_same() -> None:
    """In one piece, padded too."""
    torch._dynamo.reset()
    graph = one_block()
    graph.plan(("detect",))

    def answer(images: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        return graph(images, sizes=sizes)["detect"].logits

    compiled = torch.compile(answer, backend="eager", fullgraph=True, dynamic=False)
    images, sizes = torch.rand(2, 3, 64, 80), [(64, 48), (48, 80)]
    assert torch.allclose(compiled(images, sizes), answer(images, sizes), atol=1e-5)


@torch.no_grad()
def test_another_size_is_not_compiled_anew() -> None:
    """The embedding alone is compiled, where the grid and its table are made; blocks see a length."""
    torch._dynamo.reset()
    embed = tiny_transformer().model[0]
    runs = []

    def counting(module: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        runs.append(module)
        return module

    compiled = torch.compile(lambda images: embed(images).values, backend=counting, fullgraph=True, dynamic=True)
    for size in ((64, 80), (96, 144)):
        images = torch.rand(2, 3, *size)
        assert torch.allclose(compiled(images), embed(images).values, atol=1e-5)
    assert len(runs) == 1


def test_an_export_with_open_sides_answers_at_the_size_of_the_table_too() -> None:
    graph = one_block()

    class Answer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = graph

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.network(images, heads=("detect",))["detect"]
            return raw.logits, raw.boxes

    open_sides = {side: torch.export.Dim.DYNAMIC for side in (0, 2, 3)}
    program = torch.export.export(Answer(), (torch.rand(2, 3, 64, 96),), dynamic_shapes=(open_sides,)).module()
    for shape in ((3, 3, 48, 64), (1, 3, 96, 64)):
        images = torch.rand(shape)
        assert torch.allclose(program(images)[0], graph(images)["detect"].logits, atol=1e-5)


# The table and the zoo


def test_the_table_shows_tokens() -> None:
    spec = tiny_spec()
    rows = tabulate_model(spec, (64, 96))
    assert [row.tokens for row in rows[:5]] == ["1+4x6+5 tokens of 24"] * 4 + [None]
    assert [row.stride for row in rows] == [16] * 6 + [8, 8, 16] and rows[4].shape == [[24, 4, 6]]
    assert "1+4x6+5 tokens of 24" in format_table(rows, (64, 96))
    assert tiny_transformer().stride == 16


def test_a_patch_that_does_not_divide_the_traced_picture_is_the_stride() -> None:
    values = tiny_values()
    values["backbone"][0] = [-1, 1, "ViTEmbed", ["width", 24, 5, [48, 96]]]
    graph = Graph(tiny_spec(backbone=values["backbone"], input={"stride": 24}))
    assert [row.stride for row in graph.trace] == [24] * 6 + [12, 12, 24] and graph.stride == 24


@pytest.mark.parametrize(("name", "multiply_adds"), [("yolos-ti", 17.5), ("yolos-s-dwr", 46.1), ("yolos-b", 162)])
def test_operations_are_those_of_the_formula(name: str, multiply_adds: float) -> None:
    """768 P d + depth (12 T d^2 + 2 T^2 d) and the head, at 512 x 672; tables are kept and do not count."""
    rows = tabulate_model(load_spec(name), (512, 672))
    assert sum(row.mac_based for row in rows) / 1e9 == pytest.approx(multiply_adds, rel=5e-3)
    assert sum(row.flops for row in rows) / 2e9 == pytest.approx(multiply_adds, rel=5e-3)


def test_category_ids_go_where_the_number_of_classes_changes() -> None:
    ids = [1, 4, 6]
    values = tiny_spec().values
    head = [*values["head"][:-1], [3, 1, "YOLOSDetect", ["nc", "category_ids"]]]
    spec = tiny_spec(head=head, category_ids=ids)
    assert Graph(spec).heads["detect"].labels == 7
    assert Graph(with_classes(spec, {"detect": 3})).heads["detect"].labels == 7
    other = Graph(with_classes(spec, {"detect": 5, "segment": 2})).heads
    assert other["detect"].labels == other["detect"].num_classes == 5 and other["segment"].num_classes == 2
    two = tiny_spec(head=[*head, [3, 1, "YOLOSDetect", ["nc", "category_ids"], "other"]], category_ids=ids)
    one_changed = Graph(with_classes(two, {"detect": 5})).heads
    assert (one_changed["detect"].labels, one_changed["other"].labels) == (5, 7), "they share their symbols"
