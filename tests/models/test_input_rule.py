"""What a YAML's key ``input`` does to pixels, and what it may say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from data.transforms.letterbox import LetterboxRule
from models.graph import Graph
from models.input_rule import InputRule
from models.spec import load_spec, parse_spec
from utils.errors import ModelError

VALUES: dict[str, Any] = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
    "head": [[[0], 1, "YOLOXDetect", ["nc", 8]]],
}
YOLOX = {"channels": "BGR", "scale": 1, "letterbox": "top-left", "square": True, "pad": 114}


def graph_of(rule: Any) -> Graph:
    return Graph(parse_spec({**copy.deepcopy(VALUES), "input": rule}, "model.yaml"))


def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8, generator=generator)
    return images.to(memory_format=torch.channels_last)


def test_without_the_key_pixels_are_rgb_between_0_and_1() -> None:
    graph = Graph(parse_spec(VALUES, "model.yaml"))
    assert graph.spec.input == InputRule() and graph.letterbox == LetterboxRule()
    assert torch.equal(graph.preprocess(pixels()), pixels().float() / 255)
    assert graph.normalisation == (255.0, None, None)


def test_yolox_reads_bgr_as_it_is() -> None:
    graph = graph_of(YOLOX)
    x = graph.preprocess(pixels())
    assert torch.equal(x, torch.stack([pixels()[:, c].float() for c in (2, 1, 0)], 1))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert graph.letterbox == LetterboxRule(anchor="top-left", square=True, pad=114)


def test_mean_and_std_are_in_the_order_of_the_network() -> None:
    graph = graph_of({"channels": "BGR", "scale": 2, "mean": [1, 2, 3], "std": [10, 20, 40]})
    x, given = graph.preprocess(pixels()), pixels().float()
    for channel, (mean, std) in enumerate(((1, 10), (2, 20), (3, 40))):
        assert torch.allclose(x[:, channel], (given[:, 2 - channel] / 2 - mean) / std)
    assert graph.normalisation == (2.0, [1.0, 2.0, 3.0], [10.0, 20.0, 40.0])


def test_what_is_a_float_already_is_taken_as_it_is() -> None:
    x = torch.rand(1, 3, 32, 32)
    assert graph_of(YOLOX).preprocess(x) is x


def test_mean_and_std_go_where_the_model_goes_and_are_no_weights() -> None:
    graph = graph_of({"mean": [1, 2, 3], "std": [10, 20, 40]})
    assert not any("input" in name for name in graph.state_dict())
    x = graph.to("meta").preprocess(pixels().to("meta"))
    assert x.is_meta and x.dtype == torch.float32
    half = graph_of({"mean": [1, 2, 3]}).to(torch.bfloat16).preprocess(pixels())
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("rule", [None, YOLOX, {"mean": [1, 2, 3], "std": [10, 20, 40]}])
def test_no_tensor_is_made_of_numbers_in_a_pass(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(rule)
    made: list[Any] = []
    monkeypatch.setattr(torch, "tensor", lambda *a, **k: made.append(a))
    monkeypatch.setattr(torch.Tensor, "new_tensor", lambda *a, **k: made.append(a))
    graph.preprocess(pixels())
    assert made == []


def test_every_yolox_of_the_zoo_has_the_same_rule() -> None:
    for name in ("yolox_nano", "yolox_x", "yolox_darknet53", "yolox_pose_m", "yolox_s_base", "yolox_pose_s_base"):
        spec = load_spec(name)
        assert spec.input == InputRule("BGR", 1.0, letterbox=LetterboxRule("top-left", True, 114))
        assert parse_spec(spec.values, "again").input == spec.input


def test_a_rule_by_the_short_side() -> None:
    rule = graph_of({"stride": 32, "fit": "shortest", "limit": 1.66625, "shrink": "antialias"}).spec.input
    assert rule.stride == 32 and rule.letterbox.by_short_side
    assert rule.letterbox == LetterboxRule("top-left", shrink="antialias", fit="shortest", limit=1333 / 800)
    assert graph_of({"fit": "shortest"}).letterbox.limit == 1333 / 800
    assert graph_of({}).spec.input.stride is None and not graph_of({}).letterbox.by_short_side


def test_the_letterbox_of_yolo_ms() -> None:
    rule = load_spec("yoloms_xs").input
    assert (rule.channels, rule.scale, rule.letterbox.pad, rule.letterbox.square) == ("BGR", 1.0, 114, False)
    assert (rule.mean, rule.std) == ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
    assert (rule.letterbox.shrink, rule.letterbox.margin, rule.letterbox.group) == ("area", 0.5, 32)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"channel": "BGR"}, ["'input' takes channels, scale", "has 'channel'", "Did you mean 'channels'?"]),
        ({"channels": "bgr"}, ["for channels RGB or BGR, but has 'bgr'", "Did you mean 'BGR'?"]),
        ({"channels": ["BGR"]}, ["for channels RGB or BGR, but has ['BGR']"]),
        ({"letterbox": "topleft"}, ["for letterbox center or top-left", "Did you mean 'top-left'?"]),
        ({"letterbox": True}, ["for letterbox center or top-left, but has True"]),
        ({"square": 1}, ["for square true or false, but has 1"]),
        ({"square": "yes"}, ["for square true or false, but has 'yes'"]),
        ({"pad": 256}, ["for pad a whole number from 0 to 255, but has 256"]),
        ({"pad": 1.5}, ["for pad a whole number from 0 to 255, but has 1.5"]),
        ({"pad": False}, ["for pad a whole number from 0 to 255, but has False"]),
        ({"shrink": "aera"}, ["for shrink linear or area or antialias, but has 'aera'", "Did you mean 'area'?"]),
        ({"fit": "short"}, ["for fit longest or shortest, but has 'short'", "Did you mean 'shortest'?"]),
        ({"fit": "shortest", "limit": 0.5}, ["for limit a number from 1 to 100, in short sides, but has 0.5"]),
        ({"fit": "shortest", "limit": "1.6"}, ["for limit a number from 1 to 100"]),
        ({"limit": 1.5}, ["'input' has a limit, which belongs to 'fit: shortest'"]),
        ({"fit": "shortest", "square": True}, ["fit shortest, which pads nothing around a picture, and square True"]),
        ({"fit": "shortest", "margin": 0.5}, ["and margin 0.5; leave one of the two out"]),
        ({"fit": "shortest", "group": 2}, ["and group 2"]),
        ({"fit": "shortest", "letterbox": "center"}, ["and letterbox center"]),
        *(({"stride": stride}, ["for stride a whole number from 1 to 1024"]) for stride in (0, 1.5, True, "16", 2048)),
        ({"margin": -0.5}, ["for margin a number from 0 to 8, in strides, but has -0.5"]),
        ({"margin": True}, ["for margin a number from 0 to 8"]),
        ({"group": 0}, ["for group a whole number from 1 to 1000, but has 0"]),
        ({"group": 1.5}, ["for group a whole number"]),
        ({"scale": 0}, ["for scale a number above 0, but has 0"]),
        ({"scale": "big"}, ["for scale a number above 0, but has 'big'"]),
        ({"scale": float("nan")}, ["for scale a number above 0, but has nan"]),
        ({"scale": 10**5000}, ["'input' has the number of more than 64 bits"]),
        ({"mean": [0, 0]}, ["for mean 3 numbers, one per channel, but has [0, 0]"]),
        ({"std": [1, 0, 1]}, ["for std 3 numbers above 0"]),
        ("BGR", ["'input' takes channels", "but has 'BGR'"]),
        ([], ["'input' takes channels", "but has '[]'"]),
    ],
)
def test_mistakes_are_one_line(rule: Any, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        graph_of(rule)
    text = str(caught.value)
    assert text.startswith("model.yaml: ") and "\n" not in text
    assert all(word in text for word in words), text


def test_bgr_needs_three_channels() -> None:
    with pytest.raises(ModelError, match="'input' has channels BGR, but 'ch' says 4"):
        parse_spec({**VALUES, "ch": 4, "input": {"channels": "BGR"}}, "model.yaml")
