"""Files of whole splits: the values that json gives, whatever the pieces they are read in, and limits to each."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats import large_json
from data.formats.large_json import read_large_json
from utils.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "a.json"


def read(file: Path, data: bytes | str) -> Any:
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_large_json(file, lambda entry: entry, "a file of labels")


@settings(max_examples=60)
@given(value=values, indent=st.sampled_from([None, 2]), ascii_only=st.booleans(), chunk=st.integers(1, 9))
def test_the_values_are_those_of_json(file: Path, value: Any, indent: int | None, ascii_only: bool, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "_CHUNK", chunk)
        assert read(file, json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == value


@settings(max_examples=100)
@given(text=st.text('{}[]",:\n \\' + string.digits[:3] + "-.eatrufn", max_size=14), chunk=st.integers(1, 9))
def test_what_json_refuses_is_refused(file: Path, text: str, chunk: int) -> None:
    try:
        expected: Any = json.loads(text)
    except ValueError:
        expected = DataError
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "_CHUNK", chunk)
        try:
            found: Any = read(file, text)
        except DataError as error:
            assert str(error).startswith(f"{file}: broken JSON at line ") and "\n" not in str(error)
            found = DataError
    assert found == expected or found != found


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize(
    "text", ['{"a": [1,\n 2 3]}', '[{"a": 1},\n\n  {"b" 2}]', '{"a": 1}\nx', '{"a": tru}', '{"a": "\n"}']
)
def test_a_fault_has_the_place_that_json_gives(
    file: Path, text: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    monkeypatch.setattr(large_json, "_CHUNK", chunk)
    with pytest.raises(DataError, match=f"line {expected.value.lineno}, column {expected.value.colno} "):
        read(file, text)


def test_objects_are_handed_over_as_they_are_read(file: Path) -> None:
    file.write_text('{"frames": [{"keep": {"x": 1}, "drop": 2}, {"keep": 3}], "size": {"x": 4}}')

    def on_object(entry: dict[str, Any]) -> Any:
        entry.pop("drop", None)
        return entry.get("x", entry)

    assert read_large_json(file, on_object, "labels") == {"frames": [{"keep": 1}, {"keep": 3}], "size": 4}


def test_a_byte_order_mark_and_other_encodings(file: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32-le"):
        assert read(file, '[{"name": "ä"}]'.encode(encoding)) == [{"name": "ä"}]
    with pytest.raises(DataError, match="not a text file; give a file of labels"):
        read(file, b'["\xe4"]')


@pytest.mark.parametrize(
    ("limit", "most", "text", "fault"),
    [
        (
            "MOST_CHARACTERS",
            40,
            '[{"a": 1},\n"' + "x" * 90 + '"]',
            "line 2: has a value of more than 0 million characters",
        ),
        ("MOST_CHARACTERS", 40, "[[" + "0," * 90 + "0]]", "has a value of more than"),
        ("MOST_MEMBERS", 3, '{"a": 1, "b": 1, "c": 1, "d": 1}', "outermost object has more than 3 members"),
        ("MOST_SHORT", 3, "[{},{},{},{},{}]", "a list with more than 3 entries that are no labels"),
    ],
)
def test_what_no_label_has_is_refused(
    file: Path, limit: str, most: int, text: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_json, "_CHUNK", 8)
    monkeypatch.setattr(large_json, limit, most)
    with pytest.raises(DataError, match=fault):
        read(file, text)
