"""``python -m utils.explain attention``: the files, their sizes, and one sentence for every mistake."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.images import read_image
from models.weights import load_model
from tests import tiny_detector
from tests.conftest import write_tiny_set
from tests.tiny_detector import write_picture
from tests.utils.explain.tiny_yolos import MIXED, write_weights
from utils.errors import DataError, ModelError, UsageError
from utils.explain.__main__ import main
from utils.explain.attention import look_at
from utils.explain.attention_command import explain_attention
from utils.explain.options import parse_options


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint with one token head."""
    return write_weights(tmp_path / "tiny.safetensors")


def run(tmp_path: Path, weights: Path, *more: str) -> Path:
    """Run the command at a small size and return its folder."""
    words = ["attention", "--weights", str(weights), "--img-size", "48", "--device", "cpu"]
    return explain_attention(parse_options([*words, "--project", str(tmp_path / "runs"), *more]))


def folders_of(run_folder: Path) -> list[str]:
    """Return the names of the pictures' folders, sorted."""
    return sorted(path.name for path in run_folder.iterdir() if path.is_dir())


def test_every_token_gets_its_pictures(tmp_path: Path, weights: Path) -> None:
    source = write_picture(tmp_path / "photos" / "street.v2.png", (60, 84))
    folder = run(tmp_path, weights, "--source", str(source), "--tokens", "3", "1", "3")
    own = folder / "street.v2"
    # The last block has four attention heads, those before it two.
    maps = {"attn-head-mean.png", *(f"attn-head{head}.png" for head in range(4))}
    over = {"overlay-mean.jpg", *(f"overlay-head{head}.jpg" for head in range(4))}
    for token in (1, 3):
        assert {path.name for path in (own / f"Det-Tok-{token}").iterdir()} == maps | over
        for path in (own / f"Det-Tok-{token}").iterdir():
            assert read_image(path).shape == (60, 84, 3)
    montages = {f"Det-Tok-{token}_{kind}" for token in (1, 3) for kind in ("attn.png", "overlay.jpg")}
    files = {path.name for path in own.iterdir() if path.is_file()}
    assert files == {"img.png", "pred_img.png", *montages}
    assert (read_image(own / "img.png") == read_image(source)).all()


def test_several_blocks_have_folders_and_a_common_picture(tmp_path: Path, weights: Path) -> None:
    source = write_picture(tmp_path / "a.png")
    own = run(tmp_path, weights, "--source", str(source), "--tokens", "0", "--block", "0", "2.0") / "a"
    assert (own / "block-1.0" / "Det-Tok-0" / "attn-head1.png").is_file()
    assert not (own / "block-1.0" / "Det-Tok-0" / "attn-head2.png").exists()
    assert (own / "block-2.0" / "Det-Tok-0" / "attn-head3.png").is_file()
    assert (own / "Det-Tok-0_blocks.jpg").is_file() and not (own / "Det-Tok-0").exists()


def test_what_lies_in_the_boxes_is_told_for_every_token_block_and_head(tmp_path: Path, weights: Path) -> None:
    source = write_picture(tmp_path / "a, b.png")
    folder = run(tmp_path, weights, "--source", str(source), "--tokens", "2", "0", "--block", "0", "2.0")
    with open(folder / "attention.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seen = [(row["token"], row["block"], row["attention_head"]) for row in rows]
    first = [(token, "1.0", head) for token in ("2", "0") for head in ("mean", "0", "1")]
    assert seen == first + [(token, "2.0", head) for token in ("2", "0") for head in ("mean", *"0123")]
    assert {row["picture"] for row in rows} == {str(source)}
    assert all(0 <= float(row[key]) <= 1 for row in rows for key in ("in_box", "box_area", "score"))


def test_labels_are_drawn_for_pictures_of_the_data(tmp_path: Path, weights: Path, caplog) -> None:
    data = write_tiny_set(tmp_path / "set", images=2)
    given = ("--data", str(data), "--tokens", "0")
    folder = run(tmp_path, weights, *given, "--index", "1")
    assert folders_of(folder) == ["001"]
    truth, plain = (read_image(folder / "001" / name) for name in ("gt_img.png", "img.png"))
    assert (truth != plain).any()
    same = run(tmp_path, weights, *given, "--source", str(tmp_path / "set" / "images" / "val" / "001.png"))
    assert (read_image(same / "001" / "gt_img.png") == truth).all()
    other = run(tmp_path, weights, *given, "--source", str(write_picture(tmp_path / "other.png")))
    assert not (other / "other" / "gt_img.png").exists()


def test_a_mixed_graph_is_explained_too(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "mixed.safetensors", MIXED)
    folder = run(tmp_path, weights, "--source", str(write_picture(tmp_path / "a.png")), "--tokens", "4")
    assert (folder / "a" / "Det-Tok-4_attn.png").is_file()


def test_pictures_without_a_sure_token_are_counted(tmp_path: Path, weights: Path) -> None:
    photos = tmp_path / "photos"
    for seed in range(3):
        write_picture(photos / f"{seed}.png", seed=seed)
    with pytest.raises(UsageError, match=r"surer of an object than 1; the highest score is 0\.\d+ \(\d\.png\)"):
        run(tmp_path, weights, "--source", str(photos), "--conf", "1")
    assert not (tmp_path / "runs").exists()


def test_tokens_above_the_confidence_are_drawn(tmp_path: Path, weights: Path) -> None:
    source = write_picture(tmp_path / "a.png")
    graph = load_model(weights)
    scores = look_at(graph, "detect", read_image(source), 48, []).answers.scores
    second = float(np.sort(scores)[-2])
    folder = run(tmp_path, weights, "--source", str(source), "--conf", f"{second - 1e-4:.6f}")
    drawn = {int(path.name.split("-")[2].split("_")[0]) for path in (folder / "a").glob("*_attn.png")}
    assert drawn == set(np.argsort(scores)[-2:].tolist())


def test_unreadable_pictures_are_left_out(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "photos" / "good.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
    folder = run(tmp_path, weights, "--source", str(tmp_path / "photos"), "--tokens", "0")
    assert folders_of(folder) == ["good"]
    with pytest.raises(DataError, match=r"bad\.png"):
        run(tmp_path, weights, "--source", str(tmp_path / "photos" / "bad.png"))


def test_pictures_of_one_name_do_not_share_a_folder(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "photos" / "a.png")
    cv2.imwrite(str(tmp_path / "photos" / "a.bmp"), read_image(tmp_path / "photos" / "a.png"))
    folder = run(tmp_path, weights, "--source", str(tmp_path / "photos"), "--tokens", "0")
    assert folders_of(folder) == ["a", "a_2"]


def test_mistakes_are_sentences(tmp_path: Path, weights: Path) -> None:
    source = str(write_picture(tmp_path / "a.png"))
    plain = tiny_detector.write_weights(tmp_path / "plain" / "plain.safetensors")
    for words, kind, says in (
        (("--source", source, "--tokens", "5"), UsageError, "5 detection tokens, 0 to 4"),
        (("--source", source, "--block", "1.7"), UsageError, "--block 1.7: there are 3 blocks"),
        (("--source", source, "--conf", "2"), UsageError, "--conf must be in 0..1"),
        (("--source", source, "--index", "2"), UsageError, "--index chooses pictures of --data"),
        ((), UsageError, "give --source, or --data"),
        (("--source", str(tmp_path / "none.png")), DataError, "no such file"),
        (("--data", str(write_tiny_set(tmp_path / "set", 2)), "--index", "2"), UsageError, "has pictures 0 to 1"),
    ):
        with pytest.raises(kind, match=says):
            run(tmp_path, weights, *words)
    with pytest.raises(
        UsageError, match=r"'segment' \(SegMaskBase\), 'detect' \(Detect\), but no head that answers by"
    ):
        run(tmp_path, plain, "--source", source)
    with pytest.raises(ModelError, match="no such checkpoint"):
        run(tmp_path, tmp_path / "none.safetensors", "--source", source)


def test_data_of_other_classes_are_refused(tmp_path: Path, weights: Path) -> None:
    data = write_tiny_set(tmp_path / "set", 1)
    data.write_text(data.read_text().replace("[red, green, blue]", "[red, green, blue, white]"))
    with pytest.raises(DataError, match="4 class names, but the model's head 'detect' tells 3"):
        run(tmp_path, weights, "--data", str(data))


@pytest.mark.parametrize("command", [[], ["attention"], ["tokens"]])
def test_the_manual_names_the_files(command: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in {"attention": ("Det-Tok-I_attn.png", "--block"), "tokens": ("predictions.npz", "--npz")}.get(
        " ".join(command), ("attention", "tokens")
    ):
        assert word in text
