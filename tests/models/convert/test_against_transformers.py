"""Transformers, filled through our back-conversion, computes the same; skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.transforms.letterbox import apply_plan, plan_for_stride
from models.checkpoint import Checkpoint
from models.convert.to_hugging_face import write_hugging_face
from models.spec import ModelSpec, load_spec
from models.weights import build_model, load_weights
from tests.models.convert.published_detr import drawn
from tests.models.convert.published_yolos import filled_graph, small_spec

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

KINDS = {
    "two-stage": {"two_stage": True, "with_box_refine": True},
    "single-stage": {"with_box_refine": True},
    "without refinement": {},
}
"""Of Deformable-DETR."""


@pytest.mark.parametrize(
    "spec",
    [load_spec("yolos-ti"), small_spec("yolos-s", width=48, heads=6), small_spec("yolos-s", pe_size=[96, 64])],
    ids=["yolos-ti", "tables between blocks", "a table that stands"],
)
def test_the_same_outputs(spec: ModelSpec, tmp_path: Path) -> None:
    graph = filled_graph(spec)
    checkpoint = Checkpoint("x.yaml", spec.text, graph.names, {"model": graph.state_dict()})
    write_hugging_face(tmp_path / "ours", checkpoint)
    model, said = transformers.YolosForObjectDetection.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(said.values())
    images = torch.randn(2, 3, 80, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = graph(images)["detect"], model.eval()(images)
    assert ours.logits.std() > 0.1
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.boxes, theirs.pred_boxes, atol=1e-4, rtol=0)
    model.save_pretrained(tmp_path / "theirs")
    again = load_weights(tmp_path / "theirs")
    assert again.weights.keys() == checkpoint.weights.keys()
    assert all(torch.equal(value, checkpoint.weights[name]) for name, value in again.weights.items())


@pytest.mark.parametrize("size", [(120, 200), (200, 120), (90, 310)], ids=["lies", "stands", "long"])
def test_the_same_input(size: tuple[int, int], tmp_path: Path) -> None:
    """Where the limit of the long side cuts and the short side is rounded up by it, the two differ by a patch.

    We go by the official program, which multiplies the rounded side; transformers has multiplied the exact one for some
    versions.
    """
    graph = filled_graph(small_spec("yolos-ti"))
    checkpoint = Checkpoint("x.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()})
    write_hugging_face(tmp_path, checkpoint, short_side=96)
    processor = transformers.YolosImageProcessor.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (size[0] // 10, size[1] // 10, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    theirs = processor(images=image, return_tensors="pt")["pixel_values"][0]
    placed = apply_plan(image, plan_for_stride(size, 96, graph.stride, graph.letterbox))
    ours = graph.preprocess(torch.from_numpy(placed).permute(2, 0, 1)[None])[0]
    assert ours.shape == theirs.shape
    # Both round to whole values of 0 to 255 after resizing; a value may fall on either side.
    torch.testing.assert_close(ours, theirs, atol=1.5 / 255 / 0.224, rtol=0)


def deformable_detr(**options: bool) -> Any:
    """Return a small Deformable-DETR of transformers whose every tensor has numbers of its own, in eval mode."""
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 2, 1],
        layer_type="bottleneck",
        out_features=["stage2", "stage3", "stage4"],
    )
    sizes = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in LAYERS.items()}
    config = transformers.DeformableDetrConfig(
        backbone_config=backbone, d_model=32, num_queries=12, two_stage_num_proposals=12, **sizes, **options
    )
    config.id2label = {0: "cat", 1: "dog", 2: "cow"}
    model = transformers.DeformableDetrForObjectDetection(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point():
            value.data.copy_(drawn(name, value, generator))
    return model


LAYERS = {"layers": 2, "attention_heads": 4, "n_points": 2, "ffn_dim": 48}


@pytest.mark.parametrize("kind", KINDS)
def test_deformable_detr_computes_the_same(kind: str, tmp_path: Path) -> None:
    model = deformable_detr(**KINDS[kind])
    model.save_pretrained(tmp_path)
    checkpoint = load_weights(tmp_path)
    graph = build_model(checkpoint)
    assert graph.names == {"detect": ["cat", "dog", "cow"]}
    images, sizes = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1)), [(96, 128), (64, 80)]
    mask = torch.zeros(2, 96, 128, dtype=torch.int64)
    for picture, inside, (height, width) in zip(images, mask, sizes, strict=True):
        inside[:height, :width] = 1
        picture[:, height:], picture[:, :, width:] = 0, 0
    with torch.no_grad():
        (ours,), theirs = graph(images, sizes=sizes).values(), model(images, pixel_mask=mask)
    assert theirs.logits.std() > 0.1
    # Queries of proposals come in the order of scores, and those of padding tie; so each is looked for.
    apart = torch.cdist(torch.cat((ours.logits, ours.boxes), -1), torch.cat((theirs.logits, theirs.pred_boxes), -1))
    assert apart.amin(2).max() < 1e-3 and apart.amin(1).max() < 1e-3
    if kind != "two-stage":
        torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.boxes, theirs.pred_boxes, atol=1e-4, rtol=0)
