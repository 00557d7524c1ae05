"""From a model fixture to the model: which YAML, with which values, and its tensors filled by name.

``BUILDERS`` maps a published model name to what rebuilds it. A new family joins with one entry: a pattern for the name
and a function that takes the fixture and the published tensor shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from models.graph import Graph
from models.spec import ModelSpec, find_config, load_spec, parse_spec
from tests.parity.published import Fixture, Report
from tests.parity.seeded import seeded_tensor
from utils.errors import ModelError, UsageError

Shapes = dict[str, tuple[int, ...]]
"""Published tensor names with their shapes, in order; empty where a fixture does not list them."""
OVERRIDES = (
    "nc",
    "n_segcls",
    "depth_multiple",
    "width_multiple",
    "channel_multiple",
    "anchors",
    "ch",
    "backbone",
    "head",
)


def published_state(fixture: Fixture) -> list[list[Any]]:
    """Return the state entries of a fixture, or of the fixture that it names with ``state_of``."""
    if "state" in fixture.facts:
        return fixture.facts["state"]
    owner = fixture.beside(fixture.facts.get("state_of", ""))
    return owner.facts.get("state", []) if owner else []


def yolov5_spec(fixture: Fixture, shapes: Shapes) -> ModelSpec:
    """Return a YOLOv5 of any size, layout and segmentation head with the fixture's own values.

    The layout follows from the tensors: a Focus stem keeps its convolution one name deeper than the later 6x6 stem.
    """
    plain = re.match(r"yolov5[nsmlx]?(6|-[a-z]+\d*)?", fixture.facts["model"]).group(0)
    later = "model.0.conv.weight" in shapes
    row = fixture.facts.get("seg_head_row")
    name = plain if later else f"{plain}_v5"
    if row is not None and not later:
        shipped = f"{plain}_city_seg_{row[2].removeprefix('SegMask').lower()}"
        name = shipped if _is_config(shipped) else name
    return with_published_values(name, fixture, row)


def yolov3_spec(fixture: Fixture, shapes: Shapes) -> ModelSpec:
    """Return the YOLOv3 of the fixture's name with the fixture's own values; there is one layout."""
    return with_published_values(re.match(r"yolov3(-[a-z]+)?", fixture.facts["model"]).group(0), fixture, None)


def with_published_values(name: str, fixture: Fixture, row: list[Any] | None) -> ModelSpec:
    """Return the shipped model ``name`` with a fixture's values, and a segmentation head before the last row if any."""
    spec = load_spec(name)
    values = {**spec.values, **{key: v for key, v in fixture.facts.get("yaml", {}).items() if key in OVERRIDES}}
    if row is not None:
        detection = [entry for entry in values["head"] if not str(entry[2]).startswith("SegMask")]
        values["head"] = [*detection[:-1], row, detection[-1]]
    return parse_spec(values, spec.source)


def _is_config(name: str) -> bool:
    try:
        find_config(name)
    except ModelError:
        return False
    return True


BUILDERS: tuple[tuple[re.Pattern[str], Callable[[Fixture, Shapes], ModelSpec]], ...] = (
    (re.compile(r"yolov5[nsmlx]?(6|-[a-z]+\d*)?(_[\w.]+)?( \(.*\))?"), yolov5_spec),
    (re.compile(r"yolov3(-[a-z]+)?( \(.*\))?"), yolov3_spec),
)


def rebuild(fixture: Fixture, report: Report) -> Graph:
    """Build the model that a fixture names and check its tensors' names, shapes and kinds against the published ones.

    Raises:
        UsageError: no builder knows the model's name.
    """
    model = str(fixture.facts["model"])
    builder = next((build for pattern, build in BUILDERS if pattern.fullmatch(model)), None)
    if builder is None:
        raise UsageError(f"{fixture.path}: no builder knows the model '{model}'; add one to BUILDERS in {__name__}")
    state = published_state(fixture)
    shapes = {entry[0]: tuple(entry[1]) for entry in state}
    graph = Graph(builder(fixture, shapes))
    if state:
        compare_state(graph, state, report)
    elif "state_of" in fixture.facts:
        report.skip(
            "state", f"{fixture.facts['state_of']}.json is not beside the fixture; our own tensor names are used"
        )
    return graph


def compare_state(
    graph: nn.Module, state: list[list[Any]], report: Report, names: Mapping[str, str] | None = None
) -> None:
    """Hold our tensors against the published list; buffers that a reference computes need not be tensors of ours.

    Args:
        graph: the model.
        state: the published list.
        report: where the comparisons go.
        names: published names of our tensors, where they are not ours; then their order may differ, too.
    """
    ours = {
        (names[name] if names else name): [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in graph.state_dict().items()
    }
    filled = {entry[0]: [list(entry[1]), entry[2]] for entry in state if not _computed(entry)}
    computed = {entry[0] for entry in state if _computed(entry)}
    missing = [name for name in filled if name not in ours]
    extra = [name for name in ours if name not in filled and name not in computed]
    other = [name for name in filled if name in ours and ours[name] != filled[name]]
    report.same("state names missing here", missing, [])
    report.same("state names only here", extra, [])
    report.same("state shapes and types that differ", other, [])
    if names is None:
        in_order = [name for name in ours if name in filled]
        report.same("state order", in_order, [name for name in filled if name in ours])


def _computed(entry: list[Any]) -> bool:
    """Return whether a reference computes the tensor; fixtures write that as a truth value or within a mapping."""
    return len(entry) > 3 and bool(entry[3].get("computed") if isinstance(entry[3], dict) else entry[3])


def fill(graph: nn.Module, fixture: Fixture, names: Mapping[str, str] | None = None) -> None:
    """Fill every tensor of a model by the seeded rule; computed buffers keep what the model computed.

    Args:
        graph: the model.
        fixture: what says how.
        names: published names of our tensors, where they are not ours.

    Raises:
        UsageError: the fixture lists tensors, and a trainable one of ours is not among them.
    """
    state = published_state(fixture)
    gains: dict[str, float] = fixture.facts.get("gain", {})
    entries = {entry[0]: entry for entry in state}
    trainable = {names[name] if names else name for name, _ in graph.named_parameters()}
    with torch.no_grad():
        for ours, value in graph.state_dict().items():
            name = names[ours] if names else ours
            if entries and name not in entries:
                if name in trainable:
                    raise UsageError(
                        f"{fixture.path}: our tensor {name} is not published, so nothing says how to fill it"
                    )
                continue
            if (entries and _computed(entries[name])) or (not entries and name.endswith("anchors")):
                continue
            value.copy_(torch.from_numpy(seeded_tensor(_alias(entries.get(name), name), tuple(value.shape))))
            for key, gain in gains.items():
                if name == key or name.endswith(key):
                    value.mul_(gain)


def _alias(entry: list[Any] | None, name: str) -> str:
    special = entry[3] if entry is not None and len(entry) > 3 and isinstance(entry[3], dict) else {}
    return special.get("alias_of", name)
