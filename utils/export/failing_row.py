"""Which row of a model a format cannot hold: asked only when the whole model has failed, row by row.

A row is tried alone, with the very inputs that it has in the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from models.heads.base import Head
from models.predictions import named_outputs
from utils.errors import ExportError
from utils.export.exported_graph import ExportedGraph

Attempt = Callable[[nn.Module, tuple[Tensor, ...]], Any]
"""Translates a module for inputs, and raises whatever it likes where that cannot be."""
LOGGER = logging.getLogger("yolograph")
REASON_SHOWN = 300


class _Alone(nn.Module):
    """A module whose inputs are tensors alone, whatever it takes itself.

    Args:
        run: what to run.
        args: what it is called with; its tensors are replaced by those that come in.
        module: what ``run`` belongs to, so that its weights are found.
    """

    def __init__(self, run: Callable[..., Any], args: Any, module: nn.Module) -> None:
        super().__init__()
        self.module, self._run = module, run
        leaves, self._tree = _pytree.tree_flatten(args)
        self.tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        self._others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._is_tensor = [isinstance(leaf, Tensor) for leaf in leaves]

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        coming = iter(tensors)
        leaves = [next(coming) if is_tensor else other for is_tensor, other in self._leaves()]
        found = self._run(*_pytree.tree_unflatten(leaves, self._tree))
        return [leaf for leaf in _pytree.tree_leaves(found) if isinstance(leaf, Tensor)]

    def _leaves(self) -> list[tuple[bool, Any]]:
        return list(zip(self._is_tensor, self._others, strict=True))


def cannot_hold(
    program: str, form: ExportedGraph, shape: tuple[int, int, int], attempt: Attempt, whole: Exception
) -> ExportError:
    """Return the error that says which row a format cannot hold and why.

    Args:
        program: what translates, the beginning of ``cannot translate``.
        form: what is exported.
        shape: batch size, height and width of the input.
        attempt: translates a part of it.
        whole: what translating all of it has raised.
    """
    source = form.model.spec.source
    LOGGER.info("%s cannot translate %s; looking for the row that it fails at", program, source)
    found = _first_failing(form, shape, attempt)
    if found is None:
        return ExportError(
            f"{source}: {program} cannot translate the model: {reason_of(whole)}; every row alone can be translated at "
            "this one size"
        )
    where, error = found
    return ExportError(f"{where}: {program} cannot translate this: {reason_of(error)}")


@torch.no_grad()
def _first_failing(form: ExportedGraph, shape: tuple[int, int, int], attempt: Attempt) -> tuple[str, Exception] | None:
    """Return the first row, or the decoding of a head, that does not run or cannot be translated, and why."""
    graph = form.model
    inputs: dict[int, tuple[Any, ...]] = {}
    answers: dict[int, Any] = {}

    def note(module: nn.Module, args: Any, index: int) -> None:
        inputs.setdefault(index, args)

    def note_answer(module: nn.Module, args: Any, answer: Any, index: int) -> None:
        answers.setdefault(index, answer)

    rows = list(enumerate(graph.model))
    hooks = [module.register_forward_pre_hook(partial(note, index=i)) for i, module in rows]
    hooks += [module.register_forward_hook(partial(note_answer, index=i)) for i, module in rows]
    failed: Exception | None = None
    try:
        form(form.example(shape))
    except Exception as error:  # Whatever it is, it belongs to the last row that has begun.
        failed = error
    finally:
        for hook in hooks:
            hook.remove()
    for index, args in inputs.items():
        where = graph.spec.where(graph.spec.rows[index])
        if index not in answers and failed is not None:
            return where, failed
        error = _failure(attempt, _Alone(graph.model[index], args, graph.model[index]))
        if error is not None:
            return where, error
    for name in form.heads:
        index, head = graph.head_rows[name], graph.heads[name]
        if index in answers:
            alone = _Alone(partial(_decoded, head, size=shape[1:]), (answers[index],), head)
            error = failed or _failure(attempt, alone)
            if error is not None:
                return f"{graph.spec.where(graph.spec.rows[index])}, its decoding", error
    return None


def _decoded(head: Head, raw: Any, size: tuple[int, int]) -> dict[str, Tensor]:
    return named_outputs(head.predict(raw, size))


def _failure(attempt: Attempt, alone: _Alone) -> Exception | None:
    try:
        attempt(alone, alone.tensors)
    except Exception as error:  # Translators raise errors of many kinds.
        return error
    return None


def reason_of(error: BaseException) -> str:
    """Return in a line why something failed: the first words of what began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:REASON_SHOWN].rstrip(".:")
