"""Files that would do harm if anything believed them. ``write_hostile_files`` makes one of each kind."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from safetensors.torch import save

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
COMMAND = b"cos\nsystem\n(S'touch executed'\ntR."
MODULE = b"cantigravity\nfly\n)R."
GETATTR = b"cbuiltins\ngetattr\n(cmodels.yolo\nModel\nS'__class__'\ntR."


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """Return a file in PyTorch's zip layout around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in entries.items():
            archive.writestr(f"archive/data/{name}", data)
    return buffer.getvalue()


def row(pickled: bytes) -> bytes:
    """Return a file in the layout of pickles one after another."""
    return MAGIC + pickled + pickle.dumps([], 2)


def overlapping_zip() -> bytes:
    """Return a zip archive of 3,000 entries that all show the same half megabyte."""
    data = bytearray(zipped(b"\x80\x02}.", a=bytes(2**19)))
    start, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    entry = bytes(data[start:end])
    directory = bytes(data[: data.find(b"PK\x01\x02")]), bytes(data[data.find(b"PK\x01\x02") : start])
    entries = directory[1] + b"".join(entry[:-1] + bytes([48 + i % 10]) for i in range(3000))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3001, 3001, len(entries), len(directory[0]), 0)
    return directory[0] + entries + tail


def endless_tensor() -> bytes:
    """Return a network's tensor that repeats one number a trillion times."""
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I0\n(L1000000000000L\nt(I0\ntI00\nNtR"
    return zipped(b"(S'model'\n(S'model.0.weight'\n" + rebuilt + b"dd.", **{"0": bytes(4)})


def nested_key(levels: int = 60) -> bytes:
    """Return a dictionary whose key is a tuple of tuples; its hash would take 2^levels steps."""
    return b"\x80\x02}" + b"K\x01K\x01\x86" + b"q\x00h\x00\x86" * levels + b"K\x01s."


def many_copies() -> bytes:
    """Return a list of 100,000 items, and 100,000 sets made of it."""
    big = b"\x80\x02](" + b"K\x01" * 100_000 + b"e\x85q\x00"
    return big + b"0c__builtin__\nset\nq\x010](" + b"h\x01h\x00R" * 100_000 + b"e."


def alias_bomb() -> str:
    """Return a model YAML whose anchors would have 9^10 numbers."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11)]
    return "\n".join(
        [*lines, "nc: 1", "anchors: *a10", "backbone: [[-1, 1, Conv, [8]]]", "head: [[0, 1, Detect, [nc, anchors]]]"]
    )


def checkpoint_around(text: str) -> bytes:
    """Return a checkpoint of ours with a graph of one's own making."""
    header = {"format": 1, "source": "x.yaml", "graph": text, "names": {"detect": ["a"]}, "progress": {}}
    return save({"model/model.0.weight": torch.zeros(2)}, metadata={"yolograph": json.dumps(header)})


def wrong_offsets() -> bytes:
    """Return a safetensors file whose tensor claims bytes far beyond its end."""
    header = {"model/w": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}}
    text = json.dumps({**header, "__metadata__": {"yolograph": "{}"}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


FILES: dict[str, Callable[[], bytes]] = {
    "command.pt": lambda: zipped(COMMAND),
    "command_row.pt": lambda: row(COMMAND),
    "command_first.pt": lambda: b"\x80\x02" + COMMAND,
    "module.pt": lambda: zipped(MODULE),
    "getattr.pt": lambda: zipped(GETATTR),
    "eval.pt": lambda: zipped(b"c__builtin__\neval\n(S'1'\ntR."),
    "stack_global.pt": lambda: zipped(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."),
    "instance.pt": lambda: zipped(b"(S'touch executed'\nios\nsystem\n."),
    "object.pt": lambda: zipped(b"(csubprocess\nPopen\n(S'id'\nlo."),
    "bytes_load.pt": lambda: zipped(b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR."),
    "nested_name.pt": lambda: zipped(b"\x80\x04\x8c\x06models\x8c\x0a../os.path\x93)R."),
    "persistent_name.pt": lambda: zipped(b"Pxyz\n."),
    "call_of_data.pt": lambda: zipped(b"(lp0\n(tR."),
    "zip_bomb.pt": lambda: zipped(bytes(300 * 2**20), zipfile.ZIP_DEFLATED),
    "overlapping.pt": overlapping_zip,
    "truncated.pt": lambda: zipped(pickle.dumps({"a": 1}, 2))[:-40],
    "truncated_row.pt": lambda: row(pickle.dumps({"a": 1}, 2))[:-9],
    "endless_tensor.pt": endless_tensor,
    "nested_key.pt": lambda: zipped(nested_key()),
    "many_copies.pt": lambda: zipped(many_copies()),
    "long_pickle.pt": lambda: zipped(b"]" * (3 * 2**20)),
    "huge_text.pt": lambda: row(b"X\xff\xff\xff\x7f"),
    "deep_list.pt": lambda: zipped(b"\x80\x02}X\x05\x00\x00\x00model" + b"(" * 200_000 + b"l" * 200_000 + b"s."),
    "page.pt": lambda: b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "pointer.pt": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4062133\n",
    "empty.pt": lambda: b"",
    "noise.pt": lambda: bytes(range(1, 256)) * 20,
    "noise.safetensors": lambda: bytes(range(1, 256)) * 20,
    "alias_bomb.safetensors": lambda: checkpoint_around(alias_bomb()),
    "tag.safetensors": lambda: checkpoint_around("nc: !!python/object/apply:os.system ['touch executed']"),
    "wrong_offsets.safetensors": wrong_offsets,
    "truncated.safetensors": lambda: checkpoint_around("nc: 1")[:-4],
    "no_graph.safetensors": lambda: save({"w": torch.zeros(2)}, metadata={"yolograph": json.dumps({"format": 1})}),
    "deep_header.safetensors": lambda: save({"w": torch.zeros(2)}, metadata={"yolograph": "[" * 100_000}),
    "alias_bomb.yaml": lambda: alias_bomb().encode(),
    "tag.yaml": lambda: yaml.safe_dump({"nc": 1}).encode() + b"head: !!python/name:os.system ''\n",
}
"""File name -> what is in it."""


def write_hostile_files(folder: Path) -> list[Path]:
    """Write every file and return the paths."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content())
    return [folder / name for name in FILES]
