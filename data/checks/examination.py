"""The whole examination of a data set: every split of every task is read, then each check looks at what was read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.checks.alike import alike_findings, signs_of
from data.checks.anchor_recall import anchors_of, recall_by_head
from data.checks.caches import stale_findings
from data.checks.class_balance import balance_findings
from data.checks.copies import content_ids, copies_within, leaks
from data.checks.finding import Finding, Severity, count_faults, merge_findings, worst_severity
from data.checks.listing import ListedSplit, list_splits
from data.checks.objects import object_findings
from data.checks.orphans import orphans, shared_labels
from data.checks.pictures import Picture, look_at_pictures, picture_findings
from data.checks.reading import read_split
from data.checks.split_facts import SplitFacts
from data.checks.statistics import split_statistics
from data.config import DataConfig

_FEW_OBJECTS = ("labels-none", "background-many")


@dataclass
class Examination:
    """What was found.

    Attributes:
        config: the data.
        img_size: length of the longer side of pictures in training, pixels.
        facts: what was read, by task and split.
        findings: the worst first.
        recalls: best possible recall of a model's anchors, 0..1, by head.
    """

    config: DataConfig
    img_size: int
    facts: dict[tuple[str, str], SplitFacts]
    findings: list[Finding]
    recalls: dict[str, float]

    @property
    def exit_code(self) -> int:
        """0 without faults or with notes only, 1 with warnings, 3 with errors."""
        worst = worst_severity(self.findings)
        return 0 if worst is None else worst.exit_code

    def count(self, severity: Severity) -> int:
        """Return how many faults are of a severity."""
        return count_faults(finding for finding in self.findings if finding.severity is severity)

    @cached_property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """The figures of every split by its name, such as ``detect train``."""
        return {facts.where: split_statistics(facts, self.img_size) for facts in self.facts.values()}


def examine(config: DataConfig, img_size: int = 640, cfg: str | None = None, near: bool = False) -> Examination:
    """Read all files of a data set and look for faults; whatever is broken, the rest is examined too.

    Args:
        config: the data, whose splits need not exist.
        img_size: length of the longer side of pictures in training, pixels.
        cfg: model YAML whose anchors are held against the objects, or None.
        near: look for pictures that look alike, too; every picture is decoded for that.

    Raises:
        ModelError: ``cfg`` is missing or wrong.
    """
    anchors = anchors_of(cfg) if cfg is not None else {}
    listed, found = list_splits(config)
    pictures = look_at_pictures(image for entry in listed for image in entry.images)
    facts: dict[tuple[str, str], SplitFacts] = {}
    for entry in listed:
        found += picture_findings(entry.images, pictures, entry.where)
        read, faults = read_split(entry, pictures)
        facts[entry.data.key, entry.split] = read
        found += [*faults, *object_findings(read, img_size)]
    found += _files(listed)
    found += _copies(listed, pictures, near)
    for key in config.tasks:
        found += balance_findings({split: own for (task, split), own in facts.items() if task == key})
    found += stale_findings(listed)
    recalls, missed = recall_by_head(anchors, config, facts, img_size)
    return Examination(config, img_size, facts, merge_findings(_causes([*found, *missed])), recalls)


def _causes(found: list[Finding]) -> list[Finding]:
    """Leave out that a split has no or few objects where its labels are refused: that is why."""
    refused = {finding.where for finding in found if finding.check == "label-refused"}
    return [finding for finding in found if finding.check not in _FEW_OBJECTS or finding.where not in refused]


def _by_task(listed: list[ListedSplit]) -> dict[str, list[ListedSplit]]:
    tasks: dict[str, list[ListedSplit]] = {}
    for entry in listed:
        tasks.setdefault(entry.data.key, []).append(entry)
    return tasks


def _files(listed: list[ListedSplit]) -> list[Finding]:
    """Compare images with label files and masks: those that are shared, and those that are alone."""
    found = []
    for key, entries in _by_task(listed).items():
        parts = [part for entry in entries for part in entry.parts if part.has_own_labels]
        for part in parts:
            found += shared_labels(part.images, part.labels, f"{key} {part.split}")
        pairs = [
            (image, label)
            for part in parts
            for image, label in zip(part.images, part.labels, strict=True)
            if label is not None
        ]
        found += orphans("mask-orphan" if entries[0].data.task == "segment" else "label-orphan", key, pairs)
    return found


def _copies(listed: list[ListedSplit], pictures: dict[str, Picture], near: bool) -> list[Finding]:
    ids = content_ids(pictures)
    signs = signs_of(pictures) if near else {}
    found = []
    for key, entries in _by_task(listed).items():
        splits = {entry.split: entry.images for entry in entries}
        for entry in entries:
            found += copies_within(entry.images, ids, entry.where)
        found += leaks(splits, ids, key)
        found += alike_findings(splits, ids, signs, key)
    return found
