"""What is quantised and what stays in float32; a quantised file is nearly as good, and says what it is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from data.transforms.letterbox import CENTERED, LetterboxRule
from export import main
from models.exported.openvino_file import OpenVinoFile
from tests.labelled_squares import arguments, write_labelled_squares
from utils.errors import DataError, ExportError
from utils.export.calibration import CalibrationBatches, calibration_paths
from utils.export.check_pictures import ChosenHeads
from utils.export.quantisation import is_weight, left_in_float
from utils.export.quantisation_noise import Values, noise_share, noisy_layers
from utils.export.quantisation_onnx import quantised_onnx

CHAIN = {"cast": [], "stem": ["cast"], "act": ["stem"], "middle": ["act"], "head": ["middle"], "decode": ["head"]}


def test_the_ends_of_a_chain_stay_in_float() -> None:
    assert left_in_float(CHAIN, ["stem", "middle", "head"]) == {"cast", "stem", "head", "decode"}


def test_every_way_has_its_own_first_and_last_product() -> None:
    ways = CHAIN | {"side": ["act"], "second": ["side", "other"], "other": ["cast"], "masks": ["second"]}
    kept = left_in_float(ways, ["stem", "middle", "head", "side", "other", "second"])
    # 'side' has a product before it and one behind it; 'other' looks at the picture, 'second' ends in masks.
    assert kept == {"cast", "stem", "head", "decode", "other", "second", "masks"}


def test_without_two_layers_between_the_ends_nothing_is_quantised() -> None:
    assert left_in_float({"stem": [], "head": ["stem"]}, ["stem", "head"]) == {"stem", "head"}
    assert left_in_float({"scale": [], "add": ["scale"]}, []) == {"scale", "add"}


def test_a_vector_is_no_weight() -> None:
    assert is_weight((16, 3, 6, 6)) and is_weight((8, 1, 3, 3)) and is_weight((64, 80))
    assert not any(is_weight(shape) for shape in ((), (16,), (1, 16, 1, 1), (16, 1)))


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and pictures with labels."""
    return write_labelled_squares(tmp_path_factory.mktemp("squares"))


def require_good(measured: str, precision: str) -> None:
    head = json.loads(measured)["heads"]["detect"]
    assert head["labelled"] is True and head["model"] == pytest.approx(1) and head["file"] > 0.98
    assert json.loads(precision) == "int8"


def test_a_quantised_onnx_file_finds_the_same_and_keeps_its_ends_in_float(squares: Path) -> None:
    main(arguments(squares, "--int8"))
    assert not (squares / "squares.onnx").exists()
    model = onnx.load(squares / "squares_int8.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    require_good(told["measured"], told["precision"])
    assert json.loads(told["checked"])["tolerance"] is None
    maker = {output: node for node in model.graph.node for output in node.output}
    in_eight_bits = [
        [value in maker and maker[value].op_type == "DequantizeLinear" for value in node.input]
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    assert [all(inputs) for inputs in in_eight_bits] == [False, True, True, False]
    assert not any(in_eight_bits[0][1:]) and not any(in_eight_bits[-1][1:])


def test_a_quantised_model_of_openvino_finds_the_same(squares: Path) -> None:
    pytest.importorskip("nncf", reason="for OpenVINO export with --int8: pip install nncf")
    openvino = pytest.importorskip("openvino")
    main(arguments(squares, "--int8", "--include", "openvino", "--calibration", str(squares / "images")))
    path = squares / "squares_int8_openvino" / "squares_int8.xml"
    told = OpenVinoFile(path, torch.device("cpu")).metadata
    require_good(told["measured"], told["precision"])
    model = openvino.Core().read_model(path)
    products = [each for each in model.get_ordered_ops() if each.get_type_name() == "Convolution"]
    sources = [each.input_value(0).get_node().get_type_name() for each in products]
    assert [source == "FakeQuantize" for source in sources] == [False, True, True, False]


def test_a_model_of_two_layers_has_nothing_to_quantise() -> None:
    make, from_array = onnx.helper, onnx.numpy_helper.from_array
    table = np.ones((4, 4, 1, 1), np.float32)
    nodes = [
        make.make_node("Conv", ["images", "first"], ["a"], "stem"),
        make.make_node("Relu", ["a"], ["b"], "act"),
        make.make_node("Conv", ["b", "second"], ["c"], "head"),
    ]
    sides = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 4, 8, 8)) for name in ("images", "c")]
    weights = [from_array(table, name) for name in ("first", "second")]
    model = make.make_model(make.make_graph(nodes, "flat", sides[:1], sides[1:], weights))
    with pytest.raises(ExportError, match="nothing that could be quantised"):
        quantised_onnx(model, [])


def test_of_a_transformer_only_products_with_weights_are_quantised() -> None:
    """Sums of tokens, normalisation, attention's weights and products of two maps keep their precision."""
    make, side = onnx.helper, 8
    rng = np.random.default_rng(0)
    layers = ["embed", "query", "values", "grow", "head"]
    tables = [onnx.numpy_helper.from_array(rng.normal(size=(side, side)).astype(np.float32), name) for name in layers]
    one = onnx.numpy_helper.from_array(np.ones(side, np.float32), "one")
    nodes = [
        make.make_node("MatMul", ["images", "embed"], ["tokens"], "embed"),
        make.make_node("LayerNormalization", ["tokens", "one"], ["normal"], "norm"),
        make.make_node("MatMul", ["normal", "query"], ["q"], "query"),
        make.make_node("MatMul", ["normal", "values"], ["v"], "values"),
        make.make_node("Softmax", ["q"], ["weights"], "softmax"),
        make.make_node("MatMul", ["weights", "v"], ["mixed"], "mix"),
        make.make_node("Add", ["tokens", "mixed"], ["sum"], "sum"),
        make.make_node("MatMul", ["sum", "grow"], ["grown"], "grow"),
        make.make_node("MatMul", ["grown", "head"], ["out"], "head"),
    ]
    between = [name for node in nodes[:-1] for name in node.output]
    maps = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, side, side)) for name in between]
    ends = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, side, side)) for name in ("images", "out")]
    graph = make.make_graph(nodes, "tokens", ends[:1], ends[1:], [*tables, one], value_info=maps)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)
    pictures = [rng.normal(size=(1, side, side)).astype(np.float32) for _ in range(4)]
    quantised = quantised_onnx(model, pictures)
    maker = {output: node for node in quantised.graph.node for output in node.output}
    by_name = {node.name: node for node in quantised.graph.node}
    with_weights = {
        name for name in layers if by_name[name].input[1] in maker and by_name[name].input[1] not in ("embed", "head")
    }
    assert with_weights == {"query", "values", "grow"}
    # What attention and the sum compute passes on as it is; only a product with weights rounds what it takes.
    rounded_maps = {node.input[0] for node in quantised.graph.node if node.op_type == "QuantizeLinear"}
    assert not rounded_maps & {"weights", "mixed", "tokens"} and {"normal", "sum"} <= rounded_maps
    assert list(by_name["sum"].input) == ["tokens", "mixed"]


def conv(values: np.ndarray, weights: np.ndarray, groups: int) -> np.ndarray:
    return torch.nn.functional.conv2d(torch.from_numpy(values), torch.from_numpy(weights), groups=groups).numpy()


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    step = (high - low) / 255
    return np.round(values / step) * step


@pytest.mark.parametrize(("groups", "kernel"), [(1, 1), (1, 3), (16, 3)])
def test_the_noise_is_what_rounding_to_eight_bits_adds(groups: int, kernel: int) -> None:
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(0, 1.5, (1, 16, 1, 1)))
    values = (rng.normal(size=(1, 16, 40, 40)) * scales).astype(np.float64)
    weights = rng.normal(size=(16, 16 // groups, kernel, kernel))
    outputs = conv(values, weights, groups)
    before, behind = Values(), Values()
    before.add(values)
    behind.add(outputs)
    steps = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
    quantised = conv(rounded(values, before.low, before.high), np.round(weights / steps) * steps, groups)
    added = rounded(quantised, behind.low, behind.high) - outputs
    share = np.minimum((added**2).mean((0, 2, 3)) / outputs.var((0, 2, 3)), 1).mean()
    assert noise_share(weights, before, behind) == pytest.approx(share, rel=0.3)
    dead = np.concatenate((outputs, np.full_like(outputs, 3)), 1)
    also_dead = Values()
    also_dead.add(dead)
    double = np.concatenate((weights, weights))
    if groups == 1:
        assert noise_share(double, before, also_dead) == pytest.approx(noise_share(weights, before, behind), rel=0.1)


def test_layers_whose_channels_differ_too_much_are_noisy_and_stay_in_float() -> None:
    make, from_array = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(0)
    even = rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
    apart = even * np.array([1, 1e-4, 1e-4, 1e-4], np.float32)[:, None, None, None]
    depthwise = np.ones((4, 1, 1, 1), np.float32)
    nodes = [
        make.make_node("Cast", ["images"], ["pixels"], "cast", to=onnx.TensorProto.FLOAT),
        make.make_node("Conv", ["pixels", "even"], ["a"], "stem"),
        make.make_node("Conv", ["a", "apart"], ["b"], "wide"),
        make.make_node("Conv", ["b", "depthwise"], ["c"], "spoilt", group=4),
        make.make_node("Conv", ["c", "own"], ["d"], "good"),
        make.make_node("Conv", ["d", "last"], ["out"], "head"),
    ]
    pixels = make.make_tensor_value_info("images", onnx.TensorProto.UINT8, (1, 4, 8, 8))
    out = make.make_tensor_value_info("out", onnx.TensorProto.FLOAT, (1, 4, 8, 8))
    tables = [from_array(even, name) for name in ("even", "own", "last")]
    tables += [from_array(apart, "apart"), from_array(depthwise, "depthwise")]
    graph = make.make_graph(nodes, "chain", [pixels], [out], tables)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)
    pictures = [rng.integers(0, 256, (1, 4, 8, 8), np.uint8) for _ in range(3)]
    noisy = noisy_layers(model, pictures)
    # What 'wide' gives has one channel of ordinary values and three of tiny ones, and one scale for all.
    assert noisy == {"wide", "spoilt"}
    quantised = quantised_onnx(model, pictures, noisy)
    maker = {output: node.op_type for node in quantised.graph.node for output in node.output}
    convs = [node for node in quantised.graph.node if node.op_type == "Conv"]
    in_eight_bits = {node.name for node in convs if maker.get(node.input[1]) == "DequantizeLinear"}
    assert in_eight_bits == {"good"}


def write_pictures(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        assert cv2.imwrite(str(path), np.full((4, 8, 3), i, np.uint8))
    return paths


def test_pictures_are_spaced_evenly_and_the_last_batch_is_filled_up(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 9)
    batches = CalibrationBatches(paths, (2, 8, 8), CENTERED, 5)
    assert len(batches) == 3
    for _ in range(2):
        seen = [batch[:, 0, 4, 4].tolist() for batch in batches]
        assert seen == [[0, 2], [4, 6], [8, 0]]
    [first, *_] = batches
    assert first.shape == (2, 3, 8, 8) and first[0, 0, 0, 0] == CENTERED.pad, "letterboxed as the model wants it"
    [filled, *_] = CalibrationBatches(paths[:1], (1, 8, 8), LetterboxRule(fit="shortest"), 1, "NHWC")
    assert filled.shape == (1, 8, 8, 3) and not filled.any()


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 3)
    paths[1].write_bytes(b"nothing")
    batches = CalibrationBatches(paths, (1, 8, 8), CENTERED, 3)
    assert [batch[0, 0, 4, 4] for batch in batches] == [0, 2]
    assert len(batches.skipped) == 1 and "1.png" in batches.skipped[0]
    with pytest.raises(DataError, match=r"not one picture for the calibration can be read; .*1\.png"):
        CalibrationBatches(paths[1:2], (1, 8, 8), CENTERED, 3)


def test_a_calibration_set_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    heads = ChosenHeads({}, {})
    for source in (tmp_path / "none", tmp_path / "empty", "rtsp://camera.local/1"):
        with pytest.raises(DataError, match=f"--calibration {source}: names no pictures"):
            calibration_paths(heads, argparse.Namespace(calibration=str(source), data=None, segdata=None))
    [path] = write_pictures(tmp_path / "empty", 1)
    found = calibration_paths(heads, argparse.Namespace(calibration=str(path.parent), data=None, segdata=None))
    assert found == [path]
