"""Runs side by side: what the tables say, the picture, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import DataError, UsageError
from utils.plots.__main__ import main


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


def test_tables_show_mean_and_spread_of_every_group(
    tmp_path: Path, groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    project = ["--project", str(tmp_path / "plots")]
    main(["results", *groups, "--columns", "val/detect_AP50", "--steps-per-epoch", "250", *project])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "val/detect_AP50" and lines[1].split() == ["step", "mixed", "single"]
    assert lines[2].split() == ["250", "0.2", "(0.1", "to", "0.3)", "0.5"]
    assert lines[3].split() == ["500", "0.2,", "1", "of", "2", "0.7"]
    assert lines[4].split() == ["750", "0.5", "(0.4", "to", "0.6)", "-"]


def test_picture_has_a_panel_per_column(groups: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for number, columns in enumerate((["val/detect_AP50"], ["val/detect_AP50", "epoch"])):
        main(["results", *groups, "--columns", *columns, "--out", str(tmp_path / f"{number}.png")])
        with Image.open(tmp_path / f"{number}.png") as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    assert str(tmp_path / "0.png") in capsys.readouterr().out
    assert pictures[1].shape[1] > 1.8 * pictures[0].shape[1]
    for color in ((0x1F, 0x3F, 0xBF), (0xD1, 0x49, 0x5B)):
        assert (pictures[0] == color).all(-1).sum() > 50


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        (["--columns", "val/AP"], DataError, "a run of group mixed has no column 'val/AP'; it has epoch"),
        (["--group", "mixed", "x", "--columns", "epoch"], UsageError, "the group mixed is given twice"),
        (["--group", "alone", "--columns", "epoch"], UsageError, "--group alone names no run"),
        (["--group", "none", "nowhere", "--columns", "epoch"], DataError, "results.csv does not exist"),
        (["--columns", "epoch", "--steps-per-epoch", "-1"], UsageError, "must be 0 or more"),
    ],
)
def test_mistakes_are_one_sentence(groups: list[str], more: list[str], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words.replace("(", r"\(")):
        main(["results", *groups, *more])


def test_tables_without_epochs_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.csv").write_text("step,loss\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'epoch'"):
        main(["results", "--group", "one", str(folder), "--columns", "loss"])


def test_runs_without_a_name_are_called_by_their_folders(
    tmp_path: Path, groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, other = (str(tmp_path / name) for name in "abc")
    write_run(tmp_path / "d", ["0.9"], "train/seg")
    project = ["--project", str(tmp_path / "plots")]
    main(["results", one, other, "--group", "both", two, str(tmp_path / "d"), *project])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["last", "value", "of", "a", "c", "both"]
    assert lines[1] == ["train/seg", "-", "-", "0.9,", "1", "of", "2"]
    assert lines[2] == ["val/detect_AP50", "0.4", "0.7", "0.6,", "1", "of", "2"]
    assert lines[-1] == ["picture:", str(tmp_path / "plots" / "exp" / "results.png")]
    assert (tmp_path / "plots" / "exp" / "results.png").is_file()


def test_one_run_alone_renews_its_own_picture(
    tmp_path: Path, groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["results", str(tmp_path / "a")])
    assert capsys.readouterr().out == f"picture: {tmp_path / 'a' / 'results.png'}\n"
    assert (tmp_path / "a" / "results.png").is_file()


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    runs = [write_run(tmp_path / name / "exp", ["0.5"]) for name in "xy"]
    main(["results", *runs, "--columns", "val/detect_AP50", "--out", str(tmp_path / "both.png")])
    assert capsys.readouterr().out.splitlines()[1].split() == ["epoch", *runs]


def test_no_run_and_no_usual_column_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give their folders"):
        main(["results"])
    runs = [write_run(tmp_path / name, ["1"], "lr") for name in "ab"]
    with pytest.raises(DataError, match="begins with train/ or val/"):
        main(["results", *runs])
