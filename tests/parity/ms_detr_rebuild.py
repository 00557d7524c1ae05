"""From a fixture of a deformable DETR to the network, whatever its size and variant, filled by the seeded rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.convert.label_classes import classes_of
from models.convert.ms_detr_facts import DetrFacts, facts_of_options
from models.convert.ms_detr_names import DetrRows, Scheme, copied_names, find_rows, find_scheme, pieces
from models.convert.ms_detr_spec import measure, spec_of_sizes
from models.convert.pieces import Piece, our_state
from models.graph import Graph
from models.heads.ms_detr import MSDETRDecoder
from tests.parity.published import Fixture, Report
from tests.parity.rebuild import published_state
from tests.parity.seeded import seeded_image, seeded_tensor
from utils.errors import UsageError

FAMILY = re.compile(r"(ms|deformable)[-_]detr(?![a-z0-9])", re.IGNORECASE)
"""How the name of such a network begins."""
ZOO = re.compile(r"ms-detr(?:-r50)?(?P<a>-impl-a|-a)?(?P<pp>-pp)?(?:-(?P<queries>\d+))?(?:-losses)?", re.IGNORECASE)
"""Names of networks that have a YAML here."""
SWITCHES = ("with_box_refine", "look_forward_twice", "use_ms_detr")
"""Flags of the official program without a value."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Rebuilt:
    """A published network as a graph of ours, filled.

    Attributes:
        graph: it, without dropout.
        rows: where its parts lie.
        pieces: every tensor of it as it was published, once.
        copies: names of those that were published again, with the names of those they repeat.
    """

    graph: Graph
    rows: DetrRows
    pieces: Sequence[Piece]
    copies: dict[str, str]

    @property
    def head(self) -> MSDETRDecoder:
        """Its only head."""
        return self.graph.model[self.rows.decoder]

    @property
    def queries(self) -> nn.Module:
        """What the decoder begins with."""
        return self.graph.model[self.rows.queries]

    @property
    def encoder(self) -> nn.Module:
        """The deformable encoder."""
        return self.graph.model[self.rows.encoder]


def is_detr(fixture: Fixture) -> bool:
    """Return whether a fixture is one of a deformable DETR."""
    return any(FAMILY.match(name) for name in (str(fixture.facts.get("model")), fixture.name))


def config_of(fixture: Fixture) -> str | None:
    """Return the YAML of the network that a fixture names; None where it says nothing that a YAML here is called."""
    found = ZOO.fullmatch(str(fixture.facts.get("model")))
    if found is None:
        return None
    kind = "a-" if found["a"] else "pp-" if found["pp"] else ""
    return f"ms-detr-r50-{kind}{found['queries'] or 300}"


def flags_of(fixture: Fixture) -> dict[str, Any]:
    """Return the flags of the official program that a fixture was made with."""
    words = re.findall(r"--(\w+)((?:\s+(?!--)\S+)*)", str(fixture.facts.get("flags", "")))
    return dict.fromkeys(SWITCHES, False) | {name: _value(text.strip()) for name, text in words}


def _value(text: str) -> Any:
    if not text:
        return True
    try:
        return float(text) if re.search(r"[.e]", text) else int(text)
    except ValueError:
        return text


def rebuild_detr(fixture: Fixture, report: Report) -> Rebuilt:
    """Build the network that published tensors and flags lead to, and fill it.

    Raises:
        UsageError: there is no list of tensors, or they are named in no way that is known here.
    """
    state = published_state(fixture)
    shapes = {entry[0]: tuple(entry[1]) for entry in state}
    scheme = find_scheme(shapes)
    if scheme is None:
        raise UsageError(f"{fixture.path}: its tensors are not named as in any deformable DETR that is known here")
    aliases = {entry[0]: entry[3]["alias_of"] for entry in state if _alias(entry) is not None}
    once = {name: shape for name, shape in shapes.items() if name not in aliases}
    facts = facts_of_options(fixture.path, flags_of(fixture))
    graph = _graph(fixture, report, once, scheme, facts)
    found, copies = pieces(graph, scheme), copied_names(graph, scheme)
    ours = {piece.name: piece.shape for piece in found}
    report.same("state names missing here", [name for name in once if name not in ours], [])
    report.same("state names only here", [name for name in ours if name not in once], [])
    other = [name for name, shape in once.items() if ours.get(name, shape) != shape]
    report.same("state shapes that differ", other, [])
    report.same("names of tensors written again", copies, aliases)
    report.same("types of the state", {entry[2] for entry in state}, {"float32"})
    rebuilt = Rebuilt(graph, find_rows(graph), found, copies)
    fill(rebuilt, fixture)
    return rebuilt


def _alias(entry: Sequence[Any]) -> str | None:
    return entry[3].get("alias_of") if len(entry) > 3 and isinstance(entry[3], dict) else None


def _graph(
    fixture: Fixture, report: Report, shapes: dict[str, tuple[int, ...]], scheme: Scheme, facts: DetrFacts
) -> Graph:
    sizes = measure(fixture.path, shapes, scheme, facts.box_refine is True)
    classes = classes_of(sizes.labels)
    if (config := config_of(fixture)) is not None:
        source = spec_of_sizes(fixture.path, sizes, facts, classes).source
        report.same("network found from its tensors", source, f"{config}.yaml")
    # What fixtures record of training mode was recorded with dropout off.
    return Graph(spec_of_sizes(fixture.path, sizes, replace(facts, dropout=0.0), classes))


def fill(rebuilt: Rebuilt, fixture: Fixture) -> None:
    """Fill every tensor by the seeded rule, under its published name and shape."""
    gains: dict[str, float] = fixture.facts.get("gain", {})
    shapes = {piece.name: piece.shape for piece in rebuilt.pieces}

    def seeded(name: str) -> Tensor:
        value = torch.from_numpy(seeded_tensor(name, shapes[name]))
        for key, gain in gains.items():
            value = value * np.float32(gain) if name.endswith(key) else value
        return value

    rebuilt.graph.load_state_dict(our_state(rebuilt.pieces, seeded))


def network_input(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> tuple[Tensor, list[Size]]:
    """Return the seeded batch as the network reads it, padding included, and the size of every picture.

    Our input rule is compared with the fixture's words.
    """
    description, rule = fixture.facts["input"], rebuilt.graph.spec.input
    scale = description.get("scale", 1)
    images = torch.from_numpy(seeded_image(tuple(description["shape"]), description["seed"])) * np.float32(scale)
    given = description["normalize"]
    # Our rule is for pixels of 0 to 255, the published one for those divided by 255.
    published = ("RGB", 255.0, tuple(given["mean"]), tuple(given["std"]))
    report.same("input rule", (rule.channels, rule.scale, rule.mean, rule.std), published)
    mean, std = (torch.tensor(given[key], dtype=torch.float32).view(-1, 1, 1) for key in ("mean", "std"))
    images = (images / scale - mean) / std
    sizes = [tuple(size) for size in description.get("valid_sizes_hw", [images.shape[-2:]] * len(images))]
    for picture, (height, width) in zip(images, sizes, strict=True):
        picture[:, height:] = 0
        picture[:, :, width:] = 0
    return images, sizes
