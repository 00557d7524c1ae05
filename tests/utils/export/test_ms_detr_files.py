"""Deformable transformers as files: equal to the model in every form, without what serves training alone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from export import check_picture, export, main, parse_options, plan_job
from models.layers.deformable_attention import MSDeformAttn
from models.weights import load_model
from tests.tiny_detector import write_weights
from tests.tiny_ms_detr import QUERIES, SMALLEST, write_ms_detr
from utils.errors import run_command
from utils.export.agreement import compare, onnx_runner
from utils.export.exported_graph import ExportedGraph
from utils.export.torchscript_file import METADATA, torchscript_runner

SIZE = (61, 90)
"""No multiples of any stride."""


def pixels(batch: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, 3, *size), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ms_detr(tmp_path_factory.mktemp("model") / "ms-detr.safetensors", SMALLEST)


@pytest.fixture(scope="module")
def files(weights: Path) -> tuple[Path, Path]:
    """The ONNX and the TorchScript file with an open batch."""
    arguments = ["--weights", str(weights), "--img-size", *map(str, SIZE), "--dynamic-batch"]
    return tuple(export(parse_options([*arguments, "--include", "onnx", "torchscript"])))


def test_files_answer_as_the_model_for_any_number_of_images(weights: Path, files: tuple[Path, Path]) -> None:
    graph = load_model(weights)
    module = ExportedGraph(graph, graph.heads)
    for path, runner in zip(files, (onnx_runner, torchscript_runner), strict=True):
        found = compare(runner(path), module, {"one": pixels(1), "five": pixels(5)})
        assert {name: each.shape[1:] for name, each in found.items()} == {
            "detect_boxes": (QUERIES, 4),
            "detect_scores": (QUERIES, 3),
        }
        assert max(each.relative for each in found.values()) < 1e-4


def test_a_file_has_nothing_that_only_learns(weights: Path, files: tuple[Path, Path]) -> None:
    import onnx

    model = onnx.load(files[0])
    kinds = {node.op_type for node in model.graph.node}
    assert "GridSample" in kinds and not kinds & {"Dropout", "RandomUniform", "RandomNormal"}
    inside = [sorted(entry.dims) for entry in model.graph.initializer].count([32, 48])
    learnt = [sorted(parameter.shape) for parameter in load_model(weights).parameters()].count([32, 48])
    assert (inside, learnt) == (4, 6), "two layers have two such matrices each, and one-to-many supervision two more"


def test_files_say_how_to_answer(files: tuple[Path, Path]) -> None:
    import onnx

    told = {entry.key: entry.value for entry in onnx.load(files[0]).metadata_props}
    with zipfile.ZipFile(files[1]) as archive:
        [entry] = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA}")]
        recorded = json.loads(archive.read(entry))
    assert recorded["heads"] == told["heads"]
    head = json.loads(told["heads"])["detect"]
    assert (head["suppression"], head["best_pairs"]) == (False, 100)
    assert json.loads(told["image_size"]) == list(SIZE) and json.loads(told["stride"]) == 1


class Looking(torch.nn.Module):
    """Deformable attention by itself: to maps of these shapes, from places of the finer one."""

    shapes = ((5, 7), (3, 4))

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = MSDeformAttn(16, 2, 2, 2)
        torch.nn.init.normal_(self.attention.sampling_offsets.weight)
        self.attention.form = form

    def forward(self, query: torch.Tensor, references: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        return self.attention(query, references, source, self.shapes)


def test_the_form_without_grid_sample_answers_as_the_model(tmp_path: Path) -> None:
    import onnxruntime

    given = (torch.randn(1, 35, 16), torch.rand(1, 35, 1, 2), torch.randn(1, 35 + 12, 16))
    model = torch.onnx.export(Looking("gather").eval(), given, dynamo=True, verbose=False).model_proto
    assert "GridSample" not in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    named = {entry.name: part.numpy() for entry, part in zip(session.get_inputs(), given, strict=True)}
    with torch.inference_mode():
        expected = Looking("bag")(*given)
    np.testing.assert_allclose(session.run(None, named)[0], expected, atol=1e-5)


def test_a_chosen_form_is_that_of_every_layer(weights: Path) -> None:
    options = ["--weights", str(weights), "--img-size", "64"]
    for more, form in (([], "grid"), (["--attention", "gather"], "gather")):
        job = plan_job(load_model(weights), check_picture(None), parse_options([*options, *more]))
        forms = [module.form for module in job.form.modules() if isinstance(module, MSDeformAttn)]
        assert forms == [form] * 2
        assert {module.form for module in job.module.modules() if isinstance(module, MSDeformAttn)} == {"bag"}


def test_open_heights_are_refused_in_one_sentence(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main(["--weights", str(weights), "--dynamic", "--output", str(tmp_path / "a.onnx")]))
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.strip().count("\n") == 0
    assert "the places of its queries are those of one size" in said and "--dynamic-batch" in said
    assert list(tmp_path.iterdir()) == []


def test_the_form_of_an_attention_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights(tmp_path / "tiny.safetensors")
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main(["--weights", str(weights), "--img-size", "64", "--attention", "gather"]))
    assert end.value.code == 2 and "is about deformable transformers" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))
