"""Files of YOLOX and YOLOX-Pose become models that compute the same, or one sentence says why not."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import load_checkpoint
from models.checkpoint_info import describe_checkpoint
from models.checkpoint_info import main as look_into
from models.convert.__main__ import main as convert
from models.convert.official import read_official
from models.convert.yolox import SHIPPED, find_spec
from models.convert.yolox_names import MMYOLO, OFFICIAL, OFFICIAL_DARKNET53
from models.graph import Graph
from models.spec import load_spec, parse_spec
from models.transfer import transfer_weights
from models.weights import build_model, graph_for_data, load_weights
from tests.models.convert.published_yolox import (
    SMALL,
    dense_nano,
    filled_graph,
    mmengine,
    mmyolo_file,
    official_file,
    published_state,
    small_spec,
)
from utils.errors import ModelError

ROOT = Path(__file__).resolve().parents[3]


def assert_same_model(ours: Graph, original: Graph) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = ([level for raw in graph(images).values() for level in raw] for graph in (ours, original))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "row of pickles"])
@pytest.mark.parametrize("cfg", ["yolox_nano", "yolox_s"])
def test_an_official_file_computes_the_same(cfg: str, zipped: bool, tmp_path: Path) -> None:
    graph = filled_graph(small_spec() if cfg == "yolox_s" else load_spec(cfg))
    torch.save(official_file(graph), tmp_path / "best_ckpt.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = load_weights(tmp_path / "best_ckpt.pth")
    loaded = build_model(checkpoint)
    assert_same_model(loaded, graph)
    assert loaded.names["detect"][5] == "bus" and len(loaded.names["detect"]) == 80
    assert loaded.spec.source == ("yolox_w0.125_n1.yaml" if cfg == "yolox_s" else "yolox_nano.yaml")
    about = checkpoint.progress["converted"]
    assert about["sha256"] == hashlib.sha256((tmp_path / "best_ckpt.pth").read_bytes()).hexdigest()
    assert about["family"] == "YOLOX (the official YOLOX)" and "left out" not in about


@pytest.mark.parametrize("keypoints", [17, 5])
def test_an_mmyolo_pose_file_computes_the_same(keypoints: int, tmp_path: Path) -> None:
    graph = filled_graph(small_spec("yolox_pose_s", nkpt=keypoints))
    with mmengine() as buffer:
        torch.save(mmyolo_file(graph, buffer), tmp_path / "epoch_300.pth")
    assert b"getattr" in (tmp_path / "epoch_300.pth").read_bytes()
    checkpoint = load_weights(tmp_path / "epoch_300.pth")
    loaded = build_model(checkpoint)
    assert_same_model(loaded, graph)
    assert loaded.names == {"pose": ["person"]} and len(loaded.heads["pose"].keypoints) == keypoints
    info = describe_checkpoint(checkpoint)
    assert "family YOLOX-Pose (mmyolo)" in info
    assert "left out bbox_head.loss_pose.sigmas, bbox_head.assigner_oks_calculator.sigmas" in info


@pytest.mark.parametrize(
    ("classes", "names"), [(None, ["0", "1"]), (("cat", "dog"), ["cat", "dog"]), (("cat",), ["0", "1"])]
)
def test_an_mmyolo_file_brings_its_class_names(classes: Any, names: list[str], tmp_path: Path) -> None:
    graph = filled_graph(small_spec(nc=2))
    with mmengine() as buffer:
        torch.save(mmyolo_file(graph, buffer, classes), tmp_path / "x.pth")
    loaded = build_model(load_weights(tmp_path / "x.pth"))
    assert_same_model(loaded, graph)
    assert loaded.names == {"detect": names}


def test_one_class_name_as_text(tmp_path: Path) -> None:
    with mmengine() as buffer:
        torch.save(mmyolo_file(filled_graph(small_spec(nc=1)), buffer, "cat"), tmp_path / "x.pth")
    assert load_weights(tmp_path / "x.pth").names == {"detect": ["cat"]}


def test_mmyolos_own_nano_is_built_as_it_is(tmp_path: Path) -> None:
    graph = filled_graph(dense_nano())
    assert sum(p.numel() for p in graph.parameters()) == 1_365_039
    torch.save({"state_dict": published_state(graph, MMYOLO)}, tmp_path / "nano.pth")
    loaded = build_model(load_weights(tmp_path / "nano.pth"))
    assert_same_model(loaded, graph)
    assert loaded.spec.source == "yolox_nano_mmyolo.yaml"


@pytest.mark.parametrize("cfg", [*SHIPPED.values(), "yolox_darknet53"])
def test_every_shipped_size_is_found(cfg: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(cfg))
    tables = [MMYOLO] if "pose" in cfg else [OFFICIAL_DARKNET53] if "darknet" in cfg else [OFFICIAL, MMYOLO]
    for table in tables:
        names = table.published_names(graph)
        assert len(set(names.values())) == len(names)
        shapes = {names[name]: tuple(value.shape) for name, value in graph.state_dict().items()}
        assert find_spec("x.pth", shapes, table).source == f"{cfg}.yaml"


@pytest.mark.parametrize(
    ("cfg", "entries"),
    [("nano", 642), ("tiny", 462), ("s", 462), ("m", 606), ("l", 750), ("x", 894), ("darknet53", 528)],
)
def test_as_many_tensors_as_published(cfg: str, entries: int) -> None:
    with torch.device("meta"):
        assert len(Graph(load_spec(f"yolox_{cfg}")).state_dict()) == entries


def test_the_darknet53_names_that_differ_from_the_others() -> None:
    with torch.device("meta"):
        names = set(OFFICIAL_DARKNET53.published_names(Graph(load_spec("yolox_darknet53"))).values())
    for prefix in ("stem.2.layer1", "dark2.2.layer2", "dark4.8.layer1", "dark5.4.layer2", "dark5.5.2.conv1"):
        assert f"backbone.backbone.{prefix}.conv.weight" in names
    assert {"backbone.out1_cbl.bn.bias", "backbone.out2.4.conv.weight", "head.obj_preds.2.bias"} <= names
    assert not any(".dark2.3." in name or ".dark5.5.5." in name for name in names)


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_bare_state_dict_under_wrappers(prefix: str, tmp_path: Path) -> None:
    graph = filled_graph(small_spec())
    state = {f"{prefix}{name}": value for name, value in published_state(graph, OFFICIAL).items()}
    torch.save(state, tmp_path / "x.pth")
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


def test_half_precision_becomes_float(tmp_path: Path) -> None:
    graph = filled_graph(small_spec()).half().float()
    state = {name: value.half() for name, value in published_state(graph, OFFICIAL).items()}
    torch.save({"model": state}, tmp_path / "x.pth")
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


def test_a_width_that_is_no_multiple_of_eight(tmp_path: Path) -> None:
    graph = filled_graph(load_spec("yolox_s").with_values(width_multiple=6 / 64, channel_multiple=1))
    torch.save(published_state(graph, OFFICIAL), tmp_path / "x.pth")
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


def test_a_model_of_ones_own_is_named_with_cfg(tmp_path: Path) -> None:
    graph = filled_graph(small_spec(activation="nn.ReLU()"))
    (tmp_path / "mine.yaml").write_text(graph.spec.text)
    torch.save(official_file(graph), tmp_path / "x.pth")
    assert_same_model(build_model(read_official(tmp_path / "x.pth", tmp_path / "mine.yaml")), graph)
    for cfg, sentence in (("yolov5s", r"not laid out as a YOLOX.* its row 24;"), ("yolox_s", "has another shape")):
        with pytest.raises(ModelError, match=rf"x\.pth.*{sentence}"):
            read_official(tmp_path / "x.pth", cfg)


def test_other_classes_cost_the_class_convolutions_alone(tmp_path: Path) -> None:
    graph = filled_graph(small_spec())
    torch.save(official_file(graph), tmp_path / "x.pth")
    checkpoint = load_weights(tmp_path / "x.pth")
    account = transfer_weights(graph_for_data(checkpoint, {"detect": 3}), checkpoint)
    lost = {name for name, _, _ in account.other_shape}
    assert lost == {f"model.24.cls_preds.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert account.fresh == [] and account.unused == []


def remove(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(name)


def replace_by(name: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.update({name: torch.zeros(shape)})


def keep_half(state: dict[str, Any]) -> None:
    for name in list(state)[len(state) // 2 :]:
        del state[name]


def keep_backbone(state: dict[str, Any]) -> None:
    for name in [name for name in state if name.startswith("head.")]:
        del state[name]


BN = "backbone.backbone.dark3.1.m.0.conv2.bn.running_var"
STEM = "backbone.backbone.stem.conv.conv.weight"
CLASSES = "head.cls_preds.0.weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove(BN), rf"{BN} is missing$"),
        (remove("head.stems.2.bn.num_batches_tracked"), r"head\.stems\.2\.bn\.num_batches_tracked is missing$"),
        (replace_by("backbone.extra.weight", 3), r"backbone\.extra\.weight has no place in it$"),
        (replace_by(BN, 5), rf"{BN} has another shape \(5 there, 16 here\)$"),
        (
            replace_by(STEM, 16, 12, 3, 3),
            r"not those of the model yolox_w0\.25_n1\.yaml: .*has another shape .* and \d+ more$",
        ),
        (replace_by(STEM, 0, 12, 3, 3), r"stem\.conv\.conv\.weight.*is no convolution's"),
        (replace_by(STEM, 12), r"stem\.conv\.conv\.weight.*is no convolution's"),
        (remove(STEM), r"stem\.conv\.conv\.weight, which tells its size, is missing"),
        (remove(CLASSES), r"head\.cls_preds\.0\.weight, which tells its size, is missing"),
        (replace_by("head.cls_preds.1.bias", 79), r"head\.cls_preds\.1\.bias has another shape \(79 there, 80 here\)$"),
        (replace_by(CLASSES, 200_000, 32, 1, 1), r"yolox_w0\.125_n1.* the number 200,000"),
        (keep_half, r"head\.cls_preds\.0\.weight.*is missing"),
        (keep_backbone, r"head\.cls_preds\.0\.weight.*is missing"),
    ],
)
def test_what_cannot_be_rebuilt(change: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path) -> None:
    saved = official_file(filled_graph(small_spec()))
    change(saved["model"])
    torch.save(saved, tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=rf"(?s)^\S+broken\.pth.*{sentence}") as caught:
        load_weights(tmp_path / "broken.pth")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_an_mmyolo_file_without_its_head(tmp_path: Path) -> None:
    state = published_state(filled_graph(small_spec()), MMYOLO)
    kept = {name: value for name, value in state.items() if not name.startswith("bbox_head.")}
    torch.save({"state_dict": kept}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"x\.pth.*multi_level_conv_cls\.0\.weight, which tells its size, is missing"):
        load_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_half_a_file(share: float, tmp_path: Path) -> None:
    torch.save(official_file(filled_graph(small_spec())), tmp_path / "x.pth")
    data = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"x\.pth: is damaged"):
        load_weights(tmp_path / "x.pth")


def test_a_file_of_too_many_blocks(tmp_path: Path) -> None:
    state = {f"backbone.backbone.dark2.1.m.{j}.conv1.conv.weight": torch.zeros(1) for j in range(500)}
    state |= {STEM: torch.zeros(8, 12, 3, 3), CLASSES: torch.zeros(1, 16, 1, 1)}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="500 blocks in its first stage"):
        load_weights(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "project"),
    [
        ("head.head_module.out_kpt.0.weight", "mmpose"),
        ("head.head_module.conv_pose.0.0.conv.weight", "mmpose"),
        ("bbox_head.multi_level_cls_convs.0.0.conv.weight", "mmdetection"),
    ],
)
def test_other_spellings_are_refused_in_one_sentence(name: str, project: str, tmp_path: Path) -> None:
    state = OrderedDict([("backbone.stem.conv.conv.weight", torch.zeros(8, 12, 3, 3)), (name, torch.zeros(1))])
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=rf"x\.pth: its tensors are named as by {project}, .*mmyolo"):
        load_weights(tmp_path / "x.pth")


def test_a_depthwise_pose_computes_the_same(tmp_path: Path) -> None:
    graph = filled_graph(small_spec("yolox_pose_nano", nkpt=3))
    torch.save({"state_dict": published_state(graph, MMYOLO)}, tmp_path / "x.pth")
    loaded = build_model(load_weights(tmp_path / "x.pth"))
    assert_same_model(loaded, graph)
    assert loaded.spec.source == "yolox_pose_w0.125_n1.yaml"


def test_a_pose_that_is_depthwise_in_places_alone_is_refused(tmp_path: Path) -> None:
    values = {**load_spec("yolox_pose_s").values, **SMALL}
    values["backbone"] = [[*r[:2], "DWConvPair" if r[2] == "Conv" else r[2], *r[3:]] for r in values["backbone"]]
    torch.save(published_state(filled_graph(parse_spec(values, "x")), MMYOLO), tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"x\.pth: its tensors are not those of the model yolox_pose_w0\.125_n1"):
        load_weights(tmp_path / "x.pth")


def test_a_method_of_another_class_is_not_asked_for(tmp_path: Path) -> None:
    class Other:
        def mean(self) -> None: ...

    with mmengine() as buffer:
        Other.__module__, Other.__qualname__ = buffer.__module__, "Other"
        Other.mean.__module__, Other.mean.__qualname__ = buffer.__module__, "Other.mean"
        sys.modules[buffer.__module__].Other = Other
        torch.save({"model": {"a": torch.zeros(1)}, "method": Other.mean}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"would load '(__builtin__|builtins)\.getattr'"):
        load_weights(tmp_path / "x.pth")


def test_the_commands_say_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = filled_graph(small_spec(nc=4))
    torch.save(official_file(graph), tmp_path / "mine.pth")

    made = tmp_path / "mine.safetensors"
    texts = []
    for main, arguments in (
        (convert, [tmp_path / "mine.pth", made]),
        (look_into, ["info", tmp_path / "mine.pth"]),
        (look_into, ["info", made]),
    ):
        main(list(map(str, arguments)))
        texts.append(capsys.readouterr().out)
    for text in texts:
        assert "head      detect (YOLOXDetect, row 24): 4 classes: 0, 1, 2, 3" in text
        assert "converted from mine.pth, family YOLOX (the official YOLOX), sha256 " in text
    assert_same_model(build_model(load_checkpoint(made)), graph)
