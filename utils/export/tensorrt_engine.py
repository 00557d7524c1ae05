"""A graph as a TensorRT engine: translated from ONNX on the GPU that it shall run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from utils.errors import ExportError, UsageError
from utils.export.agreement import Runner, failing_as
from utils.export.exported_graph import ExportedGraph
from utils.export.failing_row import cannot_hold
from utils.export.metadata import INPUT_NAME
from utils.export.onnx_model import onnx_of_part

if TYPE_CHECKING:
    import onnx

PROGRAM = "TensorRT"
TIMES = 2
"""Where sides of the input are open, an engine takes from one up to so many times those that it is built at."""


def require_gpu(device: torch.device) -> None:
    """Make sure that there is a GPU to build an engine on.

    Raises:
        UsageError: files shall run elsewhere.
    """
    if device.type != "cuda":
        raise UsageError(
            "--include tensorrt: an engine is built on the NVIDIA GPU that it shall run on; give --device 0 on a "
            "machine that has one"
        )


def build_engine(form: ExportedGraph, shape: tuple[int, int, int], model: onnx.ModelProto) -> bytes:
    """Build an engine whose formats of numbers are those of the ONNX model.

    Args:
        form: the graph.
        shape: batch size, height and width of the input; where a side is open, the one that the engine is tuned for.
        model: the graph as ONNX.

    Raises:
        ExportError: TensorRT cannot translate the model; the row is named.
    """
    try:
        return _built(model, {axis: side for axis, side in zip("NHW", shape, strict=True)}, form)
    except Exception as error:  # TensorRT tells faults in its own ways.
        raise cannot_hold(PROGRAM, form, shape, lambda *part: _parsed(onnx_of_part(*part)), error) from error


def _parsed(model: onnx.ModelProto) -> tuple[Any, Any, Any]:
    """Return builder, network and parser; the network lives as long as both others do.

    Raises:
        RuntimeError: TensorRT cannot translate the model.
    """
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise RuntimeError(parser.get_error(0).desc())
    return builder, network, parser


def _built(model: onnx.ModelProto, sides: dict[str, int], form: ExportedGraph) -> bytes:
    import tensorrt

    builder, network, _parser = _parsed(model)
    config = builder.create_builder_config()
    # Its 10 bits of mantissa would be off by more than the tolerance.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    least = {"N": 1, "H": form.model.stride, "W": form.model.stride}
    given = network.get_input(0).shape

    def limits(of_axis: Callable[[str], int]) -> list[int]:
        return [of_axis(axis) if side < 0 else side for axis, side in zip(form.layout, given, strict=True)]

    if any(side < 0 for side in given):
        profile = builder.create_optimization_profile()
        ranges = (limits(least.__getitem__), limits(sides.__getitem__), limits(lambda axis: TIMES * sides[axis]))
        profile.set_shape(INPUT_NAME, *ranges)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError("the engine could not be built")
    return bytes(engine)


def engine_runner(path: Path, device: torch.device) -> Runner:
    """Return what runs an engine.

    Args:
        path: of the engine.
        device: the GPU that it was built on.

    Raises:
        ExportError: the engine cannot be loaded, or does not run.
    """
    import tensorrt

    with failing_as(PROGRAM):
        engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
        context = engine.create_execution_context()
    all_names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    names = [name for name in all_names if name != INPUT_NAME]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with failing_as(PROGRAM), torch.cuda.device(device):
            given = torch.from_numpy(pixels).to(device)
            context.set_input_shape(INPUT_NAME, tuple(given.shape))
            found = {
                name: torch.empty(
                    tuple(context.get_tensor_shape(name)),
                    dtype=getattr(torch, tensorrt.nptype(engine.get_tensor_dtype(name)).__name__),
                    device=device,
                )
                for name in names
            }
            for name, tensor in {INPUT_NAME: given, **found}.items():
                context.set_tensor_address(name, tensor.data_ptr())
            stream = torch.cuda.current_stream(device)
            if not context.execute_async_v3(stream.cuda_stream):
                raise ExportError("it stopped")
            stream.synchronize()
            return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    return run
