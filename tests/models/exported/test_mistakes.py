"""What is no exported file of ours, or cannot do what is asked for, is one sentence."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from models.convert.__main__ import main as convert
from models.exported.model import ExportedModel
from models.exported.onnx_file import OnnxFile
from models.exported.openvino_file import OpenVinoFile
from models.exported.paths import exported_file
from models.inference import Inference, forward_format, load_inference
from models.predictions import PostprocessOptions
from models.views import AUGMENTED, SIX_VIEWS
from models.weights import load_weights
from tests.exported_files import module_of, write_checkpoint, write_torchscript
from utils.errors import ModelError, UsageError
from utils.export.torchscript_file import with_told

CPU = torch.device("cpu")
SAVING = b"\ndef save(x):\n  return x\n"
"""A function that a recorded model never has."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def file(weights: Path) -> Path:
    return write_torchscript(weights.with_suffix(".torchscript"), module_of(weights, heads=["detect"]))


def sentence(path: Path) -> str:
    """Return the one sentence that a file gets, which names it."""
    with pytest.raises(ModelError) as caught:
        load_inference([path])
    text = str(caught.value)
    assert path.name in text and "\n" not in text and "; " in text
    return text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.onnx", b"", "is empty"),
        ("x.onnx", b"\x08\x08 no model", "cannot be opened by ONNX Runtime"),
        ("x.torchscript", b"PK\x03\x04 no archive", "is no TorchScript file, or a damaged one"),
        ("x.xml", b"<annotation></annotation>", "the file x.bin is missing beside it"),
        ("x.xml", None, "there is no such file"),
    ],
)
def test_what_is_no_file(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="needs pip install -r requirements-export.txt")
    if name.endswith(".xml") and content:
        pytest.importorskip("openvino", reason="needs pip install openvino")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert words in sentence(tmp_path / name)


def test_an_xml_that_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs pip install openvino")
    (tmp_path / "x.xml").write_text("<annotation></annotation>")
    (tmp_path / "x.bin").write_bytes(b"0")
    text = sentence(tmp_path / "x.xml")
    assert "cannot be opened by OpenVINO" in text and "Exception from" not in text and ".cpp:" not in text


def test_a_folder_of_openvino_that_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<annotation></annotation>")
    with pytest.raises(ModelError, match=r"is an exported file; give the checkpoint"):
        load_weights(tmp_path)
    (tmp_path / "y.xml").write_text("<annotation></annotation>")
    assert "holds 2 models of OpenVINO; give the XML of one, such as " in sentence(tmp_path)
    (tmp_path / "y.bin").write_bytes(b"0")
    assert exported_file(tmp_path) == tmp_path / "y.xml"
    (tmp_path / "y.bin").unlink()
    (tmp_path / "y.xml").unlink()
    pytest.importorskip("openvino", reason="needs pip install openvino")
    assert "the file x.bin is missing beside it" in sentence(tmp_path)


def test_another_programs_onnx_is_not_guessed_at(shared: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs pip install -r requirements-export.txt")
    assert "export.py of this program has not written it" in sentence(shared / "data/weights/yolox_nano_coco.onnx")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("heads", "{not json", "'heads' is no JSON"),
        ("heads", "[" * 100_000, "'heads' is no JSON"),
        ("heads", '{"other": {"outputs": []}}', "no head 'other'"),
        ("heads", '{"detect": {"outputs": ["detect_boxes"]}}', "has no output 'detect_scores'"),
        ("heads", "[]", "do not fit together"),
        ("names", '{"detect": ["car"]}', "3 classes and 1 names"),
        ("image_size", "[64]", "do not fit together"),
        ("stride", "0", "0 is no whole number above 0"),
        ("input", '{"name": "images", "layout": "CHW"}', "'CHW' is none of NCHW, NHWC"),
        ("answers", '"guesses"', "'guesses' is none of candidates, objects"),
        ("graph", "backbone: {}", "(its metadata 'graph'): 'backbone' must be a list"),
        ("keypoints", '{"detect": {"names": ["a"], "flip": [0], "sigmas": [1], "skeleton": []}}', "1 keypoints"),
    ],
)
def test_damaged_metadata(key: str, value: str, words: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.torchscript"
    path.write_bytes(with_told(file.read_bytes(), key, value))
    with pytest.raises(ModelError) as caught:
        load_inference([path])
    assert words in str(caught.value) and path.name in str(caught.value)


def test_a_torchscript_of_somebody_else_is_not_run(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), str(tmp_path / "x.torchscript"))
    assert "its metadata have no 'yolograph'" in sentence(tmp_path / "x.torchscript")


class Saving(torch.nn.Module):
    """A program that writes a file where it runs."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Write the images."""
        torch.save(images, "stolen.pt")
        return {"detect_boxes": images}


class Waking(torch.nn.Module):
    """A program that runs while its file is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images."""
        return images

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        """Return the state."""
        return self.count, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        """Take the state."""
        self.count, self.training = state


@pytest.mark.parametrize("kind", [Saving, Waking])
def test_a_program_that_could_do_more_than_compute_is_not_opened(
    kind: type[torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.torchscript"
    told = {"metadata.json": json.dumps({"yolograph": "1"})}
    torch.jit.save(torch.jit.script(kind()), str(path), _extra_files=told)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was opened"))
    assert "could do more than compute" in sentence(path)


def test_operators_of_others_are_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.torchscript"
    path.write_bytes(file.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("tiny/code/__torch__/more.py", "def more(self):\n  return ops . somebody.read(self)\n")
    assert "its program has 'somebody'" in sentence(path)


@pytest.mark.parametrize("hidden", ["CODE/{}.py", "code/{}.PY"])
def test_program_text_is_found_in_any_case_of_letters(hidden: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.torchscript"
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(path, "w") as other:
        for entry in archive.infolist():
            root, _, name = entry.filename.partition("/")
            told = re.fullmatch(r"code/(.*)\.py", name)
            text = archive.read(entry)
            other.writestr(f"{root}/{hidden.format(told[1])}" if told else entry, text + SAVING if told else text)
    # PyTorch finds the text under such names, and would run it.
    torch.jit.load(str(path))
    assert "its program has 'save'" in sentence(path)


def test_a_swollen_archive_is_not_read(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.torchscript"
    path.write_bytes(file.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/code/more.py", b" " * 101_000_000)
    assert "far more than a recorded model" in sentence(path)


@pytest.mark.parametrize(("name", "package"), [("x.onnx", "onnxruntime"), ("x.xml", "openvino")])
def test_a_missing_package_comes_with_its_pip_line(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"0")
    (tmp_path / "x.bin").write_bytes(b"0")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"needs the package {package}, .* run: pip install {package}"):
        load_inference([tmp_path / name])


def test_no_gpu_for_a_file_is_said(file: Path) -> None:
    cuda = torch.device("cuda:0")
    pytest.importorskip("onnxruntime", reason="needs pip install -r requirements-export.txt")
    with pytest.raises(UsageError, match=r"--device cuda:0: the ONNX Runtime that is installed here cannot run"):
        OnnxFile(file, cuda)
    with pytest.raises(UsageError, match=r"--device cuda:0: models of OpenVINO run on the CPU"):
        OpenVinoFile(file, cuda)


def test_what_a_file_cannot_do(file: Path, weights: Path, tmp_path: Path) -> None:
    for passes in (AUGMENTED, SIX_VIEWS):
        with pytest.raises(UsageError, match="--augment and --tta change pictures within the network"):
            load_inference([file], passes=passes)
    with pytest.raises(UsageError, match=r"--deploy: .* runs in the form in which it was written"):
        load_inference([file], deploy=True)
    model = load_inference([file])
    assert forward_format(model, "auto") is None
    for wanted, option in (("half", "--half"), ("bfloat16", "--dtype bfloat16")):
        with pytest.raises(UsageError, match=f"{option}: .* export the model anew with --half"):
            forward_format(model, wanted)
    with pytest.raises(UsageError, match="has the heads 'detect'"):
        load_inference([file, weights])
    chosen = module_of(weights, PostprocessOptions(), heads=["detect"])
    objects = write_torchscript(tmp_path / "objects.torchscript", chosen)
    with pytest.raises(UsageError, match="chooses its objects itself"):
        load_inference([file, objects])


def test_one_size_does_not_answer_together_with_any_size(weights: Path, tmp_path: Path) -> None:
    both = write_torchscript(tmp_path / "both.torchscript", module_of(weights))
    with pytest.raises(UsageError, match=r"the letterbox of .* is 64 x 96 pixels, center"):
        load_inference([both, weights])


def test_an_unchecked_file_is_told(file: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    load_inference([file])
    assert "was written without a check" in caplog.text
    caplog.clear()
    path = tmp_path / "checked.torchscript"
    path.write_bytes(with_told(file.read_bytes(), "checked", '{"tolerance": 1e-4, "largest_difference": 0.0}'))
    load_inference([path])
    assert not caplog.text


def test_classes_beyond_the_names_are_refused(file: Path) -> None:
    model = ExportedModel(file, CPU)
    wrong = dict(model._run(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)))
    wrong["detect_scores"] = wrong["detect_scores"][..., :2]
    model._run = lambda _: wrong
    with pytest.raises(ModelError, match="does not fit the 3 classes"):
        Inference([model])(torch.zeros(2, 3, 64, 96, dtype=torch.uint8), ("detect",))
    del wrong["detect_boxes"]
    with pytest.raises(ModelError, match="gives no output 'detect_boxes' as it says"):
        Inference([model])(torch.zeros(2, 3, 64, 96, dtype=torch.uint8), ("detect",))


@pytest.mark.parametrize("name", ["x.onnx", "x.torchscript", "x.xml"])
def test_where_weights_are_wanted_exported_files_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"<?xml version='1.0'?>")
    with pytest.raises(ModelError, match=f"{name}: is an exported file; give the checkpoint"):
        load_weights(tmp_path / name)
    for to in ([], ["--to", "huggingface"]):
        with pytest.raises(ModelError, match=f"{name}: is an exported file; give the checkpoint"):
            convert([str(tmp_path / name), str(tmp_path / "x.safetensors"), *to])
    assert not (tmp_path / "x.safetensors").exists()


def test_a_checkpoint_of_ours_is_not_converted(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny.safetensors: is a checkpoint of this program already"):
        convert([str(weights), str(tmp_path / "x.safetensors"), "--cfg", "yolov5n.yaml"])
    assert not (tmp_path / "x.safetensors").exists()
