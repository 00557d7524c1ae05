"""From a fixture of YOLO-MS, YOLOv6 or YOLOv8 to the network, whatever its size, and the modules behind its stages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import commonpath
from typing import Any

from torch import Tensor, nn

from models.convert.mmyolo import find_spec, find_table
from models.convert.mmyolo_names import YOLOMS, YOLOV6, YOLOV6_MS, YOLOV8, YOLOV8_MS
from models.convert.name_table import NameTable
from models.graph import Graph
from models.heads.anchor_free import AnchorFreeHead
from models.layers.shared_conv import SharedConv
from models.spec import load_spec
from tests.parity.published import Fixture, Report
from tests.parity.rebuild import compare_state, published_state
from utils.errors import UsageError

NAMED = re.compile(r"(yoloms|yolov6|yolov8)(?:-(xs|base|n|t|s|m|l|x))?(-ms)?(-se)?(?![a-z0-9_])")
"""How the name of a network begins; what follows says what was run of it."""
TABLES = {
    ("yoloms", False): YOLOMS,
    ("yolov6", False): YOLOV6,
    ("yolov6", True): YOLOV6_MS,
    ("yolov8", False): YOLOV8,
    ("yolov8", True): YOLOV8_MS,
}
BASE_SIZES = {"yoloms": ("base", "m")}
"""What the size is called whose YAML has no word for it."""
UPSAMPLED = re.compile(r"neck\.upsample_layers\.(\d+)")


@dataclass(frozen=True)
class Rebuilt:
    """A published network as a graph of ours.

    Attributes:
        graph: it.
        names: published name of every tensor, by ours; of a shared one, its name at the first level.
    """

    graph: Graph
    names: Mapping[str, str]

    @property
    def head(self) -> AnchorFreeHead:
        """Its only head."""
        return next(iter(self.graph.heads.values()))


def named_network(fixture: Fixture) -> tuple[str, NameTable] | None:
    """Return the YAML of the network that a fixture names, and the table of its family; None for another network."""
    names = (str(fixture.facts.get("model")), fixture.name)
    found = next((match for name in names if (match := NAMED.match(name))), None)
    if found is None:
        return None
    family, size, ms, attention = found.groups()
    size = None if size in BASE_SIZES.get(family, ()) else size
    words = [family, size, "ms" if ms else None, "se" if attention else None]
    table = TABLES.get((family, ms is not None))
    return ("_".join(word for word in words if word), table) if table is not None else None


def rebuild_network(fixture: Fixture, report: Report) -> Rebuilt:
    """Build the network from its published tensors, which must lead to the YAML of the published name.

    Raises:
        UsageError: its tensors are named in no way that is known here.
    """
    config, table = named_network(fixture)
    state = published_state(fixture)
    if not state:
        graph = Graph(load_spec(config))
        report.skip("state", "its list is not beside the fixture; the names of our table are used")
        return Rebuilt(graph, table.published_names(graph))
    table = find_table(fixture.path, [entry[0] for entry in state])
    if table is None:
        raise UsageError(f"{fixture.path}: its tensors are not named as in any network that is known here")
    shapes = {entry[0]: tuple(entry[1]) for entry in state if not table.is_constant(entry[0])}
    graph = Graph(find_spec(fixture.path, shapes, table))
    report.same("network found from its tensors", graph.spec.source, f"{config}.yaml")
    rebuilt = Rebuilt(graph, table.published_names(graph))
    aliases = {entry[0]: entry[3]["alias_of"] for entry in state if _is_alias(entry)}
    report.same("tensors under several names", table.copied_names(graph), aliases)
    compare_state(graph, [entry for entry in state if not _is_alias(entry)], report, rebuilt.names)
    return rebuilt


def _is_alias(entry: list[Any]) -> bool:
    return len(entry) > 3 and isinstance(entry[3], dict) and "alias_of" in entry[3]


def stage_of(rebuilt: Rebuilt, stage: str) -> tuple[nn.Module, int]:
    """Return our module whose output is that of a published stage, and which of its calls it is.

    A stage that is several rows of ours ends with the last of them. Enlargements have no tensors to tell them by; they
    are counted. A convolution that levels share is called once for every level.

    Raises:
        UsageError: no row of ours belongs to it.
    """
    graph = rebuilt.graph
    found = [ours for ours, published in rebuilt.names.items() if published.startswith(f"{stage}.")]
    enlargement = UPSAMPLED.fullmatch(stage)
    if enlargement and not found:
        rows = [row for row in graph.model if isinstance(row, nn.Upsample)]
        return rows[int(enlargement[1])], 0
    if not found:
        raise UsageError(f"the stage '{stage}' of the fixture belongs to no row here")
    rows = {name.split(".")[1] for name in found}
    if len(rows) > 1:
        return graph.model[max(map(int, rows))], 0
    path = commonpath([name.rpartition(".")[0].replace(".", "/") for name in found]).split("/")
    for end in range(2, len(path) + 1):
        module = graph.get_submodule(".".join(path[:end]))
        if isinstance(module, SharedConv):
            return module, int(stage.split(".")[-2])
    return graph.get_submodule(".".join(path)), 0


@contextmanager
def recorded_stages(rebuilt: Rebuilt, stages: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of published stages while the graph runs once."""
    outputs: dict[str, Tensor] = {}
    places = {stage: stage_of(rebuilt, stage) for stage in stages}
    calls: dict[nn.Module, int] = {}

    def hook(module: nn.Module, _: Any, output: Tensor) -> None:
        call = calls[module] = calls.get(module, -1) + 1
        # A copy, because a later row may activate in place.
        outputs.update({s: output.detach().clone() for s, place in places.items() if place == (module, call)})

    handles = [module.register_forward_hook(hook) for module in {module for module, _ in places.values()}]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
