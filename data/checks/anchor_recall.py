"""Whether a model's anchors fit the objects of a set: the one check that knows of models, imported when asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.checks.finding import Finding
from data.checks.split_facts import SplitFacts
from data.config import DataConfig
from utils.errors import DataError


def anchors_of(cfg: str) -> dict[str, np.ndarray]:
    """Return the (k, 2) anchors in pixels of every head of a model YAML that gives them; a mere count is left out.

    Raises:
        ModelError: there is no such YAML, or it is at fault.
    """
    from models.graph import load_graph
    from models.heads.detect import Detect

    graph = load_graph(cfg)
    given = {
        name: graph.spec.rows[graph.head_rows[name]].args[1]
        for name, head in graph.heads.items()
        if isinstance(head, Detect)
    }
    return {name: np.array(own, np.float64).reshape(-1, 2) for name, own in given.items() if isinstance(own, list)}


def recall_by_head(
    anchors: Mapping[str, np.ndarray],
    config: DataConfig,
    facts: Mapping[tuple[str, str], SplitFacts],
    img_size: int,
) -> tuple[dict[str, float], list[Finding]]:
    """Return the best possible recall, 0..1, of every head's anchors on its training objects, and what is too low.

    Args:
        anchors: from ``anchors_of``.
        config: the data.
        facts: by task and split.
        img_size: length of the longer side of pictures in training, pixels.
    """
    if not anchors:
        return {}, []
    from models.autoanchor import ENOUGH_RECALL, anchor_fitness
    from models.heads.detect import Detect

    recalls, found = {}, []
    for head, own in anchors.items():
        try:
            key = config.for_head(head, Detect.task).key
        except DataError:
            # The model finds more than this set is for.
            continue
        train = facts.get((key, "train"))
        if train is None:
            continue
        wh = train.box_pixels(img_size)
        wh = wh[(wh > 0).all(1)]
        if not len(wh):
            continue
        recall = anchor_fitness(wh, own, float(Detect.recipe["anchor_t"]))[0]
        recalls[head] = recall
        if recall < ENOUGH_RECALL:
            sentence = f"the anchors of the head `{head}` fit {recall:.1%} of the objects at --img-size {img_size}"
            found.append(Finding("anchor-recall", train.where, sentence))
    return recalls, found
