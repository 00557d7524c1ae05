"""What the doctor can find: every check with its severity and its mend, and the findings themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import groupby

MOST_FINDINGS = 10_000
"""Of one check; more of them, such as a wrong class in every label file of a large set, are one mistake."""


class Severity(IntEnum):
    """How bad a finding is; the values order them.

    An error stops training or loses data that was meant to be there, a warning makes a model or its figures worse, a
    note is something to know.
    """

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def exit_code(self) -> int:
        """Of a command whose worst finding this is."""
        return {Severity.NOTE: 0, Severity.WARNING: 1, Severity.ERROR: 3}[self]


@dataclass(frozen=True)
class Check:
    """One thing that is looked for.

    Attributes:
        code: its name in reports.
        severity: of its findings.
        title: what is wrong, in a few words.
        mend: what to do about it.
    """

    code: str
    severity: Severity
    title: str
    mend: str


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        check: code of the check.
        where: task and split, such as ``detect train``; several with commas.
        sentence: what was found, with its file.
        images: pictures that show it; may be empty.
        count: how many objects, rows or files it stands for.
        faults: how many faults of this check it stands for, 1 but for the last one of very many.
    """

    check: str
    where: str
    sentence: str
    images: tuple[str, ...] = ()
    count: int = 1
    faults: int = 1

    @property
    def severity(self) -> Severity:
        """The severity of its check."""
        return CHECKS[self.check].severity


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return every fault once, the worst checks first; what several tasks share names all of them."""
    merged: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = (finding.check, finding.sentence)
        known = merged.get(key)
        if known is None:
            merged[key] = finding
        elif finding.where not in known.where.split(", "):
            merged[key] = replace(known, where=f"{known.where}, {finding.where}")
    order = {code: place for place, code in enumerate(CHECKS)}
    ordered = sorted(merged.values(), key=lambda finding: (-finding.severity, order[finding.check]))
    groups = groupby(ordered, key=lambda finding: finding.check)
    return [finding for _, own in groups for finding in _shortened(list(own))]


def _shortened(findings: list[Finding]) -> list[Finding]:
    """Return the findings of one check; where they are too many, the last one stands for the rest."""
    rest = findings[MOST_FINDINGS:]
    if not rest:
        return findings
    where = ", ".join(dict.fromkeys(finding.where for finding in rest))
    count = sum(finding.count for finding in rest)
    last = Finding(rest[0].check, where, f"{len(rest)} more like these", count=count, faults=len(rest))
    return [*findings[:MOST_FINDINGS], last]


def count_faults(findings: Iterable[Finding]) -> int:
    """Return how many faults findings stand for."""
    return sum(finding.faults for finding in findings)


def worst_severity(findings: Iterable[Finding]) -> Severity | None:
    """Return the severity of the worst finding, None without any."""
    return max((finding.severity for finding in findings), default=None)


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_ALL = (
    Check("split-unusable", _E, "a split cannot be opened", "mend the split's entry in the data YAML"),
    Check("image-missing", _E, "images that are not there", "restore the files or take them out of the list"),
    Check("image-unreadable", _E, "images that cannot be read", "restore the files or remove them"),
    Check("label-refused", _E, "labels that are refused", "mend what the sentence names; training stops at the first"),
    Check("mask-refused", _E, "masks that cannot be read", "save class indices as a PNG of one channel"),
    Check("mask-size", _E, "masks of another size than their image", "save both in one size"),
    Check("mask-value", _E, "mask values without a class", "mend the mask, name the class or add it to `ignore`"),
    Check("labels-none", _E, "a split without any object", "look at the folder of the labels"),
    Check("mask-missing", _W, "images without a mask", "put their masks there; training leaves them out"),
    Check("mask-ignored", _W, "masks in which nothing counts", "look at the mask; nothing is learnt from it"),
    Check("split-leak", _W, "the same picture in two splits", "keep it in one of them; figures are too good otherwise"),
    Check("split-near-leak", _W, "nearly the same picture in two splits", "put such pictures into one split"),
    Check("image-duplicate", _W, "pictures that are there more than once", "keep one file with all of its labels"),
    Check("label-shared", _W, "images that share one label file", "give every image a stem of its own"),
    Check("label-orphan", _W, "label files without an image", "restore the image or remove the label file"),
    Check("mask-orphan", _W, "masks without an image", "restore the image or remove the mask"),
    Check("label-duplicate", _W, "labels that repeat another one", "remove them; training leaves them out"),
    Check("label-degenerate", _W, "boxes without area", "draw them again or remove them; training leaves them out"),
    Check("label-conflict", _W, "one box with several classes", "keep the class that is right"),
    Check("label-absent", _W, "images left out because they have no label file", "label them, or take them out"),
    Check("label-unlisted", _W, "annotations of images that are not listed", "list the images or remove them"),
    Check("image-size", _W, "images of another size than annotated", "look at their labels; the file's size is taken"),
    Check("class-untrained", _W, "classes that training never shows", "label some, or take the class out of `names`"),
    Check("anchor-recall", _W, "objects that no anchor fits", "let training fit the anchors (no --noautoanchor)"),
    Check("class-unmeasured", _N, "trained classes that validation never shows", "move some pictures to validation"),
    Check("class-rare", _N, "classes far rarer than the most common one", "collect more, or merge classes"),
    Check("class-left-out", _N, "annotations of classes that `names` leaves out", "that is fine if it is meant"),
    Check("label-left-out", _N, "parts of label files that are no objects", "that is fine if it is meant"),
    Check("label-missing", _N, "images without a label file", "that is fine where there is nothing to see in them"),
    Check("background-many", _N, "more images without an object than with one", "see whether labels are missing"),
    Check("keypoint-outside", _N, "visible keypoints far outside of their box", "look at the object's keypoints"),
    Check("keypoint-none", _N, "objects without a labelled keypoint", "that is fine: training leaves them out"),
    Check("box-tiny", _N, "boxes too small to be seen", "train with a larger --img-size, or on tiles"),
    Check("box-huge", _N, "boxes that fill their image", "see whether they mean an object"),
    Check("image-small", _N, "images with a very short side", "use the originals, if there are any"),
    Check("image-long", _N, "images of extreme shape", "cut them into parts"),
    Check("image-near-duplicate", _N, "pictures that look alike", "keep one of each"),
    Check("mask-palette", _N, "masks with a palette", "that is fine: indices count, not colours"),
    Check("cache-stale", _N, "caches of labels that no longer hold", "run the doctor with --fix-cache"),
)
CHECKS: dict[str, Check] = {check.code: check for check in _ALL}
"""Every check by its code, in the order of reports."""
