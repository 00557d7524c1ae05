"""The command: what it prints and writes, its exit codes, and caches that it mends."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from data import doctor
from data.config import load_data_config
from data.dataset import TaskDataset
from data.doctor import main
from data.split_index import open_split
from tests.conftest import REPO
from tests.data.doctor.sets import write_clean_set
from utils.errors import DataError, ModelError, UsageError


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_clean_set(tmp_path_factory.mktemp("doctor") / "clean")


@pytest.fixture
def run(tmp_path, capsys):
    """Call the command with a data YAML and options; gives exit code, output and the folder of the report."""

    def call(yaml: Path, *options: str):
        with pytest.raises(SystemExit) as stopped:
            main([str(yaml), "--out", str(tmp_path / "runs" / "exp"), *options])
        return stopped.value.code, capsys.readouterr().out, tmp_path / "runs" / "exp"

    return call


class Page(HTMLParser):
    """All tags, texts and addresses of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]

    def handle_data(self, data):
        self.texts.append(data)


def test_clean_set_ends_with_0_and_a_report(run, clean):
    code, output, folder = run(clean)
    assert code == 0
    assert "nothing is wrong" in output and str(folder / "report.html") in output
    assert re.search(r"detect train +6 +6 +18 +0 +3 of 3", output)
    sheets = sorted(path.name for path in folder.glob("*.png"))
    assert sheets == ["contact_sheet_detect.png", "contact_sheet_segment.png"]
    sheet = cv2.imread(str(folder / sheets[0]))
    assert min(sheet.shape[:2]) > 300
    # Blocks of three colours on noise, and their names.
    assert all((sheet[:400, :400, channel] > 200).any() for channel in range(3)) and sheet.std() > 20


def test_models_are_imported_for_anchors_alone():
    """They take longer than most sets."""
    command = "import sys, data.doctor; sys.exit('torch' in sys.modules or 'models' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], cwd=REPO, check=True)


def test_json_is_all_that_is_printed(run, clean, tmp_path):
    yaml = Path(shutil.copytree(clean.parent, tmp_path / "set")) / clean.name
    (yaml.parent / "labels/train/001.txt").write_text("5 0.5 0.5 0.2 0.2\n")
    shutil.copyfile(yaml.parent / "images/train/003.png", yaml.parent / "images/val/003.png")
    code, output, folder = run(yaml, "--json", "--fix-cache")
    found = json.loads(output)
    assert code == found["exit_code"] == 3
    assert found["counts"] == {"errors": 1, "warnings": 1, "notes": 0}
    assert [entry["check"] for entry in found["findings"]] == ["label-refused", "split-leak"]
    assert found["checks"]["label-refused"]["severity"] == "error"
    assert found["splits"]["detect train"]["classes"]["red"] == {"objects": 5, "images": 5}
    assert found.pop("report") == str(folder)
    assert json.loads((folder / "report.json").read_text()) == found


def test_page_is_self_contained_and_escapes_every_name(run, clean, tmp_path):
    """Names of files and classes are markup here, and stand in the page as text."""
    yaml = Path(shutil.copytree(clean.parent, tmp_path / "set")) / clean.name
    evil = "<img src=x onerror=alert(1)>&\"'"
    text = yaml.read_text().replace("[red, green, blue]", f"[{json.dumps('<b>' + evil)}, green, blue, none]")
    yaml.write_text(text.replace("[ground", "['</style><script>alert(2)</script>'"))
    root = yaml.parent
    for folder, suffix in (("images", "png"), ("labels", "txt"), ("masks", "png")):
        (root / folder / "train" / f"000.{suffix}").rename(root / folder / "train" / f"{evil}.{suffix}")
    with (root / "labels" / "train" / f"{evil}.txt").open("a") as file:
        file.write("0 0.5 0.5 1 1\n<script>alert(3)</script> 1 1 1 1\n")
    code, _, folder = run(yaml)
    assert code == 3
    data = (folder / "report.html").read_bytes()
    page = Page(data.decode())
    assert "script" not in page.tags and "link" not in page.tags and "b" not in page.tags
    assert page.addresses and all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert b"onerror=alert(1)>" not in data
    shown = "".join(page.texts)
    assert evil in shown and "<script>alert(3)" in shown and "</style><script>alert(2)" in shown
    picture = base64.b64decode(page.addresses[0].split(",")[1])
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) is not None


def test_names_of_blocks_stay_within_the_folder(run, clean, tmp_path):
    yaml = tmp_path / "set.yaml"
    root = clean.parent
    block = f"{{task: detect, train: {root}/images/train, val: {root}/images/val, names: [red, green, blue]}}"
    yaml.write_text(f"'../../up': {block}\n'.._.._up': {block}\n")
    code, _, folder = run(yaml)
    assert code == 0
    assert len(list(folder.glob("contact_sheet_*.png"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "set.yaml"]


def test_warnings_end_with_1(run, clean, tmp_path):
    yaml = Path(shutil.copytree(clean.parent, tmp_path / "set")) / clean.name
    (yaml.parent / "labels/val/ghost.txt").write_text("")
    code, output, _ = run(yaml)
    assert code == 1
    assert "warning: label files without an image (label-orphan, 1)" in output
    assert "1 warning" in output.splitlines()[-2]


def test_kept_scans_that_no_longer_hold_are_named_and_mended(run, clean, tmp_path):
    yaml = Path(shutil.copytree(clean.parent, tmp_path / "set")) / clean.name
    detect = load_data_config(yaml).tasks["detect"]
    caches = yaml.parent / "labels" / "train" / ".yolograph"
    open_split(detect, "train")
    [kept] = caches.iterdir()
    assert run(yaml)[0] == 0
    (yaml.parent / "labels/train/001.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    other = caches / "train-detect-of-another.npz"
    other.write_bytes(b"damaged")
    code, output, _ = run(yaml)
    assert code == 0 and f"{kept}: is of other files or damaged" in output
    code, output, _ = run(yaml, "--fix-cache")
    assert code == 0 and "cache-stale" not in output
    assert "caches: 2 files removed" in output and "scanned and kept: detect train, detect val, segment" in output
    assert [path.name for path in caches.iterdir()] == [kept.name]
    assert TaskDataset(detect, "train").offsets[-1] == 16


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (["nowhere.yaml"], DataError, "nowhere.yaml: no such data YAML"),
        (["{data}", "--cfg", "nowhere.yaml"], ModelError, "nowhere.yaml"),
        (["{data}", "--img-size", "0"], UsageError, "--img-size must be"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_write_nothing(clean, tmp_path, options, error, text):
    arguments = [option.format(data=clean) for option in options]
    with pytest.raises(error, match=re.escape(text)):
        main([*arguments, "--out", str(tmp_path / "runs" / "exp")])
    assert not list(tmp_path.glob("runs/*"))


def test_a_place_that_cannot_be_is_said_before_anything_is_read(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "examine", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--out .*file/exp: no folder can be made there"):
        main([str(clean), "--out", str(tmp_path / "file" / "exp")])
