"""The file of all tokens' predictions: what is written is read again, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import DataError
from utils.explain.token_table import TokenTable


def random_table(images: int = 4, tokens: int = 3, classes: int = 2, objects: int = 5, seed: int = 0) -> TokenTable:
    rng = np.random.default_rng(seed)
    return TokenTable(
        head="detect",
        names=np.array([f"klasse {i} ä" for i in range(classes)]),
        image_ids=np.array([f"images/{i}.jpg" for i in range(images)], np.str_),
        image_sizes=rng.integers(10, 99, (images, 2), np.int32),
        classes=rng.integers(0, classes, (images, tokens), np.int32),
        scores=rng.random((images, tokens), np.float32),
        boxes=rng.random((images, tokens, 4), np.float32),
        true_images=rng.integers(0, images, objects, np.int32),
        true_classes=rng.integers(0, classes, objects, np.int32),
        true_boxes=rng.random((objects, 4), np.float32),
    )


@settings(max_examples=10)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.integers(0, 99))
def test_round_trip(tmp_path_factory, images: int, tokens: int, classes: int, objects: int, seed: int) -> None:
    table = random_table(images, tokens, classes, objects, seed)
    path = table.save(tmp_path_factory.mktemp("table") / "predictions.npz")
    again = TokenTable.load(path)
    for entry in fields(TokenTable):
        ours, theirs = getattr(table, entry.name), getattr(again, entry.name)
        assert np.array_equal(ours, theirs) and np.asarray(ours).dtype == np.asarray(theirs).dtype


def test_counts_are_those_of_a_plain_loop() -> None:
    table = random_table(images=20, tokens=4, classes=5)
    for conf in (0.0, 0.4):
        expected = np.zeros((4, 5), int)
        for i in range(20):
            for q in range(4):
                expected[q, table.classes[i, q]] += table.scores[i, q] >= conf
        assert np.array_equal(table.class_counts(conf), expected)
        assert [len(table.boxes_of(q, conf)) for q in range(4)] == expected.sum(1).tolist()
    assert table.true_counts().sum() == 5 and len(table.true_counts()) == 5


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(DataError, match="no such file"):
        TokenTable.load(path)
    with pytest.raises(DataError, match="is a folder"):
        TokenTable.load(tmp_path)
    for data in (b"", b"no archive", b"PK\x03\x04 broken", b"\x93NUMPY"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"p\.npz: cannot be read as an \.npz file"):
            TokenTable.load(path)
    np.savez(path, boxes=np.zeros(3))
    with pytest.raises(DataError, match="has no array 'format'"):
        TokenTable.load(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(DataError, match="no archive"):
        TokenTable.load(path.with_suffix(".npy"))
    np.savez(path, boxes=np.array([object()]))
    with pytest.raises(DataError, match="cannot be read"):
        TokenTable.load(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = random_table().save(tmp_path / "p.npz")
    whole = path.read_bytes()
    for length in (len(whole) // 3, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            TokenTable.load(path)


def test_an_earlier_file_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = random_table().save(tmp_path / "p.npz")
    whole = path.read_bytes()

    def half(file, **arrays) -> None:
        file.write(whole[:50])
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(OSError, match="full"):
        random_table(seed=1).save(path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": np.zeros((4, 2), np.float32)}, "'scores' has 2 entries where 3"),
        ({"classes": np.full((4, 3), 2, np.int32)}, "'classes' names an index outside of 0 to 1"),
        ({"true_images": np.full(5, -1, np.int32)}, "'true_images' names an index"),
        ({"boxes": np.zeros((4, 3, 5), np.float32)}, "'boxes' has 5 entries where 4"),
        ({"true_classes": np.zeros(5, np.float32)}, "'true_classes' is float32"),
        (
            {
                "image_ids": np.zeros(0, "U1"),
                "image_sizes": np.zeros((0, 2), np.int32),
                "classes": np.zeros((0, 3), np.int32),
                "scores": np.zeros((0, 3), np.float32),
                "boxes": np.zeros((0, 3, 4), np.float32),
            },
            "'image_ids' is empty",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, change: dict, says: str) -> None:
    path = replace(random_table(), **change).save(tmp_path / "p.npz")
    with pytest.raises(DataError, match=says):
        TokenTable.load(path)
