"""Which tokens of an encoder a decoder's queries begin with: seen while a model runs, or told to it.

Where query number i has the i-th content of a table (mixed selection), the order of the chosen tokens counts as well as
their set. With hundreds of queries some neighbours always lie closer than rounding, and a right file has them the other
way round; so such a file tells its choice, and the model is asked what it answers for the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from models.graph import Graph
from models.layers.detr_queries import TwoStageQueries
from models.row_use import rows_by_head

TOKENS = "tokens"
"""Field under which a file tells the choice of a head's queries."""


def choosing_rows(graph: Graph) -> dict[str, TwoStageQueries]:
    """Return the rows that choose the tokens which a head's queries begin with, by the name of the head."""
    used = rows_by_head(graph.spec, graph.head_rows)
    pairs = ((name, graph.model[index]) for name, rows in used.items() for index in sorted(rows))
    return {name: row for name, row in pairs if isinstance(row, TwoStageQueries)}


class TokenChoices(TorchFunctionMode):
    """Looks on while rows choose the best tokens, and lets them take those that it is told.

    Args:
        rows: by head, what chooses for it with one ``topk``.
        told: by head, the tokens to take, (B, Q) int64, the best first. The row's own are taken where there is nothing,
            or no choice of that shape among its tokens.

    Attributes:
        own: by head, the tokens that its row chooses, (B, Q) int64, the best first.
        scores: by head, what it chooses by, (B, S).
    """

    def __init__(self, rows: Mapping[str, nn.Module], told: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.rows, self.told = dict(rows), dict(told or {})
        self.own: dict[str, Tensor] = {}
        self.scores: dict[str, Tensor] = {}
        self._running: list[str] = []
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        """Begin to look on."""
        for head, row in self.rows.items():
            self._hooks.append(row.register_forward_pre_hook(lambda *_, head=head: self._running.append(head)))
            self._hooks.append(row.register_forward_hook(lambda *_: self._running.clear()))
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        """Leave the rows as they were."""
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._running.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of PyTorch; of the choice of a row keep what it was made by."""
        found = func(*args, **(kwargs or {}))
        if func not in (torch.topk, torch.Tensor.topk) or not self._running:
            return found
        scores, own = args[0], found.indices
        for head in self._running:
            self.scores[head], self.own[head] = scores, own
        for told in map(self.told.get, self._running):
            if is_choice(told, own, scores.shape[1]):
                return torch.return_types.topk((scores.gather(1, told), told))
        return found

    def in_scores(self, head: str, told: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how good the tokens are that a head's row chooses, and those that a file has chosen, both in order.

        Equal numbers mean the same choice up to ties, because a token counts once.

        Args:
            head: its name, after the model has run.
            told: the choice of the file.

        Returns:
            Two float arrays (B, Q) that a comparison can judge; of another shape, or not a number, where the second one
            is no choice of so many different tokens.
        """
        scores, own = self.scores[head], self.own[head]
        wanted, chosen = scores.gather(1, own).numpy(), torch.from_numpy(told)
        if told.shape != wanted.shape:
            return wanted, np.full(told.shape, np.nan)
        if not is_choice(chosen, own, scores.shape[1]):
            return wanted, np.full_like(wanted, np.nan)
        return wanted, scores.gather(1, chosen).numpy()


def is_choice(told: Tensor | None, own: Tensor, tokens: int) -> bool:
    """Return whether something is a choice of different tokens, as many as a row chooses itself.

    Args:
        told: what somebody says.
        own: (B, Q) int64, what the row chooses.
        tokens: how many there are.
    """
    if told is None or told.shape != own.shape or told.dtype != own.dtype:
        return False
    if not bool(((told >= 0) & (told < tokens)).all()):
        return False
    in_order = told.sort(1).values
    return bool((in_order[:, 1:] > in_order[:, :-1]).all())
