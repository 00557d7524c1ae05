"""Whole-model checkpoints of YOLOv5 become models that compute the same, or one sentence says why not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data.formats.cityscapes import NAMES as CITYSCAPES_NAMES
from models.checkpoint import load_checkpoint
from models.convert.__main__ import main as convert
from models.convert.official import read_official
from models.graph import Graph
from models.layers.conv import Conv
from models.layers.csp import BottleneckCSP
from models.spec import load_spec, parse_spec
from models.weights import build_model, load_weights
from tests.models.convert.pickled_models import checkpoint_dict, foreign_class, foreign_modules, pickled_model
from utils.errors import ModelError, run_command

ROOT = Path(__file__).resolve().parents[3]
HEADS = [f"yolov5s_city_seg_{head}" for head in ("base", "psp", "lab", "bise")]
SMALL = {"width_multiple": 0.125, "depth_multiple": 0.33}


@pytest.fixture(autouse=True)
def foreign() -> Iterator[None]:
    with foreign_modules():
        yield


def small_graph(cfg: str, **values: Any) -> Graph:
    """Return a narrow model with weights and statistics of its own."""
    torch.manual_seed(0)
    graph = Graph(load_spec(cfg).with_values(**SMALL, **values)).eval()
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return graph


def outputs(graph: Graph) -> list[torch.Tensor]:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return [tensor for raw in graph(images).values() for tensor in raw]


def assert_same_model(ours: Graph, original: Graph) -> None:
    for mine, theirs in zip(outputs(ours), outputs(original), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "row of pickles"])
@pytest.mark.parametrize("cfg", ["yolov5s", "yolov5s_v5", *HEADS, "yolov3-tiny"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_model_computes_the_same(cfg: str, zipped: bool, tmp_path: Path) -> None:
    graph = small_graph(cfg)
    path = tmp_path / "official.pt"
    saved = pickled_model(graph, anchor_grid=cfg.endswith("_v5"))
    torch.save(checkpoint_dict(saved), path, _use_new_zipfile_serialization=zipped)
    loaded = build_model(load_weights(path))
    assert_same_model(loaded, graph)
    assert loaded.spec.source == graph.spec.source
    assert loaded.names["detect"] == graph.names["detect"]
    if "segment" in loaded.heads:
        assert loaded.names["segment"] == CITYSCAPES_NAMES


def test_half_precision_becomes_float(tmp_path: Path) -> None:
    graph = small_graph("yolov5s").half().float()
    torch.save(checkpoint_dict(pickled_model(graph).half()), tmp_path / "half.pt")
    loaded = build_model(load_weights(tmp_path / "half.pt"))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    assert_same_model(loaded, graph)


def test_the_averaged_weights_come_first(tmp_path: Path) -> None:
    plain, averaged = small_graph("yolov5s"), small_graph("yolov5s")
    nn.init.constant_(averaged.model[0].conv.weight, 0.25)
    saved = checkpoint_dict(
        pickled_model(plain), ema=pickled_model(averaged), epoch=12, opt=argparse.Namespace(cfg=Path("a.yaml"))
    )
    torch.save(saved, tmp_path / "last.pt")
    checkpoint = load_weights(tmp_path / "last.pt")
    assert_same_model(build_model(checkpoint), averaged)
    assert checkpoint.progress["converted"] == {"from": "last.pt", "epoch": 12}


def test_the_averaged_weights_beside_the_count_of_their_updates(tmp_path: Path) -> None:
    plain, averaged = small_graph("yolov5s"), small_graph("yolov5s")
    nn.init.constant_(averaged.model[0].conv.weight, 0.25)
    torch.save(checkpoint_dict(pickled_model(plain), ema=(pickled_model(averaged), 7)), tmp_path / "last.pt")
    assert_same_model(build_model(load_weights(tmp_path / "last.pt")), averaged)


def test_a_bare_model_and_a_later_class_name(tmp_path: Path) -> None:
    graph = small_graph("yolov5s")
    torch.save(pickled_model(graph, kind="DetectionModel"), tmp_path / "bare.pt")
    assert_same_model(build_model(load_weights(tmp_path / "bare.pt")), graph)


@pytest.mark.parametrize("wrappers", [["autoShape"], ["AutoShape"], ["AutoShape", "DetectMultiBackend"]])
def test_a_model_as_torch_hub_hands_it_out(wrappers: list[str], tmp_path: Path) -> None:
    graph = small_graph("yolov5s")
    model = pickled_model(graph)
    for name in reversed(wrappers):
        wrapped = foreign_class("models.common", name)()
        wrapped.model = model
        model = wrapped
    torch.save(model, tmp_path / "hub.pt")
    assert_same_model(build_model(load_weights(tmp_path / "hub.pt")), graph)


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.model.", "module.model."])
def test_a_state_dict_under_wrappers(prefix: str, tmp_path: Path) -> None:
    graph = small_graph("yolov5s")
    cfg = tmp_path / "mine.yaml"
    cfg.write_text(graph.spec.text)
    torch.save({f"{prefix}{name}": value for name, value in graph.state_dict().items()}, tmp_path / "x.pth")
    assert_same_model(build_model(read_official(tmp_path / "x.pth", cfg)), graph)


@pytest.mark.parametrize("written", ["C:\\yolo\\models\\own.yaml", "/home/me/own.yaml", "own.yaml"])
def test_the_yaml_is_named_without_its_folder(written: str, tmp_path: Path) -> None:
    model = pickled_model(small_graph("yolov5s"))
    model.yaml_file = written
    torch.save(model, tmp_path / "x.pt")
    assert load_weights(tmp_path / "x.pt").source == "own.yaml"


@pytest.mark.parametrize("names", [["a", "b"], {0: "a", 1: "b"}, {1: "b", 0: "a"}])
def test_class_names_as_list_and_mapping(names: Any, tmp_path: Path) -> None:
    torch.save(pickled_model(small_graph("yolov5s", nc=2), names), tmp_path / "x.pt")
    assert load_weights(tmp_path / "x.pt").names == {"detect": ["a", "b"]}


@pytest.mark.parametrize("names", [None, ["a"], ["a", 3], {0: "a", 5: "b"}, "ab"])
def test_class_names_that_do_not_fit_become_numbers(names: Any, tmp_path: Path) -> None:
    model = pickled_model(small_graph("yolov5s", nc=2), names)
    if names is None:
        del model.names
    torch.save(model, tmp_path / "x.pt")
    assert load_weights(tmp_path / "x.pt").names == {"detect": ["0", "1"]}


def test_fitted_anchors_are_kept_in_rows_and_weights(tmp_path: Path) -> None:
    graph = small_graph("yolov5s", anchors=3)
    graph.heads["detect"].anchors.copy_(torch.rand(3, 3, 2) * 4 + 0.5)
    torch.save(pickled_model(graph), tmp_path / "fitted.pt")
    checkpoint = load_weights(tmp_path / "fitted.pt")
    loaded = build_model(checkpoint)
    assert_same_model(loaded, graph)
    anew = Graph(loaded.spec).heads["detect"].anchors
    assert torch.allclose(anew, graph.heads["detect"].anchors, atol=1e-4)


def test_placeholder_anchors_stay_a_number(tmp_path: Path) -> None:
    graph = small_graph("yolov5s", anchors=3)
    torch.save(pickled_model(graph), tmp_path / "unfitted.pt")
    loaded = build_model(load_weights(tmp_path / "unfitted.pt"))
    assert loaded.spec.values["anchors"] == 3
    assert_same_model(loaded, graph)


@pytest.mark.parametrize(
    ("activation", "written"),
    [(nn.LeakyReLU(0.1), "nn.LeakyReLU(0.1)"), (nn.Hardswish(), "nn.Hardswish()"), (nn.ReLU(), "nn.ReLU()")],
)
def test_another_activation_is_read_from_the_modules(activation: nn.Module, written: str, tmp_path: Path) -> None:
    graph = small_graph("yolov5s")
    for module in graph.modules():
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            module.act = activation
    torch.save(pickled_model(graph), tmp_path / "x.pt")
    loaded = build_model(load_weights(tmp_path / "x.pt"))
    assert loaded.spec.values["activation"] == written
    assert_same_model(loaded, graph)


def test_both_activations_of_the_older_csp_block(tmp_path: Path) -> None:
    values = dict(load_spec("yolov5s_v5").values) | SMALL
    values["backbone"] = [[*row[:2], "BottleneckCSP", row[3]] if row[2] == "C3" else row for row in values["backbone"]]
    graph = Graph(parse_spec(values, "csp.yaml")).eval()
    assert any(isinstance(row, BottleneckCSP) and isinstance(row.act, nn.LeakyReLU) for row in graph.model)
    torch.save(pickled_model(graph), tmp_path / "v5.pt")
    assert_same_model(build_model(load_weights(tmp_path / "v5.pt")), graph)
    for row in graph.model:
        if isinstance(row, BottleneckCSP):
            row.act = nn.SiLU()
    torch.save(pickled_model(graph), tmp_path / "later.pt")
    assert_same_model(build_model(load_weights(tmp_path / "later.pt")), graph)


def break_yaml(model: nn.Module) -> None:
    del model.yaml


def break_tensor(model: nn.Module) -> None:
    del model.model[0].conv.weight


def break_shape(model: nn.Module) -> None:
    model.model[0].conv.weight = nn.Parameter(torch.zeros(1, 3, 6, 6))


def break_row(model: nn.Module) -> None:
    model.yaml["backbone"][2][2] = "MyOwnBlock"


def break_eps(model: nn.Module) -> None:
    model.model[0].bn.eps = 1e-5


def break_activation(model: nn.Module) -> None:
    model.model[1].act = nn.ReLU()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (break_yaml, r"without its YAML.*--cfg"),
        (break_tensor, r"model\.0\.conv\.weight is missing"),
        (break_shape, r"model\.0\.conv\.weight has another shape"),
        (break_row, r"row 2 .*no module named 'MyOwnBlock'"),
        (break_eps, r"BatchNorm has eps 1e-05"),
        (break_activation, r"different activations"),
    ],
)
def test_what_cannot_be_rebuilt(change: Any, sentence: str, tmp_path: Path) -> None:
    import copy

    model = pickled_model(small_graph("yolov5s"))
    model.yaml = copy.deepcopy(model.yaml)
    change(model)
    torch.save(checkpoint_dict(model), tmp_path / "broken.pt")
    with pytest.raises(ModelError, match=rf"broken\.pt.*{sentence}"):
        load_weights(tmp_path / "broken.pt")


def test_a_state_dict_needs_its_yaml(tmp_path: Path) -> None:
    graph = small_graph("yolov5s")
    cfg = tmp_path / "mine.yaml"
    cfg.write_text(graph.spec.text)
    for number, saved in enumerate(
        (graph.state_dict(), {"model": graph.state_dict()}, {"state_dict": graph.state_dict()})
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(saved, path)
        with pytest.raises(ModelError, match="--cfg"):
            load_weights(path)
        assert_same_model(build_model(read_official(path, cfg)), graph)


@pytest.mark.parametrize(
    "root", [[1, 2], {"a": 1}, {"model": torch.device("cpu")}, "text", {"model": nn.Conv2d(1, 1, 1)}]
)
def test_other_files_of_pytorch_are_named(root: Any, tmp_path: Path) -> None:
    torch.save(root, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"other\.pt: holds"):
        load_weights(tmp_path / "other.pt")


def test_the_command_converts_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = small_graph("yolov5s")
    torch.save(checkpoint_dict(pickled_model(graph)), tmp_path / "in.pt")

    convert([str(tmp_path / "in.pt"), str(tmp_path / "out.safetensors")])
    assert "head      detect (Detect, row 24): 80 classes" in capsys.readouterr().out
    assert_same_model(build_model(load_checkpoint(tmp_path / "out.safetensors")), graph)
    for arguments, code in (
        ((tmp_path / "missing.pt", tmp_path / "y.safetensors"), 2),
        ((tmp_path / "in.pt", tmp_path / "y.pt"), 2),
        ((tmp_path / "in.pt", tmp_path / "nowhere" / "y.safetensors"), 2),
    ):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda arguments=arguments: convert(list(map(str, arguments))))
        said = capsys.readouterr().err
        assert ended.value.code == code and said.startswith("error: ") and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pt", "out.safetensors"]
