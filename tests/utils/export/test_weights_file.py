"""A deployed model as a checkpoint: the trained one's answers in every command that runs models, and in no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from export import export, main, parse_options
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.checkpoint_info import describe_checkpoint
from models.convert.to_hugging_face import write_hugging_face
from models.graph import Graph
from models.inference import load_inference
from models.spec import parse_spec
from models.transfer import transfer_weights
from models.weights import graph_for_data, load_model, load_weights
from tests.lively import lively
from utils.errors import ExportError, ModelError, UsageError

ROWS = [[-1, 1, "RepVGG", [8, 2]], [-1, 1, "RepVGG", [8]], [-1, 1, "Conv", [16, 3, 4]]]
SPEC = parse_spec({"nc": 3, "backbone": ROWS, "head": [[[-1], 1, "YOLOv6Head", ["nc"]]]}, "tiny.yaml")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    graph = lively(Graph(SPEC)).eval()
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    return path


@pytest.fixture(scope="module")
def deployed(weights: Path) -> Path:
    arguments = ["--weights", str(weights), "--img-size", "64", "--include", "safetensors", "--passes", "1"]
    [path] = export(parse_options(arguments))
    return path


def test_it_answers_as_the_model_it_was_made_from(weights: Path, deployed: Path) -> None:
    assert deployed.name == "best_deployed.safetensors"
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = load_inference([weights])(images, ["detect"])["detect"]
        for deploy in (False, True):
            found = load_inference([deployed], deploy=deploy)(images, ["detect"])["detect"]
            torch.testing.assert_close(found.boxes, wanted.boxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)


def test_branches_and_norms_are_gone(weights: Path, deployed: Path) -> None:
    graph = load_model(deployed)
    assert graph.is_deployed and not any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())
    assert len(load_checkpoint(deployed).weights) < len(load_checkpoint(weights).weights)
    assert "form      deployed" in describe_checkpoint(load_weights(deployed))
    told = load_checkpoint(deployed).progress["exported"]
    assert told["precision"] == "float32" and told["checked"]["largest_difference"] < 1e-4


def test_half_of_the_bytes(weights: Path, deployed: Path, tmp_path: Path) -> None:
    output = tmp_path / "half.safetensors"
    arguments = ["--weights", str(weights), "--img-size", "64", "--include", "safetensors", "--half", "--passes", "1"]
    export(parse_options([*arguments, "--output", str(output)]))
    tensors = load_checkpoint(output).weights
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    assert {parameter.dtype for parameter in load_model(output).parameters()} == {torch.float32}


def test_weights_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    graph = lively(Graph(SPEC)).eval()
    with torch.no_grad():
        graph.model[2].bn.bias[0] = 1e6
    path = tmp_path / "wild.safetensors"
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    arguments = ["--weights", str(path), "--img-size", "64", "--include", "safetensors", "--half"]
    with pytest.raises(ExportError, match=r"model\.2\.conv\.bias has values that float16 does not have"):
        main(arguments)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_trained_from_it(deployed: Path, tmp_path: Path) -> None:
    checkpoint = load_weights(deployed)
    for refuse in (
        lambda: graph_for_data(checkpoint, {}),
        lambda: transfer_weights(Graph(SPEC), checkpoint),
        lambda: write_hugging_face(tmp_path, checkpoint),
    ):
        with pytest.raises(ModelError, match="holds a deployed model, which is for running alone"):
            refuse()


def test_the_weights_themselves_are_never_replaced(weights: Path) -> None:
    before = weights.read_bytes()
    arguments = ["--weights", str(weights), "--include", "safetensors", "--output", str(weights)]
    with pytest.raises(UsageError, match="those are the weights themselves"):
        main(arguments)
    assert weights.read_bytes() == before


def test_a_folder_that_nothing_can_be_written_to_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those who run tests may write anywhere.
    monkeypatch.setattr("export.os.access", lambda path, mode: False)
    with pytest.raises(UsageError, match=r"none\.onnx: nothing can be written to .*; name a file elsewhere"):
        export(parse_options(["--weights", str(tmp_path / "none.safetensors")]))


@pytest.mark.parametrize("flag", ["--nms", "--embed-input", "--dynamic", "--dynamic-batch", "--heads"])
def test_what_a_checkpoint_cannot_hold_is_wrong_usage(flag: str) -> None:
    values = ["detect"] if flag == "--heads" else []
    with pytest.raises(UsageError, match=re.escape(flag)):
        parse_options(["--weights", "a.pt", "--include", "safetensors", flag, *values])
