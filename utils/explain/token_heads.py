"""Which head of a model answers by detection tokens, and which blocks attention can be shown of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.samples import Placement
from models.graph import Graph
from models.layers.vit import ViTBlock
from models.predictions import Detections
from models.row_kinds import Kind
from models.row_use import needed_rows
from utils.boxes import points_to_native
from utils.errors import UsageError, did_you_mean

ALL = "all"
_ROW_AND_NUMBER = re.compile(r"([0-9]+)\.([0-9]+)")


@dataclass(frozen=True)
class BlockPlace:
    """One transformer block of a model.

    Attributes:
        row: of the model YAML.
        number: of the block within its row, from 0.
        position: among all blocks that the head depends on, from 0.
        module: the block.
    """

    row: int
    number: int
    position: int
    module: ViTBlock

    def __str__(self) -> str:
        """As ``--block`` takes it: ``1.11``."""
        return f"{self.row}.{self.number}"


@dataclass(frozen=True)
class TokenAnswers:
    """What every detection token says of one picture, in the order of the tokens.

    Attributes:
        boxes: (Q, 4) float32 x1 y1 x2 y2 in native pixels, not clipped to the picture.
        classes: (Q,) int64, the class that each is surest of.
        scores: (Q,) float32, its probability, 0..1.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def blocks_before(graph: Graph, head: str) -> list[BlockPlace]:
    """Return every transformer block that a head depends on, in the order in which they run."""
    rows = sorted(needed_rows(graph.spec, [graph.head_rows[head]]))
    found = [
        (row, number, module)
        for row in rows
        for number, module in enumerate(m for m in graph.model[row].modules() if isinstance(m, ViTBlock))
    ]
    return [BlockPlace(row, number, position, module) for position, (row, number, module) in enumerate(found)]


def answers_by_tokens(graph: Graph, head: str) -> bool:
    """Return whether a head reads tokens themselves and not a map made of them."""
    sources = graph.spec.rows[graph.head_rows[head]].sources
    return any(graph.trace[source].kind is Kind.TOKENS for source in sources)


def choose_head(graph: Graph, asked: str | None, weights: str) -> str:
    """Return the name of the head whose tokens are explained.

    Args:
        graph: the model.
        asked: value of ``--head``; None where the model has one such head alone.
        weights: of the model, for messages.

    Raises:
        UsageError: there is none, there are several, or the asked head is none; the sentence names the heads.
    """
    kinds = {name: f"'{name}' ({type(head).__name__})" for name, head in graph.heads.items()}
    if asked is not None and asked not in kinds:
        raise UsageError(f"--head {asked}: {weights} has only {', '.join(kinds.values())}.{did_you_mean(asked, kinds)}")
    fitting = [name for name in kinds if answers_by_tokens(graph, name)]
    if not fitting or asked not in (None, *fitting):
        whose = f"it has {', '.join(kinds.values())}, but no" if asked is None else f"{kinds[asked]} is no"
        raise UsageError(
            f"{weights}: {whose} head that answers by detection tokens, which this command needs, such as YOLOSDetect "
            "behind ViTBlock rows"
        )
    if asked is None and len(fitting) > 1:
        raise UsageError(f"{weights}: several heads answer by detection tokens; choose --head {' or '.join(fitting)}")
    return asked or fitting[0]


def token_count(graph: Graph, head: str) -> int:
    """Return how many detection tokens a head that answers by them has."""
    return graph.trace[graph.head_rows[head]].shapes[0][1]


def require_tokens(asked: Sequence[int] | None, count: int) -> None:
    """Make sure that tokens exist.

    Args:
        asked: values of ``--tokens``; None where none are named.
        count: how many tokens there are.

    Raises:
        UsageError: one does not.
    """
    wrong = [token for token in asked or () if not 0 <= token < count]
    if wrong:
        raise UsageError(f"--tokens {wrong[0]}: there are {count} detection tokens, 0 to {count - 1}")


def choose_blocks(blocks: Sequence[BlockPlace], asked: Sequence[str]) -> list[BlockPlace]:
    """Return the blocks that ``--block`` names, each once and in the order in which they run.

    Args:
        blocks: of the head, at least one.
        asked: positions among all blocks (0 is the first, -1 the last), ROW.NUMBER, or ``all``.

    Raises:
        UsageError: there is no such block.
    """
    places = {str(block): block.position for block in blocks}
    chosen: set[int] = set()
    for word in asked:
        if word == ALL:
            chosen.update(places.values())
        elif word in places:
            chosen.add(places[word])
        elif re.fullmatch(r"-?[0-9]+", word) and -len(blocks) <= int(word) < len(blocks):
            chosen.add(int(word) % len(blocks))
        else:
            raise UsageError(
                f"--block {word}: there are {len(blocks)} blocks, from 0 ({blocks[0]}) to -1 ({blocks[-1]}); give such "
                "a position, ROW.NUMBER, or all"
            )
    return [blocks[position] for position in sorted(chosen)]


def read_answers(found: Detections, placements: Sequence[Placement]) -> list[TokenAnswers]:
    """Return what the tokens say of every picture, in native pixels, from a head's decoded predictions."""
    scores, classes = (values.cpu().numpy() for values in found.scores.float().max(-1))
    corners = found.boxes.float().cpu().numpy()
    return [
        TokenAnswers(_corners_to_native(boxes, placement), own_classes, own_scores)
        for boxes, own_classes, own_scores, placement in zip(corners, classes, scores, placements, strict=True)
    ]


def _corners_to_native(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Return boxes (Q, 4) in native pixels; unlike a result's they may reach beyond the picture."""
    return points_to_native(boxes.reshape(-1, 2), placement).reshape(-1, 4)
