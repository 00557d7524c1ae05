"""Arrays in one file: they come back as they were, and a damaged file is no file at all."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from data.array_cache import load_arrays, save_arrays

ARRAYS = {"a": np.arange(5), "b": np.zeros((0, 4), np.float32), "c": np.array([True, False])}


def test_texts_and_arrays_come_back_under_their_key(tmp_path: Path) -> None:
    file = tmp_path / "new/x.npz"
    save_arrays(file, {"key": "k", "names": ["ü", "b"]}, ARRAYS)
    texts, arrays = load_arrays(file, "k")
    assert texts == {"key": "k", "names": ["ü", "b"]} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert load_arrays(file, "other") is None and load_arrays(tmp_path / "none.npz", "k") is None


@pytest.mark.parametrize(
    ("offset", "value"),
    [(4, 99), (6, 1), (8, 8), (8, 14), (8, 99), (10, 0xFFFF), (16, 12345)],
    ids=["version", "encrypted", "deflate", "lzma", "unknown method", "time", "checksum"],
)
@pytest.mark.parametrize("record", [b"PK\x01\x02", b"PK\x03\x04"], ids=["directory", "entry"])
def test_no_damage_of_the_headers_stops_a_run(tmp_path: Path, record: bytes, offset: int, value: int) -> None:
    file = tmp_path / "x.npz"
    save_arrays(file, {"key": "k"}, ARRAYS)
    whole = bytearray(file.read_bytes())
    # Of the directory's records these fields come two bytes later than in front of the entries.
    start = whole.find(record) + offset + 2 * (record == b"PK\x01\x02")
    struct.pack_into("<H", whole, start, value)
    file.write_bytes(whole)
    found = load_arrays(file, "k")
    assert found is None or all(np.array_equal(found[1][name], array) for name, array in ARRAYS.items())


def test_a_file_that_cannot_be_written_is_told_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").write_text("a file stands where the folder should be")
    save_arrays(tmp_path / "folder/x.npz", {"key": "k"}, ARRAYS)
    assert "no label cache" in caplog.text and str(tmp_path / "folder") in caplog.text
