"""Files share an id exactly if they hold the same bytes, wherever they differ."""

from __future__ import annotations

from data.checks.copies import content_ids, leaks
from data.checks.pictures import Picture


def test_ids_are_shared_by_equal_bytes_only(tmp_path):
    """Of equal length are: two copies, one that differs in the middle, one at the end, one at the beginning."""
    data = bytes(range(256)) * 80
    contents = {
        "a": data,
        "copy": data,
        "middle": data[:9000] + b"!" + data[9001:],
        "end": data[:-1] + b"!",
        "beginning": b"!" + data[1:],
        "shorter": data[:-1],
        "empty": b"",
    }
    pictures = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        pictures[str(tmp_path / name)] = Picture((1, 1), len(content))
    pictures["broken"] = Picture((0, 0), 9, "it cannot be read")
    ids = content_ids(pictures)
    assert "broken" not in ids
    groups = {}
    for file, identity in ids.items():
        groups.setdefault(identity, set()).add(file.rsplit("/", 1)[-1])
    shared = sorted(sorted(group) for group in groups.values())
    assert shared == [["a", "copy"], ["beginning"], ["empty"], ["end"], ["middle"], ["shorter"]]


def test_leaks_are_named_once_for_each_pair_of_splits():
    ids = {"t1": "x", "t2": "x", "v1": "x", "v2": "y", "both": "z"}
    splits = {"train": ["t1", "t2", "both"], "val": ["v1", "v2", "both"], "test": ["both"]}
    found = [(finding.where, finding.sentence) for finding in leaks(splits, ids, "cars")]
    assert found == [
        ("cars train and val", "v1: val has it, and train has it as t1"),
        ("cars train and val", "both: is in train and in val"),
        ("cars train and test", "both: is in train and in test"),
        ("cars val and test", "both: is in val and in test"),
    ]
