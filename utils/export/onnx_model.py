"""A graph as an ONNX model in memory."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from utils.errors import ExportError
from utils.export.adaptive_pooling import DECOMPOSITIONS
from utils.export.exported_graph import ExportedGraph
from utils.export.failing_row import cannot_hold
from utils.export.metadata import ALL, BATCH, INPUT_NAME, NONE, OpenAxes, describe
from utils.export.suppression import onnx_translations

if TYPE_CHECKING:
    import onnx

EXPORTER = "the ONNX exporter"
# A traced size of 0 or 1 would be taken for a constant, on the coarsest map as well.
_DYNAMIC_BATCH, _DYNAMIC_ROWS, _DYNAMIC_COLUMNS = 2, 5, 7


def build_onnx(
    module: ExportedGraph, shape: tuple[int, int, int], open_axes: OpenAxes = NONE, opset: int | None = None
) -> onnx.ModelProto:
    """Translate a graph to ONNX, metadata included.

    Args:
        module: what to translate, on the CPU.
        shape: batch size, height and width of the input; sizes are multiples of the graph's stride.
        open_axes: which sides of the input stay open.
        opset: version of the operator set, or None for the exporter's own.

    Raises:
        ExportError: the exporter cannot translate the model, or not to that operator set.
    """
    from onnx.helper import set_model_props

    try:
        outputs = module.output_names()
        with _no_warnings():
            translated = torch.onnx.export(
                _trace(module, shape, open_axes),
                dynamo=True,
                verbose=False,
                input_names=[INPUT_NAME],
                output_names=[name for names in outputs.values() for name in names],
                opset_version=opset,
                custom_translation_table=onnx_translations(),
            )
            model = translated.model_proto
    except Exception as error:  # The exporter raises errors of many kinds, and all mean the same to the user.
        raise cannot_hold(EXPORTER, module, shape, onnx_of_part, error) from error
    written = written_opset(model)
    if opset not in (None, written):
        raise ExportError(
            f"--opset {opset}: the exporter cannot write this model as that opset; take {written} or leave --opset out"
        )
    _forget_the_machine(model)
    if open_axes:
        _name_dimensions(model, module)
    set_model_props(model, describe(module, outputs, shape, open_axes, written))
    return model


def require_opset(opset: int) -> None:
    """Refuse an operator set that the exporter cannot write even for a sum, before anything else takes time.

    Raises:
        ExportError: it writes another one.
    """
    written = written_opset(onnx_of_part(_Sum(), (torch.zeros(1),), opset))
    if written != opset:
        raise ExportError(f"--opset {opset}: the exporter cannot write that opset; take {written} or leave --opset out")


def written_opset(model: onnx.ModelProto) -> int:
    """Return the version of a model's operator set."""
    return next(entry.version for entry in model.opset_import if entry.domain == "")


class _Sum(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values + 1


def onnx_of_part(part: nn.Module, inputs: tuple[Tensor, ...], opset: int | None = None) -> onnx.ModelProto:
    """Translate a part of a model, to see whether that can be.

    Args:
        part: a module that takes tensors.
        inputs: these.
        opset: version of the operator set, or None for the exporter's own.
    """
    with _no_warnings(), torch.no_grad():
        program = torch.export.export(part, inputs).run_decompositions(DECOMPOSITIONS)
        table = onnx_translations()
        return torch.onnx.export(
            program, dynamo=True, verbose=False, custom_translation_table=table, opset_version=opset
        ).model_proto


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence the exporter's log, which prints tracebacks of conversions it gives up; what matters is checked after."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@torch.no_grad()
def _trace(module: ExportedGraph, shape: tuple[int, int, int], open_axes: OpenAxes) -> torch.export.ExportedProgram:
    open_sides: dict[int, Any] = {}
    axis = module.layout.index
    if open_axes in (BATCH, ALL):
        open_sides[axis("N")] = torch.export.Dim("batch")
        shape = _DYNAMIC_BATCH, *shape[1:]
    if open_axes == ALL:
        stride = module.model.stride
        shape = _DYNAMIC_BATCH, _DYNAMIC_ROWS * stride, _DYNAMIC_COLUMNS * stride
        open_sides[axis("H")], open_sides[axis("W")] = (stride * torch.export.Dim(name) for name in ("rows", "columns"))
    dimensions = {INPUT_NAME: open_sides} if open_sides else None
    program = torch.export.export(module, (module.example(shape),), dynamic_shapes=dimensions)
    # The exporter takes everything else apart itself; doing it twice would take a fifth of its time.
    has_own = any(node.target in DECOMPOSITIONS for node in program.graph.nodes)
    return program.run_decompositions(DECOMPOSITIONS) if has_own else program


def tell(model: onnx.ModelProto, key: str, value: str) -> None:
    """Set one of a model's metadata, in place."""
    entry = next((entry for entry in model.metadata_props if entry.key == key), None)
    if entry is None:
        entry = model.metadata_props.add(key=key)
    entry.value = value


def _forget_the_machine(model: onnx.ModelProto) -> None:
    """Drop the notes of the exporter on nodes and values: they hold stack traces with this machine's paths."""
    for part in (model.graph, *_parts(model)):
        del part.metadata_props[:]
        part.doc_string = ""


def _parts(model: onnx.ModelProto) -> Iterator[Any]:
    graph = model.graph
    for parts in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        yield from parts
    for function in model.functions:
        yield function
        yield from function.node


def _name_dimensions(model: onnx.ModelProto, module: ExportedGraph) -> None:
    """Give the open dimensions readable names in place of the exporter's symbols."""
    stride, sides = module.model.stride, model.graph.input[0].type.tensor_type.shape.dim
    batch, height, width = (sides[module.layout.index(axis)].dim_param for axis in "NHW")
    readable = {batch: "batch", height: "height", width: "width"}
    symbols = {batch: "batch"}
    for label, name in ((height, "rows"), (width, "columns")):
        if label:
            symbols[label.removeprefix(f"{stride}*")] = f"{name}_of_{stride}"
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if label := dimension.dim_param:
                words = re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), label)
                dimension.dim_param = readable.get(label, words)
