"""The checker of YOLOX fixtures reads every size, and notices each of the details that are easily got wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tests.parity.yolox_model_checks
import tests.parity.yolox_rebuild
from models.convert.name_table import NameTable
from models.convert.yolox_names import MMYOLO, OFFICIAL
from models.graph import Graph
from models.layers.conv import Focus
from models.layers.csp import Bottleneck
from models.spec import ModelSpec, load_spec, parse_spec
from tests.parity.check import check
from tests.parity.model_checks import published_image
from tests.parity.published import Fixture
from tests.parity.rebuild import fill
from tests.parity.yolox_rebuild import Rebuilt, recorded_stages
from utils.errors import UsageError

FIXTURES = Path(__file__).parent / "fixtures"
GAIN = {"stem.conv.conv.weight": 0.0026}
STAGES = {
    "yolox-m": ["backbone.stem", "backbone.dark5", "neck.C3_n4", "head.cls_convs.1"],
    "yolox-pose-s": ["backbone.stage4", "neck.out_layers.0", "head.pose_convs.2"],
}


def table_of(name: str) -> NameTable:
    return MMYOLO if "pose" in name else OFFICIAL


def described(name: str, graph: Graph) -> dict[str, Any]:
    """Return what a fixture says of a network of ours, in the published names."""
    names = table_of(name).published_names(graph)
    kinds = {torch.float32: "float32", torch.int64: "int64"}
    state = [[names[own], list(value.shape), kinds[value.dtype]] for own, value in graph.state_dict().items()]
    if "pose" in name:
        state.append(["bbox_head.loss_pose.sigmas", [17], "float32", True])
    return {
        "model": name,
        "strides": [8, 16, 32],
        "bn": {"eps": 1e-3, "momentum": 0.03},
        "state": state,
        "gain": GAIN,
        "input": {"shape": [2, 3, 64, 96], "seed": 3, "scale": 255, "normalisation": "none"},
        "parameters": sum(p.numel() for p in graph.parameters()),
    }


def write_fixture(name: str, folder: Path) -> Path:
    """Write a fixture of the published form from what a network of ours computes."""
    graph = Graph(load_spec(name.replace("-", "_")))
    facts, path = described(name, graph), folder / f"{name}.json"
    rebuilt = Rebuilt(graph, table_of(name).published_names(graph))
    fill(graph, Fixture(path, facts, {}), rebuilt.names)
    with torch.no_grad(), recorded_stages(rebuilt, STAGES[name]) as outputs:
        (raw,) = graph.eval()(published_image(facts["input"])).values()
        found = rebuilt.head.predict(raw, (64, 96))
    arrays = {f"eval_raw_{i}": level.numpy() for i, level in enumerate(raw)}
    arrays["eval_scores"] = (found.objectness[..., None] * found.scores).numpy()
    facts["eval_layers"] = {"rows": [stage_row(stage, outputs[stage]) for stage in STAGES[name]]}
    path.write_text(json.dumps(facts))
    np.savez(path.with_suffix(".npz"), **arrays)
    return path


def stage_row(stage: str, output: Tensor) -> list[Any]:
    x = output.double().flatten()
    places = [0, len(x) // 3, len(x) // 2, 2 * len(x) // 3, len(x) - 1]
    return [stage, float(x.mean()), float(x.std(correction=0)), list(output.shape), x[places].tolist()]


@pytest.mark.parametrize("name", STAGES)
def test_other_sizes_are_read_and_can_miss(name: str, tmp_path: Path) -> None:
    path = write_fixture(name, tmp_path)
    report = check(path)
    assert report.misses == [] and report.skipped == []
    assert {"network found from its tensors", "eval_raw_2", "eval_scores", "stage five values"} <= report.seen
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    arrays["eval_raw_1"] = arrays["eval_raw_1"] * 1.01
    facts = json.loads(path.read_text())
    facts["eval_layers"]["rows"][1][1] += 0.01
    path.write_text(json.dumps({**facts, "parameters": facts["parameters"] + 1}))
    np.savez(path.with_suffix(".npz"), **arrays)
    assert check(path).misses == ["parameters", "stage mean", "eval_raw_1"]


def changed_rows(change: Callable[[list[Any]], list[Any]]) -> Callable[[ModelSpec], ModelSpec]:
    """Return a function that changes every row of a model."""

    def changed(spec: ModelSpec) -> ModelSpec:
        sections = {part: [change(list(row)) for row in spec.values[part]] for part in ("backbone", "head")}
        return parse_spec({**spec.values, **sections}, spec.source)

    return changed


def other_pools(row: list[Any]) -> list[Any]:
    return [*row[:3], [row[3][0], [5, 9, 11]]] if row[2] == "SPP" else row


def with_shortcuts(row: list[Any]) -> list[Any]:
    return [*row[:3], row[3][:1]] if row[2] == "C3DW" else row


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(changed_rows(other_pools), id="SPP kernel"),
        pytest.param(changed_rows(with_shortcuts), id="shortcut in the neck"),
        pytest.param(lambda spec: spec.with_values(activation="nn.ReLU()"), id="activation"),
    ],
)
def test_a_wrong_row_is_a_miss(change: Callable[[ModelSpec], ModelSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    find = tests.parity.yolox_rebuild.find_spec
    monkeypatch.setattr(tests.parity.yolox_rebuild, "find_spec", lambda *given: change(find(*given)))
    assert {"stage five values", "eval_pred", "eval_raw_0"} <= set(check(FIXTURES / "yolox-nano.json").misses)


def test_a_wrong_eps_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    find = tests.parity.yolox_rebuild.find_spec
    wrong = lambda *given: find(*given).with_values(norm={"eps": 1e-5})  # noqa: E731
    monkeypatch.setattr(tests.parity.yolox_rebuild, "find_spec", wrong)
    assert {"BatchNorm eps", "stage five values", "eval_pred"} <= set(check(FIXTURES / "yolox-nano.json").misses)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda images: images.flip(1), id="RGB for BGR"),
        pytest.param(lambda images: images / 255, id="scale"),
    ],
)
def test_a_wrong_input_is_a_miss(change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    module = tests.parity.yolox_model_checks
    monkeypatch.setattr(module, "published_image", lambda description: change(published_image(description)))
    assert {"stage five values", "eval_pred"} <= set(check(FIXTURES / "yolox-nano.json").misses)


def test_a_wrong_order_of_the_focus_slices_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Focus.forward

    def by_rows(self: Focus, x: Tensor) -> Tensor:
        # Turning the picture over its diagonal and back exchanges bottom-left and top-right, and keeps the rest but for
        # the kernel, which is turned here, too.
        self.conv.conv.weight.data = self.conv.conv.weight.data.transpose(2, 3).contiguous()
        y = forward(self, x.transpose(2, 3)).transpose(2, 3)
        self.conv.conv.weight.data = self.conv.conv.weight.data.transpose(2, 3).contiguous()
        return y

    monkeypatch.setattr(Focus, "forward", by_rows)
    assert {"stage five values", "eval_pred"} <= set(check(FIXTURES / "yolox-nano.json").misses)


def test_a_missing_identity_is_a_miss_in_train_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bottleneck, "forward", lambda self, x: self.cv2(self.cv1(x)))
    missed = set(check(FIXTURES / "yolox-s_train.json").misses)
    assert {"train_raw_0", "without_l1 total", "grad_norm_with_l1"} <= missed


def test_a_network_of_another_name_is_a_miss(tmp_path: Path) -> None:
    facts = json.loads((FIXTURES / "yolox-nano.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps({**facts, "model": "yolox-tiny"}))
    assert "network found from its tensors" in check(tmp_path / "x.json").misses


def test_train_mode_without_its_list_of_tensors(tmp_path: Path) -> None:
    for ending in ("json", "npz"):
        (tmp_path / f"a.{ending}").write_bytes((FIXTURES / f"yolox-s_train.{ending}").read_bytes())
    report = check(tmp_path / "a.json")
    assert report.misses == [] and report.skipped == ["state"]


def test_unknown_tensor_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"model": "yolox-s", "state": [["a.weight", [1], "float32"]]}))
    with pytest.raises(UsageError, match="not named as in any YOLOX"):
        check(tmp_path / "x.json")
