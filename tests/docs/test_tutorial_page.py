"""docs/tutorial_ms_blocks.md: every edit on the page works on the file before it and prints what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models.blank_rows import BlankRows
from models.graph import Graph
from models.layers.ms_block import MSBlock
from models.spec import find_config, parse_spec
from tests.docs.tutorial import BLOCK, NAME, PAGE, Step, apply_edit, renew_page, walk
from tests.train_runs import SMALL, numbers_of, run_train

TEXT = PAGE.read_text(encoding="utf-8")
HINT = "run python -m tests.docs.tutorial and commit docs/tutorial_ms_blocks.md"


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return walk(TEXT)


def model_of(step: Step, **keys: object) -> BlankRows:
    """Return the model of a step, whose rows fit each other: ``walk`` has made its table."""
    return BlankRows(parse_spec({**yaml.safe_load(step.text), **keys}, NAME))


def test_the_printed_tables_are_true(steps: list[Step]) -> None:
    assert renew_page(TEXT, steps) == TEXT, HINT


def test_the_walk_is_the_one_that_the_page_tells(steps: list[Step]) -> None:
    assert [step.failed for step in steps] == [False] * 4 + [True, False]
    models = [model_of(step) for step in steps]
    blocks = [[row.module == "MSBlock" for row in model.spec.rows] for model in models]
    assert [sum(each) for each in blocks] == [0, 4, 8, 8, 8, 8]
    assert [list(model.heads) for model in models[2:4]] == [["detect"], ["segment", "detect"]]
    assert yaml.safe_load(steps[2].text) == yaml.safe_load(find_config("yolov5n-ms").read_text())
    last = models[-1]
    kinds = {name: type(head).__name__ for name, head in last.heads.items()}
    assert kinds == {"segment": "SegMaskPSP", "detect": "RTMDetHead"}
    assert "anchors" not in last.spec.values and "depth_multiple" not in last.spec.values


def test_one_line_deepens_every_branch(steps: list[Step]) -> None:
    blocks = [block for block in model_of(steps[-1], layers=3).modules() if isinstance(block, MSBlock)]
    assert len(blocks) == 8 and all(len(branch) == 3 for block in blocks for branch in list(block.mid_convs)[1:])


def test_without_the_detection_row_the_task_is_gone(steps: list[Step]) -> None:
    values = yaml.safe_load(steps[3].text)
    values["head"].pop()
    assert list(Graph(parse_spec(values, NAME)).heads) == ["segment"]


def test_an_edit_of_lines_that_are_not_there_is_noticed() -> None:
    with pytest.raises(ValueError, match="there 0 times"):
        apply_edit("nc: 80\n", "-nc: 81\n+nc: 3\n")
    with pytest.raises(ValueError, match="there 2 times"):
        apply_edit("a: 1\na: 1\n", "-a: 1\n+a: 2\n")
    assert {kind for kind, _ in BLOCK.findall(TEXT)} == {"diff", "text"}


def test_the_last_file_trains_both_heads(steps: list[Step], tiny_data: Path, tmp_path: Path) -> None:
    """As it stands on the page but for its width."""
    model = tmp_path / NAME
    model.write_text(steps[-1].text.replace("width_multiple: 0.25", "width_multiple: 0.0625"))
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(
        "{optimizer: AdamW, lr0: 0.005, warmup_bias_lr: 0.005, momentum: 0.9, nominal_batch: 4, mosaic: 0.0, "
        "ema_decay: 0.9}"
    )
    arguments = ["--cfg", str(model), "--data", str(tiny_data), "--hyp", str(recipe), *SMALL]
    run_train(*arguments, "--epochs", "4", "--val-interval", "4", cwd=tmp_path)
    first, *_, last = numbers_of(tmp_path / "runs/train/exp")
    assert last["train/segment_seg"] < 0.95 * first["train/segment_seg"]
    # Fresh, the detection head promises next to nothing, and its losses are weighed by what it promises: they rise.
    assert last["train/detect_box"] > first["train/detect_box"] > 0
    assert {"val/segment_mIoU", "val/detect_AP50"} <= last.keys()
