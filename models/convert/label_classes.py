"""Which classes a head for sets knows: published ones have COCO's 80 among the ids 0 to 90, others have their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.convert.by_names import COCO_DATA
from models.yaml_numbers import MOST_IN_A_LIST
from utils.errors import ModelError
from utils.yaml_text import read_yaml

COCO_LABELS = 91
"""A published head has a label for every id up to 90; that of YOLOS has one for no object too."""
UNUSED_IDS = frozenset((0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Of the ids of COCO's categories, those that no category has."""
COCO_IDS = tuple(i for i in range(COCO_LABELS) if i not in UNUSED_IDS)
UNUSED = "N/A"
"""What a label is called that no class has, in files of Hugging Face."""
UNNAMED = "LABEL_"
"""How names of labels begin that nobody has named."""
MOST_MISSPELT = 8
"""So many of COCO's names may be written differently; some files also name ids that no picture of COCO has."""


@dataclass(frozen=True)
class Classes:
    """What the labels of a head stand for.

    Attributes:
        names: of the classes.
        ids: label of every class; None where the labels are the classes.
    """

    names: list[str]
    ids: list[int] | None = None


def classes_of(labels: int, written: Sequence[str] | None = None) -> Classes:
    """Return the classes of a head.

    Args:
        labels: how many it has, without that of no object where there is one.
        written: their names, where the file has them.
    """
    if written is None or len(written) != labels or all(name.startswith(UNNAMED) for name in written):
        if labels == COCO_LABELS:
            return Classes(coco_names(), list(COCO_IDS))
        return Classes(coco_names() if labels == len(COCO_IDS) else [str(i) for i in range(labels)])
    if labels == COCO_LABELS and _is_coco(written):
        return Classes(coco_names(), list(COCO_IDS))
    # The last label tells how many there are, so it is a class whatever its name.
    used = [i for i, name in enumerate(written) if name.strip() not in (UNUSED, "") or i == labels - 1]
    if used in ([labels - 1], list(range(labels))) or len(used) > MOST_IN_A_LIST:
        return Classes(list(written))
    return Classes([written[i] for i in used], used)


def label_names(names: Sequence[str], ids: Sequence[int] | None) -> list[str]:
    """Return the names of all labels, those that stand for no class included."""
    if ids is None:
        return list(names)
    found = dict(zip(ids, names, strict=True))
    return [found.get(label, UNUSED) for label in range(ids[-1] + 1)]


def coco_names() -> list[str]:
    """Return the names of COCO's 80 classes."""
    return list(read_yaml(COCO_DATA, ModelError)["detect"]["names"])


def _is_coco(written: Sequence[str]) -> bool:
    pairs = zip(COCO_IDS, coco_names(), strict=True)
    return sum(written[i].strip().lower() != name.lower() for i, name in pairs) <= MOST_MISSPELT
