"""YOLO-MS: the published sizes, the files of the zoo against each other, and what every model of the program can do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from models.blank_rows import BlankRows
from models.fusing import fuse_graph
from models.graph import Graph
from models.layers.channel_attention import SE
from models.layers.ms_block import MSBlock
from models.spec import CONFIG_ROOT, ModelSpec, find_config, load_spec
from utils.export.agreement import compare_onnx, judge
from utils.export.exported_graph import ExportedGraph
from utils.export.onnx_model import build_onnx

PARTS = {
    "yoloms_xs": (2_566_064, 1_569_344, 358_524),
    "yoloms_s": (4_592_638, 2_824_892, 634_932),
    "yoloms": (13_035_360, 7_576_704, 1_380_348),
}
"""Published parameters of backbone, neck and head; convolutions that levels share count once."""
OF_SE = {"yoloms_xs": 43_520, "yoloms_s": 78_216, "yoloms": 174_080}
BACKBONE = {
    "yoloms_xs": [16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 256, 512],
    "yoloms_s": [21, 21, 43, 43, 86, 86, 172, 172, 345, 345, 345, 691],
    "yoloms": [32, 32, 64, 64, 128, 128, 256, 256, 512, 512, 512, 1024],
}
NECK = {"yoloms_xs": [64, 128, 256, 96], "yoloms_s": [86, 172, 345, 129], "yoloms": [128, 256, 512, 192]}


def values_of(name: str) -> dict:
    return yaml.safe_load(find_config(name).read_text(encoding="utf-8"))


def meta(name: str) -> Graph:
    with torch.device("meta"):
        return Graph(load_spec(name))


def narrow(name: str, **values: object) -> Graph:
    """Return a model of the zoo with few channels, its norms as if trained and its head's weights to be seen."""
    torch.manual_seed(0)
    graph = Graph(load_spec(name).with_values(width_multiple=0.1, **values))
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.2, 1)
    for conv in graph.heads["detect"].modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.normal_(conv.weight, std=0.2)
    return graph


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


def flat(outputs: dict[str, list[Tensor]]) -> Tensor:
    """Return all values of all heads."""
    return torch.cat([x.flatten() for levels in outputs.values() for x in levels])


def count(modules: nn.Module) -> int:
    return sum(parameter.numel() for parameter in modules.parameters())


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("attention", ["", "_se"])
def test_parameters_are_the_published_ones_to_the_unit(name: str, attention: str) -> None:
    graph = BlankRows(load_spec(name + attention))
    sections = [len(graph.spec.values[part]) for part in ("backbone", "neck", "head")]
    assert sections == [12, 20, 1]
    parts = count(graph.model[:12]), count(graph.model[12:32]), count(graph.model[32:])
    backbone, neck, head = PARTS[name]
    assert parts == (backbone + (OF_SE[name] if attention else 0), neck, head)
    squeezed = [module for module in graph.modules() if isinstance(module, SE)]
    assert len(squeezed) == (4 if attention else 0)
    assert all(block in list(graph.model[:12].modules()) for block in squeezed)


@pytest.mark.parametrize("name", PARTS)
def test_channels_are_cut_and_not_rounded(name: str) -> None:
    graph = meta(name)
    given = [graph.trace[row].shapes[0][1] for row in range(32)]
    assert given[:12] == BACKBONE[name]
    fine, middle, coarse, out = NECK[name]
    assert given[12:16] == [coarse, middle, middle, fine]
    assert [given[row] for row in (18, 19, 22, 25, 28)] == [middle, fine, fine, middle, coarse]
    assert given[29:] == [out] * 3
    layers = {len(b.mid_convs[1]) for b in graph.modules() if isinstance(b, MSBlock)}
    assert layers == {2 if name == "yoloms" else 1}


def test_files_differ_where_they_should() -> None:
    files = {name: values_of(name) for name in (*PARTS, *(f"{name}_se" for name in PARTS))}
    scales = [(values.pop("width_multiple"), values.pop("layers")) for values in files.values()]
    assert scales == [(0.4, 1), (0.54, 1), (0.8, 2)] * 2
    assert [values.pop("attention") for values in files.values()] == [None] * 3 + ["se"] * 3
    # XS and S are published with one recipe.
    assert [values.pop("recipe") for values in files.values()] == ["yoloms_xs", "yoloms_xs", "yoloms"] * 2
    assert all(values == files["yoloms_xs"] for values in files.values())
    joint = values_of("yoloms_xs_psp")
    assert joint["head"].pop(-2)[2] == "SegMaskPSP" and joint.pop("n_segcls") == 19
    assert joint == values_of("yoloms_xs")


@pytest.mark.parametrize(("name", "origin"), [("yolov5n-ms", "yolov5n"), ("yolox_tiny_ms", "yolox_tiny")])
def test_examples_have_ms_blocks_in_the_place_of_c3_and_nothing_else(name: str, origin: str) -> None:
    spec, other = load_spec(name), load_spec(origin)
    assert len(spec.rows) == len(other.rows)
    kernels = []
    for row, old in zip(spec.rows, other.rows, strict=True):
        if old.module != "C3":
            assert row == old
            continue
        assert (row.sources, row.module, row.args[0]) == (old.sources, "MSBlock", old.args[0])
        kernels.append(row.args[1][1])
        assert row.args[1:] == [[1, kernels[-1], kernels[-1]], 1, 3, 2, 1 if row.index < 10 else 2]
    assert kernels == [3, 5, 7, 9, 3, 3, 3, 3]
    taken = {key: value for key, value in spec.values.items() if key not in ("backbone", "head", "layers")}
    kept = {key: value for key, value in other.values.items() if key not in ("backbone", "head", "depth_multiple")}
    assert taken == kept


def test_every_head_of_the_joint_model_answers_alone_as_with_the_other() -> None:
    graph = narrow("yoloms_xs_psp").eval()
    with torch.no_grad():
        both = graph(images())
        alone = {head: graph(images(), heads=[head])[head] for head in graph.heads}
        fused = fuse_graph(graph)(images())
    assert list(both) == ["segment", "detect"] and torch.equal(flat(both), flat(alone))
    assert torch.allclose(flat(fused), flat(both), rtol=1e-3, atol=1e-4)
    # Each head depends on the neck, but neither on the other's convolutions.
    assert 29 not in [step.row for step in graph.plan(["segment"])]


def test_rows_that_run_again_give_the_same_gradients() -> None:
    graph, gradients = narrow("yoloms_xs_psp", attention="se").train(), []
    for graph.recompute in (False, True):
        graph.zero_grad()
        for module in graph.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        flat(graph(images())).square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in graph.parameters()]))
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


def test_channels_last_and_half_precision() -> None:
    graph = narrow("yoloms_xs_se").eval()
    with torch.no_grad():
        expected = graph(images())["detect"]
        graph = graph.to(memory_format=torch.channels_last)
        found = graph(images().to(memory_format=torch.channels_last))["detect"]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            boxes = graph.heads["detect"].predict(graph(images())["detect"], (64, 96)).boxes
    assert boxes.dtype == torch.float32 and torch.isfinite(boxes).all()


def test_an_onnx_file_answers_as_the_model(tmp_path: Path) -> None:
    graph = narrow("yoloms_xs_psp", attention="se").eval()
    module = ExportedGraph(fuse_graph(graph), graph.heads)
    path = tmp_path / "model.onnx"
    path.write_bytes(build_onnx(module, (2, 64, 96)).SerializeToString())
    pixels = np.random.default_rng(7).integers(0, 256, (2, 3, 64, 96), np.uint8)
    with torch.inference_mode():
        answers = module(torch.from_numpy(pixels))
    assert all(values.std() > 0 for values in answers.values()) and not any("objectness" in n for n in answers)
    judge(compare_onnx(path, module, {"noise": pixels}), 1e-4)


def test_every_width_builds() -> None:
    """A user who scales the file gets a model, whatever whole numbers the cut leaves."""
    spec: ModelSpec = load_spec("yoloms_xs")
    for width in (0.03, 0.17, 0.33, 0.61, 1.3):
        with torch.device("meta"):
            Graph(spec.with_values(width_multiple=float(width)))


def test_the_folder_holds_the_published_models() -> None:
    assert sorted(path.stem for path in (CONFIG_ROOT / "yoloms").glob("*.yaml")) == sorted(
        [*PARTS, *(f"{name}_se" for name in PARTS)]
    )
