"""From a fixture of YOLOX or YOLOX-Pose to the network, whatever its size, and the modules behind its stages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.convert.yolox import find_spec, find_table
from models.convert.yolox_names import MMYOLO, OFFICIAL, OFFICIAL_DARKNET53
from models.graph import Graph
from models.heads.yolox import YOLOXDetect
from models.spec import load_spec
from tests.parity.published import Fixture, Report
from tests.parity.rebuild import compare_state, published_state
from utils.errors import UsageError

NAMED = re.compile(r"yolox-(pose-)?(nano|tiny|s|m|l|x|darknet)(53)?(?![a-z0-9])")
"""How the name of a network begins; what follows says what was run of it."""


@dataclass(frozen=True)
class Rebuilt:
    """A published network as a graph of ours.

    Attributes:
        graph: it.
        names: published name of every tensor, by ours.
    """

    graph: Graph
    names: Mapping[str, str]

    @property
    def head(self) -> YOLOXDetect:
        """Its only head."""
        return next(iter(self.graph.heads.values()))


def config_of(fixture: Fixture) -> str | None:
    """Return the YAML of the network that a fixture names, in its text or else in its file name; None for another."""
    names = (str(fixture.facts.get("model")), fixture.name)
    found = next((match for name in names if (match := NAMED.match(name))), None)
    if found is None:
        return None
    size = "darknet53" if found[2] == "darknet" else found[2]
    return f"yolox_{'pose_' if found[1] else ''}{size}"


def rebuild_yolox(fixture: Fixture, report: Report) -> Rebuilt:
    """Build the network from its published tensors, which must lead to the YAML of the published name.

    Raises:
        UsageError: its tensors are named in no way that is known here.
    """
    config = config_of(fixture)
    state = published_state(fixture)
    if not state:
        table = MMYOLO if "pose" in config else OFFICIAL_DARKNET53 if "darknet" in config else OFFICIAL
        graph = Graph(load_spec(config))
        report.skip("state", "its list is not beside the fixture; the names of our table are used")
        return Rebuilt(graph, table.published_names(graph))
    table = find_table(fixture.path, [entry[0] for entry in state])
    if table is None:
        raise UsageError(f"{fixture.path}: its tensors are not named as in any YOLOX that is known here")
    shapes = {entry[0]: tuple(entry[1]) for entry in state if not table.is_constant(entry[0])}
    graph = Graph(find_spec(fixture.path, shapes, table))
    report.same("network found from its tensors", graph.spec.source, f"{config}.yaml")
    rebuilt = Rebuilt(graph, table.published_names(graph))
    compare_state(graph, state, report, rebuilt.names)
    return rebuilt


def stage_of(rebuilt: Rebuilt, stage: str) -> tuple[str, nn.Module]:
    """Return our module whose output is that of a published stage, and its name.

    Stages are named by part and module: ``backbone.dark3``, ``neck.C3_p4``, ``head.cls_convs.0``. A stage that is
    several rows of ours ends with the last of them.

    Raises:
        UsageError: no tensor of ours belongs to it.
    """
    part, _, rest = stage.partition(".")
    official = {"backbone": f"backbone.backbone.{rest}", "neck": f"backbone.{rest}", "head": f"head.{rest}"}
    mmyolo = {"head": f"bbox_head.head_module.multi_level_{rest}"}
    for prefix in (official.get(part, stage), mmyolo.get(part, stage), stage):
        found = [ours for ours, published in rebuilt.names.items() if published.startswith(f"{prefix}.")]
        if found:
            break
    else:
        raise UsageError(f"the stage '{stage}' of the fixture belongs to no row here")
    row = max(int(name.split(".")[1]) for name in found)
    if row not in rebuilt.graph.head_rows.values():
        return f"row {row}", rebuilt.graph.model[row]
    path = ".".join(found[0].split(".")[:4])
    return path, rebuilt.graph.get_submodule(path)


@contextmanager
def recorded_stages(rebuilt: Rebuilt, stages: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of published stages while the graph runs."""
    outputs: dict[str, Tensor] = {}

    def keep(stage: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs[stage] = output.detach().clone()

        return hook

    handles = [stage_of(rebuilt, stage)[1].register_forward_hook(keep(stage)) for stage in stages]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
