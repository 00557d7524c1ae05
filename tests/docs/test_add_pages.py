"""The pages that add a block, a head and a format: their code runs, is used by the program, and their tests pass."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import yaml

from data import config_objects
from data.config import load_data_config
from data.convert import format_names
from data.convert.__main__ import main as convert
from data.dataset import TaskDataset
from data.formats.registry import PICTURE_FORMATS
from data.samples import Sample, collate
from models import registry
from models.graph import Graph
from models.reference import describe_module
from models.spec import parse_spec
from models.table import tabulate_model
from tests.conftest import REPO, write_tiny_set
from tests.train_runs import numbers_of, run_train
from utils.errors import ModelError
from utils.recipe_keys import DEFAULTS


def blocks_of(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (REPO / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def module_of(page: str, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Run the code of a page, its test included, as a module of that name."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    for text in blocks_of(page, "python"):
        exec(compile(text, f"docs/{page}", "exec"), vars(module))
    return module


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered modules that other tests do not see."""
    monkeypatch.setattr(registry, "_BLOCKS", dict(registry._BLOCKS))


@pytest.fixture
def gate(own_registry: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return module_of("add_a_block.md", "models.layers.spatial_gate", monkeypatch)


def test_the_block_is_a_row_of_a_model(gate: ModuleType) -> None:
    gate.test_a_gate_weighs_places()
    (model,) = blocks_of("add_a_block.md", "yaml")
    rows = tabulate_model(parse_spec(yaml.safe_load(model), "my_model.yaml"), (64, 64))
    assert (rows[4].module, rows[4].params, rows[4].shape) == ("SpatialGate", 2 * 5 * 5, rows[3].shape)


def test_wrong_rows_are_told_as_the_page_says(gate: ModuleType) -> None:
    (model,) = blocks_of("add_a_block.md", "yaml")
    page = (REPO / "docs/add_a_block.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\[-1, 1, SpatialGat.*?\])` \| (.+) \|$", page, flags=re.MULTILINE)
    assert len(told) == 2
    for row, words in told:
        wrong = model.replace("[-1, 1, SpatialGate, [5]]", row)
        with pytest.raises(ModelError, match=re.escape(words)):
            tabulate_model(parse_spec(yaml.safe_load(wrong), "my_model.yaml"), (64, 64))
    assert "- `kernel` (whole number, 7 unless given): odd size of the surroundings." in describe_module("SpatialGate")


@pytest.fixture
def pixels(own_registry: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of("add_a_head.md", "models.heads.pixels", monkeypatch)
    for key, default in module.Pixels.recipe.items():
        monkeypatch.setitem(DEFAULTS, key, default)
    return module


def test_the_loss_of_the_head_is_that_of_its_pieces_and_decoding_gives_the_labels_back(pixels: ModuleType) -> None:
    rng = np.random.default_rng(0)
    masks = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (4, 16, 16))
    batch = collate([Sample(np.zeros((16, 16, 3), np.uint8), mask=mask) for mask in masks])
    criterion = pixels.PixelCriterion({"pixels_gain": 2.0})
    raw = torch.randn(4, 4, 16, 16)
    whole = criterion(raw, criterion.prepare(batch))["pixels"]
    parts = [collate([Sample(np.zeros((16, 16, 3), np.uint8), mask=mask) for mask in masks[i : i + 2]]) for i in (0, 2)]
    targets = [criterion.prepare(part) for part in parts]
    totals = sum(target.normalizers for target in targets)
    shares = [criterion(raw[i : i + 2], t, totals)["pixels"] for i, t in zip((0, 2), targets, strict=True)]
    torch.testing.assert_close(sum(shares), whole)
    known = torch.from_numpy(masks.clip(max=3)).long()
    head = pixels.Pixels([8], 4)
    predicted = head.predict(torch.nn.functional.one_hot(known, 4).permute(0, 3, 1, 2) * 9.0, (16, 16))
    assert torch.equal(predicted.logits.argmax(1), known)


def test_the_head_trains_beside_another_and_goes_with_its_row(pixels: ModuleType, tmp_path: Path) -> None:
    (model,) = blocks_of("add_a_head.md", "yaml")
    (tmp_path / "my_model.yaml").write_text(model)
    (tmp_path / "quick.yaml").write_text(
        "{optimizer: AdamW, lr0: 0.01, nominal_batch: 4, warmup_epochs: 0, pixels_gain: 2.0}"
    )
    write_tiny_set(tmp_path / "tiny")
    small = ("--img-size", "64", "--batch-size", "4", "--workers", "0", "--noplots", "--dtype", "float32")
    run_train(
        "--cfg",
        "my_model.yaml",
        "--data",
        "tiny/tiny.yaml",
        "--hyp",
        "quick.yaml",
        "--epochs",
        "3",
        *small,
        cwd=tmp_path,
    )
    first, *_, last = numbers_of(tmp_path / "runs/train/exp")
    assert last["train/segment_pixels"] < 0.8 * first["train/segment_pixels"] and "val/segment_mIoU" in last
    values = yaml.safe_load(model)
    values["head"].pop(0)
    assert list(Graph(parse_spec(values, "my_model.yaml")).heads) == ["detect"]


@pytest.fixture
def kitti(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of("add_a_format.md", "data.formats.kitti_objects", monkeypatch)
    for formats in (PICTURE_FORMATS, config_objects.OBJECT_FORMATS, format_names._OBJECTS):
        monkeypatch.setitem(formats, "kitti", module.KittiObjects())
    return module


def test_the_tests_of_the_format_pass(kitti: ModuleType, tmp_path: Path) -> None:
    kitti.test_what_is_written_is_read()
    (marks,) = kitti.test_faults_are_one_sentence.pytestmark
    for row, words in marks.args[1]:
        kitti.test_faults_are_one_sentence(row, words, tmp_path)


def test_the_format_is_used_directly_and_converted(kitti: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "label_2").mkdir()
    rows = ["Car 0 0 0 10 20 40 60" + " 0" * 7, "Tram 0 0 0 1 1 9 9" + " 0" * 7, "DontCare 0 0 0 1 1 9 9" + " 0" * 7]
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"images/{i}.png"), np.full((80, 100, 3), 60 * i, np.uint8))
        (tmp_path / f"label_2/{i}.txt").write_text("\n".join(rows))
    (used,) = blocks_of("add_a_format.md", "yaml")
    (tmp_path / "kitti.yaml").write_text(used)
    dataset = TaskDataset(load_data_config(tmp_path / "kitti.yaml").tasks["detect"], "train")
    assert dataset.classes.tolist() == [0, 0] and dataset.report.other_classes == 2
    np.testing.assert_allclose(dataset.boxes, [[0.1, 0.25, 0.4, 0.75]] * 2)
    (command,) = blocks_of("add_a_format.md", "bash")
    with contextlib.chdir(tmp_path):
        convert(command.split()[3:])
    assert list((tmp_path / "converted").rglob("*.json"))
