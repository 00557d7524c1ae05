"""Texts packed into arrays are the texts that were given."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.packed_texts import PackedTexts


@given(st.lists(st.text(max_size=8), max_size=8))
def test_what_goes_in_comes_out(texts: list[str]) -> None:
    packed = PackedTexts(texts)
    assert list(packed) == texts and len(packed) == len(texts) and packed == texts
    assert [packed[i] for i in range(len(texts))] == texts and packed[1:4] == texts[1:4]
    assert [packed[i - len(texts)] for i in range(len(texts))] == texts
    assert pickle.loads(pickle.dumps(packed)) == packed


def test_names_of_files_that_are_no_text_come_back() -> None:
    names = [os.fsdecode(b"caf\xe9.jpg"), "caf\u00e9.jpg", "plain.jpg"]
    assert list(PackedTexts(names)) == names and PackedTexts(names)[0] == names[0]


def test_what_is_not_there_is_refused() -> None:
    packed = PackedTexts(["a", "b"])
    for index in (2, -3):
        with pytest.raises(IndexError):
            packed[index]
    assert packed != ["a"] and packed != "ab" and "a" in packed and "c" not in packed
