"""Attention of detection tokens: the right rows, in the right order, at the right place of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.transforms.letterbox import apply_plan, plan_for_stride
from models.graph import Graph
from tests.tiny_detector import make_picture
from tests.utils.explain.tiny_yolos import DETECTOR, MIXED, TWO_DETECTORS, make_graph
from utils.boxes import xywh_to_xyxy
from utils.errors import UsageError
from utils.explain.attention import attention_maps, look_at
from utils.explain.native_maps import enlarge
from utils.explain.token_heads import blocks_before, choose_blocks, choose_head, require_tokens, token_count

BRIGHT_SEEKER = """
nc: 3
input: {stride: 16, fit: FIT}
backbone:
  - [-1, 1, ViTEmbed, [8, 16, 3, [64, 64]]]
  - [-1, 1, ViTBlock, [8, 2, 1.0]]
head:
  - [-1, 1, YOLOSDetect, [nc]]
"""


def bright_seeker(folder: Path, fit: str) -> Graph:
    """Return a model whose detection tokens attend to bright patches: queries are a constant, keys the brightness."""
    graph = make_graph(folder, BRIGHT_SEEKER.replace("FIT", fit))
    embed, block = graph.model[0], graph.model[1]
    with torch.no_grad():
        embed.proj.weight.zero_()
        embed.proj.weight[0] = 8 / embed.proj.weight[0].numel()
        # Something that brightness can stand out from in the norm.
        embed.proj.bias.copy_(torch.tensor([0.0, 1, -1, 1, -1, 1, -1, 0]))
        for table in (embed.pos_embed, embed.cls_token, embed.det_tokens):
            table.zero_()
        block.qkv.weight.zero_()
        block.qkv.bias.zero_()
        for head in range(2):
            block.qkv.bias[4 * head] = 10
            block.qkv.weight[8 + 4 * head, 0] = 5
    return graph


@pytest.mark.parametrize("fit", ["shortest", "longest"])
@pytest.mark.parametrize("size", [(60, 100), (96, 40)])
def test_a_planted_peak_lies_on_its_object(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    graph = bright_seeker(tmp_path, fit)
    blocks = blocks_before(graph, "detect")
    plan = plan_for_stride(size, 128, graph.stride, graph.letterbox)
    place = plan.placement
    # The patch at row 2, column 4 (or 2) of the input, painted where it lies in the picture.
    row, column = 2, 4 if size[1] > size[0] else 2
    if fit == "longest":
        row, column = row + plan.top // 16, column + plan.left // 16
    edges = [
        round((16 * (cell + side) - shift) / scale)
        for side in (0, 1)
        for cell, shift, scale in ((row, place.top, place.scale_y), (column, place.left, place.scale_x))
    ]
    top, left, bottom, right = edges
    image = np.zeros((*size, 3), np.uint8)
    image[top:bottom, left:right] = 255
    look = look_at(graph, "detect", image, 128, blocks)
    maps = attention_maps(blocks[0], look.entering[0], [2, 0])
    assert maps.shape == (2, 2, plan.out[0] // 16, plan.out[1] // 16)
    inside = np.zeros(size, bool)
    inside[top:bottom, left:right] = True
    for token in maps:
        for head in token:
            native = enlarge(head, look.placement, 16)
            assert native[inside].mean() > 0.5 and native[~inside].mean() < 0.05
            found = native > 0.5 * native.max()
            assert (found & inside).sum() / (found | inside).sum() > 0.75


def test_chosen_rows_are_those_of_the_whole_matrix(tmp_path: Path) -> None:
    graph = make_graph(tmp_path)
    blocks = blocks_before(graph, "detect")
    look = look_at(graph, "detect", make_picture((60, 80)), 48, blocks)
    for block, heads in zip(blocks, (2, 2, 4), strict=True):
        tokens = look.entering[block.position]
        with torch.no_grad():
            own = block.module
            qkv = own.qkv(own.norm1(tokens.values))[0].reshape(-1, 3, heads, 16 // heads)
            scores = torch.einsum("qhc,khc->hqk", qkv[:, 0], qkv[:, 1]) * (16 // heads) ** -0.5
            whole = scores.softmax(-1).numpy()
        count = tokens.grid[0] * tokens.grid[1]
        found = attention_maps(block, tokens, [4, 1])
        for k, token in enumerate((4, 1)):
            expected = whole[:, 1 + count + token, 1 : 1 + count]
            np.testing.assert_allclose(found[k].reshape(heads, -1), expected, atol=1e-6)


def test_answers_are_those_of_the_head_in_native_pixels(tmp_path: Path) -> None:
    graph = make_graph(tmp_path)
    image = make_picture((60, 84))
    look = look_at(graph, "detect", image, 48, [])
    plan = plan_for_stride((60, 84), 48, 16, graph.letterbox)
    assert look.size == plan.out == (48, 64)
    with torch.no_grad():
        raw = graph(torch.from_numpy(apply_plan(image, plan)).permute(2, 0, 1)[None])["detect"]
    probabilities = raw.logits[0].softmax(-1)[:, :3]
    np.testing.assert_allclose(look.answers.scores, probabilities.amax(1), rtol=1e-5)
    assert look.answers.classes.tolist() == probabilities.argmax(1).tolist()
    expected = xywh_to_xyxy(raw.boxes[0]) * torch.tensor([84, 60, 84, 60])
    np.testing.assert_allclose(look.answers.boxes, expected, rtol=1e-4, atol=1e-3)


def test_a_padded_batch_has_the_maps_of_its_pictures(tmp_path: Path) -> None:
    graph = make_graph(tmp_path)
    block = blocks_before(graph, "detect")[-1]
    sizes = [(32, 48), (48, 32)]
    pictures = [torch.from_numpy(make_picture(size, seed=i)).permute(2, 0, 1)[None] for i, size in enumerate(sizes)]
    padded = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
    for i, (height, width) in enumerate(sizes):
        padded[i, :, :height, :width] = pictures[i][0]

    def maps_of(images: torch.Tensor, areas: list[tuple[int, int]] | None, picture: int) -> np.ndarray:
        entered = []
        handle = block.module.register_forward_pre_hook(lambda own, args: entered.append(args[0]))
        with torch.inference_mode():
            graph(images, sizes=areas)
        handle.remove()
        return attention_maps(block, entered[0], [0, 3], picture)

    for i, (height, width) in enumerate(sizes):
        together, alone = maps_of(padded, sizes, i), maps_of(pictures[i], None, 0)
        assert together.shape[-2:] == (3, 3)
        np.testing.assert_allclose(together[..., : height // 16, : width // 16], alone, atol=1e-5)
        together[..., : height // 16, : width // 16] = 0
        assert not together.any()


def test_blocks_are_named_by_position_and_by_row(tmp_path: Path) -> None:
    blocks = blocks_before(make_graph(tmp_path), "detect")
    assert [str(block) for block in blocks] == ["1.0", "1.1", "2.0"]
    assert [block.position for block in choose_blocks(blocks, ["-1", "0"])] == [0, 2]
    assert [str(block) for block in choose_blocks(blocks, ["1.1", "1", "-2"])] == ["1.1"]
    assert choose_blocks(blocks, ["all"]) == blocks
    for word in ("3", "-4", "2.1", "last"):
        with pytest.raises(UsageError, match=r"there are 3 blocks, from 0 \(1\.0\) to -1 \(2\.0\)"):
            choose_blocks(blocks, [word])


def test_heads_see_only_the_blocks_before_them(tmp_path: Path) -> None:
    graph = make_graph(tmp_path, TWO_DETECTORS)
    assert [str(block) for block in blocks_before(graph, "cars")] == ["1.0", "1.1"]
    with pytest.raises(UsageError, match=r"several heads .* --head cars or detect"):
        choose_head(graph, None, "w")
    assert choose_head(graph, "cars", "w") == "cars"


def test_a_mixed_graph_has_its_token_head_found(tmp_path: Path) -> None:
    graph = make_graph(tmp_path, MIXED)
    assert choose_head(graph, None, "w") == "detect"
    assert token_count(graph, "detect") == 5
    with pytest.raises(UsageError, match="'segment' \\(SegMaskBase\\) is no head that answers by detection tokens"):
        choose_head(graph, "segment", "w")
    with pytest.raises(UsageError, match="Did you mean 'detect'"):
        choose_head(graph, "detekt", "w")


def test_tokens_must_exist(tmp_path: Path) -> None:
    count = token_count(make_graph(tmp_path, DETECTOR), "detect")
    require_tokens([0, 4], count)
    for wrong in (-1, 5):
        with pytest.raises(UsageError, match=f"--tokens {wrong}: there are 5 detection tokens, 0 to 4"):
            require_tokens([wrong], count)
