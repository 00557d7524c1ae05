"""The result of an examination as text for a terminal and as plain values for JSON."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from data.checks.examination import Examination
from data.checks.finding import CHECKS, Severity, count_faults
from data.checks.printable import printable
from utils.text_table import UNKNOWN, format_table

SHOWN = 5
"""Findings of one check that the terminal shows; the files have all."""


def text_of(examination: Examination, shown: int = SHOWN) -> str:
    """Return a table of the splits, then every check that found something, the worst first, and the verdict."""
    lines = [table_of_splits(examination)]
    for code, findings in groupby(examination.findings, key=lambda finding: finding.check):
        own, check = list(findings), CHECKS[code]
        number = count_faults(own)
        lines += ["", f"{check.severity.name.lower()}: {check.title} ({code}, {number}); {check.mend}"]
        lines += [f"  {printable(finding.sentence)}" for finding in own[:shown]]
        if len(own) > shown:
            lines.append(f"  and {number - shown} more")
    for head, recall in examination.recalls.items():
        lines += ["", f"anchors of the head `{head}`: best possible recall {recall:.4f}"]
    return "\n".join([*lines, "", verdict_of(examination)])


def verdict_of(examination: Examination) -> str:
    """Return one line: how much of each severity was found."""
    if not examination.findings:
        return f"{printable(str(examination.config.path))}: nothing is wrong"
    counts = [(examination.count(severity), severity.name.lower()) for severity in reversed(Severity)]
    found = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count)
    return f"{printable(str(examination.config.path))}: {found}"


def table_of_splits(examination: Examination) -> str:
    """Return a row per split: images, how many of them can be used, objects, and images without any."""
    header = ["split", "images", "usable", "objects", "background", "classes", "median size"]
    return format_table(header, [_row(name, figures) for name, figures in examination.statistics.items()])


def _row(name: str, figures: dict[str, Any]) -> list[str | int]:
    # Not their share, which is rounded.
    classes = [entry["images"] > 0 for entry in figures["classes"].values()]
    size = f"{figures['width']['median']:g} x {figures['height']['median']:g}" if "width" in figures else UNKNOWN
    counts = [figures.get(key, UNKNOWN) for key in ("images", "usable", "objects", "background")]
    return [printable(name), *counts, f"{sum(classes)} of {len(classes)}", size]


def json_of(examination: Examination) -> dict[str, Any]:
    """Return everything that was found as plain values."""
    found = {finding.check for finding in examination.findings}
    return {
        "data": str(examination.config.path),
        "img_size": examination.img_size,
        "exit_code": examination.exit_code,
        "counts": {f"{severity.name.lower()}s": examination.count(severity) for severity in reversed(Severity)},
        "splits": examination.statistics,
        "anchor_recall": {head: round(recall, 6) for head, recall in examination.recalls.items()},
        "checks": {
            code: {"severity": check.severity.name.lower(), "title": check.title, "mend": check.mend}
            for code, check in CHECKS.items()
            if code in found
        },
        "findings": [
            {
                "check": finding.check,
                "where": finding.where,
                "sentence": finding.sentence,
                "images": list(finding.images),
                "count": finding.count,
            }
            for finding in examination.findings
        ],
    }
