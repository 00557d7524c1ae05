"""Pascal VOC annotations: one XML file per picture, boxes by their corners in pixels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as WritingTree

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml import ElementTree as ReadingTree

from data.label_bytes import read_label_bytes
from utils.errors import DataError
from utils.files import atomic_write

MOST_BYTES = 2_000_000
"""Several thousand objects; a larger file is not read."""

_MEND = "an annotation is the XML of one picture"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Annotation:
    """The objects of one picture.

    Attributes:
        names: (n,) class names, white space within them as single spaces.
        boxes: (n, 4) float64, x1 y1 x2 y2 in pixels, the numbers of the file.
        difficult: (n,) bool, objects that their annotator found hard to recognise.
        size: height and width as the file gives them, or None where it does not or says 0.
        filename: of the picture, as the file gives it.
    """

    names: list[str]
    boxes: np.ndarray
    difficult: np.ndarray
    size: tuple[int, int] | None = None
    filename: str = ""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FittedBoxes:
    """Boxes as shares of their picture.

    Attributes:
        boxes: (n, 4) float64, x1 y1 x2 y2 in 0..1, clipped.
        solid: (n,) bool, boxes that have an area within the picture.
        clipped: (n,) bool, boxes that reached over the picture's edge.
    """

    boxes: np.ndarray
    solid: np.ndarray
    clipped: np.ndarray


def read_annotation(path: str | Path) -> Annotation:
    """Read an annotation file.

    A document type with its entities, which could grow without end or name other files, is refused.

    Raises:
        DataError: the file cannot be read, is no XML or no annotation, is larger than 2 MB, or an object lacks its
            name or a corner; the message names the file and the object.
    """
    data = read_label_bytes(Path(path), MOST_BYTES, _MEND)
    return parse_annotation(data, str(path))


def parse_annotation(data: bytes, where: str = "annotation") -> Annotation:
    """Check and convert the bytes of an annotation file; ``where`` names it in errors. See ``read_annotation``."""
    root = _parse_xml(data, where)
    if root.tag != "annotation":
        raise DataError(f"{where}: the outermost element is <{root.tag[:40]}>; a VOC annotation has <annotation> there")
    objects = root.findall("object")
    named = [f"{where}: object {number}" for number in range(1, len(objects) + 1)]
    names = [_name(entry, place) for entry, place in zip(objects, named, strict=True)]
    boxes = [_corners(entry, f"{place} ('{n}')") for entry, place, n in zip(objects, named, names, strict=True)]
    return Annotation(
        names=names,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        difficult=np.array([_text(entry, "difficult") in ("1", "true", "True") for entry in objects], bool),
        size=_size(root, where),
        filename=_text(root, "filename"),
    )


def write_annotation(path: str | Path, annotation: Annotation) -> None:
    """Write an annotation file that ``read_annotation`` reads as it was; its folder must exist.

    Raises:
        DataError: a name is empty or holds a character that XML does not have.
    """
    root = WritingTree.Element("annotation")
    _add(root, "filename", annotation.filename)
    if annotation.size is not None:
        size = WritingTree.SubElement(root, "size")
        for tag, number in zip(("height", "width", "depth"), (*annotation.size, 3), strict=True):
            _add(size, tag, str(number))
    for name, box, difficult in zip(annotation.names, annotation.boxes, annotation.difficult, strict=True):
        if not name.strip() or _NOT_XML.search(name):
            raise DataError(f"{path}: the class name {name!r} cannot be written as XML; rename the class")
        entry = WritingTree.SubElement(root, "object")
        _add(entry, "name", name)
        _add(entry, "difficult", str(int(difficult)))
        corners = WritingTree.SubElement(entry, "bndbox")
        for tag, value in zip(_CORNERS, np.asarray(box, np.float64).tolist(), strict=True):
            _add(corners, tag, str(int(value)) if value.is_integer() else repr(value))
    WritingTree.indent(root)
    atomic_write(Path(path), WritingTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def fit_boxes(boxes: np.ndarray, size: tuple[int, int], one_based: bool = False) -> FittedBoxes:
    """Turn corners in pixels into shares of the picture and clip them to it.

    Args:
        boxes: (n, 4), x1 y1 x2 y2 in pixels.
        size: height and width of the picture.
        one_based: False: the numbers are edges, 0 the left or upper edge of the picture and W or H the other, which is
            what common annotation tools write. True: they are indices of the first and last pixel of the object,
            counted from 1, as in the original VOC sets; then the left and upper edges lie one pixel before the index.
    """
    height, width = size
    edges = np.asarray(boxes, np.float64).reshape(-1, 4) - (np.array([1, 1, 0, 0]) if one_based else 0)
    limits = np.array([width, height, width, height], np.float64)
    inside = np.clip(edges, 0, limits)
    shares = inside / limits
    solid = (shares[:, 2] > shares[:, 0]) & (shares[:, 3] > shares[:, 1])
    return FittedBoxes(shares, solid, (inside != edges).any(axis=1))


def _parse_xml(data: bytes, where: str) -> WritingTree.Element:
    if len(data) > MOST_BYTES:
        raise DataError(f"{where}: is larger than {MOST_BYTES // 10**6} MB; {_MEND}")
    try:
        return ReadingTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise DataError(f"{where}: has a document type (<!DOCTYPE ...>), which is not read; remove it") from None
    except ReadingTree.ParseError as error:
        line = error.position[0]
        raise DataError(f"{where}, line {line}: is not valid XML ({_problem(error)}); restore the file") from None
    except (LookupError, ValueError) as error:
        # What Python has to say about the encoding that the first line of the file names.
        raise DataError(f"{where}: its encoding cannot be read ({error}); save it as UTF-8") from None


def _problem(error: ReadingTree.ParseError) -> str:
    return str(error).split(":")[0]


def _text(element: WritingTree.Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())


def _name(entry: WritingTree.Element, place: str) -> str:
    name = _text(entry, "name")
    if not name:
        raise DataError(f"{place} has no <name>; add the name of its class")
    return name


def _corners(entry: WritingTree.Element, place: str) -> list[float]:
    box = entry.find("bndbox")
    if box is None:
        raise DataError(f"{place} has no <bndbox>; add its box or remove the object")
    return [_number(_text(box, tag), tag, place) for tag in _CORNERS]


def _number(text: str, tag: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: <{tag}> is {text[:40]!r}; write a number of pixels")
    return value


def _size(root: WritingTree.Element, where: str) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    texts = {tag: _text(size, tag) for tag in ("height", "width")}
    height, width = (int(_number(text, tag, f"{where}: size")) if text else 0 for tag, text in texts.items())
    return (height, width) if height > 0 and width > 0 else None


def _add(parent: WritingTree.Element, tag: str, text: str) -> None:
    WritingTree.SubElement(parent, tag).text = text
