"""Weights go over to another model: by row, by the place in a transformer, heads by name and class."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from models.blank_rows import BlankRows
from models.checkpoint import Checkpoint
from models.convert.matching import shape_text
from models.graph import Graph
from models.heads.base import Head
from models.heads.set_head import SetHead
from models.heads.yolos import YOLOSDetect
from models.layers.per_head import PREFIX
from models.resnet_rows import same_stages
from models.row_use import users_of_rows
from models.table_transfer import CLASS_LAYER, CLASS_LAYERS, fitted_table, label_rows, numbered_anew
from models.token_rows import same_parts
from models.weights import require_trained_form, spec_of

LOGGER = logging.getLogger("yolograph")

FIRST = f"{CLASS_LAYERS[0]}0.weight"
"""The class layer of a decoder's first layer."""


@dataclass
class Transfer:
    """What became of the tensors when weights went over to another model, by the names in that model.

    Attributes:
        copied: taken over.
        other_shape: in both, but of different shape: name, shape in the weights, shape in the model.
        fresh: only in the model; they start anew.
        unused: only in the weights.
        derived: in both, but a matter of the model and not of its weights, such as anchors.
        changed: taken over in another form: name, and what was done to it.
    """

    copied: list[str] = field(default_factory=list)
    other_shape: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """The whole account, a line for each tensor that was not simply copied and one for all that were."""
        lines = [f"copied ({len(self.copied)}): {', '.join(self.copied)}"]
        lines += [f"{how}: {name}" for name, how in self.changed]
        lines += [
            f"other shape: {name}, {shape_text(theirs)} there, {shape_text(ours)} here"
            for name, theirs, ours in self.other_shape
        ]
        for what, names in (("fresh", self.fresh), ("not used", self.unused), ("the model's own", self.derived)):
            lines += [f"{what}: {name}" for name in names]
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: how many tensors were copied, and the rows of the others."""
        taken = len(self.copied) + len(self.changed)
        total = taken + len(self.other_shape) + len(self.fresh) + len(self.derived)
        parts = [f"{taken} of {total} tensors taken over"]
        for how in dict.fromkeys(how for _, how in self.changed):
            parts.append(f"{how}: {_first(_by_row([name for name, done in self.changed if done == how]))}")
        if self.other_shape:
            shapes = [f"{name} ({shape_text(theirs)} -> {shape_text(ours)})" for name, theirs, ours in self.other_shape]
            parts.append(f"other shape: {_first(shapes)}")
        for what, names in (("fresh", self.fresh), ("not used", self.unused)):
            if names:
                parts.append(f"{what}: {_first(_by_row(names))}")
        return "; ".join(parts)


def _first(entries: list[str], most: int = 6) -> str:
    return ", ".join(entries[:most]) + (f" and {len(entries) - most} more" if len(entries) > most else "")


def _by_row(names: list[str]) -> list[str]:
    """Return names with those of one row taken together, such as ``model.24.* (7)``."""
    rows: dict[str, list[str]] = {}
    for name in names:
        rows.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return [found[0] if len(found) == 1 else f"{row}.* ({len(found)})" for row, found in rows.items()]


def transfer_weights(graph: Graph, checkpoint: Checkpoint) -> Transfer:
    """Copy the weights of a checkpoint that have a place of the same shape in another model.

    Tensors find each other by name, that is by row. A head finds the head of its name and class, wherever its row is,
    so that a row put in before it does not cost its weights. A head whose class adds to another one's, such as a pose
    head's to a detection head's, shares weights with such a head in either direction, where there is no head of its own
    name and class.

    Norms that one of the two keeps per head (``bn: per-task``) and the other one does not find each other, too: a
    shared norm goes to every head, and a model with one norm takes that of the first head that uses it there.

    Args:
        graph: the model to fill.
        checkpoint: the weights.

    Returns:
        The account of it.

    Raises:
        ModelError: the weights are those of a deployed model.
    """
    require_trained_form(checkpoint)
    theirs = BlankRows(spec_of(checkpoint))
    named, unused = _by_our_names(theirs, checkpoint, graph)
    weights = {name: value for name, (_, value) in named.items()}
    own = graph.state_dict()
    derived = _derived_names(graph)
    sources = _sources(graph, weights)
    taken = {*own, *sources.values()}
    result = Transfer(unused=unused + [name for name in weights if name not in taken])
    fitting: dict[str, Tensor] = {}
    for name, value in own.items():
        if name in derived:
            result.derived.append(name)
            continue
        if name not in sources:
            result.fresh.append(name)
            continue
        found = weights[sources[name]]
        made = _in_our_form(theirs, named[sources[name]][0], found, graph, name)
        if made is not None:
            fitting[name] = made[0]
            result.changed.append((name, made[1]))
        elif found.shape != value.shape:
            result.other_shape.append((name, tuple(found.shape), tuple(value.shape)))
        else:
            fitting[name] = found
            result.copied.append(name)
    graph.load_state_dict(fitting, strict=False)
    _warn_of_lost_classes(theirs, graph, result)
    return result


def _in_our_form(
    theirs: BlankRows, their_name: str, value: Tensor, graph: Graph, name: str
) -> tuple[Tensor, str] | None:
    """Return a tensor in the form that another model has it in, and what was done; None where nothing has to be."""
    path, _, part = name.rpartition(".")
    one, other = theirs.get_submodule(their_name.rpartition(".")[0]), graph.get_submodule(path)
    own = graph.get_parameter(name) if part in dict(other.named_parameters(recurse=False)) else None
    there, here = (getattr(module, "tables", None) for module in (one, other))
    if part == "pos_embed" and own is not None and there is not None and here is not None:
        # Held against each other by their grids: one that lies down and one that stands have as many entries.
        if value.shape == own.shape and there.grid == here.grid:
            return None
        made = fitted_table(value, there.grid, own.detach(), here)
        return None if made is None else (made, _said_of_table(value, there.grid, here.grid, here.layout.suffix))
    rows = [label_rows(theirs.get_submodule(_row(their_name)), _part(their_name))]
    rows.append(label_rows(graph.get_submodule(_row(name)), _part(name)))
    if own is not None and None not in rows and (rows[0] != rows[1] or value.shape != own.shape):
        made = numbered_anew(value, rows[0], own.detach(), rows[1])
        said = "classes numbered anew" if rows[0] != rows[1] else "what tells objects from background"
        return None if made is None else (made, said)
    return None


def _row(name: str) -> str:
    """Return the name of the row that a tensor belongs to."""
    return ".".join(name.split(".")[:2])


def _part(name: str) -> str:
    """Return the name of a tensor within its row."""
    return ".".join(name.split(".")[2:])


def _said_of_table(value: Tensor, there: tuple[int, int], here: tuple[int, int], suffix: int) -> str:
    """Return what was done to a position table."""
    sides = [f"{rows}x{columns}" for rows, columns in (there, here)]
    text = f"position table {sides[0]} -> {sides[1]} patches" if there != here else f"position table {sides[0]} patches"
    lost = value.shape[1] != 1 + there[0] * there[1] + suffix
    return f"{text}, its entries of [DET] tokens begin anew" if lost else text


def _warn_of_lost_classes(theirs: BlankRows, graph: Graph, result: Transfer) -> None:
    """Warn where the class layer of a head of single answers begins anew because the number of labels is another."""
    for name, row in graph.head_rows.items():
        head = graph.heads[name]
        if not isinstance(head, SetHead):
            continue
        first, rest = (CLASS_LAYER[0], ", one of them for no object") if isinstance(head, YOLOSDetect) else (FIRST, "")
        shapes = [shapes for full, *shapes in result.other_shape if full == f"model.{row}.{first}"]
        if shapes and shapes[0][0][0] != shapes[0][1][0]:
            LOGGER.warning(
                "the class layer of '%s' begins anew: it has %d outputs in the weights and %d here%s",
                *(name, shapes[0][0][0], shapes[0][1][0], rest),
            )


def _sources(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return for every tensor of the graph the name of the weight that it takes, where there is one.

    That is the one of its own name. Norms of single heads and shared ones stand in for each other, see
    ``transfer_weights``; a head that the weights do not know takes the norm of the first that they do.
    """
    per_head: dict[str, dict[str, str]] = {}
    for name in weights:
        plain, head = _without_head(name)
        if head:
            per_head.setdefault(plain, {})[head] = name
    users = users_of_rows(graph.spec, graph.head_rows)
    found: dict[str, str] = {}
    for name in graph.state_dict():
        plain, head = _without_head(name)
        copies = per_head.get(plain, {})
        wanted = [head] if head else users[int(name.split(".")[1])]
        candidates = [name, plain, *(copies[user] for user in wanted if user in copies), *copies.values()]
        source = next((candidate for candidate in candidates if candidate in weights), None)
        if source is not None:
            found[name] = source
    return found


def _without_head(name: str) -> tuple[str, str]:
    """Return a tensor's name without the part that says for which head it is, and that head or nothing."""
    parts = name.split(".")
    heads = [part for part in parts if part.startswith(PREFIX)]
    return ".".join(part for part in parts if part not in heads), heads[0].removeprefix(PREFIX) if heads else ""


def _derived_names(graph: Graph) -> set[str]:
    """Return the names of the heads' buffers that follow from the model's rows."""
    return {
        f"model.{row}.{buffer}" for name, row in graph.head_rows.items() for buffer in graph.heads[name].derived_buffers
    }


def _heirs(theirs: BlankRows, graph: Graph) -> dict[str, str]:
    """Return for heads of the weights' model the head of ``graph`` that takes their tensors, by name."""
    same = [name for name, head in theirs.heads.items() if type(graph.heads.get(name)) is type(head)]
    heirs = {name: name for name in same}
    for own, head in graph.heads.items():
        givers = [name for name, giver in theirs.heads.items() if name not in heirs and _akin(giver, head)]
        if own not in heirs and len(givers) == 1:
            heirs[givers[0]] = own
    return heirs


def _akin(one: Head, other: Head) -> bool:
    """Return whether the class of one of two heads is derived from that of the other, so that parts share names."""
    return type(one) is not type(other) and (isinstance(one, type(other)) or isinstance(other, type(one)))


def _by_our_names(
    theirs: BlankRows, checkpoint: Checkpoint, graph: Graph
) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """Return the weights under the names that they would have in ``graph``, and names without a counterpart there.

    Args:
        theirs: the model of the weights, without memory.
        checkpoint: the weights.
        graph: the other model.

    Returns:
        Name there and weight by name here; names without a counterpart.
    """
    ours = set(graph.head_rows.values())
    row_of: dict[str, int | None] = {str(i): None if i in ours else i for i in range(len(theirs.model))}
    heirs = _heirs(theirs, graph)
    for name, row in theirs.head_rows.items():
        row_of[str(row)] = graph.head_rows[heirs[name]] if name in heirs else None
    parts = same_parts(theirs, graph) | same_stages(theirs, graph)
    named: dict[str, tuple[str, Tensor]] = {}
    unused: list[str] = []
    for name, value in checkpoint.weights.items():
        first, row, rest = (*name.split(".", 2), "", "")[:3]
        module = next((module for module in parts if name.startswith(f"{module}.")), None)
        if module is not None:
            here = parts[module]
            if here is None:
                unused.append(name)
            else:
                named[f"{here}{name.removeprefix(module)}"] = (name, value)
        elif first != "model" or row_of.get(row) is None:
            unused.append(name)
        else:
            named.setdefault(f"model.{row_of[row]}.{rest}", (name, value))
    return named, unused
