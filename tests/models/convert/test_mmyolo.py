"""Files of YOLO-MS, YOLOv6 and YOLOv8 as mmyolo writes them become models that compute the same, or a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.checkpoint import load_checkpoint
from models.checkpoint_info import describe_checkpoint
from models.convert.__main__ import main
from models.convert.mmyolo import SIZES, find_spec, find_table
from models.convert.mmyolo_names import HEAD, YOLOMS, YOLOV6, YOLOV6_MS, YOLOV8, YOLOV8_MS
from models.convert.official import read_official
from models.graph import Graph
from models.layers.reparam import reparameterise
from models.spec import load_spec
from models.transfer import transfer_weights
from models.weights import build_model, graph_for_data, load_weights
from tests.models.convert.published_yolox import filled_graph, mmengine, mmyolo_file, published_state
from tests.models.convert.test_yolox import assert_same_model
from utils.errors import ModelError

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "parity" / "fixtures"
TABLES = {table.family: table for table in (YOLOMS, YOLOV6, YOLOV6_MS, YOLOV8, YOLOV8_MS)}
CONFIGS = {name: TABLES[family] for family, marks in SIZES.items() for name in marks.configs.values()}
ENTRIES = {
    "yoloms_xs": 582,
    "yoloms_s": 582,
    "yoloms_xs_se": 590,
    "yoloms": 870,
    "yoloms_se": 878,
    "yolov6_t": 666,
    "yolov6_t_ms": 526,
    "yolov8_n": 354,
    "yolov8_n_ms": 522,
}
DEPLOYED = {"yolov6_t": 9_697_404, "yolov6_t_ms": 8_115_772}
SHARED = f"{HEAD}.cls_convs.0.1.conv.weight"


def filled(cfg: str, **values: Any) -> Graph:
    """Return a model whose tensors all differ, also those that a fresh head leaves at zero."""
    graph = filled_graph(load_spec(cfg).with_values(**values))
    for parameter in graph.parameters():
        nn.init.normal_(parameter, parameter.mean().item(), parameter.std().nan_to_num().item() + 0.01)
    return graph


def save(graph: Graph, cfg: str, path: Path, **given: Any) -> None:
    with mmengine() as buffer:
        torch.save(mmyolo_file(graph, buffer, table=CONFIGS[cfg], **given), path)


@pytest.mark.parametrize("cfg", CONFIGS)
def test_every_shipped_size_is_found(cfg: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(cfg))
        state = published_state(graph, CONFIGS[cfg])
    assert len(state) == ENTRIES.get(cfg, len(state))
    assert len(state) == len(graph.state_dict()) + len(CONFIGS[cfg].copied_names(graph))
    assert find_table("x.pth", state) is CONFIGS[cfg]
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert find_spec("x.pth", shapes, CONFIGS[cfg]).source == f"{cfg}.yaml"


@pytest.mark.parametrize("fixture", ["yoloms-xs", "yoloms-xs-se", "yolov6-t-ms", "yolov8-n", "yolov8-n-ms"])
def test_the_names_are_the_published_ones(fixture: str) -> None:
    published = {entry[0]: tuple(entry[1]) for entry in json.loads((FIXTURES / f"{fixture}.json").read_text())["state"]}
    cfg = fixture.replace("-", "_")
    assert len(published) == ENTRIES[cfg]
    with torch.device("meta"):
        state = published_state(Graph(load_spec(cfg)), CONFIGS[cfg])
    assert {name: tuple(value.shape) for name, value in state.items()} == published


@pytest.mark.parametrize(
    ("cfg", "zipped"),
    [("yoloms_xs_se", False), ("yolov6_n", True), ("yolov6_t_ms", False), ("yolov8_n", True), ("yolov8_n_ms", False)],
)
def test_a_file_computes_the_same(cfg: str, zipped: bool, tmp_path: Path) -> None:
    graph = filled(cfg)
    with mmengine() as buffer:
        saved = mmyolo_file(graph, buffer, table=CONFIGS[cfg])
        torch.save(saved, tmp_path / "epoch_300.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = load_weights(tmp_path / "epoch_300.pth")
    loaded = build_model(checkpoint)
    assert_same_model(loaded, graph)
    assert loaded.spec.source == f"{cfg}.yaml" and loaded.names["detect"][5] == "bus"
    about = checkpoint.progress["converted"]
    assert about["family"] == f"{CONFIGS[cfg].family} (mmyolo)" and "left out" not in about
    assert about["tensors"] == f"all {len(graph.state_dict())}"
    assert about.get("stored once", "").count(", ") == (3 if cfg.startswith("yoloms") else 0)


def test_constants_are_left_out_by_name_and_said(tmp_path: Path) -> None:
    graph = filled("yolov8_n_ms", nc=2)
    constants = ("data_preprocessor.mean", f"{HEAD}.proj", "bbox_head.priors_base_sizes", "bbox_head.prior_inds")
    state = published_state(graph, YOLOV8_MS) | {name: torch.zeros(3) for name in constants}
    meta = {"dataset_meta": {"CLASSES": ("cat", "dog")}}
    torch.save({"meta": meta, "state_dict": state}, tmp_path / "x.pth")
    checkpoint = load_weights(tmp_path / "x.pth")
    assert_same_model(build_model(checkpoint), graph)
    assert checkpoint.names == {"detect": ["cat", "dog"]}
    assert f"left out {', '.join(constants)}" in describe_checkpoint(checkpoint)


@pytest.mark.parametrize("cfg", DEPLOYED)
def test_a_file_saved_after_deployment_gets_its_branches_back(cfg: str, tmp_path: Path) -> None:
    graph = filled(cfg)
    merged = Graph(load_spec(cfg)).eval()
    merged.load_state_dict(graph.state_dict())
    reparameterise(merged.model)
    torch.save({"state_dict": published_state(merged, CONFIGS[cfg])}, tmp_path / "x.pth")
    checkpoint = load_weights(tmp_path / "x.pth")
    assert "backbone.stem.rbr_reparam.weight" in checkpoint.progress["converted"]["made branches of"]
    loaded = build_model(checkpoint)
    assert loaded.spec.source == f"{cfg}.yaml"
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for form in (loaded, graph):
            for mine, theirs in zip(form(images)["detect"], merged(images)["detect"], strict=True):
                torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
    reparameterise(loaded.model)
    assert sum(value.numel() for value in loaded.parameters()) == DEPLOYED[cfg]
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-6, rtol=1e-6)


def test_shared_convolutions_are_stored_once_and_must_agree(tmp_path: Path) -> None:
    graph = filled("yoloms_xs", width_multiple=0.1)
    (tmp_path / "mine.yaml").write_text(graph.spec.text)
    state = published_state(graph, YOLOMS)
    assert state[SHARED] is state[SHARED.replace("convs.0", "convs.2")]
    apart = {name: value.clone() for name, value in state.items()}
    torch.save({"state_dict": apart}, tmp_path / "apart.pth")
    checkpoint = read_official(tmp_path / "apart.pth", tmp_path / "mine.yaml")
    assert len(checkpoint.weights) == 574 and len(apart) == 582
    assert_same_model(build_model(checkpoint), graph)
    copy = SHARED.replace("convs.0", "convs.2")
    apart[copy] = apart[copy] + 1e-3
    torch.save({"state_dict": apart}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=rf"x\.pth: {copy} and {SHARED} are one tensor of the network, but differ"):
        read_official(tmp_path / "x.pth", tmp_path / "mine.yaml")
    del apart[copy]
    torch.save({"state_dict": apart}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=rf"x\.pth: {copy} is missing, where {SHARED} is written again"):
        read_official(tmp_path / "x.pth", tmp_path / "mine.yaml")


def test_raw_weights_are_taken_only_when_asked_for(tmp_path: Path) -> None:
    averaged, raw = filled("yolov8_n"), filled("yolov8_n")
    for value in raw.parameters():
        value.data += 0.5
    with mmengine() as buffer:
        saved = mmyolo_file(averaged, buffer, table=YOLOV8)
    saved["ema_state_dict"] = {f"module.{name}": value for name, value in published_state(raw, YOLOV8).items()}
    saved["ema_state_dict"]["steps"] = torch.tensor(7)
    path = tmp_path / "epoch_500.pth"
    with mmengine() as buffer:
        saved["message_hub"] = mmyolo_file(averaged, buffer, table=YOLOV8)["message_hub"]
        torch.save(saved, path)
    assert_same_model(build_model(load_weights(path)), averaged)
    assert_same_model(build_model(read_official(path, raw=True)), raw)
    torch.save({"state_dict": saved["state_dict"]}, path)
    with pytest.raises(ModelError, match=r"epoch_500\.pth: has no raw weights .*'ema_state_dict'.* without --raw"):
        read_official(path, raw=True)


class History(dict):
    """A log of a user's own, which pickles its entries one by one."""


def test_unknown_classes_beside_the_weights_are_inert(tmp_path: Path) -> None:
    graph = filled("yolov8_n")
    log = History(loss=[1.0, 2.0])
    log.owner = "a hook of one's own"
    saved = {"state_dict": published_state(graph, YOLOV8), "message_hub": {"log": log, "hook": History}}
    torch.save(saved, tmp_path / "x.pth")
    assert b"test_mmyolo" in (tmp_path / "x.pth").read_bytes()
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


def test_another_size_asks_for_its_yaml_and_takes_it(tmp_path: Path) -> None:
    graph = filled("yoloms_xs_se", width_multiple=0.2, layers=3, nc=5)
    save(graph, "yoloms_xs_se", tmp_path / "x.pth")
    sentence = r"is a YOLO-MS of a size that no YAML here has \(16 channels .*, 3 repeats .*, attention\).*--cfg"
    with pytest.raises(ModelError, match=rf"x\.pth: {sentence}"):
        load_weights(tmp_path / "x.pth")
    (tmp_path / "mine.yaml").write_text(graph.spec.text)
    assert_same_model(build_model(read_official(tmp_path / "x.pth", tmp_path / "mine.yaml")), graph)
    with pytest.raises(ModelError, match=r"x\.pth: yolov8_n\.yaml is not laid out as a YOLO-MS of mmyolo"):
        read_official(tmp_path / "x.pth", "yolov8_n")


def test_other_classes_cost_the_class_convolutions_alone(tmp_path: Path) -> None:
    save(filled("yoloms_xs"), "yoloms_xs", tmp_path / "x.pth")
    checkpoint = load_weights(tmp_path / "x.pth")
    account = transfer_weights(graph_for_data(checkpoint, {"detect": 3}), checkpoint)
    lost = {name for name, _, _ in account.other_shape}
    assert lost == {f"model.32.cls_preds.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert account.fresh == [] and account.unused == []


def change(**shapes: tuple[int, ...] | None) -> Callable[[dict[str, Any]], None]:
    """Return a function that gives tensors another shape, or takes them away; dots are written as double lines."""

    def changed(state: dict[str, Any]) -> None:
        for name, shape in shapes.items():
            published = name.replace("__", ".")
            state.pop(published, None)
            if shape is not None:
                state[published] = torch.zeros(shape)

    return changed


NORM = "backbone__stage2__1__blocks__0__conv2__bn__running_var"
CLASSES = f"{HEAD}.cls_preds.0.2.weight".replace(".", "__")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change(**{NORM: None}), r"backbone\.stage2\.1\.blocks\.0\.conv2\.bn\.running_var is missing$"),
        (change(**{NORM: (5,)}), r"running_var has another shape \(5 there, 32 here\)$"),
        (change(backbone__extra__weight=(3,)), r"backbone\.extra\.weight has no place in it$"),
        (change(backbone__stem__conv__weight=None), r"backbone\.stem\.conv\.weight, which tells its size, is missing"),
        (change(backbone__stem__conv__weight=(3,)), r"is no convolution's"),
        (change(**{CLASSES: (200_000, 80, 1, 1)}), r"is the largest|the number 200,000"),
        (change(backbone__stem__conv__weight=(24, 3, 3, 3)), r"24 channels behind the stem, 1 repeats.*--cfg MODEL"),
    ],
)
def test_what_cannot_be_rebuilt(damage: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path) -> None:
    state = dict(published_state(filled("yolov8_n"), YOLOV8))
    damage(state)
    torch.save({"state_dict": state}, tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=rf"(?s)^\S+broken\.pth.*{sentence}") as caught:
        load_weights(tmp_path / "broken.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [f"{HEAD}.rtm_cls.0.weight", "bbox_head.rtm_cls.0.weight"])
def test_rtmdet_is_refused_by_name(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {name: torch.zeros(80, 96, 1, 1)}}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"x\.pth: its tensors are those of an RTMDet"):
        load_weights(tmp_path / "x.pth")


def test_the_command_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = filled("yoloms_xs", nc=4)
    save(graph, "yoloms_xs", tmp_path / "mine.pth")
    made = tmp_path / "mine.safetensors"
    main([str(tmp_path / "mine.pth"), str(made)])
    said = capsys.readouterr().out
    assert "head      detect (RTMDetHead, row 32): 4 classes: 0, 1, 2, 3" in said
    assert "family YOLO-MS (mmyolo), sha256 " in said and f"stored once {HEAD}.cls_convs.0.0.conv" in said
    assert_same_model(build_model(load_checkpoint(made)), graph)
    with pytest.raises(ModelError, match="ema_state_dict"):
        main([str(tmp_path / "mine.pth"), str(made), "--raw"])
