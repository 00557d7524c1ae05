"""Files of deformable DETRs: of MS-DETR and Deformable-DETR, and of Hugging Face's Deformable-DETR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from models.blank_rows import BlankRows
from models.checkpoint import Checkpoint
from models.convert.by_names import equal_tensors, told_of
from models.convert.hugging_face import config_beside
from models.convert.label_classes import classes_of
from models.convert.matching import require_matching
from models.convert.ms_detr_facts import DetrFacts, facts_of_detr_config, facts_of_options
from models.convert.ms_detr_names import COUNTER, HEADS, NOT_WEIGHTS, OFFICIAL, Scheme, pieces
from models.convert.ms_detr_spec import measure, spec_of_sizes
from models.convert.pieces import Piece, our_state
from models.convert.records import Inert, StoredTensor
from models.convert.weight_file import WeightFile
from models.heads.ms_detr import MSDETRDecoder
from models.spec import ModelSpec
from utils.errors import ModelError

Stored = Mapping[str, StoredTensor]
LAST_OF_BOX = "layers.2.weight"


def convert(file: WeightFile, stored: Stored, scheme: Scheme, given: ModelSpec | None = None) -> Checkpoint:
    """Return the checkpoint of a deformable DETR.

    Args:
        file: where its tensors lie.
        stored: they by their names there.
        scheme: of these names.
        given: the model, where it shall not be concluded from the tensors.

    Raises:
        ModelError: a tensor is missing, too many or of another shape, two that are one differ, or the model cannot be
            concluded; the sentence names the tensor or what is missing.
    """
    weights = {name: tensor for name, tensor in stored.items() if not _is_left_out(name)}
    once = _without_copies(file, weights, scheme)
    facts = _beside(file, scheme)
    shapes = {name: tensor.shape for name, tensor in once.items()}
    if given is None:
        sizes = measure(file.path, shapes, scheme, _is_refined(file, once, facts))
        given = spec_of_sizes(file.path, sizes, facts, classes_of(sizes.labels, facts.labels))
    with told_of(file.path):
        rows = BlankRows(given)
    found = _pieces(file.path, rows, scheme)
    once = _as_many_heads(file, once, rows, {piece.name for piece in found})
    shapes = {name: tensor.shape for name, tensor in once.items()}
    require_matching(file.path, given.source, shapes, {piece.name: piece.shape for piece in found})
    state = our_state(found, lambda name: file.tensor(once[name]).float())
    counters = [name for name in rows.state_dict() if name.endswith(COUNTER)]
    state |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    head = next(iter(rows.heads.values()))
    said = {"from": file.path.name, "family": f"{_family(head)} ({scheme.project})", "sha256": file.sha256()}
    said |= {"tensors": f"all {len(found)}", **_said_of_rest(stored, weights, len(found))}
    names = {name: _names(head, facts) for name, head in rows.heads.items()}
    return Checkpoint(given.source, given.text, names, {"model": state}, {"converted": said})


def _is_left_out(name: str) -> bool:
    return NOT_WEIGHTS.fullmatch(name) is not None or name.endswith(COUNTER)


def _said_of_rest(stored: Stored, weights: Stored, read: int) -> dict[str, str]:
    """Return what became of tensors that are not read one by one."""
    left_out = [name for name in stored if name not in weights]
    said = {"left out": ", ".join(left_out)} if left_out else {}
    again = len(weights) - read
    return said | ({"written again": f"{again} tensors of the heads"} if again > 0 else {})


def _without_copies(file: WeightFile, weights: Stored, scheme: Scheme) -> dict[str, StoredTensor]:
    """Return the tensors by the first of their names.

    Raises:
        ModelError: two that are one tensor of the network differ.
    """
    found: dict[str, StoredTensor] = {}
    written: dict[str, str] = {}
    for name, tensor in weights.items():
        own = scheme.own_name(name)
        if own in found:
            _require_equal(file, name, tensor, written[own], found[own])
        else:
            found[own], written[own] = tensor, name
    return found


def _require_equal(file: WeightFile, name: str, tensor: StoredTensor, first: str, other: StoredTensor) -> None:
    """Make sure that two tensors are equal.

    Raises:
        ModelError: they differ.
    """
    if not equal_tensors(file, tensor, other):
        raise ModelError(
            f"{file.path}: {name} and {first} are one tensor of the network, but differ in the file; take another file"
        )


def _is_refined(file: WeightFile, once: Stored, facts: DetrFacts) -> bool:
    """Return whether every layer moves the boxes; where nothing says so, the layers' box heads differ then."""
    first, second = (once.get(f"bbox_embed.{n}.{LAST_OF_BOX}") for n in (0, 1))
    if facts.box_refine is not None:
        return facts.box_refine
    return first is not None and second is not None and not equal_tensors(file, first, second)


def _as_many_heads(file: WeightFile, once: Stored, rows: BlankRows, wanted: set[str]) -> dict[str, StoredTensor]:
    """Return the tensors with as many prediction heads as the model has; files may hold shared ones once or often.

    Raises:
        ModelError: heads differ that are one in the model.
    """
    found = dict(once)
    for name, tensor in once.items():
        part, number, leaf = (*name.split(".", 2), "", "")[:3]
        first = f"{part}.0.{leaf}"
        is_copy = name.startswith(HEADS) and name not in wanted and number.isdecimal() and first in wanted
        if is_copy and first in once and int(number) < _layers(rows):
            _require_equal(file, name, tensor, first, once[first])
            del found[name]
    for part in HEADS:
        if any(name.startswith(f"{part}.") and not name.startswith(f"{part}.0.") for name in once):
            continue
        for name in (name for name in wanted if name.startswith(f"{part}.")):
            first = f"{part}.0.{name.split('.', 2)[2]}"
            if first in once:
                found[name] = once[first]
    return found


def _layers(rows: BlankRows) -> int:
    return next(len(head.layers) for head in rows.heads.values() if isinstance(head, MSDETRDecoder))


def _pieces(path: object, rows: BlankRows, scheme: Scheme) -> list[Piece]:
    try:
        return pieces(rows, scheme)
    except ValueError as error:
        raise ModelError(
            f"{path}: {rows.spec.source} is not laid out as a deformable DETR of {scheme.project}: {error}; leave "
            "--cfg out, or name one of models/configs/ms_detr"
        ) from None


def _family(head: Any) -> str:
    return "Deformable-DETR" if head.supervision == "none" else f"MS-DETR, variant ({head.supervision})"


def _names(head: Any, facts: DetrFacts) -> list[str]:
    """Return the class names of a head; numbers where the file's are not as many."""
    found = classes_of(head.labels, facts.labels).names
    return found if len(found) == head.num_classes else [str(i) for i in range(head.num_classes)]


def _beside(file: WeightFile, scheme: Scheme) -> DetrFacts:
    """Return what lies beside the tensors: the options of the official programs, or Hugging Face's config.json.

    Raises:
        ModelError: the model is none that is computed here, or the config.json is damaged or of another kind.
    """
    if scheme is not OFFICIAL:
        config = config_beside(file.path)
        return DetrFacts() if config is None else facts_of_detr_config(config)
    options = file.root.get("args") if isinstance(file.root, dict) else None
    if isinstance(options, Inert):
        options = options.state
    return facts_of_options(file.path, options if isinstance(options, dict) else {})
