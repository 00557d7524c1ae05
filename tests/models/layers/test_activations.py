"""Activations read from text, the default of a model, FReLU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.graph import Graph
from models.heads.segment import SegMaskBase
from models.layers.activations import ACTIVATIONS, FReLU, make_activation, using_activation
from models.layers.conv import Conv, DWConv
from models.layers.csp import C3, BottleneckCSP
from models.layers.ghost import GhostConv
from models.spec import load_spec, parse_spec
from utils.errors import ModelError

X = torch.linspace(-8, 8, 101)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nn.SiLU()", X * torch.sigmoid(X)),
        ("torch.nn.ReLU()", X.clamp(min=0)),
        ("ReLU6()", X.clamp(0, 6)),
        ("nn.LeakyReLU(0.1)", torch.where(X > 0, X, 0.1 * X)),
        ("nn.LeakyReLU()", torch.where(X > 0, X, 0.01 * X)),
        (" nn.LeakyReLU( .5 ) ", torch.where(X > 0, X, 0.5 * X)),
        ("nn.LeakyReLU(0.1, inplace=True)", torch.where(X > 0, X, 0.1 * X)),
        ("nn.ReLU(inplace=True)", X.clamp(min=0)),
        ("nn.ELU(2)", torch.where(X > 0, X, 2 * (X.exp() - 1))),
        ("nn.Hardswish()", X * (X + 3).clamp(0, 6) / 6),
        ("nn.Mish()", X * torch.tanh(torch.log1p(X.exp()))),
        ("nn.GELU()", X * 0.5 * (1 + torch.erf(X / 2**0.5))),
        ("nn.Identity()", X),
        ("nn.Sigmoid()", 1 / (1 + (-X).exp())),
        ("nn.Tanh()", torch.tanh(X)),
    ],
)
def test_text_gives_the_function(text: str, expected: torch.Tensor) -> None:
    assert torch.allclose(make_activation(text)(X.clone()), expected, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "nn.ReLU",
        "nn.LeakyReLU(-0.1)",
        "nn.LeakyReLU(0.1, 0.2)",
        "nn.ReLU(0.1)",
        "nn.Conv2d(3, 3, 1)",
        "nn.Module()",
        "nn.init.zeros_()",
        "__import__('os').system('true')",
        "nn.ReLU();nn.ReLU()",
        "nn.SiLu()",
        "(lambda: nn.ReLU())()",
        "nn.LeakyReLU(1e999)",
        "",
        3,
        True,
        ["nn.ReLU()"],
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"activation"):
        make_activation(text)


def test_the_sentence_has_the_known_names_and_the_nearest_one() -> None:
    with pytest.raises(ValueError) as caught:
        make_activation("nn.LeakyRelu(0.1)")
    assert "Did you mean 'LeakyReLU'?" in str(caught.value)
    assert all(name in str(caught.value) for name in ACTIVATIONS)


def test_default_holds_inside_and_for_nested_blocks_only() -> None:
    with using_activation("nn.ReLU()"):
        blocks = nn.ModuleList([C3(8, 8, 2), GhostConv(8, 8), DWConv(8, 8), SegMaskBase([8], 2, 1, 8)])
        assert isinstance(Conv(4, 4, act=False).act, nn.Identity)
        with using_activation("nn.Mish()"):
            assert isinstance(Conv(4, 4).act, nn.Mish)
        with using_activation(None):
            assert isinstance(Conv(4, 4).act, nn.ReLU)
    kinds = {type(module.act) for module in blocks.modules() if isinstance(module, Conv)}
    assert kinds == {nn.ReLU}
    assert isinstance(Conv(4, 4).act, nn.SiLU)


def test_default_is_restored_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), using_activation("nn.ReLU()"):
        raise ZeroDivisionError
    assert isinstance(Conv(4, 4).act, nn.SiLU)
    with pytest.raises(ValueError), using_activation("nn.Conv2d(1)"):
        pass
    assert isinstance(Conv(4, 4).act, nn.SiLU)


def test_key_of_a_model_changes_every_conv_and_stays_in_its_text() -> None:
    spec = load_spec("yolov5s-LeakyReLU")
    with torch.device("meta"):
        graph, plain = Graph(spec), Graph(load_spec("yolov5s"))
    slopes = {module.act.negative_slope for module in graph.modules() if isinstance(module, Conv)}
    assert slopes == {0.1}
    assert {type(module.act) for module in plain.modules() if isinstance(module, Conv)} == {nn.SiLU}
    assert "activation: nn.LeakyReLU(0.1)" in spec.text
    assert spec.with_values(nc=3).values["activation"] == "nn.LeakyReLU(0.1)"
    assert list(graph.state_dict()) == list(plain.state_dict())


def test_key_without_a_value_is_the_default() -> None:
    values = {**load_spec("yolov5n").values, "activation": None}
    with torch.device("meta"):
        assert isinstance(Graph(parse_spec(values, "x")).model[0].act, nn.SiLU)


def test_wrong_key_is_one_sentence_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"activation: nn.Swish()\n{load_spec('yolov5n').text}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"mine\.yaml: 'activation': there is no activation 'Swish', known are ELU"):
        load_spec(path)


@pytest.mark.parametrize("text", ["nn.LeakyReLU(0.1)", "nn.SiLU()"])
def test_bottleneck_csp_is_told_its_release(text: str) -> None:
    torch.manual_seed(0)
    block = BottleneckCSP(8, 8, 1, True, 1, 0.5, text).eval()
    x = torch.randn(1, 8, 5, 5)
    y = torch.cat((block.cv3(block.m(block.cv1(x))), block.cv2(x)), 1) / (1 + block.bn.eps) ** 0.5
    y = F.leaky_relu(y, 0.1) if "Leaky" in text else F.silu(y)
    assert torch.allclose(block(x), block.cv4(y), atol=1e-6)
    assert "LeakyReLU" in str(BottleneckCSP(8, 8).act)


def test_frelu_by_its_formula() -> None:
    block = FReLU(4).eval()
    x = torch.randn(2, 4, 6, 7)
    around = F.conv2d(x, block.conv.weight, padding=1, groups=4) / (1 + block.bn.eps) ** 0.5
    assert torch.allclose(block(x), torch.where(x > around, x, around), atol=1e-6)
    with pytest.raises(ValueError, match="odd number"):
        FReLU(4, 2)
