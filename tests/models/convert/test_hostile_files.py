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
    "command.pt": "'os.system'",
    "command_row.pt": "'os.system'",
    "command_first.pt": "'os.system'",
    "module.pt": "'antigravity.fly'",
    "getattr.pt": "'builtins.getattr'",
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
}
"""What the sentence about a file has to name."""

# Runs in a process of its own: the hook cannot be taken out again, and memory is measured for the whole process.
PROBE = """
import encodings.cp437  # the standard library loads it late, for names in zip archives
import json, resource, sys, time
from pathlib import Path

import torch
from models.convert.torch_file import TorchFile
from models.graph import load_graph
from models.weights import build_model, load_weights
from utils.errors import ModelError

good, zipped, *hostile = map(Path, sys.argv[1:])
build_model(load_weights(good), good)
with TorchFile(zipped) as file:
    file.tensor(file.root["a"])
load_graph("yolov5n")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
events = []

def watch(event, arguments):
    # Our own sentences are raised and printed; everything that runs, imports or opens something is written down.
    if event == "open":
        events.append(("open", str(arguments[0])))
    elif event.split(".")[0] in ("os", "subprocess", "socket", "ctypes", "import", "exec", "compile", "marshal",
                                 "pickle", "shutil", "tempfile", "webbrowser", "urllib", "code"):
        events.append((event, str(arguments)[:200]))

sys.addaudithook(watch)
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
    found[path.name] = (sentence, list(events), time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(path.name, f"{found[path.name][2]:.2f} s, {peak:.0f} MB", file=sys.stderr)
found["before MB"] = before
found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(found))
"""
HARMLESS = ("os.scandir", "os.listdir")


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
    allowed = [event for event in events if event == ["open", path] or event[0] in HARMLESS]
    assert events == allowed


def test_memory_stays_small(report: dict) -> None:
    """What PyTorch takes by being imported is left out: its builds differ by hundreds of megabytes."""
    assert report["peak MB"] - report["before MB"] < 200


@pytest.mark.parametrize("name", ["command.pt", "page.pt", "alias_bomb.safetensors"])
def test_a_command_ends_with_one_line(name: str, report: dict, tmp_path: Path) -> None:
    path = report["folder"] / name
    run = subprocess.run(
        [sys.executable, str(ROOT / "detect.py"), "--weights", str(path), "--source", str(tmp_path / "x.jpg")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert run.returncode == 3 or run.returncode == 4
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("error: ")
