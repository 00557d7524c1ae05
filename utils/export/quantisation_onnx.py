"""Static quantisation of an ONNX model by ONNX Runtime: pairs of QuantizeLinear and DequantizeLinear, per channel."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import ExportError
from utils.export.metadata import INPUT_NAME
from utils.export.quantisation import NOTHING_TO_DO, TOKENS, is_weight, left_in_float, quantising_by

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
IN_FLOAT = ("Mul", "Sigmoid", "Softmax", "LayerNormalization")
"""The first two make SiLU, which is steep near 0 and flat below: in eight bits it costs more AP than all convolutions.
Most weights of attention are less than a 256th. Normalisation reads the sums of tokens."""


def quantised_onnx(
    model: onnx.ModelProto, pictures: Iterable[np.ndarray], noisy: Collection[str] = ()
) -> onnx.ModelProto:
    """Return a model with weights and maps of eight bits; metadata stay.

    Weights are signed with a scale per channel, maps unsigned with the range that they have on the pictures. What
    ``left_in_float`` names stays as it is, and so do products of two maps, attention's weights and sums of tokens.

    Args:
        model: in float32; ONNX Runtime moves its tables out, so it is of no use afterwards.
        pictures: inputs that tell the ranges, (B, 3, H, W) uint8 in the shape that the model takes.
        noisy: layers that stay in float32 too, see ``noisy_layers``.

    Raises:
        ExportError: nothing of the model can be quantised, or ONNX Runtime cannot do it.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        """Hands the pictures over one batch at a time."""

        def __init__(self) -> None:
            self.pictures = iter(pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next input; None behind the last."""
            batch = next(self.pictures, None)
            return None if batch is None else {INPUT_NAME: batch}

    in_float = nodes_in_float(model.graph) | set(noisy)
    in_float |= {node.name for node in model.graph.node if node.op_type in IN_FLOAT} | _sums_of_tokens(model.graph)
    if not {node.name for node in model.graph.node if node.op_type in PRODUCTS} - in_float:
        raise ExportError(NOTHING_TO_DO)
    with tempfile.TemporaryDirectory() as folder, quantising_by("ONNX Runtime"):
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(in_float),
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantised = onnx.load(path)
    onnx.helper.set_model_props(quantised, {entry.key: entry.value for entry in model.metadata_props})
    return quantised


def _sums_of_tokens(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the sums of maps of tokens."""
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.output)}
    return {node.name for node in graph.node if node.op_type == "Add" and ranks.get(node.output[0]) == TOKENS}


def nodes_in_float(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes that stay in float32.

    Args:
        graph: whose nodes all have names of their own, as the exporter gives them.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    maker = {output: node.name for node in graph.node for output in node.output}
    sources = {node.name: [maker[value] for value in node.input if value in maker] for node in graph.node}
    weighted, of_two_maps = [], set()
    for node in graph.node:
        tables = [shapes[value] for value in node.input if value in shapes]
        if node.op_type in PRODUCTS and any(is_weight(table) for table in tables):
            weighted.append(node.name)
        elif node.op_type in PRODUCTS and not tables:
            of_two_maps.add(node.name)
    return left_in_float(sources, weighted) | of_two_maps
