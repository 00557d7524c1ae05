"""The switch ``--compile``: the model's rows as compiled kernels, or a sentence why not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from models.graph import Graph
from models.row_kinds import Kind
from utils.errors import UsageError

LOGGER = logging.getLogger("yolograph")
VARIANTS_PER_HEAD = 8
"""A size of its own, any height, any width, a single image, an odd last batch; each in training and in use."""


def compile_graph(graph: Graph, backend: str = "inductor") -> Graph:
    """Let a graph compile itself when it first runs, in place: its parameters, names and state stay what they are.

    Every head's rows are compiled for themselves. The first change of size or batch size compiles them again, for any
    size from then on. Where compiling fails, the reason is said once, and the graph runs as it does without. Padded
    batches of a deformable encoder always do: how much of each level lies in a picture is a number to it, and every
    batch would be compiled anew.

    Args:
        graph: where it is going to run.
        backend: of torch.compile.

    Returns:
        The graph itself.

    Raises:
        UsageError: the graph recomputes rows, which the compiler decides about itself.
    """
    if graph.recompute:
        raise UsageError(
            "--compile and --recompute exclude each other, because the compiler decides itself what to keep and what "
            "to compute again; leave one of them out"
        )
    # What is looked up once and kept has to be there before: a guard of the compiled code would see it come.
    for heads in [*((name,) for name in graph.heads), tuple(graph.heads)]:
        graph.plan(heads)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, VARIANTS_PER_HEAD * (len(graph.heads) + 1))
    # Whole graphs: nothing has run when compiling fails, so that the call can be made again without.
    graph.compile(backend=backend, dynamic=None, fullgraph=True)
    graph._compiled_call_impl = _falling_back(graph, graph._compiled_call_impl)
    return graph


def _falling_back(graph: Graph, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call of the compiled graph that takes the uncompiled one from the first failure to compile on."""
    asks_for_areas = any(row.kind is Kind.MEMORY for row in graph.trace)
    if asks_for_areas:
        LOGGER.info("--compile: batches that are padded, because their pictures differ in size, run without")

    def call(*args: Any, **kwargs: Any) -> Any:
        if asks_for_areas and kwargs.get("sizes") is not None:
            return graph._call_impl(*args, **kwargs)
        try:
            return compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            graph._compiled_call_impl = None
            LOGGER.warning("%s", _why_not(graph, error))
        # Outside of the handler, so that an error of the graph's own is not shown as a failure to compile.
        return graph(*args, **kwargs)

    return call


def _why_not(graph: Graph, error: Exception) -> str:
    """Return one sentence with the mend for a failure to compile."""
    on_gpu = next(graph.parameters()).device.type == "cuda"
    needed = "Triton and a C compiler such as gcc" if on_gpu else "a C++ compiler such as g++"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    # Code that cannot be captured is no fault of the machine's.
    mend = "" if isinstance(error, torch._dynamo.exc.Unsupported) else f"it takes {needed}, or "
    return f"--compile: the model could not be compiled ({reason}) and runs without; {mend}leave --compile out"
