"""From a fixture of a YOLOS to the network, whatever its size, filled by the seeded rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.convert.label_classes import classes_of
from models.convert.pieces import Piece, our_state
from models.convert.yolos import find_scheme
from models.convert.yolos_names import OFFICIAL, pieces
from models.convert.yolos_spec import Facts, as_size, measure, spec_of_sizes
from models.graph import Graph
from models.heads.yolos import YOLOSDetect
from models.layers.vit import ViTBlock, ViTEmbed
from models.spec import load_spec
from models.token_rows import find_token_rows
from tests.parity.published import Fixture, Report
from tests.parity.rebuild import published_state
from tests.parity.seeded import seeded_image, seeded_tensor
from utils.errors import UsageError

NAMED = re.compile(r"yolos-(ti|tiny|s|small|b|base)(?:[- _]?\(?(dwr|pe)\)?)?(?![a-z0-9])", re.IGNORECASE)
"""How the name of a network begins; what follows says what was run of it."""
WORDS = {"tiny": "ti", "small": "s", "base": "b"}


@dataclass(frozen=True)
class Rebuilt:
    """A published network as a graph of ours, filled.

    Attributes:
        graph: it.
        pieces: every tensor of it as it was published.
    """

    graph: Graph
    pieces: Sequence[Piece]

    @property
    def head(self) -> YOLOSDetect:
        """Its only head."""
        return next(iter(self.graph.heads.values()))

    @property
    def embed(self) -> ViTEmbed:
        """What makes tokens of a picture."""
        return self.graph.get_submodule(find_token_rows(self.graph).embed)

    @property
    def blocks(self) -> list[ViTBlock]:
        """The transformer blocks in order."""
        return [self.graph.get_submodule(name) for name in find_token_rows(self.graph).blocks]


def config_of(fixture: Fixture) -> str | None:
    """Return the YAML of the network that a fixture names; None for another network."""
    names = (str(fixture.facts.get("model")), fixture.name)
    found = next((match for name in names if (match := NAMED.match(name))), None)
    if found is None:
        return None
    size, kind = (word.lower() if word else None for word in found.groups())
    return "-".join(word for word in ("yolos", WORDS.get(size, size), kind) if word)


def rebuild_yolos(fixture: Fixture, report: Report) -> Rebuilt:
    """Build the network from its published tensors, which must lead to the YAML of the published name, and fill it.

    Raises:
        UsageError: its tensors are named in no way that is known here.
    """
    config, state = config_of(fixture), published_state(fixture)
    if not state:
        labels = fixture.facts.get("config", {}).get("num_classes", 91)
        classes = classes_of(labels)
        spec = load_spec(config).with_values(nc=len(classes.names))
        graph = Graph(spec.with_values(head=[[-1, 1, "YOLOSDetect", ["nc", classes.ids]]]))
        report.skip("state", "its list is not beside the fixture; the names of our table are used")
        rebuilt = Rebuilt(graph, pieces(graph, OFFICIAL))
    else:
        rebuilt = _from_tensors(config, state, fixture, report)
    fill(rebuilt, fixture)
    return rebuilt


def _from_tensors(config: str | None, state: list[list[Any]], fixture: Fixture, report: Report) -> Rebuilt:
    shapes = {entry[0]: tuple(entry[1]) for entry in state}
    scheme = find_scheme(shapes)
    if scheme is None:
        raise UsageError(f"{fixture.path}: its tensors are not named as in any YOLOS that is known here")
    said = fixture.facts.get("config", {})
    sizes = measure(fixture.path, shapes, scheme)
    facts = Facts(said.get("heads"), as_size(said.get("init_pe_size")), as_size(said.get("mid_pe_size")))
    graph = Graph(spec_of_sizes(fixture.path, sizes, facts, classes_of(sizes.labels)))
    report.same("network found from its tensors", graph.spec.source, f"{config}.yaml")
    found = pieces(graph, scheme)
    ours = {piece.name: piece.shape for piece in found}
    report.same("state names missing here", [name for name in shapes if name not in ours], [])
    report.same("state names only here", [name for name in ours if name not in shapes], [])
    other = [name for name, shape in shapes.items() if ours.get(name, shape) != shape]
    report.same("state shapes that differ", other, [])
    report.same("types of the state", {entry[2] for entry in state}, {"float32"})
    return Rebuilt(graph, found)


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


def network_input(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> Tensor:
    """Return the seeded batch as the network reads it, and compare our input rule with the fixture's words."""
    description, rule = fixture.facts["input"], rebuilt.graph.spec.input
    scale = description.get("scale", 1)
    images = torch.from_numpy(seeded_image(tuple(description["shape"]), description["seed"])) * np.float32(scale)
    given = description.get("normalize")
    # Our rule is for pixels of 0 to 255, the published one for those divided by 255.
    published = ("RGB", 255.0, tuple(given["mean"]), tuple(given["std"])) if given else ("RGB", 255.0, None, None)
    report.same("input rule", (rule.channels, rule.scale, rule.mean, rule.std), published)
    if not given:
        return images / scale
    mean, std = (torch.tensor(given[key], dtype=torch.float32).view(-1, 1, 1) for key in ("mean", "std"))
    return (images / scale - mean) / std
