"""How much noise eight bits would add to every convolution, told before anything is quantised.

A range that is cut into 255 steps is off by a twelfth of a squared step, on average. What that does to a channel of the
output follows from the weights, and what it matters from that channel's variance. Most layers bear it; depthwise ones,
whose channels have very different ranges and share one scale, may not: of YOLOX-nano's 0.339 AP a single one takes 0.2.

Shape suffixes: I and O channels of input and output.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from utils.export.metadata import INPUT_NAME
from utils.export.quantisation import quantising_by
from utils.export.quantisation_onnx import nodes_in_float

if TYPE_CHECKING:
    import onnx

LOGGER = logging.getLogger("yolograph")
MOST_NOISE = 0.005
"""Share of noise in the variance of an output channel, mean over the channels, that a layer may have."""
PICTURES = 8
"""So many inputs tell the variances."""
AT_ONCE = 32
"""Maps that are in memory together."""
STEPS, SIGNED_STEPS = 255, 127
DEAD = 1e-10
"""A channel whose variance is so small beside the largest one is constant to rounding."""
WITH_KERNEL = 4
"""Dimensions of the weights of a convolution of pictures."""


@dataclass
class Values:
    """What is known of a map over several inputs.

    Attributes:
        low: least value of all, at most 0, which has to be exact.
        high: greatest value of all, at least 0.
        count: of inputs.
        sums: per channel, sum of the means.
        squares: per channel, sum of the mean squares.
    """

    low: float = 0.0
    high: float = 0.0
    count: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def add(self, values: np.ndarray) -> None:
        """Take (B, C, H, W) values of one input."""
        wide = values.astype(np.float64)
        self.low, self.high = min(self.low, float(wide.min())), max(self.high, float(wide.max()))
        self.count += 1
        self.sums = self.sums + wide.mean((0, 2, 3))
        self.squares = self.squares + (wide**2).mean((0, 2, 3))

    @property
    def noise(self) -> float:
        """Mean square of what eight bits are off by."""
        return ((self.high - self.low) / STEPS) ** 2 / 12

    @property
    def mean_squares(self) -> np.ndarray:
        """Per channel."""
        return self.squares / self.count

    @property
    def variances(self) -> np.ndarray:
        """Per channel."""
        return np.maximum(self.mean_squares - (self.sums / self.count) ** 2, 0)


def noisy_layers(model: onnx.ModelProto, pictures: Collection[np.ndarray], most: float = MOST_NOISE) -> set[str]:
    """Return the names of the convolutions that eight bits would spoil.

    Args:
        model: in float32.
        pictures: inputs in the shape that the model takes; a few of them are looked at.
        most: share of noise that passes, 0..1.

    Raises:
        ExportError: ONNX Runtime cannot run the model.
    """
    from onnx import numpy_helper

    tables = {each.name: each for each in model.graph.initializer}
    in_float = nodes_in_float(model.graph)
    layers = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.name not in in_float and _has_kernel(tables.get(node.input[1]))
    ]
    maps = sorted({name for node in layers for name in (node.input[0], node.output[0])})
    few = list(islice(pictures, 0, None, max(1, len(pictures) // PICTURES)))
    with quantising_by("ONNX Runtime"):
        known = _values(model, maps, few)
    noisy = set()
    for node in layers:
        weights = numpy_helper.to_array(tables[node.input[1]])
        if not noise_share(weights, known[node.input[0]], known[node.output[0]]) <= most:
            noisy.add(node.name)
    if noisy:
        LOGGER.info(
            "%d of %d layers would be lost in the noise of eight bits and stay in float32", len(noisy), len(layers)
        )
    return noisy


def _has_kernel(weights: onnx.TensorProto | None) -> bool:
    return weights is not None and len(weights.dims) == WITH_KERNEL


def noise_share(weights: np.ndarray, before: Values, behind: Values) -> float:
    """Return the share of noise in a layer's output, the mean over the channels that tell anything, 0..1.

    Args:
        weights: (O, I / groups, k, k) of a convolution.
        before: of its input.
        behind: of its output.
    """
    channels_out, per_group, *kernel = weights.shape
    groups = len(before.mean_squares) // per_group
    power_O = np.repeat(before.mean_squares.reshape(groups, per_group).sum(1), channels_out // groups)
    steps_O = np.abs(weights).max((1, 2, 3)) / SIGNED_STEPS
    of_input_O = before.noise * (weights.astype(np.float64) ** 2).sum((1, 2, 3))
    of_weights_O = steps_O**2 / 12 * np.prod(kernel) * power_O
    noise_O = of_input_O + of_weights_O + behind.noise
    # A channel that is always the same, as pruning leaves them, says nothing that could be lost.
    alive_O = behind.variances > DEAD * behind.variances.max()
    return float(np.minimum(noise_O[alive_O] / behind.variances[alive_O], 1).mean()) if alive_O.any() else 0.0


def _values(model: onnx.ModelProto, names: Sequence[str], inputs: Collection[np.ndarray]) -> dict[str, Values]:
    """Run a model and return what is known of some of its maps."""
    import onnx
    import onnxruntime

    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    outputs = {output.name for output in model.graph.output}
    added = [name for name in names if name not in outputs]
    open_model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(open_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    known = {name: Values() for name in names}
    for pixels in inputs:
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            for name, values in zip(some, session.run(some, {INPUT_NAME: pixels}), strict=True):
                known[name].add(values)
    return known
