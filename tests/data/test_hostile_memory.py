"""Files made to fill the memory are refused with one sentence, and without filling it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import REPO

pytest.importorskip("resource", reason="the peak of a process is told by POSIX")

MOST_MEGABYTES = 400
"""Above what the process has with its libraries; every file claims or holds more."""

FAULTS = {
    "coco: one text": "text.json, line 1: has a value of more than 8 million characters",
    "coco: one number": "number.json: cannot be read as JSON",
    "coco: one list": "has a value of more than 8 million characters",
    "coco: one object": "has a value of more than 8 million characters",
    "coco: levels": "cannot be read as JSON",
    "coco: members": "its outermost object has more than 1000 members",
    "coco: nothing": "has a list with more than 1,000,000 entries that are no labels",
    "coco outlines: one list": "has a value of more than 8 million characters",
    "coco outlines: one mask": "annotation 1 has an RLE of 60000x60000 pixels",
    "bdd100k: one frame": "has a value of more than 8 million characters",
    "labelme": "is larger than 64 MB",
    "labelme: values": "holds more than 2 million values",
    "cityscapes": "is larger than 64 MB",
    "voc": "is larger than 2 MB",
    "voc: entities": "has a document type",
    "yolo": "is larger than 10 MB",
    "yolo: one long number": "is not a number",
    "list of images": "is larger than 200 MB",
    "table of colours": "is larger than 100 kB",
    "yaml": "is larger than 10 MB",
    "yaml: aliases": "more than 100,000 values, with aliases written out",
    "png": "the image claims more than the 178 million pixels that are read",
    "jpeg": "the image claims more than the 178 million pixels that are read",
    "jpeg that is decoded": "the image claims more than the 1073 million pixels that are read",
    "mask": "the mask claims 60000x60000 pixels",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int, float]]:
    """What each reader says, its exit code, and by how many MB the peak of memory rose."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "tests.data.hostile_readers", str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    for file in folder.iterdir():
        file.unlink()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", FAULTS)
def test_one_sentence_and_exit_code_3(told: dict[str, tuple[str, int, float]], case: str) -> None:
    message, code, _ = told[case]
    assert FAULTS[case] in message and code == 3 and "\n" not in message and len(message) < 500


def test_the_memory_is_not_filled(told: dict[str, tuple[str, int, float]]) -> None:
    assert set(told) == set(FAULTS)
    assert sum(rise for *_, rise in told.values()) < MOST_MEGABYTES
