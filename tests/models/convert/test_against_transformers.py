"""Transformers, filled through our back-conversion, computes the same; skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.transforms.letterbox import apply_plan, plan_for_stride
from models.checkpoint import Checkpoint
from models.convert.to_hugging_face import write_hugging_face
from models.spec import ModelSpec, load_spec
from models.weights import load_weights
from tests.models.convert.published_yolos import filled_graph, small_spec

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


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
