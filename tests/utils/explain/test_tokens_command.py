"""``python -m utils.explain tokens``: the numbers in the file, and the pictures drawn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.images import read_image
from models.weights import load_model
from tests import tiny_detector
from tests.utils.explain.tiny_yolos import write_weights
from utils.errors import DataError, UsageError
from utils.explain import tokens_command
from utils.explain.attention import look_at
from utils.explain.options import parse_options
from utils.explain.token_table import TokenTable
from utils.explain.tokens_command import explain_tokens

SHAPES = [(60, 84), (84, 60), (64, 64), (60, 84), (50, 70)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a set of five pictures of several shapes, the third without an object."""
    folder = tmp_path_factory.mktemp("tokens")
    write_weights(folder / "tiny.safetensors")
    (folder / "labels" / "val").mkdir(parents=True)
    for i, size in enumerate(SHAPES):
        tiny_detector.write_picture(folder / "images" / "val" / f"{i}.png", size, seed=i)
        rows = "" if i == 2 else f"{i % 3} 0.5 0.25 0.5 0.1\n2 0.1 0.2 0.1 0.2\n"
        (folder / "labels" / "val" / f"{i}.txt").write_text(rows)
    (folder / "set.yaml").write_text("detect: {train: images/val, val: images/val, names: [red, green, blue]}\n")
    return folder


def run(folder: Path, tmp_path: Path, *more: str, npz: Path | None = None) -> Path:
    """Run the command at a small size and return its folder."""
    given = ["--weights", str(folder / "tiny.safetensors"), "--data", str(folder / "set.yaml"), "--img-size", "48"]
    words = ["tokens", *(["--npz", str(npz)] if npz else given), "--workers", "0", "--device", "cpu"]
    return explain_tokens(parse_options([*words, "--project", str(tmp_path / "runs"), *more]))


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, whose files nobody changes."""
    return run(folder, tmp_path_factory.mktemp("made"), "--batch-size", "4", "--tokens", "4", "1")


def test_the_file_holds_what_every_token_says(folder: Path, made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {"predictions.npz", "token_boxes.png", "token_classes.png"}
    table = TokenTable.load(made / "predictions.npz")
    assert [Path(path).name for path in table.image_ids] == [f"{i}.png" for i in range(5)]
    assert table.image_sizes.tolist() == [list(size) for size in SHAPES]
    graph = load_model(folder / "tiny.safetensors")
    for i, (height, width) in enumerate(SHAPES):
        look = look_at(graph, "detect", read_image(table.image_ids[i]), 48, [])
        assert table.classes[i].tolist() == look.answers.classes.tolist()
        np.testing.assert_allclose(table.scores[i], look.answers.scores, rtol=1e-4)
        x1, y1, x2, y2 = look.answers.boxes.T
        expected = np.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, x2 - x1, y2 - y1], 1)
        np.testing.assert_allclose(table.boxes[i], expected, rtol=1e-3, atol=1e-3)
    assert table.true_images.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert table.true_counts().tolist() == [2, 2, 4]
    np.testing.assert_allclose(table.true_boxes[2], [0.5, 0.25, 30, 8.4], rtol=1e-3)


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures, which take longer than all the rest."""
    for name in ("plot_token_boxes", "plot_token_classes"):
        monkeypatch.setattr(tokens_command, name, lambda *_: None)


def test_batches_change_nothing(folder: Path, made: Path, tmp_path: Path, no_drawing: None) -> None:
    alone = run(folder, tmp_path, "--batch-size", "1")
    one, all_together = (TokenTable.load(path / "predictions.npz") for path in (alone, made))
    np.testing.assert_allclose(one.boxes, all_together.boxes, rtol=1e-3, atol=1e-3)
    assert np.array_equal(one.classes, all_together.classes)


def test_an_earlier_file_is_drawn_again_without_a_model(folder: Path, made: Path, tmp_path: Path) -> None:
    again = run(folder, tmp_path, "--tokens", "4", "1", npz=made / "predictions.npz")
    assert {path.name for path in again.iterdir()} == {"token_boxes.png", "token_classes.png"}
    for name in ("token_boxes.png", "token_classes.png"):
        assert (again / name).read_bytes() == (made / name).read_bytes()
    assert read_image(made / "token_boxes.png").shape[1] == 2 * 330


def test_unreadable_pictures_are_left_out_with_their_labels(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_drawing: None
) -> None:
    from data import dataset

    load = dataset.TaskDataset.load

    def broken(self, index: int, *rest, **more):
        if index == 1:
            raise DataError("1.png: gone")
        return load(self, index, *rest, **more)

    monkeypatch.setattr(dataset.TaskDataset, "load", broken)
    table = TokenTable.load(run(folder, tmp_path) / "predictions.npz")
    assert [Path(path).name for path in table.image_ids] == ["0.png", "2.png", "3.png", "4.png"]
    assert table.true_images.tolist() == [0, 0, 2, 2, 3, 3]


def test_a_run_without_a_sure_token_keeps_its_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the highest is 0\.\d+; .* --npz .*predictions\.npz"):
        run(folder, tmp_path, "--conf", "1")
    assert TokenTable.load(tmp_path / "runs" / "exp" / "predictions.npz").tokens == 5


def test_mistakes_are_sentences(folder: Path, made: Path, tmp_path: Path) -> None:
    first = made / "predictions.npz"
    for words, npz, says in (
        (("--tokens", "5"), None, "--tokens 5: there are 5 detection tokens"),
        (("--tokens", "5"), first, "--tokens 5: there are 5 detection tokens"),
        (("--tokens", "two"), first, "--tokens two: give numbers"),
        (("--weights", "w.pt"), first, "leave --weights and --data out"),
        (("--batch-size", "0"), None, "--batch-size must be 1 or more"),
        (("--head", "cars"), None, "has only 'detect' \\(YOLOSDetect\\)"),
    ):
        with pytest.raises(UsageError, match=says):
            run(folder, tmp_path, *words, npz=npz)
    with pytest.raises(UsageError, match="needs --weights and --data"):
        parse_options(["tokens", "--weights", "w.pt"])
    assert not (tmp_path / "runs").exists()
