"""The YAML reader: plain values come back, every fault is one sentence with its line, bombs stay small."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import DataError, ModelError, YolographError
from utils.yaml_text import MOST_BYTES, MOST_LEVELS, MOST_VALUES, parse_yaml, read_yaml

REPO = Path(__file__).resolve().parents[2]
LIBRARY = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.binary(max_size=8) | st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=4),
    max_leaves=30,
)


def parse(text: str) -> Any:
    return parse_yaml(text, "mine.yaml", ModelError)


def fault(text: str) -> str:
    with pytest.raises(ModelError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("mine.yaml") and "\n" not in message and len(message) < 400
    return message


@given(VALUES, st.sampled_from([None, True, False]))
def test_what_is_written_comes_back(values: Any, flow: bool | None) -> None:
    assert parse(yaml.safe_dump(values, default_flow_style=flow)) == values


@given(st.text(max_size=200) | st.text(alphabet="[]{}:,-?&*!|>'\"%#@` \n\tab01<=~", max_size=60))
def test_any_text_gives_values_or_one_sentence(text: str) -> None:
    try:
        ours = parse(text)
    except ModelError as error:
        assert str(error).startswith("mine.yaml") and "\n" not in str(error)
        return
    # What is read is read as the library reads it, except for a lone =, which the library cannot read.
    if "=" not in text:
        # NaN is not equal to itself.
        assert repr(ours) == repr(yaml.load(text, Loader=LIBRARY))


@pytest.mark.parametrize("file", sorted(REPO.glob("models/configs/**/*.yaml")) + sorted(REPO.glob("data/*/*.yaml")))
def test_files_of_the_project_are_read_as_by_the_library(file: Path) -> None:
    assert read_yaml(file, ModelError) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_aliases_and_merge_keys_stay_allowed() -> None:
    text = "base: &b {lr0: 0.1, gains: &g [1, 2]}\nother: &c {lr0: 3}\nmine:\n  <<: [*b, *c]\n  lr0: 0.2\nagain: *g\n"
    assert parse(text) == {
        "base": {"lr0": 0.1, "gains": [1, 2]},
        "other": {"lr0": 3},
        "mine": {"lr0": 0.2, "gains": [1, 2]},
        "again": [1, 2],
    }
    assert parse("{<<: {a: 1}, b: 2}") == {"a": 1, "b": 2}


def test_plain_oddities() -> None:
    assert parse("") is None and parse("# nothing\n") is None and parse("---\n") is None
    assert parse("when: 2024-01-31\nsign: =") == {"when": date(2024, 1, 31), "sign": "="}
    assert math.isnan(parse(".nan"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [1\n", "line 2: is not valid YAML, did not find expected ',' or ']'"),
        ("a:\n  - [1,\nb: 2\n", "line 3: is not valid YAML"),
        ("a: 1\n\tb: 2", "line 2: is not valid YAML"),
        ("a: *b", "line 1: is not valid YAML, found undefined alias"),
        ("? [1]\n: 2", "line 1: is not valid YAML, found unhashable key"),
        ("<<: 3", "line 1: is not valid YAML, expected a mapping"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is there already in line 1; remove one of the two"),
        ("x:\n- {b: 1, c: 2,\n   b: 3}", "line 3: the key 'b' is there already in line 2"),
        ("1: a\n0x1: b", "line 2: the key '0x1' is there already in line 1"),
        ("a: 1\n'a': 2", "line 2: the key 'a' is there already in line 1"),
        ("=: 1\n=: 2", "line 2: the key '=' is there already in line 1"),
        ("z: &k a\n*k : 1\na: 2", "line 3: the key 'a' is there already in line"),
        ("a: 1\n---\nb: 2", "line 2: begins a second document"),
        ("a: &a [*a]", "line 1: the alias *a stands within what it names"),
        ("a: &a\n  b: {c: *a}", "line 2: the alias *a stands within what it names"),
        (
            "a: 1\nb: !!python/object/apply:os.system [ls]",
            "line 2: the tag !!python/object/apply:os.system has no const",
        ),
        ("!!python/name:os.system x: 1", "line 1: the tag !!python/name:os.system has no constructor"),
        ("!!python/object/new:os.system {args: [x]}", "line 1: the tag !!python/object/new:os.system has no constr"),
        ("a: !mine 3", "line 1: the tag !mine has no constructor here; only plain values are read, remove the tag"),
        ("a: 1\nb: 2024-99-99", "line 2: '2024-99-99' looks like a date but is none (month must be in 1..12)"),
        ("a: !!timestamp noon", "line 1: 'noon' is no !!timestamp"),
        ("a: !!int many", "line 1: 'many' is no !!int"),
        ("a: !!bool maybe", "line 1: 'maybe' is no !!bool"),
        ("a: 1\nb: \x00", "line 2: holds the character U+0000, which no YAML text has"),
        ("a: \ud800", "line 1: holds the character U+D800"),
        ("a: " + "9" * 5000, "line 1: a number of more than 1000 digits"),
    ],
)
def test_faults_name_line_and_mend(text: str, words: str) -> None:
    assert f"mine.yaml, {words}" in fault(text) and ";" in fault(text)


def test_the_asked_kind_of_error_is_raised(tmp_path: Path) -> None:
    for error in (DataError, ModelError, YolographError):
        with pytest.raises(error) as caught:
            parse_yaml("[", "graph of a.safetensors", error)
        assert type(caught.value) is error and str(caught.value).startswith("graph of a.safetensors, line 1: ")
        with pytest.raises(error, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
            read_yaml(tmp_path / "none.yaml", error)


def test_limits_hold_at_their_edge() -> None:
    assert len(parse(f"[{'1, ' * (MOST_VALUES - 1)}]")) == MOST_VALUES - 1
    assert "more than 100,000 values" in fault(f"[{'1, ' * MOST_VALUES}]")
    assert str(parse("[" * MOST_LEVELS + "]" * MOST_LEVELS)).count("[") == MOST_LEVELS
    assert "more than 50 lists or mappings" in fault("[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1))


def test_aliases_count_as_what_they_stand_for() -> None:
    many = f"a: &a [{'1, ' * 999}]\n"  # the list is 1,000 values, the mapping and its keys and b's list 4
    assert len(parse(f"{many}b: [{'*a, ' * 98}]")["b"]) == 98
    assert "line 2: more than 100,000 values, with aliases written out" in fault(f"{many}b: [{'*a, ' * 99}]")
    deep = f"a: &a {'[' * 30}{']' * 30}\n"
    assert parse(f"{deep}b: {'[' * 19}*a{']' * 19}")
    assert "line 2: more than 50 lists" in fault(f"{deep}b: {'[' * 20}*a{']' * 20}")


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\r\n")
    assert read_yaml(file, DataError) == {"a": "ä"}
    file.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(DataError, match=r"mine\.yaml: cannot be read as text; a YAML is UTF-8 text, save it as such"):
        read_yaml(file, DataError)
    file.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(DataError, match=r"mine\.yaml, line 1: holds the character U\+0003"):
        read_yaml(file, DataError)
    with file.open("wb") as sparse:
        sparse.truncate(50 * 10**9)
    with pytest.raises(DataError, match=r"mine\.yaml: is larger than 10 MB; give the path"):
        read_yaml(file, DataError)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path, DataError)


BOMBS = """
import json, resource, sys
from utils.errors import ModelError
from utils.yaml_text import parse_yaml, MOST_BYTES

def tower(first, bracket, joint):
    rows = [f"a0: &a0 {first}"]
    for i in range(1, 30):
        rows.append(f"a{i}: &a{i} " + bracket % ", ".join([f"*a{i - 1}"] * 10))
    return "\\n".join(rows)

N = MOST_BYTES
BOMBS = {
    "laughs": lambda: tower("[lol]", "[%s]", ", "),
    "merges": lambda: tower("{x: 1}", "{<<: [%s]}", ", "),
    "chain": lambda: "a0: &a0 [x]\\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\\n" for i in range(1, 9000)),
    "brackets": lambda: "[" * N,
    "braces": lambda: "{a: " * (N // 4),
    "dashes": lambda: "- " * (N // 2),
    "questions": lambda: "? " * (N // 2),
    "indented": lambda: "".join(" " * i + "a:\\n" for i in range(4000)),
    "values": lambda: "[" + "1," * (N // 2 - 1),
    "base 60": lambda: "a: 1" + ":59" * (N // 3 - 2),
    "base 60, tagged": lambda: "a: !!int '1" + ":59" * (N // 3 - 9) + "'",
    "long alias": lambda: "&" + "a" * (N // 2 - 9) + " [*" + "a" * (N // 2 - 9),
    "long tag": lambda: "!" + "a" * (N - 9) + " x",
    "too large": lambda: " " * (N + 1),
}
seen = []
sys.addaudithook(lambda event, values: seen.append(event))
found = {}
for name, make in BOMBS.items():
    text = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen.clear()
    try:
        answer = "read"
        parse_yaml(text, "mine.yaml", ModelError)
    except ModelError as error:
        answer = str(error)
    events = sorted(set(seen))
    found[name] = answer, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000, events
print(json.dumps(found))
"""


def test_bombs_are_refused_with_little_memory_and_nothing_runs() -> None:
    job = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, cwd=REPO, timeout=120)
    assert job.returncode == 0, job.stderr
    found = json.loads(job.stdout)
    words = {
        "laughs": "more than 100,000 values, with aliases written out",
        "merges": "more than 100,000 values, with aliases written out",
        "values": "more than 100,000 values",
        "base 60": "a number of more than 1000 digits",
        "base 60, tagged": "a number of more than 1000 digits",
        "long alias": "stands within what it names",
        "long tag": "has no constructor here",
        "too large": "is larger than 10 MB",
    }
    for name, (answer, megabytes, events) in found.items():
        assert words.get(name, "more than 50 lists or mappings within one another") in answer, name
        assert "\n" not in answer and len(answer) < 400, name
        assert megabytes < 150, (name, megabytes)
        assert not {"open", "import", "exec", "compile", "os.system", "subprocess.Popen"} & set(events), (name, events)


def test_a_tag_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for text in (
        f'!!python/object/apply:os.system ["touch {marker}"]',
        f'a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{marker}"]]',
        f'{{!!python/object/apply:os.system ["touch {marker}"]: 1}}',
    ):
        assert "has no constructor here" in fault(text)
    assert not marker.exists()


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"a: 1\n" + b"#" * (MOST_BYTES - 5))
    assert read_yaml(file, DataError) == {"a": 1}
