"""Hostile and broken files: one sentence each, nothing executed, nothing else opened, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.convert.hostile import FILES, write_hostile_files

ROOT = Path(__file__).resolve().parents[3]
SENTENCES = {
    "repeats.safetensors": "is the most",
    "rows.safetensors": "is the most",
    "pools.safetensors": "is the most",
    "classes.safetensors": "is the largest",
    "anchors.safetensors": "is the largest",
    "layers.safetensors": "from 1 to 1000",
    "digits.safetensors": "is the largest",
    "command.pt": "'os.system'",
    "command_row.pt": "'os.system'",
    "command_first.pt": "'os.system'",
    "module.pt": "'antigravity.fly'",
    "getattr.pt": "'builtins.getattr'",
    "getattr_logs.pt": "the call of a Inert",
    "getattr_of_data.pt": "'__builtin__.getattr'",
    "eval.pt": "'__builtin__.eval'",
    "stack_global.pt": "'posix.system'",
    "instance.pt": "'os.system'",
    "object.pt": "'subprocess.Popen'",
    "bytes_load.pt": "'torch.storage._load_from_bytes'",
    "zip_bomb.pt": "zip bomb",
    "overlapping.pt": "zip bomb",
    "page.pt": "web page",
    "pointer.pt": "git lfs pull",
    "empty.pt": "is empty",
    "many_copies.pt": "steps",
    "long_pickle.pt": "steps",
    "huge_text.pt": "64 MB",
    "alias_bomb.safetensors": "alias",
    "alias_bomb.yaml": "alias",
    "tag.safetensors": "python/object",
    "tag.yaml": "python/name",
    "wrong_offsets.safetensors": "damaged",
    "long_names.pt": "up to 200 characters",
    "doubled_name.pt": "up to 200 characters",
    "doubled_yaml.pt": "20,000 values",
    "long_texts.pt": "20,000 values",
    "doubled_modules.pt": "100,000 modules",
    "skipped_buffers.pt": "model.0.conv.weight is missing",
    "list_eps.pt": "eps a list",
    "doubled_eps.pt": "eps a tuple",
    "no_slope.pt": "slope",
    "huge_slope.pt": "slope",
    "section.pt": "'backbone' must be a list",
    "huge_number.pt": "64 bits",
    "text_as_shape.pt": "no shape",
    "huge_storage.pt": "no size",
    "shared_storage.pt": "share their numbers",
    "wide.pt": "model.0.conv.weight is missing",
    "wide.safetensors": "'model.0.conv.weight'",
    "number_as_names.safetensors": "head 'detect'",
    "large_directory.pt": "table of contents",
    "long_row.pt": "steps",
    "yolox_wide.pt": "is missing",
    "yolox_wider.pt": "is the largest",
    "yolox_deep.pt": "5,000 blocks",
    "yolox_classes.pt": "is the largest",
    "yoloms.pt": "is missing",
    "yoloms_wide.pt": "of a size that no YAML here has",
    "yoloms_deep.pt": "5,000 repeats",
    "yoloms_classes.pt": "is the largest",
    "yolos.pt": "backbone.cls_token is missing",
    "yolos_wide.pt": "is the largest",
    "yolos_hidden.pt": "is the largest",
    "yolos_table.pt": "is the largest",
    "yolos_table_unknown.pt": "1,073,741,824 patches",
    "yolos_labels.pt": "100,000 is the most",
    "yolos_deep.pt": "5,000 blocks",
    "yolos_options.pt": "nothing says of how many rows",
    "detr.pt": "is missing",
    "detr_wide.pt": "is the largest",
    "detr_levels.pt": "input_proj.1.0.weight, which tells its size, is missing",
    "detr_deep.pt": "more than 1,000 layers",
    "detr_many.pt": "at most 100",
    "detr_labels.pt": "100,000 is the most",
    "detr_queries.pt": "is the largest",
    "resnet.pt": "is missing",
    "resnet_wide.pt": "is the largest",
    "resnet_deep.pt": "more than 500 blocks",
    "vit_odd.safetensors": "--pretrained-grid",
    "vit_table.safetensors": "damaged",
    "unknown_call.pt": "an object of other.package.run",
    "unknown_getattr.pt": "'__builtin__.getattr'",
    "numpy_call.pt": "'numpy.testing._private.utils.runstring'",
    "torch_call.pt": "'torch.hub.load_state_dict_from_url'",
}
"""What the sentence about a file has to name."""

# Runs in a process of its own: the hook cannot be taken out again, and memory is measured for the whole process.
PROBE = """
import encodings.cp437  # the standard library loads it late, for names in zip archives
import json, re, resource, sys, time
from pathlib import Path

import torch
from models.convert.torch_file import TorchFile
from models.blank_rows import BlankRows
from models.graph import load_graph
from models.spec import load_spec
from models.weights import build_model, load_weights
from utils.errors import ModelError

def peak_megabytes():
    # Of this program alone where the system tells; the other figure begins with what the parent held.
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

good, zipped, *hostile = map(Path, sys.argv[1:])
build_model(load_weights(good), good)
with TorchFile(zipped) as file:
    file.tensor(file.root["a"])
load_graph("yolov5n")
load_graph("yolox_s")
load_graph("yoloms_xs")
load_graph("yolos-nano")
BlankRows(load_spec("ms-detr-r18-nano"))
before = peak_megabytes()
events = []

def watch(event, arguments):
    # Our own sentences are raised and printed; everything that runs, imports or opens something is written down.
    if event == "open":
        events.append(("open", str(arguments[0])))
    elif event.split(".")[0] in ("os", "subprocess", "socket", "ctypes", "import", "exec", "compile", "marshal",
                                 "pickle", "shutil", "tempfile", "webbrowser", "urllib", "code"):
        code = arguments[0] if event == "exec" else None
        about = f"{code.co_filename} {code.co_names} {code.co_consts}" if code else str(arguments)
        events.append((event, about[:200]))

sys.addaudithook(watch)
# Whoever builds a model has the annotations of its own layers evaluated, which is seen as compiling "int".
load_graph("yolov5n")
load_graph("yolox_nano")
load_graph("yolox_s")
load_graph("yoloms_xs")
load_graph("yolos-nano")
BlankRows(load_spec("ms-detr-r18-nano"))
annotations = {event for event in events if event[0] in ("compile", "exec")}
found = {}
for path in hostile:
    events.clear()
    started = time.perf_counter()
    try:
        if path.suffix == ".yaml":
            load_graph(path)
        else:
            build_model(load_weights(path), path)
        sentence = None
    except ModelError as error:
        sentence = str(error)
    unknown = [event for event in events if event not in annotations]
    found[path.name] = (sentence, unknown, time.perf_counter() - started)
    peak = peak_megabytes()
    print(path.name, f"{found[path.name][2]:.2f} s, {peak:.0f} MB", file=sys.stderr)
found["before MB"] = before
found["peak MB"] = peak_megabytes()
print(json.dumps(found))
"""
HARMLESS = ("os.scandir", "os.listdir")
OWN_FOLDERS = [str(ROOT / folder / "configs") for folder in ("models", "data")]
"""YAMLs of this program may be read, too: the names in a file can ask for one."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a process that reads every hostile file has to say of each."""
    import torch

    from models.checkpoint import Checkpoint, save_checkpoint
    from models.graph import load_graph

    folder = tmp_path_factory.mktemp("hostile")
    graph = load_graph("yolov5n", {"detect": 2})
    good = folder / "good.safetensors"
    save_checkpoint(good, Checkpoint("yolov5n.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    torch.save({"a": torch.zeros(3)}, folder / "good.pt")
    paths = write_hostile_files(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(good), str(folder / "good.pt"), *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    print(run.stderr)
    assert not (folder / "executed").exists()
    return {"folder": folder, **json.loads(run.stdout)}


@pytest.mark.parametrize("name", FILES)
def test_one_sentence_and_nothing_else(name: str, report: dict) -> None:
    sentence, events, _ = report[name]
    assert sentence is not None, "it was believed"
    assert name in sentence and "\n" not in sentence and len(sentence) < 600
    assert SENTENCES.get(name, "") in sentence
    path = str(report["folder"] / name)
    own = [["open", name] for kind, name in events if kind == "open" and name.startswith(tuple(OWN_FOLDERS))]
    allowed = [event for event in events if event == ["open", path] or event in own or event[0] in HARMLESS]
    assert events == allowed


@pytest.mark.parametrize("name", FILES)
def test_no_file_keeps_the_program_busy(name: str, report: dict) -> None:
    """A fault of this kind takes hours, so the bound is wide enough for a slow machine."""
    assert report[name][2] < 60


def test_memory_stays_small(report: dict) -> None:
    """What PyTorch takes by being imported is left out: its builds differ by hundreds of megabytes."""
    assert report["peak MB"] - report["before MB"] < 200


def test_a_command_ends_with_one_line(report: dict, tmp_path: Path) -> None:
    path = report["folder"] / "command.pt"
    run = subprocess.run(
        [sys.executable, str(ROOT / "detect.py"), "--weights", str(path), "--source", str(tmp_path / "x.jpg")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert run.returncode == 3 or run.returncode == 4
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("error: ")
