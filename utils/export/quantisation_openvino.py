"""Static quantisation of a model of OpenVINO by NNCF."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import ExportError
from utils.export.metadata import INPUT_NAME
from utils.export.quantisation import NOTHING_TO_DO, TOKENS, is_weight, left_in_float, quantising_by

if TYPE_CHECKING:
    import openvino

PRODUCTS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")
IN_FLOAT = ("Multiply", "Sigmoid", "Swish", "Softmax", "MVN")
"""The first three make SiLU, the last is a LayerNorm's; see ``quantisation_onnx``. With SiLU in float32 the network is
even faster."""


def quantised_openvino(
    model: openvino.Model, pictures: Sequence[np.ndarray], noisy: Collection[str] = ()
) -> openvino.Model:
    """Return a model with weights and maps of eight bits; its ``rt_info`` stays.

    Weights are symmetric with a scale per channel, maps have the range that they have on the pictures, and the shift
    that all this gives the outputs of a layer is corrected in its bias. What ``left_in_float`` names stays as it is,
    and so do products of two maps, attention's weights and sums of tokens.

    Args:
        model: in float32.
        pictures: inputs that tell the ranges, (B, 3, H, W) uint8 in the shape that the model takes; they are gone
            through several times.
        noisy: layers of the ONNX model that this one comes from, which stay in float32 too, see ``noisy_layers``.

    Raises:
        ExportError: nothing of the model can be quantised, or NNCF cannot do it.
    """
    operations = model.get_ordered_ops()
    in_float = operations_in_float(operations) | _of_layers(operations, noisy) | _sums_of_tokens(operations)
    in_float |= {each.get_friendly_name() for each in operations if each.get_type_name() in IN_FLOAT}
    if not {each.get_friendly_name() for each in operations if each.get_type_name() in PRODUCTS} - in_float:
        raise ExportError(NOTHING_TO_DO)
    # Its progress bars go to the standard output.
    with quantising_by("NNCF"), open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        import nncf

        return nncf.quantize(
            model,
            nncf.Dataset(pictures, lambda batch: {INPUT_NAME: batch}),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pictures),
            # Names of what holds no numbers, such as outputs, are not among those that it looks for.
            ignored_scope=nncf.IgnoredScope(names=sorted(in_float), validate=False),
        )


def operations_in_float(operations: Sequence[openvino.Node]) -> set[str]:
    """Return the names of the operations that stay in float32.

    Args:
        operations: all of a model, every one behind those that it takes values from.
    """
    sources, weighted = {}, []
    constants: set[str] = set()
    of_two_maps: set[str] = set()
    for each in operations:
        name = each.get_friendly_name()
        given = [value.get_source_output().get_node() for value in each.inputs()]
        sources[name] = [source.get_friendly_name() for source in given]
        if each.get_type_name() == "Constant" or (given and constants.issuperset(sources[name])):
            constants.add(name)
        tables = [source.get_output_shape(0) for source in given if source.get_friendly_name() in constants]
        if each.get_type_name() in PRODUCTS and any(is_weight(tuple(shape)) for shape in tables):
            weighted.append(name)
        elif each.get_type_name() in PRODUCTS and not tables:
            of_two_maps.add(name)
    return (left_in_float(sources, weighted) | of_two_maps) - constants


def _sums_of_tokens(operations: Sequence[openvino.Node]) -> set[str]:
    """Return the names of the sums of maps of tokens."""
    sums = [each for each in operations if each.get_type_name() == "Add"]
    return {each.get_friendly_name() for each in sums if len(each.get_output_partial_shape(0)) == TOKENS}


def _of_layers(operations: Sequence[openvino.Node], layers: Collection[str]) -> set[str]:
    """Return the names of the products of layers; OpenVINO makes product and bias two operations."""
    products = [each.get_friendly_name() for each in operations if each.get_type_name() in PRODUCTS]
    return {name for name in products if name.partition("/")[0] in layers}
