"""Less memory for more time: rows keep only what they hand on, and run again when the backward pass comes to them.

Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from models.row_kinds import Kind
from models.tokens import tensors_of
from utils.errors import ModelError

if TYPE_CHECKING:
    from models.graph import Graph, Step
    from models.tokens import Sizes, Tokens


def segments(graph: Graph, plan: Sequence[Step]) -> list[list[Step]]:
    """Cut a plan into the parts that run again as a whole.

    A part ends behind the last row of a stride, where what is handed on is smallest for what came before, and behind a
    head. A row of tokens is a part of its own, and each of its blocks too (``_run_blocks``); so is a row of ``Layered``
    and each of its layers. So the memory at its peak is that of all parts' outputs and of one part's inner values.
    """
    parts: list[list[Step]] = [[]]
    for step, following in zip(plan, [*plan[1:], None], strict=True):
        parts[-1].append(step)
        ends = following is None or step.row in graph.head_rows.values() or _stands_alone(graph, step)
        if ends or _stands_alone(graph, following) or _stride(graph, following) != _stride(graph, step):
            parts.append([])
    return [part for part in parts if part]


def _stride(graph: Graph, step: Step) -> int:
    return graph.trace[step.row].stride


def _stands_alone(graph: Graph, step: Step) -> bool:
    return graph.trace[step.row].layout is not None or isinstance(graph.model[step.row], Layered)


class Layered:
    """A row of several layers, each of which can run again by itself; they run through ``run_layer``.

    Attributes:
        layers_run_again: whether layers keep for the backward pass only what they read.
    """

    layers_run_again: bool = False

    def run_layer(self, layer: Callable[..., Any], *args: Any) -> Any:
        """Return ``layer(*args)``.

        Args:
            layer: a module, or any function of tensors that gives the same when it is called again.
            args: tensors that need a gradient stand here and not within ``layer``.
        """
        if not (self.layers_run_again and torch.is_grad_enabled()):
            return layer(*args)
        return checkpoint(layer, *args, use_reentrant=False)


@contextmanager
def _layers_run_again(row: Layered) -> Iterator[None]:
    row.layers_run_again = True
    try:
        yield
    finally:
        row.layers_run_again = False


def run_with_recomputation(
    graph: Graph, x: Tensor, heads: tuple[str, ...], sizes: Sizes | None = None, selected: str = ""
) -> dict[str, Any]:
    """Do what the graph does without, and keep for the backward pass only what goes from one part to another.

    Outputs and gradients are the same to the bit: dropout draws the same numbers again, and BatchNorm follows the data
    in the first pass alone.

    Args:
        graph: the model, in training mode.
        x: (B, 3, H, W) preprocessed images.
        heads: names of the heads to run.
        sizes: the valid areas of a padded batch, see ``Graph.forward``.
        selected: head whose norms are to be used.

    Raises:
        ModelError: a row changes what another row has handed to it, so that it cannot run again.
    """
    kept: dict[int, Any] = {-1: x}
    outputs: dict[str, Any] = {}
    names = {index: name for name, index in graph.head_rows.items()}
    for part in segments(graph, graph.plan(heads)):
        rows = [step.row for step in part]
        inputs = sorted({source for row in rows for source in graph.spec.rows[row].sources} - set(rows))
        released = {source for step in part for source in step.release}
        results = [row for row in rows if row not in released]
        given = [kept[source] for source in inputs]
        versions = [tensor._version for tensor in tensors_of(given)]
        first = graph.model[rows[0]]
        if graph.trace[rows[0]].kind is Kind.TOKENS and isinstance(first, nn.Sequential):
            made = [_run_blocks(first, given[0])]
        elif isinstance(first, Layered):
            with _layers_run_again(first):
                made = _Part(graph, part, inputs, results, sizes, selected)(*given)
        else:
            made = checkpoint(
                _Part(graph, part, inputs, results, sizes, selected),
                *given,
                use_reentrant=False,
                context_fn=lambda rows=rows: _contexts(graph, rows),
            )
        if versions != [tensor._version for tensor in tensors_of(given)]:
            listed = ", ".join(str(row) for row in rows)
            raise ModelError(
                f"{graph.spec.source}: one of the rows {listed} changes its input in place, so that it cannot run "
                "again; remove its argument 'inplace', or leave --recompute out"
            )
        for row, result in zip(results, made, strict=True):
            if row in names:
                outputs[names[row]] = result
            else:
                kept[row] = result
        for source in released & kept.keys():
            del kept[source]
    return outputs


def _run_blocks(blocks: nn.Sequential, tokens: Tokens) -> Tokens:
    """Run the blocks of one row, each of which keeps its input alone."""
    for block in blocks:
        tokens = tokens._replace(values=checkpoint(_run_block, tokens.values, block, tokens, use_reentrant=False))
    return tokens


def _run_block(values: Tensor, block: nn.Module, tokens: Tokens) -> Tensor:
    return block(tokens._replace(values=values)).values


class _Part:
    """Rows that run one after the other; called once in the forward and once in the backward pass."""

    def __init__(
        self,
        graph: Graph,
        steps: list[Step],
        inputs: list[int],
        results: list[int],
        sizes: Sizes | None,
        selected: str,
    ) -> None:
        self.graph, self.steps, self.inputs, self.results = graph, steps, inputs, results
        self.sizes, self.selected = sizes, selected

    def __call__(self, *given: Any) -> list[Any]:
        """Return what ``results`` give."""
        kept: dict[int, Any] = dict(zip(self.inputs, given, strict=True))
        for step in self.steps:
            sources = self.graph.spec.rows[step.row].sources
            given_rows = [kept[source] for source in sources]
            kept[step.row] = self.graph._run_row(step.row, given_rows, self.sizes, self.selected)
            for source in step.release:
                kept.pop(source, None)
        return [kept[row] for row in self.results]


def _contexts(graph: Graph, rows: list[int]) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return what surrounds the first and the second run of a part."""
    return nullcontext(), _resting_statistics(graph, rows)


@contextmanager
def _resting_statistics(graph: Graph, rows: list[int]) -> Iterator[None]:
    """Let BatchNorm use the batch's statistics as before without following them a second time.

    It writes into copies meanwhile. Without any it would keep fewer tensors for its backward pass than the first run
    did, which is held against it; and a single value per channel is normalised with what is in them.
    """
    norms = [module for row in rows for module in graph.model[row].modules() if isinstance(module, _BatchNorm)]
    following = [norm for norm in norms if norm.training and norm.running_mean is not None]
    own = [dict(norm._buffers) for norm in following]
    for norm, buffers in zip(following, own, strict=True):
        norm._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(following, own, strict=True):
            norm._buffers.update(buffers)
