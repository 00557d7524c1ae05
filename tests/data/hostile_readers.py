"""Reads files that are made to fill the memory, and tells what each reader says and how much memory it took.

Run as a process of its own (``python -m tests.data.hostile_readers DIR``): the peak of a process never goes down.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from data.annotations import ClassList, MaskClasses
from data.formats.bdd100k import Bdd100kObjects
from data.formats.cityscapes_objects import CityscapesObjects
from data.formats.coco_json import read_coco
from data.formats.coco_objects import CocoObjects
from data.formats.colour_table import read_colour_table
from data.formats.index_masks import GreyMasks
from data.formats.labelme_json import LabelmeObjects
from data.formats.voc_objects import VocObjects
from data.formats.yolo_objects import YoloObjects
from data.image_list import list_images
from data.images import image_size, read_image
from utils.errors import DataError, YolographError
from utils.yaml_text import read_yaml

HALF_A_GIGABYTE = 500_000_000
_WRITTEN = 9_500_000
_MOST_ADDRESSES = 3 << 30
_SIDE = 60_000
_SIZE = (40, 40)
_CLASSES = ClassList(["a"])


def main() -> None:
    """Print, by case, the message, the exit code and by how many MB the peak of memory rose."""
    folder = Path(sys.argv[1])
    # A reader that fails the test must not take the machine with it.
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSES, _MOST_ADDRESSES))
    print(json.dumps({name: _told(make(folder)) for name, make in CASES.items()}))


def _told(read: Callable[[], object]) -> tuple[str, int, float]:
    before = _peak()
    try:
        read()
        message, code = "was read", 0
    except YolographError as error:
        message, code = str(error), error.exit_code
    return message, code, _peak() - before


def _peak() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def _large(path: Path, head: str, repeated: str) -> Path:
    """Write a file of 500 MB whose beginning is all that a reader should look at; the rest takes no room."""
    path.write_text(head + repeated * (_WRITTEN // len(repeated)))
    os.truncate(path, HALF_A_GIGABYTE)
    return path


def _coco(name: str, head: str, repeated: str) -> Callable[[Path], Callable[[], object]]:
    return lambda folder: lambda: read_coco(_large(folder / f"{name}.json", head, repeated))


def _split(form: CocoObjects | Bdd100kObjects, head: str, repeated: str) -> Callable[[Path], Callable[[], object]]:
    return lambda folder: lambda: form.read(_large(folder / f"{form.name}_split.json", head, repeated), [folder])


def _picture(form: object, head: str, repeated: str) -> Callable[[Path], Callable[[], object]]:
    return lambda folder: lambda: form.read(_large(folder / f"{form.name}.any", head, repeated), _SIZE, _CLASSES)


def _many_values(folder: Path) -> Callable[[], object]:
    file = folder / "values.json"
    file.write_text('{"shapes": [' + "[]," * 1_500_000 + "[]]}")
    return lambda: LabelmeObjects().read(file, _SIZE, _CLASSES)


def _long_number(folder: Path) -> Callable[[], object]:
    file = folder / "long.txt"
    file.write_text("0 0.5 0.5 0.5 0.5\n" * 200_000 + f"0 0.5 0.5 0.5 0.{'5' * 10_000}x\n")
    return lambda: YoloObjects().read(file, _SIZE, _CLASSES)


def _entities(folder: Path) -> Callable[[], object]:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    file = folder / "bomb.xml"
    file.write_text(f'<!DOCTYPE a [<!ENTITY l0 "lol">{levels}]><annotation>&l9;</annotation>')
    return lambda: VocObjects().read(file, _SIZE, _CLASSES)


def _aliases(folder: Path) -> Callable[[], object]:
    file = folder / "bomb.yaml"
    lists = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    file.write_text("\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *lists]))
    return lambda: read_yaml(file, DataError)


def _claiming(name: str, data: bytes, read: Callable[[Path], object]) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        (folder / name).write_bytes(data)
        return lambda: read(folder / name)

    return make


def claiming_png(side: int = _SIDE, colour_type: int = 2) -> bytes:
    """Return a PNG of a few bytes that claims to have many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, colour_type, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _claiming_jpeg() -> bytes:
    data = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", _SIDE, _SIDE)
    return bytes(data)


def _run_length(folder: Path) -> Callable[[], object]:
    """Return a reader of a mask of 60,000 x 60,000 pixels in one run."""
    file = folder / "rle.json"
    outline = {"size": [_SIDE, _SIDE], "counts": [_SIDE * _SIDE]}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": outline}
    root = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "a"}]}
    file.write_text(json.dumps({**root, "annotations": [annotation]}))
    return lambda: CocoObjects().read(file, [folder])


CASES: dict[str, Callable[[Path], Callable[[], object]]] = {
    "coco: one text": _coco("text", '{"images": [{"id": 1, "file_name": "', "x"),
    "coco: one number": _coco("number", '{"images": [{"id": ', "7"),
    "coco: one list": _coco("list", '{"annotations": [{"id": 1, "bbox": [', "[],"),
    "coco: one object": _coco("object", '{"annotations": [{', '"a":{},'),
    "coco: levels": _coco("levels", '{"annotations": [', "["),
    "coco: members": _coco("members", "{" + "".join(f'"a{i}":0,' for i in range(2000)), '"b":0,'),
    "coco: nothing": _coco("nothing", '{"annotations": [', "{},"),
    "coco outlines: one list": _split(CocoObjects(), '{"annotations": [{"segmentation": [[', "1,"),
    "coco outlines: one mask": _run_length,
    "bdd100k: one frame": _split(Bdd100kObjects(), '[{"name": "a.jpg", "labels": [', "{},"),
    "labelme": _picture(LabelmeObjects(), '{"shapes": [', "{},"),
    "labelme: values": _many_values,
    "cityscapes": _picture(CityscapesObjects(), '{"objects": [', "{},"),
    "voc": _picture(VocObjects(), "<annotation>", "<object/>"),
    "voc: entities": _entities,
    "yolo": _picture(YoloObjects(), "", "0 1 1 1 1\n"),
    "yolo: one long number": _long_number,
    "list of images": lambda folder: lambda: list_images([_large(folder / "list.txt", "", "a.jpg\n")]),
    "table of colours": lambda folder: lambda: read_colour_table(_large(folder / "table.csv", "", "a,1,2,3\n")),
    "yaml": lambda folder: lambda: read_yaml(_large(folder / "large.yaml", "", "a: 1\n"), DataError),
    "yaml: aliases": _aliases,
    "png": _claiming("a.png", claiming_png(), image_size),
    "jpeg": _claiming("a.jpg", _claiming_jpeg(), image_size),
    "jpeg that is decoded": _claiming("b.jpg", _claiming_jpeg(), read_image),
    "mask": _claiming("m.png", claiming_png(colour_type=0), lambda file: GreyMasks().read(file, MaskClasses(["a"]))),
}

if __name__ == "__main__":
    main()
