"""The checker of YOLO-MS, YOLOv6 and YOLOv8 fixtures reads every size, and notices the details easily got wrong."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tests.parity.mmyolo_loss_checks
import tests.parity.mmyolo_model_checks
import tests.parity.mmyolo_rebuild
import tests.parity.rebuild
from data.samples import Placement
from models.convert.name_table import NameTable
from models.graph import Graph
from models.heads.rtmdet import RTMDetHead
from models.layers.ms_block import MSBlock
from models.predictions import PostprocessOptions
from models.spec import ModelSpec, load_spec, parse_spec
from models.table import tabulate_model, totals_of
from tests.parity.check import check
from tests.parity.mmyolo_model_checks import network_input, raw_parts
from tests.parity.mmyolo_rebuild import Rebuilt, named_network, recorded_stages
from tests.parity.published import Fixture, Report
from tests.parity.rebuild import fill
from tests.parity.seeded import seeded_tensor
from utils.errors import UsageError

FIXTURES = Path(__file__).parent / "fixtures"
HEAD = "bbox_head.head_module"
STAGES = {
    "yoloms-s": ["backbone.stem", "neck.upsample_layers.1", "neck.reduce_layers.2", f"{HEAD}.reg_convs.2.1"],
    "yoloms-base-se": ["backbone.stage4.2", "backbone.stage2.1.mid_convs.2", "neck.top_down_layers.0"],
    "yolov6-t": ["backbone.stage1.0", "neck.upsample_layers.0", f"{HEAD}.stems.1"],
    "yolov8-s": ["backbone.stage4.2", "neck.bottom_up_layers.1"],
}
CONFIGS = {"yoloms-s": "yoloms_s", "yoloms-base-se": "yoloms_se", "yolov6-t": "yolov6_t", "yolov8-s": "yolov8_s"}
GAIN = {
    "backbone.stem.0.conv.weight": 0.02,
    "backbone.stem.conv.weight": 0.5,
    "rbr_dense.conv.weight": 0.5,
    "rbr_1x1.conv.weight": 0.3,
    "rbr_identity.weight": 0.3,
}
INPUT = {"shape": [1, 3, 64, 96], "seed": 3}
CAFFE = {"order": "channels are B, G, R", "mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]}
OBJECTS = [[[3, 10.5, 8.25, 60.5, 50.75], [1, 40.0, 20.0, 90.0, 60.0]]]


@pytest.fixture(scope="module", autouse=True)
def numbers_drawn_once() -> Iterator[None]:
    """Remember drawn tensors, because the same networks are filled again and again; so many are two of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.parity.rebuild, "seeded_tensor", functools.lru_cache(1000)(seeded_tensor))
        yield


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the operations of the network, which take longest; other tests here and test_parity.py have them."""
    monkeypatch.setattr(tests.parity.mmyolo_model_checks, "check_operations", lambda *_: None)


@functools.cache
def operations_of(name: str) -> int:
    """Return the operations of a network for an image of 64 x 64 pixels, by the published convention."""
    return totals_of(tabulate_model(load_spec(CONFIGS[name]), (64, 64), deploy=True))["mac_based"]


def described(name: str, graph: Graph, table: NameTable) -> dict[str, Any]:
    """Return what a fixture says of a network of ours, in the published names."""
    names, kinds = table.published_names(graph), {torch.float32: "float32", torch.int64: "int64"}
    state = [[names[own], list(value.shape), kinds[value.dtype]] for own, value in graph.state_dict().items()]
    shapes = {entry[0]: entry[1] for entry in state}
    aliases = table.copied_names(graph).items()
    state += [[copy, shapes[first], "float32", {"alias_of": first}] for copy, first in aliases]
    caffe = name.startswith("yoloms")
    return {
        "model": name,
        "strides": [8, 16, 32],
        "state": state,
        "gain": GAIN,
        "prior_offset": 0 if caffe else 0.5,
        "input": {**INPUT, "scale": 255, "normalisation": CAFFE} if caffe else {**INPUT, "normalisation": "none"},
        "parameters": sum(value.numel() for value in graph.parameters()),
        "gflops": {"size": [64, 64], "measured_reference_counter": operations_of(name)},
        "postprocess": {"single": {"score_thr": 0.02, "multi_label": False, "nms_iou": 0.5, "nms_pre": 30_000}},
    }


def stage_row(stage: str, output: Tensor) -> list[Any]:
    x = output.double().flatten()
    places = [0, len(x) // 3, len(x) // 2, 2 * len(x) // 3, len(x) - 1]
    return [stage, float(x.mean()), float(x.std(correction=0)), list(output.shape), x[places].tolist()]


def filled(name: str, path: Path) -> tuple[Rebuilt, dict[str, Any], Tensor]:
    """Return a network of ours with seeded tensors, what a fixture says of it, and its input."""
    config, table = named_network(Fixture(path, {"model": name}, {}))
    assert config == CONFIGS[name]
    graph = Graph(load_spec(config)).eval()
    rebuilt, facts = Rebuilt(graph, table.published_names(graph)), described(name, graph, table)
    fixture = Fixture(path, facts, {})
    fill(graph, fixture, rebuilt.names)
    return rebuilt, facts, network_input(rebuilt, fixture, Report(name))


def write_fixture(name: str, folder: Path) -> Path:
    """Write a fixture of the published form from what a network of ours computes."""
    path = folder / f"{name}.json"
    rebuilt, facts, images = filled(name, path)
    with torch.no_grad(), recorded_stages(rebuilt, STAGES[name]) as outputs:
        (raw,) = rebuilt.graph(images).values()
        found = rebuilt.head.predict(raw, (64, 96))
    settings = facts["postprocess"]["single"]
    kept = rebuilt.head.postprocess(found, PostprocessOptions(0.02, 0.5, 20), [Placement(64, 96)])[0]
    settings |= {"max_per_img": 20, "count": len(kept.boxes)}
    arrays = {key: value.numpy() for key, value in raw_parts(rebuilt, raw).items()}
    arrays |= {"boxes": found.boxes.numpy(), "score_max": found.scores.amax(-1).numpy()}
    arrays["score_argmax"] = found.scores.argmax(-1).numpy()
    arrays["det_single"] = torch.cat((kept.boxes, kept.scores[:, None], kept.classes[:, None]), 1).numpy()
    facts["eval_layers"] = {"rows": [stage_row(stage, outputs[stage]) for stage in STAGES[name]]}
    path.write_text(json.dumps(facts))
    np.savez(path.with_suffix(".npz"), **arrays)
    return path


@pytest.fixture(scope="module")
def fixture_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``write_fixture`` of a name; each is written once and must not be changed."""
    folder = tmp_path_factory.mktemp("fixtures")
    return functools.cache(lambda name: write_fixture(name, folder))


@pytest.mark.parametrize("name", STAGES)
def test_other_sizes_are_read(name: str, fixture_of: Callable[[str], Path]) -> None:
    report = check(fixture_of(name))
    assert report.misses == [] and report.skipped == []
    seen = {"network found from its tensors", "cls_2", "box_0", "boxes", "det_single", "stage five values"}
    assert seen | {"measured reference counter", "score_argmax"} <= report.seen


@pytest.mark.usefixtures("uncounted")
def test_changed_numbers_of_another_size_miss(fixture_of: Callable[[str], Path], tmp_path: Path) -> None:
    written = fixture_of("yolov8-s")
    path = tmp_path / written.name
    with np.load(written.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    arrays["cls_1"] = arrays["cls_1"] * 1.01 + 0.01
    facts = json.loads(written.read_text())
    facts["eval_layers"]["rows"][1][1] += 0.01
    path.write_text(json.dumps({**facts, "parameters": facts["parameters"] + 1}))
    np.savez(path.with_suffix(".npz"), **arrays)
    assert check(path).misses == ["parameters", "stage mean", "cls_1"]


def write_losses(name: str, folder: Path) -> Path:
    """Write a fixture of the losses of a whole network from those of a network of ours."""
    path = folder / f"{name}-losses.json"
    rebuilt, facts, images = filled(name, path)
    fixture = Fixture(path, {**facts, "targets": {"per_image": OBJECTS}}, {})
    (raw,) = rebuilt.graph(images).values()
    batch = tests.parity.mmyolo_loss_checks.batch_of_corners(fixture)
    criterion = rebuilt.head.criterion({**rebuilt.head.recipe, "yolov6_least_scores": 0.0})
    criterion.start_epoch(4, 8)
    parts = criterion(raw, criterion.prepare(batch))
    sum(parts.values()).backward()
    found = tests.parity.mmyolo_loss_checks.assigned(criterion, [level.detach() for level in raw], batch)
    words = {"box": "loss_bbox", "cls": "loss_cls", "dfl": "loss_dfl"}
    losses = {words[part]: value.item() for part, value in parts.items()} | {"positives": int(found.used.sum())}
    grads = {rebuilt.names[own]: float(value.grad.norm()) for own, value in rebuilt.graph.named_parameters()}
    arrays = {key: value.detach().numpy() for key, value in raw_parts(rebuilt, raw).items()}
    arrays |= {"grad_norm": np.array(list(grads.values())), "matched_gt": found.dense()[1].numpy()}
    arrays["target_score"] = found.dense()[2].numpy()
    if "dist_0" in arrays:
        arrays = {key: value for key, value in arrays.items() if not key.startswith("box_")}
    told = {"model": f"{name} (losses)", "targets": {"per_image": OBJECTS}, "losses": losses, "grad_names": list(grads)}
    path.write_text(json.dumps({**facts, **told}))
    np.savez(path.with_suffix(".npz"), **arrays)
    return path


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("name", ["yolov8-s", "yolov6-t"])
def test_losses_of_other_networks_are_read_and_can_miss(name: str, tmp_path: Path) -> None:
    path = write_losses(name, tmp_path)
    report = check(path)
    assert report.misses == []
    assert {"network loss_cls", "grad_norm", "matched_gt", "target_score"} <= report.seen
    facts = json.loads(path.read_text())
    facts["losses"]["loss_bbox"] *= 1.01
    path.write_text(json.dumps(facts))
    assert check(path).misses == ["given outputs loss_bbox", "network loss_bbox"]


def changed_rows(change: Callable[[list[Any]], list[Any]]) -> Callable[[ModelSpec], ModelSpec]:
    """Return a function that changes every row of a model."""

    def changed(spec: ModelSpec) -> ModelSpec:
        sections = {part: [change(list(row)) for row in spec.values[part]] for part in ("backbone", "neck", "head")}
        return parse_spec({**spec.values, **sections}, spec.source)

    return changed


def usual_norm(row: list[Any]) -> list[Any]:
    return [*row[:3], row[3][:2]] if row[2] == "SPPF" else row


def turned_around(row: list[Any]) -> list[Any]:
    return [row[0][::-1], *row[1:]] if row[2] == "Concat" and row[0][1] != "r5" else row


def swish_head(row: list[Any]) -> list[Any]:
    return [*row[:3], ["nc", 2, "nn.SiLU()"]] if row[2] == "RTMDetHead" else row


OUTPUTS = {"stage five values", "boxes", "cls_0"}


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize(
    ("change", "missed"),
    [
        pytest.param(changed_rows(usual_norm), {"BatchNorm that differs from the others", *OUTPUTS}, id="SPPF norm"),
        pytest.param(changed_rows(turned_around), OUTPUTS, id="order of a Concat"),
        pytest.param(changed_rows(swish_head), OUTPUTS, id="SiLU in the head"),
        pytest.param(lambda spec: spec.with_values(norm={"eps": 1e-5, "momentum": 0.2}), {"BatchNorm of the neck"}),
    ],
)
def test_a_wrong_row_is_a_miss(
    change: Callable[[ModelSpec], ModelSpec], missed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = tests.parity.mmyolo_rebuild.find_spec
    monkeypatch.setattr(tests.parity.mmyolo_rebuild, "find_spec", lambda *given: change(find(*given)))
    assert missed <= set(check(FIXTURES / "yoloms-xs.json").misses)


@pytest.mark.usefixtures("uncounted")
def test_swapped_colours_are_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tests.parity.mmyolo_model_checks
    monkeypatch.setattr(module, "network_input", lambda *given: network_input(*given).flip(1))
    assert set(check(FIXTURES / "yoloms-xs.json").misses) >= OUTPUTS


@pytest.mark.usefixtures("uncounted")
def test_branches_without_what_the_one_before_found_are_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: MSBlock, x: Tensor) -> Tensor:
        parts = self.in_conv(x).split(self.branch, 1)
        found = [convs(part) for part, convs in zip(parts, self.mid_convs, strict=True)]
        return self.attention(self.out_conv(torch.cat(found, 1)))

    monkeypatch.setattr(MSBlock, "forward", forward)
    assert set(check(FIXTURES / "yoloms-xs.json").misses) >= OUTPUTS


@pytest.mark.usefixtures("uncounted")
def test_an_idle_last_activation_of_a_branch_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    branch = MSBlock._branch

    def without(self: MSBlock, *given: Any) -> nn.Module:
        made = branch(self, *given)
        for bottleneck in made if isinstance(made, nn.Sequential) else ():
            bottleneck.out_conv.act = nn.Identity()
        return made

    monkeypatch.setattr(MSBlock, "_branch", without)
    assert set(check(FIXTURES / "yoloms-xs.json").misses) >= OUTPUTS


@pytest.mark.usefixtures("uncounted")
def test_norms_that_all_levels_share_are_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = RTMDetHead._level
    monkeypatch.setattr(RTMDetHead, "_level", lambda self, level, x: forward(self, 0, x))
    assert {"cls_1", "box_2"} <= set(check(FIXTURES / "yoloms-xs.json").misses)


@pytest.mark.usefixtures("uncounted")
def test_a_network_of_another_name_is_a_miss(tmp_path: Path) -> None:
    facts = json.loads((FIXTURES / "yolov8-n-ms.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps({**facts, "model": "yolov8-n"}))
    assert "network found from its tensors" in check(tmp_path / "x.json").misses


def test_losses_without_their_list_of_tensors(tmp_path: Path) -> None:
    for ending in ("json", "npz"):
        (tmp_path / f"a.{ending}").write_bytes((FIXTURES / f"yoloms-xs-losses.{ending}").read_bytes())
    report = check(tmp_path / "a.json")
    assert report.misses == [] and report.skipped == ["state"]


def test_unknown_tensor_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"model": "yoloms-s", "state": [["a.weight", [1], "float32"]]}))
    with pytest.raises(UsageError, match="not named as in any network"):
        check(tmp_path / "x.json")
