"""The result of an examination as one HTML file: pictures are embedded, no script, nothing is fetched.

Every text goes through ``escaped``, because names of files and classes are whatever somebody called them.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.checks.class_balance import class_counts
from data.checks.contact_sheet import tile_of
from data.checks.examination import Examination
from data.checks.finding import CHECKS, Finding, Severity, count_faults
from data.checks.printable import printable
from data.checks.split_facts import SplitFacts
from data.checks.text_report import verdict_of
from utils.plots.palette import class_palette, mask_palette

MOST_SENTENCES = 100
"""Findings of one check that the page shows; report.json has all."""
MOST_TILES = 6
_TILE = (200, 300)
_QUALITY = 82
_MOST_CLASSES = 100
_BAR = 260

_STYLE = """
:root { --line: #d8dbe0; --soft: #f5f6f8; --text: #1d2129; --dim: #5c6470 }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 24px; max-width: 1280px; color: var(--text); background: #fff;
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
h1 { font-size: 24px; margin: 0 0 4px } h2 { font-size: 19px; margin: 32px 0 10px }
h3 { font-size: 16px; margin: 18px 0 6px }
p { margin: 4px 0 } .dim { color: var(--dim) } code { font-family: ui-monospace, "DejaVu Sans Mono", monospace }
table { border-collapse: collapse; margin: 6px 0 12px }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } th { color: var(--dim); font-weight: 600 }
.check { border: 1px solid var(--line); border-left-width: 6px; border-radius: 6px; padding: 8px 14px; margin: 10px 0 }
.error { border-left-color: #d33a2c } .warning { border-left-color: #e0a100 } .note { border-left-color: #4a7fc1 }
.mark { display: inline-block; min-width: 68px; padding: 0 8px; border-radius: 10px; color: #fff;
  font-size: 12px; text-align: center }
.mark.error { background: #d33a2c } .mark.warning { background: #a87800 }
.mark.note { background: #4a7fc1 } .mark.fine { background: #2e8b57 }
ul { margin: 6px 0; padding-left: 20px } li { overflow-wrap: anywhere; font-size: 13px }
img { max-width: 100%; border: 1px solid var(--line); border-radius: 4px }
.tiles img { margin: 4px 6px 0 0; width: 300px }
.classes td:last-child { width: 280px; text-align: left }
.bar { display: inline-block; height: 11px; vertical-align: middle }
""".strip()

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_of(examination: Examination, pictures: Mapping[str, np.ndarray]) -> bytes:
    """Return the page.

    Args:
        examination: what was found.
        pictures: titles and (H, W, 3) uint8 RGB pictures that it shows at its end.
    """
    title = f"Doctor: {printable(examination.config.path.name)}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escaped(title)}</h1><p>{_mark_of_worst(examination)} {escaped(verdict_of(examination))}</p>",
        "<h2>Splits</h2>",
        _splits(examination),
        _boxes(examination),
        _recalls(examination),
        "<h2>Findings</h2>",
        _findings(examination),
        "<h2>Classes</h2>",
        *(_classes(facts) for facts in examination.facts.values()),
        "<h2>Pictures</h2>" if pictures else "",
        *(f"<h3>{escaped(name)}</h3>{_image(picture, name)}" for name, picture in pictures.items()),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part).encode("utf-8", "backslashreplace")


def escaped(text: str) -> str:
    """Return a text that stands in a page as it is, whatever it holds."""
    return html.escape(printable(text))


def _mark_of_worst(examination: Examination) -> str:
    worst = next((severity for severity in reversed(Severity) if examination.count(severity)), None)
    return _mark(worst.name.lower() if worst is not None else "fine")


def _mark(name: str) -> str:
    return f'<span class="mark {name}">{name}</span>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts that are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _splits(examination: Examination) -> str:
    header = ["split", "images", "usable", "objects", "background", "width", "height", "aspect", "sizes", "per image"]
    return _table(header, [_split_row(name, figures) for name, figures in examination.statistics.items()])


def _split_row(name: str, figures: Mapping[str, Any]) -> list[str]:
    counts = [str(figures.get(key, "")) for key in ("images", "usable", "objects", "background")]
    spreads = [_spread(figures.get(key)) for key in ("width", "height", "aspect")]
    return [escaped(name), *counts, *spreads, str(figures.get("sizes", "")), _spread(figures.get("objects_per_image"))]


def _boxes(examination: Examination) -> str:
    """Return the sizes of boxes, in pixels at the size of training."""
    rows = []
    for name, figures in examination.statistics.items():
        if "boxes" in figures:
            boxes = figures["boxes"]
            spreads = [_spread(boxes[side]) for side in ("width", "height")]
            rows.append([escaped(name), *spreads, *(str(boxes[size]) for size in ("small", "medium", "large"))])
    header = [f"boxes at {examination.img_size} pixels", "width", "height", "small", "medium", "large"]
    return _table(header, rows) if rows else ""


def _spread(values: Mapping[str, float] | None) -> str:
    """Return the median, with the least and the most where they differ."""
    if not values:
        return ""
    least, median, most = (f"{round(values[key], 2):g}" for key in ("least", "median", "most"))
    return median if least == most else f'{median} <span class="dim">({least} to {most})</span>'


def _recalls(examination: Examination) -> str:
    rows = [[escaped(head), f"{recall:.4f}"] for head, recall in examination.recalls.items()]
    return _table(["anchors of head", "best possible recall"], rows) if rows else ""


def _findings(examination: Examination) -> str:
    if not examination.findings:
        return f"<p>{_mark('fine')} Nothing is wrong with this set.</p>"
    groups = groupby(examination.findings, key=lambda finding: finding.check)
    return "\n".join(_check(examination, code, list(findings)) for code, findings in groups)


def _check(examination: Examination, code: str, findings: Sequence[Finding]) -> str:
    check = CHECKS[code]
    name = check.severity.name.lower()
    sentences = "".join(f"<li>{_sentence(finding)}</li>" for finding in findings[:MOST_SENTENCES])
    number = count_faults(findings)
    more = number - MOST_SENTENCES
    rest = f'<p class="dim">and {more} more, see report.json</p>' if more > 0 else ""
    return (
        f'<div class="check {name}"><h3>{_mark(name)} {escaped(check.title)} '
        f'<span class="dim">{number} &middot; <code>{code}</code></span></h3>'
        f"<p>{escaped(check.mend[0].upper() + check.mend[1:])}.</p>"
        f"<ul>{sentences}</ul>{rest}{_tiles(examination, findings)}</div>"
    )


def _sentence(finding: Finding) -> str:
    where = "" if finding.where in finding.sentence else f' <span class="dim">{escaped(finding.where)}</span>'
    return f"{escaped(finding.sentence)}{where}"


def _tiles(examination: Examination, findings: Sequence[Finding]) -> str:
    """Return small pictures with labels of the first findings that have any."""
    shown: dict[str, str] = {}
    for finding in findings:
        for image in finding.images:
            place = _place_of(examination.facts, finding.where, image)
            if place is None or image in shown:
                continue
            shown[image] = _image(tile_of(*place, _TILE), Path(image).name)
            if len(shown) == MOST_TILES:
                return f'<div class="tiles">{"".join(shown.values())}</div>'
    return f'<div class="tiles">{"".join(shown.values())}</div>' if shown else ""


def _place_of(facts: Mapping[tuple[str, str], SplitFacts], where: str, image: str) -> tuple[SplitFacts, int] | None:
    """Return the split that has an image, where possible that of the finding, and its position; None if unreadable."""
    having = [own for own in facts.values() if image in own.position_of]
    having.sort(key=lambda own: own.where not in where)
    for own in having:
        position = own.position_of[image]
        if own.sizes[position].all():
            return own, position
    return None


def _classes(facts: SplitFacts) -> str:
    """Return how often each class is there, as numbers and bars."""
    counts, names = class_counts(facts), facts.data.names
    if not counts.any():
        return ""
    colours = mask_palette(names) if facts.pixels is not None else class_palette()
    order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES].tolist()
    total, unit = max(int(counts.sum()), 1), "pixels" if facts.pixels is not None else "objects"
    rows = []
    for index in order:
        colour = "#" + "".join(f"{part:02x}" for part in colours[index % 256].tolist())
        width = max(round(_BAR * counts[index] / counts.max()), 1)
        bar = f'<span class="bar" style="width:{width}px;background:{colour}"></span>' if counts[index] else ""
        rows.append([escaped(names[index]), f"{counts[index]:,}", f"{counts[index] / total:.2%}", bar])
    left = len(names) - len(order)
    rest = f'<p class="dim">and {left} more classes, see report.json</p>' if left > 0 else ""
    table = _table(["class", unit, "share", ""], rows)
    return f'<h3>{escaped(facts.where)}</h3><div class="classes">{table}</div>{rest}'


def _image(picture: np.ndarray, name: str) -> str:
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        return ""
    text = base64.b64encode(data.tobytes()).decode()
    return f'<img alt="{escaped(name)}" title="{escaped(name)}" src="data:image/jpeg;base64,{text}">'
