"""Runs side by side: what the tables say, the picture, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.compare_runs import main
from utils.errors import DataError, UsageError


def write_run(folder: Path, values: list[str], column: str = "val/detect_AP50") -> str:
    folder.mkdir()
    rows = "".join(f"{epoch},{value}\n" for epoch, value in enumerate(values, start=1))
    (folder / "results.csv").write_text(f"epoch,{column}\n{rows}", encoding="utf-8")
    return str(folder)


@pytest.fixture
def groups(tmp_path: Path) -> list[str]:
    one = [write_run(tmp_path / "a", ["0.1", "0.2", "0.4"]), write_run(tmp_path / "b", ["0.3", "", "0.6"])]
    other = [write_run(tmp_path / "c", ["0.5", "0.7"])]
    return ["--group", "mixed", *one, "--group", "single", *other]


def test_tables_show_mean_and_spread_of_every_group(groups: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*groups, "--columns", "val/detect_AP50", "--steps-per-epoch", "250"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "val/detect_AP50" and lines[1].split() == ["step", "mixed", "single"]
    assert lines[2].split() == ["250", "0.2", "(0.1", "to", "0.3)", "0.5"]
    assert lines[3].split() == ["500", "0.2", "0.7"]
    assert lines[4].split() == ["750", "0.5", "(0.4", "to", "0.6)", "-"]


def test_picture_has_a_panel_per_column(groups: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for number, columns in enumerate((["val/detect_AP50"], ["val/detect_AP50", "val/detect_AP50"])):
        main([*groups, "--columns", *columns, "--out", str(tmp_path / f"{number}.png")])
        with Image.open(tmp_path / f"{number}.png") as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    assert str(tmp_path / "0.png") in capsys.readouterr().out
    assert pictures[1].shape[1] > 1.8 * pictures[0].shape[1]
    for color in ((0x1F, 0x3F, 0xBF), (0xD1, 0x49, 0x5B)):
        assert (pictures[0] == color).all(-1).sum() > 50


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ([], UsageError, "--columns is missing; the runs have epoch, val/detect_AP50"),
        (["--columns", "val/AP"], DataError, "a run of group mixed has no column 'val/AP'; it has epoch"),
        (["--group", "mixed", "x", "--columns", "epoch"], UsageError, "--group mixed is given twice"),
        (["--group", "alone", "--columns", "epoch"], UsageError, "--group alone names no run"),
        (["--group", "none", "nowhere", "--columns", "epoch"], DataError, "results.csv does not exist"),
        (["--columns", "epoch", "--steps-per-epoch", "-1"], UsageError, "give a number above 0"),
    ],
)
def test_mistakes_are_one_sentence(groups: list[str], more: list[str], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words.replace("(", r"\(")):
        main([*groups, *more])


def test_tables_without_epochs_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.csv").write_text("step,loss\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'epoch'"):
        main(["--group", "one", str(folder), "--columns", "loss"])
