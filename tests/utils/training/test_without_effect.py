"""Options that change nothing are told, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.graph import load_graph
from utils.recipe import DEFAULTS
from utils.training.options import parse_train_options
from utils.training.without_effect import options_without_effect


@pytest.mark.parametrize(
    ("removed", "norms", "given", "told"),
    [
        ("", "shared", ["--multi-scale", "--single-cls", "--label-smoothing", "0.1", "--precise-bn", "2"], []),
        ("Detect", "shared", ["--multi-scale", "--rect"], ["--multi-scale", "--rect"]),
        ("Detect", "shared", ["--label-smoothing", "0.1"], ["--label-smoothing"]),
        ("Detect", "shared", [], []),
        ("", "shared", ["--close-mosaic", "2"], ["--close-mosaic"]),
        ("", "frozen", ["--precise-bn", "2"], ["--precise-bn"]),
    ],
)
def test_options_that_change_nothing_are_told(
    removed: str, norms: str, given: list[str], told: list[str], tiny_model: Path
) -> None:
    lines = tiny_model.read_text().splitlines()
    tiny_model.write_text("\n".join(line for line in lines if not removed or removed not in line))
    hyp = {**DEFAULTS, "bn": norms, "augment": "detr" if "--close-mosaic" in given else "yolov5"}
    options = parse_train_options(["--cfg", str(tiny_model), "--data", "any.yaml", *given])
    found = options_without_effect(load_graph(tiny_model), hyp, options)
    assert [sentence.split()[0] for sentence in found] == told
