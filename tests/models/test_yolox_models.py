"""Whole models without anchors: joint ones, and what every model of the program can do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.blank_rows import BlankRows
from models.graph import Graph
from models.layers.conv import Conv
from models.layers.depthwise import DWConvPair
from models.layers.per_head import PerHead
from models.predictions import named_outputs
from models.spec import load_spec
from tests.lively import lively

NEWER = ["yolov6_t", "yolov8_n", "yolov8_n_ms", "yoloms_xs"]


def narrow(name: str, **values: object) -> Graph:
    """Return a model of the zoo with few channels."""
    torch.manual_seed(0)
    return Graph(load_spec(name).with_values(width_multiple=0.0625, depth_multiple=0.33, **values))


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


def flat(outputs: dict[str, list[Tensor]]) -> Tensor:
    """Return all values of all heads."""
    return torch.cat([x.flatten() for levels in outputs.values() for x in levels])


@pytest.mark.parametrize(
    ("name", "first"), [("yolox_s_base", "detect"), ("yolox_s_psp", "detect"), ("yolox_pose_s_base", "pose")]
)
def test_joint_models_run_both_heads_or_one(name: str, first: str) -> None:
    graph = narrow(name).eval()
    assert list(graph.heads) == ["segment", first]
    with torch.no_grad():
        both = graph(images())
        alone = {head: graph(images(), heads=[head])[head] for head in graph.heads}
    assert torch.equal(flat(both), flat(alone))
    assert [x.shape[-2:] for x in both[first]] == [(8, 12), (4, 6), (2, 3)]
    assert both["segment"][0].shape == (2, 19, 8, 12)
    assert graph.plan(["segment"])[-1].row < graph.plan([first])[-1].row


def test_joint_models_can_have_norms_per_head() -> None:
    graph = narrow("yolox_pose_s_base", bn="per-task").eval()
    assert any(isinstance(module, PerHead) for module in graph.model[0].modules())
    assert not any(isinstance(module, PerHead) for module in graph.heads["pose"].modules())
    with torch.no_grad():
        before = graph(images())
        graph.model[0].conv.bn.of("pose").weight.mul_(3)
        after = graph(images())
    assert torch.equal(flat({"s": before["segment"]}), flat({"s": after["segment"]}))
    assert not torch.equal(flat({"p": before["pose"]}), flat({"p": after["pose"]}))


@pytest.mark.parametrize("name", ["yolox_nano", "yolox_pose_tiny", *NEWER])
def test_rows_that_run_again_give_the_same_gradients(name: str) -> None:
    graph = narrow(name).train()
    gradients = []
    for graph.recompute in (False, True):
        graph.zero_grad()
        for module in graph.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        flat(graph(images())).square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in graph.parameters()]))
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize(
    ("name", "backend"), [("yolox_pose_s_base", "eager"), ("yolov8_n", "aot_eager"), ("yoloms_xs", "eager")]
)
def test_a_model_compiles_whole_with_its_decoding(name: str, backend: str) -> None:
    """Without a break in any; what comes behind the capture, which takes as long again, is tried with one of them."""
    graph = narrow(name).eval()

    def answer(pixels: Tensor) -> list[Tensor]:
        size = pixels.shape[-2], pixels.shape[-1]
        raw = graph(pixels)
        found = [head.predict(raw[key], size) for key, head in graph.heads.items() if key != "segment"]
        return [tensor for each in found for tensor in named_outputs(each).values()]

    torch._dynamo.reset()
    compiled = torch.compile(answer, backend=backend, fullgraph=True)
    with torch.no_grad():
        for expected, found in zip(answer(images()), compiled(images()), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["yolox_tiny", *NEWER])
def test_channels_last_and_half_precision(name: str) -> None:
    graph = lively(narrow(name)).eval()
    with torch.no_grad():
        expected = graph(images())["detect"]
        graph = graph.to(memory_format=torch.channels_last)
        found = graph(images().to(memory_format=torch.channels_last))["detect"]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(ours, theirs)
        with torch.autocast("cpu", torch.bfloat16):
            boxes = graph.heads["detect"].predict(graph(images())["detect"], (64, 96)).boxes
    assert boxes.dtype == torch.float32 and torch.isfinite(boxes).all()


def test_every_activation_of_darknet_is_leaky() -> None:
    graph = BlankRows(load_spec("yolox_darknet53"))
    kinds = [module.act for module in graph.modules() if isinstance(module, Conv)]
    assert len(kinds) == 85 and all(isinstance(act, nn.LeakyReLU) and act.negative_slope == 0.1 for act in kinds)
    assert any(module.act is kinds[-1] for module in graph.heads["detect"].modules() if isinstance(module, Conv))


def test_only_the_three_by_three_convolutions_of_nano_are_depthwise() -> None:
    graph = BlankRows(load_spec("yolox_nano"))
    wide = {n for n, m in graph.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)}
    pairs = {f"{n}.dconv.conv" for n, m in graph.named_modules() if isinstance(m, DWConvPair)}
    # The stem is the one that is not.
    assert wide - pairs == {"model.0.conv.conv"} and pairs < wide
    assert all(graph.get_submodule(name).groups == graph.get_submodule(name).in_channels for name in pairs)
