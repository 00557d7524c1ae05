"""Transformers as files: tables of the one grid inside, equal to the model, with or without an open batch."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from export import export, main, parse_options
from models.graph import Graph
from models.layers.position_tables import Positioned, fix_tables
from models.weights import load_model
from tests.tiny_yolos import tiny_yolos, write_yolos
from utils.errors import ExportError, UsageError, run_command
from utils.export.agreement import check_images, compare, onnx_runner
from utils.export.exported_graph import ExportedGraph
from utils.export.openvino_model import openvino_folder, openvino_runner, replace_folder
from utils.export.torchscript_file import METADATA, torchscript_runner

SIZE = (48, 80)
"""Another grid than that of the tables, 3 x 5 instead of 4 x 6."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yolos(tmp_path_factory.mktemp("model") / "yolos.safetensors")


@pytest.fixture(scope="module")
def files(weights: Path) -> tuple[Path, Path]:
    """The ONNX and the TorchScript file with an open batch."""
    arguments = ["--weights", str(weights), "--img-size", *map(str, SIZE), "--dynamic-batch"]
    return tuple(export(parse_options([*arguments, "--include", "onnx", "torchscript"])))


def modules_with_tables(graph: Graph) -> list[Positioned]:
    return [module for module in graph.modules() if isinstance(module, Positioned)]


def pixels(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, 3, *SIZE), np.uint8)


def test_files_answer_as_the_model_for_any_number_of_images(weights: Path, files: tuple[Path, Path]) -> None:
    graph = load_model(weights)
    module = ExportedGraph(graph, graph.heads)
    for path, runner in zip(files, (onnx_runner, torchscript_runner), strict=True):
        found = compare(runner(path), module, {"one": pixels(1), "five": pixels(5)})
        assert list(found) == ["detect_boxes", "detect_scores"]
        assert max(each.relative for each in found.values()) < 1e-4


def test_tables_are_constants_of_the_file(weights: Path, files: tuple[Path, Path]) -> None:
    import onnx
    from onnx import numpy_helper

    graph = load_model(weights)
    model = onnx.load(files[0])
    assert not {node.op_type for node in model.graph.node} & {"Resize", "Upsample", "GridSample"}
    constants = [numpy_helper.to_array(entry) for entry in model.graph.initializer]
    resized = [
        torch.nn.functional.interpolate(
            module.pos_embed[:, 1:-7].mT.unflatten(2, (4, 6)), (3, 5), mode="bicubic", align_corners=False
        )
        for module in modules_with_tables(graph)
    ]
    assert len(resized) == 2, "that of the embedding and that behind the first block"
    for table in resized:
        wanted = table.flatten(2).mT.detach().numpy()
        like = [array[:, 1:-7] for array in constants if array.shape == (1, 1 + 15 + 7, 32)]
        assert any(np.allclose(array, wanted, atol=1e-5) for array in like)
    stored = {(1, 1 + 24 + 7, 32), (1, 24, 32)}
    assert not any(array.shape in stored for array in constants), "the table of the checkpoint is of no use there"


def test_files_say_what_goes_in_and_what_comes_out(files: tuple[Path, Path]) -> None:
    import onnx

    told = {entry.key: entry.value for entry in onnx.load(files[0]).metadata_props}
    with zipfile.ZipFile(files[1]) as archive:
        [entry] = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA}")]
        recorded = json.loads(archive.read(entry))
    opset = told.pop("opset")
    checks = [json.loads(each.pop("checked")) for each in (recorded, told)]
    assert all(each["tolerance"] == 1e-4 and 0 <= each["largest_difference"] <= 1e-4 for each in checks)
    assert recorded == told and json.loads(opset) > 10
    assert json.loads(told["open_axes"]) == ["batch"] and json.loads(told["dynamic"]) is False
    assert json.loads(told["image_size"]) == list(SIZE) and json.loads(told["stride"]) == 16
    described = json.loads(told["input"])
    assert (described["letterbox"]["fit"], described["letterbox"]["limit"]) == ("shortest", 1.66625)
    assert "nothing padded" in described["resize"] and described["multiple_of"] == 16
    assert described["normalised_inside_by"]["mean"] == [0.48, 0.46, 0.41]
    heads = json.loads(told["heads"])
    assert heads["detect"]["suppression"] is False


def test_a_torchscript_file_tells_nothing_about_the_machine(files: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(files[1]) as archive:
        content = b"".join(archive.read(entry) for entry in archive.infolist())
    assert b"torchscript_file.py" not in content and b"site-packages" not in content


def test_open_heights_are_refused_in_one_sentence(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main(["--weights", str(weights), "--dynamic", "--output", str(tmp_path / "a.onnx")]))
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.strip().count("\n") == 0
    assert "position tables are resized when the file is written" in said and "--dynamic-batch" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dynamic", "--dynamic-batch"], "leave --dynamic-batch out"),
        (["--dynamic", "--include", "torchscript"], "a record of one height and width"),
        (["--opset", "18", "--include", "torchscript"], "--opset is about ONNX"),
        (["--include", "onnx", "torchscript", "--output", "a.onnx"], "has 2 formats"),
        (["--include", "torchscript", "--output", "a.onnx"], "must end in .torchscript"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_options(["--weights", "best.safetensors", *arguments])


def test_fixed_tables_change_no_answer() -> None:
    graph = tiny_yolos()
    images = torch.from_numpy(pixels(2))
    with torch.inference_mode():
        expected = graph(images)["detect"]
        found = fix_tables(graph, SIZE)(images)["detect"]
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert [module.tables.grid for module in modules_with_tables(graph)] == [(3, 5)] * 2


def test_pictures_fill_the_input_of_the_check() -> None:
    rule = tiny_yolos().letterbox
    checks = check_images(np.full((20, 10, 3), (200, 10, 30), np.uint8), [(1, *SIZE)], rule)
    assert (checks["the picture at 1x3x48x80"] == np.array([200, 10, 30], np.uint8)[:, None, None]).all()


def test_an_openvino_model_answers_as_the_model(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openvino = pytest.importorskip("openvino")
    arguments = ["--weights", str(weights), "--img-size", *map(str, SIZE), "--dynamic-batch", "--include", "openvino"]
    [path] = export(parse_options(arguments))
    assert sorted(file.name for file in path.parent.iterdir()) == ["yolos.bin", "yolos.xml"]
    graph = load_model(weights)
    found = compare(openvino_runner(path), ExportedGraph(graph, graph.heads), {"four": pixels(4)})
    assert max(each.relative for each in found.values()) < 1e-4
    told = openvino.Core().read_model(path).get_rt_info(["yolograph", "heads"]).value
    assert json.loads(told)["detect"]["suppression"] is False
    [again] = export(parse_options(arguments))
    assert again == path and len(list(weights.parent.glob("*openvino*"))) == 1, "replaced, with nothing left beside"


@pytest.mark.parametrize("there", ["a folder of other files", "a file"])
def test_an_openvino_folder_replaces_nothing_but_itself(there: str, tmp_path: Path) -> None:
    folder = tmp_path / "best_openvino"
    if there == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="is in the way"), openvino_folder(None, "best", folder):
        raise AssertionError("it was begun")
    assert "mine" in (folder if folder.is_file() else folder / "notes.txt").read_text()


class Unwritten:
    """Stands where openvino does, on a disk that is full."""

    @staticmethod
    def save_model(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")


def test_a_full_disk_is_no_fault_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", Unwritten)
    with (
        pytest.raises(ExportError, match=r"OpenVINO cannot write best\.xml and \.bin there, where .* MB are free"),
        openvino_folder(None, "best", tmp_path / "best_openvino"),
    ):
        raise AssertionError("it was begun")
    assert not list(tmp_path.iterdir())


def test_the_earlier_openvino_model_stays_until_there_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, new = tmp_path / "best_openvino", tmp_path / "new.tmp"
    for each in (folder, new):
        each.mkdir()
        (each / "best.xml").write_text(each.name)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupted)
        replace_folder(folder, new)
    assert (folder / "best.xml").read_text() == "best_openvino"
    replace_folder(folder, new)
    assert (folder / "best.xml").read_text() == "new.tmp" and list(tmp_path.iterdir()) == [folder]
