"""The checker of YOLOS fixtures reads every size, and notices each of the details that are easily got wrong.

A fixture made here holds outputs of our own network: it proves that such a file is read, not that they are right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tests.parity.yolos_rebuild
from models.assigners.hungarian import CostWeights
from models.convert.yolos_names import OFFICIAL, pieces
from models.graph import Graph
from models.layers import vit
from models.layers.position_tables import PositionTables
from models.losses.set_prediction import SetCriterion
from models.losses.softmax_classes import SoftmaxClasses
from models.spec import load_spec
from tests.models.convert.published_yolos import small_spec
from tests.parity.check import check
from tests.parity.published import Fixture, Report
from tests.parity.yolos_loss_checks import published_batch
from tests.parity.yolos_model_checks import answers, block_arrays, recorded_blocks
from tests.parity.yolos_rebuild import Rebuilt, config_of, network_input, rebuild_yolos
from utils.errors import UsageError

FIXTURES = Path(__file__).parent / "fixtures"
UNSHIPPED = "network found from its tensors"
"""A small network has no YAML of its own, so this comparison alone has to fail for one."""
FACTS = {
    "gain": {"backbone.pos_embed": 20.0, "backbone.det_token": 10.0, "backbone.mid_pos_embed": 20.0},
    "input": {
        "shape": [2, 3, 48, 80],
        "seed": 3,
        "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    },
}
WHAT = {
    "block_det_tokens": "channels 0-3 of detection tokens 0, 2, 4 as each block returns them",
    "attention_last": "query detection tokens 1, 3; key patches",
    "pos_embed_interp": "sequence positions 0 ([CLS]), 1, 7 (patches), 16, 20; channels 2-5",
    "post_scores": "for an original image of 30 (height) x 50 (width)",
}
OBJECTS = [([1, 90], [[0.3, 0.4, 0.2, 0.5], [0.6, 0.5, 0.4, 0.3]]), ([3], [[0.5, 0.5, 0.1, 0.6]])]
OUTPUTS = {"pred_logits", "pred_boxes", "block_stats"}


def described(name: str, **more: Any) -> dict[str, Any]:
    """Return what a fixture says of a small network with tables between its blocks."""
    spec = small_spec("yolos-s", nc=91, width=48, heads=6, pe_size=[64, 96])
    with torch.device("meta"):
        graph = Graph(spec)
    state = [[piece.name, list(piece.shape), "float32"] for piece in pieces(graph, OFFICIAL)]
    config = {"embed_dim": 48, "depth": 3, "heads": 6, "patch": 16, "det_token_num": 5, "num_classes": 91}
    config |= {"init_pe_size": [64, 96], "mid_pe_size": [64, 96]}
    parameters = sum(value.numel() for value in graph.parameters())
    return {"model": name, "state": state, "config": config, "parameters": parameters, **FACTS, **more}


def write(path: Path, facts: dict[str, Any], arrays: dict[str, Any]) -> Path:
    path.write_text(json.dumps(facts))
    np.savez(path.with_suffix(".npz"), **{name: np.asarray(value) for name, value in arrays.items()})
    return path


def write_outputs(folder: Path) -> Path:
    """Write a fixture of everything that eval mode records."""
    path = folder / "yolos-s.json"
    facts = described("yolos-s", outputs={name: {"what": text} for name, text in WHAT.items()})
    wanted = dict.fromkeys((*WHAT, "block_stats", "post_labels"), np.zeros(0))
    fixture, report = Fixture(path, facts, wanted), Report("x")
    rebuilt = rebuild_yolos(fixture, report)
    with torch.no_grad(), recorded_blocks(rebuilt) as blocks:
        (raw,) = rebuilt.graph.eval()(network_input(rebuilt, fixture, report)).values()
        arrays = {"pred_logits": raw.logits, "pred_boxes": raw.boxes, **block_arrays(rebuilt, blocks, fixture)}
        return write(path, facts, {**arrays, **answers(rebuilt, raw, fixture, report)})


def write_losses(folder: Path) -> Path:
    """Write a fixture of everything that a training step records."""
    path = folder / "yolos-s-losses.json"
    targets = [{"labels": k, "boxes": b, "box_format": "cxcywh, fractions of the image"} for k, b in OBJECTS]
    facts = described("yolos-s", targets=targets, losses={})
    fixture, report = Fixture(path, facts, {}), Report("x")
    rebuilt = rebuild_yolos(fixture, report)
    head, criterion = rebuilt.head, rebuilt.head.criterion({})
    (raw,) = rebuilt.graph.train()(network_input(rebuilt, fixture, report)).values()
    ready = criterion.prepare(published_batch(rebuilt, fixture, report))
    parts = criterion(raw, ready)
    sum(parts.values()).backward()
    assert head.labels == 91
    facts["losses"] = {"loss_ce": parts["cls"].item(), "total_weighted": sum(parts.values()).item()}
    (found,) = criterion.match([raw.last], ready)
    of_image = [found.image == i for i in range(2)]
    facts["matching"] = [
        {"image": i, "tokens": found.query[own].tolist(), "targets": found.object[own].tolist()}
        for i, own in enumerate(of_image)
    ]
    gradients = {name: value.grad for name, value in rebuilt.graph.named_parameters()}
    norms = {piece.name: float(piece.of(gradients).norm()) for piece in rebuilt.pieces}
    facts["grad_names"] = list(norms)
    return write(path, facts, {"pred_logits": raw.logits.detach(), "grad_norm": list(norms.values())})


def changed_copy(path: Path, folder: Path, change: Any) -> Path:
    """Copy a fixture, its facts and arrays changed."""
    facts = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    change(facts, arrays)
    return write(folder / path.name, facts, arrays)


def test_other_sizes_with_tables_between_blocks_are_read_and_can_miss(tmp_path: Path) -> None:
    path = write_outputs(tmp_path)
    report = check(path)
    assert report.misses == [UNSHIPPED] and report.skipped == []
    assert {*WHAT, "post_labels", "post_boxes", "pred_boxes", "mid pe size", "parameters"} <= report.seen
    (tmp_path / "changed").mkdir()

    def change(facts: dict[str, Any], arrays: dict[str, Any]) -> None:
        facts["parameters"] += 1
        for name in arrays:
            arrays[name] = arrays[name] + (1 if name == "post_labels" else 0.01 * np.abs(arrays[name]).max())
        arrays["new"] = np.zeros(1)

    missed = check(changed_copy(path, tmp_path / "changed", change)).misses
    with np.load(path.with_suffix(".npz")) as stored:
        assert set(missed) == {UNSHIPPED, "parameters", "new", *stored.files}


def test_losses_with_tables_between_blocks_are_read_and_can_miss(tmp_path: Path) -> None:
    path = write_losses(tmp_path)
    report = check(path)
    assert report.misses == [UNSHIPPED] and {"grad_norm", "matching of image 1", "loss_ce"} <= report.seen
    (tmp_path / "changed").mkdir()

    def change(facts: dict[str, Any], arrays: dict[str, Any]) -> None:
        facts["losses"] |= {"loss_ce": facts["losses"]["loss_ce"] * 1.01, "loss_new": 1.0}
        facts["matching"][0]["tokens"][0] += 1
        facts["grad_names"][2] = "backbone.other"
        arrays["grad_norm"] = arrays["grad_norm"] * 1.02

    missed = check(changed_copy(path, tmp_path / "changed", change)).misses
    wanted = {UNSHIPPED, "loss_ce", "loss_new", "matching of image 0", "tensors with a gradient", "grad_norm"}
    assert set(missed) == wanted


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("yolos-ti", "yolos-ti"),
        ("yolos-tiny", "yolos-ti"),
        ("yolos-s", "yolos-s"),
        ("yolos-small-losses", "yolos-s"),
        ("yolos-s (dWr)", "yolos-s-dwr"),
        ("yolos-small-dwr", "yolos-s-dwr"),
        ("yolos-s-pe", "yolos-s-pe"),
        ("yolos-base", "yolos-b"),
        ("yolox-s", None),
    ],
)
def test_the_network_that_a_name_means(name: str, config: str | None) -> None:
    assert config_of(Fixture(Path("x.json"), {"model": name}, {})) == config
    if config:
        assert load_spec(config).source == f"{config}.yaml"


@pytest.mark.parametrize(
    ("where", "name", "wrong", "missed"),
    [
        (vit, "NORM_EPS", 1e-2, OUTPUTS),
        (
            PositionTables,
            "positions",
            lambda self, table, grid, grids=None: table[:, : 1 + grid[0] * grid[1] + self.layout.suffix],
            {*OUTPUTS, "pos_embed_interp", "attention_last"},
        ),
        (
            tests.parity.yolos_rebuild,
            "seeded_tensor",
            lambda name, shape, made=tests.parity.yolos_rebuild.seeded_tensor: (
                np.roll(made(name, shape), shape[0] // 3, 0) if name.endswith("qkv.weight") else made(name, shape)
            ),
            {*OUTPUTS, "block_det_tokens"},
        ),
    ],
    ids=["eps", "a table that is cut and not resized", "order of queries, keys and values"],
)
def test_a_wrong_detail_is_a_miss(
    where: Any, name: str, wrong: Any, missed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, wrong)
    assert missed <= set(check(FIXTURES / "yolos-ti.json").misses)


def test_wrong_weights_of_the_loss_are_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = SetCriterion.__init__

    def other(self: SetCriterion, *given: Any) -> None:
        prepared(self, *given)
        self.classes, self.cost_weights = SoftmaxClasses(0.2), CostWeights(1.0, 5.0, -2.0)

    monkeypatch.setattr(SetCriterion, "__init__", other)
    missed = set(check(FIXTURES / "yolos-ti-losses.json").misses)
    assert {"loss_ce", "total_weighted", "cost_0", "cost_1", "grad_norm"} <= missed


def test_a_network_of_another_name_is_a_miss(tmp_path: Path) -> None:
    facts = json.loads((FIXTURES / "yolos-ti.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps({**facts, "model": "yolos-s"}))
    assert "network found from its tensors" in check(tmp_path / "x.json").misses


def test_unknown_tensor_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"model": "yolos-s", "state": [["a.weight", [1], "float32"]]}))
    with pytest.raises(UsageError, match="not named as in any YOLOS"):
        check(tmp_path / "x.json")


def test_words_without_numbers_are_refused() -> None:
    rebuilt = Rebuilt(None, ())
    fixture = Fixture(Path("x.json"), {"outputs": {"post_scores": {"what": "for a picture"}}}, {"post_labels": 0})
    with pytest.raises(UsageError, match="gives no"):
        answers(rebuilt, None, fixture, Report("x"))
