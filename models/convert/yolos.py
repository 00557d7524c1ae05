"""Files of YOLOS: checkpoints of the official program, and models of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.convert.by_names import told_of
from models.convert.hugging_face import config_beside, facts_of_config
from models.convert.label_classes import classes_of
from models.convert.matching import require_matching
from models.convert.pieces import Piece, our_state
from models.convert.records import Inert, StoredTensor
from models.convert.weight_file import WeightFile
from models.convert.yolos_names import OFFICIAL, SCHEMES, Scheme, pieces
from models.convert.yolos_spec import Facts, measure, published_facts, spec_of_sizes
from models.graph import Graph
from models.spec import ModelSpec
from utils.errors import ModelError

RUNNING_TABLES = "vit.encoder.interpolation.mid_position_embeddings"
"""What newer versions of transformers call the tables between blocks in memory; their files have the older name."""


def find_scheme(names: Iterable[str]) -> Scheme | None:
    """Return how the tensors of a YOLOS are named; None where they are of another network."""
    names = set(names)
    return next((s for s in SCHEMES if s.embed["det_tokens"] in names or _head_mark(s) <= names), None)


def _head_mark(scheme: Scheme) -> set[str]:
    """Return names that tell a YOLOS from other transformers, should its [DET] tokens be missing."""
    return {scheme.embed["pos_embed"], f"{scheme.head['class_mlp']}.2.weight"}


def convert(
    file: WeightFile, stored: Mapping[str, StoredTensor], scheme: Scheme, given: ModelSpec | None = None
) -> Checkpoint:
    """Return the checkpoint of a YOLOS.

    Args:
        file: where its tensors lie.
        stored: they by their names there.
        scheme: of these names.
        given: the model, where it shall not be concluded from the tensors.

    Raises:
        ModelError: a tensor is missing, too many or of another shape, or the model cannot be concluded; the sentence
            names the tensor or what is missing.
    """
    stored = {scheme.tables if name == RUNNING_TABLES else name: tensor for name, tensor in stored.items()}
    facts = beside(file, scheme)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    if given is None:
        sizes = measure(file.path, shapes, scheme)
        classes = classes_of(sizes.labels, facts.labels)
        given = spec_of_sizes(file.path, sizes, facts, classes)
    with told_of(file.path), torch.device("meta"):
        # Without memory of its own: a shape in a file can ask for more of it than the file has tensors for.
        graph = Graph(given)
    found = _pieces(file.path, graph, scheme)
    require_matching(file.path, given.source, shapes, {piece.name: piece.shape for piece in found})
    state = our_state(found, lambda name: file.tensor(stored[name]).float())
    said = {"from": file.path.name, "family": f"YOLOS ({scheme.project})", "sha256": file.sha256()}
    said |= {"tensors": f"all {len(found)}"}
    names = {name: _names(head, facts) for name, head in graph.heads.items()}
    return Checkpoint(given.source, given.text, names, {"model": state}, {"converted": said})


def _pieces(path: object, graph: Graph, scheme: Scheme) -> list[Piece]:
    try:
        return pieces(graph, scheme)
    except ValueError as error:
        raise ModelError(
            f"{path}: {graph.spec.source} is not laid out as a YOLOS of {scheme.project}: {error}; leave --cfg out, or "
            "name one of models/configs/yolos"
        ) from None


def _names(head: Any, facts: Facts) -> list[str]:
    """Return the class names of a head; numbers where the file's are not as many."""
    found = classes_of(head.labels, facts.labels).names
    return found if len(found) == head.num_classes else [str(i) for i in range(head.num_classes)]


def beside(file: WeightFile, scheme: Scheme) -> Facts:
    """Return what lies beside the tensors: the options of the official program, or Hugging Face's config.json.

    Raises:
        ModelError: the config.json is damaged or that of another kind of model.
    """
    if scheme is not OFFICIAL:
        config = config_beside(file.path)
        return Facts() if config is None else facts_of_config(config, "yolos")
    options = file.root.get("args") if isinstance(file.root, dict) else None
    return published_facts(options.state if isinstance(options, Inert) else {})
