"""The checker of fixtures of deformable DETRs reads every variant, and notices details that are easily got wrong.

A fixture made here holds outputs of our own network: it proves that such a file is read, not that they are right.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.convert.ms_detr_names import OFFICIAL, copied_names, pieces
from models.layers import detr_queries
from models.layers.sine_positions import sine_features
from models.spec import load_spec
from tests.models.convert.published_detr import filled_rows, small_spec
from tests.parity.check import check
from tests.parity.ms_detr_loss_checks import GRADIENTS, LOSS, pairs_of, published_batch
from tests.parity.ms_detr_model_checks import (
    answers,
    chosen_tokens,
    inner_arrays,
    layer_arrays,
    recorded,
    step_of,
)
from tests.parity.ms_detr_rebuild import Rebuilt, config_of, flags_of, is_detr, network_input, rebuild_detr
from tests.parity.published import Fixture, Report
from utils.errors import UsageError

FLAGS = "--with_box_refine --two_stage --num_queries 12 --dropout 0.0 --use_ms_detr --use_aux_ffn --nheads 8"
FACTS = {
    "flags": FLAGS,
    "gain": {"self_attn.out_proj.weight": 0.5, **{f"bbox_embed.{n}.layers.2.weight": 0.1 for n in range(3)}},
    "input": {
        "shape": [2, 3, 64, 96],
        "seed": 3,
        "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "valid_sizes_hw": [[64, 96], [48, 64]],
    },
}
WHAT = {
    "memory_sample": "last encoder layer, every 5th token, channels 2-5",
    "logits_o2m": "[layer, image, every 3-th query, 91]",
    "boxes_o2o": "as logits_o2m for boxes",
    "enc_class0": "score of every encoder token",
    "anchors": "anchor boxes, every 4th token",
    "post_scores": "post-process, image 48x64, the top-9 over queries x classes",
}
OBJECTS = [([1, 90], [[0.3, 0.4, 0.2, 0.5], [0.6, 0.5, 0.4, 0.3]]), ([3], [[0.5, 0.5, 0.1, 0.6]])]


def described(**more: Any) -> dict[str, Any]:
    """Return what a fixture says of a small network."""
    rows = filled_rows(small_spec(nc=91, dropout=0.0))
    state = [[piece.name, list(piece.shape), "float32"] for piece in pieces(rows, OFFICIAL)]
    shapes = {name: shape for name, shape, _ in state}
    again = copied_names(rows, OFFICIAL).items()
    state += [[name, shapes[first], "float32", {"alias_of": first}] for name, first in again]
    learning = sum(value.numel() for value in rows.parameters() if value.requires_grad)
    return {"model": "ms-detr-small", "state": state, "parameters": learning, **FACTS, **more}


def write(path: Path, facts: dict[str, Any], arrays: dict[str, Any]) -> Path:
    path.write_text(json.dumps(facts))
    np.savez(path.with_suffix(".npz"), **{name: np.asarray(value) for name, value in arrays.items()})
    return path


def write_losses(folder: Path) -> Path:
    """Write a fixture of what a training step records."""
    path = folder / "ms-detr-small-losses.json"
    targets = [{"labels": k, "boxes": b, "box_format": "cxcywh, fractions of the image"} for k, b in OBJECTS]
    words = {name: {"what": text} for name, text in WHAT.items()}
    facts = described(targets=targets, losses={}, outputs=words)
    fixture, report = Fixture(path, facts, dict.fromkeys(WHAT, np.zeros(9))), Report("x")
    rebuilt = rebuild_detr(fixture, report)
    images, sizes = network_input(rebuilt, fixture, report)
    with recorded(rebuilt) as found:
        (raw,) = rebuilt.graph.train()(images, sizes=sizes).values()
    arrays = {**inner_arrays(raw, found, fixture), **layer_arrays(raw)}
    arrays |= {"topk_tokens": chosen_tokens(rebuilt, raw), "pred_boxes": raw.boxes}
    arrays |= answers(rebuilt, raw, fixture)
    arrays = {name: arrays[name].detach() for name in (*WHAT, "topk_tokens", "pred_boxes", "post_labels", "post_boxes")}
    for name in ("logits_o2m", "boxes_o2o"):
        arrays[name] = arrays[name][:, :, :: step_of(fixture, name)]
    criterion = rebuilt.head.criterion({**rebuilt.head.recipe, "o2m": 1})
    ready = criterion.prepare(published_batch(rebuilt, raw, fixture, report))
    pairs, parts = criterion.assign(raw, ready), criterion(raw, ready)
    sum(parts.values()).backward()
    facts["losses"] = {"loss_ce_0": parts["cls_0"].item(), "loss_bbox_enc": parts["enc_box"].item() / 5}
    facts["losses"] |= {"loss_giou_o2m": parts["o2m_giou_1"].item() / 2, "total_weighted": sum(parts.values()).item()}
    facts["losses"]["class_error"] = float(criterion.seen()["class_error"])
    facts["matching_one_to_many"] = {"layer1": [_matching(pairs.many, 1, image) for image in range(2)]}
    facts["matching_encoder"] = [_matching(pairs.encoder, 0, image) for image in range(2)]
    norms = gradients_of(rebuilt)
    facts["grad_names"] = list(norms)
    return write(path, facts, {**arrays, "grad_norm": list(norms.values())})


def gradients_of(rebuilt: Rebuilt) -> dict[str, float]:
    gradients = {name: value.grad for name, value in rebuilt.graph.named_parameters() if value.grad is not None}
    return {piece.name: float(piece.of(gradients).norm()) for piece in rebuilt.pieces if piece.ours[0] in gradients}


def _matching(pairs: Any, layer: int, image: int) -> dict[str, Any]:
    found = pairs_of(pairs, layer, image)
    return {"image": image, "queries": [query for query, _ in found], "targets": [target for _, target in found]}


@pytest.fixture(scope="module")
def small_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_losses(tmp_path_factory.mktemp("parity"))


def test_a_small_network_is_read_and_can_miss(small_fixture: Path, tmp_path: Path) -> None:
    path = small_fixture
    report = check(path)
    assert report.misses == [] and report.skipped == []
    assert {*WHAT, "grad_norm", "matching_one_to_many layer1 of image 1", "loss_giou_o2m"} <= report.seen
    facts = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = {name: values + 0.01 * np.abs(values).max() for name, values in stored.items()}
        arrays["topk_tokens"] = stored["topk_tokens"][:, [1, 0, *range(2, 12)]]
    facts["losses"] = {name: value * 1.01 + 0.01 for name, value in facts["losses"].items()} | {"loss_new": 1.0}
    facts["matching_encoder"][1]["queries"][0] += 1
    facts["grad_names"][2] = "backbone.other"
    facts["parameters"] += 1
    facts["flags"] = FLAGS.replace("--use_aux_ffn", "--mixed_selection")
    missed = set(check(write(tmp_path / "ms-detr-other.json", facts, {**arrays, "new": np.zeros(1)})).misses)
    wanted = {*arrays, *facts["losses"], "new", "parameters", "--mixed_selection", "--use_aux_ffn"}
    wanted |= {"matching_encoder of image 1", "gradients missing here", "gradients only here"}
    assert wanted <= missed


@pytest.mark.parametrize("name", ["ms-detr-losses", "ms-detr-r50-300", "ms-detr-impl-a-300", "ms-detr-impl-a-losses"])
def test_the_other_published_fixtures(name: str, shared: Path) -> None:
    if os.environ.get("YOLOGRAPH_SLOW_TESTS") != "1":
        pytest.skip("take half a minute together; set YOLOGRAPH_SLOW_TESTS=1, or run tests/parity/check.py")
    report = check(shared / "parity" / f"{name}.json")
    assert report.misses == [] and report.skipped == []


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ms-detr-r50-300", "ms-detr-r50-300"),
        ("ms-detr-losses", "ms-detr-r50-300"),
        ("ms-detr-pp-300-losses", "ms-detr-r50-pp-300"),
        ("ms-detr-r50-pp-900", "ms-detr-r50-pp-900"),
        ("ms-detr-impl-a-losses", "ms-detr-r50-a-300"),
        ("ms-detr-small", None),
    ],
)
def test_the_network_that_a_name_means(name: str, config: str | None) -> None:
    fixture = Fixture(Path("x.json"), {"model": name}, {})
    assert is_detr(fixture) and config_of(fixture) == config
    if config:
        assert load_spec(config).source == f"{config}.yaml"


def test_other_networks_and_flags() -> None:
    assert not is_detr(Fixture(Path("yolos-ti.json"), {"model": "yolos-ti"}, {}))
    flags = flags_of(Fixture(Path("x.json"), {"flags": "--num_queries 300 --dropout 0.0 --two_stage --device cpu"}, {}))
    assert flags == {
        **{"with_box_refine": False, "look_forward_twice": False, "use_ms_detr": False},
        **{"num_queries": 300, "dropout": 0.0, "two_stage": True, "device": "cpu"},
    }
    assert LOSS.fullmatch("loss_giou_3_o2m").groups() == ("loss_giou", "3", "_o2m")
    assert GRADIENTS.relative == 1e-2


def test_a_wrong_detail_is_a_miss(small_fixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detr_queries, "sine_features", lambda boxes, count: sine_features(boxes / 2, count))
    missed = set(check(small_fixture).misses)
    assert {"boxes_o2o", "logits_o2m", "pred_boxes", "grad_norm"} <= missed
    assert not {"enc_class0", "anchors", "memory_sample"} & missed


def test_unknown_tensor_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"model": "ms-detr", "state": [["a.weight", [1], "float32"]]}))
    with pytest.raises(UsageError, match="not named as in any deformable DETR"):
        check(tmp_path / "x.json")
