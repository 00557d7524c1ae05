"""Whether a file computes what the model computes: both run side by side on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.transforms.letterbox import CENTERED, LetterboxRule, apply_plan
from utils.boxes import plan_stretch
from utils.errors import ExportError
from utils.export.candidate_order import Outputs, in_order_of
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import INPUT_NAME
from utils.export.token_choices import TOKENS

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Runs a file: uint8 (B, 3, H, W) pixels to the outputs by name, in the order of the file."""

LEAST_MAGNITUDE = 0.01
"""Differences are told relative to an output's largest value, but at least to this one.

Smaller are only probabilities where nothing is to be seen, such as those of an untrained YOLOv8, and the sigmoid of
ONNX Runtime is good to 1e-7 of one, however small its value.
"""


@dataclass(frozen=True)
class Difference:
    """How far one output of a file is from the model's.

    Attributes:
        shape: of the output.
        absolute: largest difference of any value; infinite if a value of either is not finite.
        relative: ``absolute`` over the largest magnitude in the model's output, or over ``LEAST_MAGNITUDE``.
        image: what the network saw.
    """

    shape: tuple[int, ...]
    absolute: float
    relative: float
    image: str


def check_images(
    picture: np.ndarray, shapes: list[tuple[int, int, int]], letterbox: LetterboxRule = CENTERED
) -> dict[str, np.ndarray]:
    """Return network inputs by description: per shape the picture and random pixels.

    Args:
        picture: (H, W, 3) uint8 RGB of any size; it is letterboxed, or stretched where pictures fill their inputs.
        shapes: batch size, height and width of every check.
        letterbox: of the model.

    Returns:
        (B, 3, H, W) uint8 arrays.
    """
    random = np.random.default_rng(0)
    images = {}
    for batch, height, width in shapes:
        size = f"{batch}x3x{height}x{width}"
        fit = plan_stretch if letterbox.by_short_side else letterbox.plan
        placed = apply_plan(picture, fit(picture.shape[:2], (height, width)))
        images[f"the picture at {size}"] = np.repeat(placed.transpose(2, 0, 1)[None], batch, 0)
        images[f"random pixels at {size}"] = random.integers(0, 256, (batch, 3, height, width), np.uint8)
    return images


def difference(expected: np.ndarray, found: np.ndarray, image: str) -> Difference:
    """Compare one output.

    Raises:
        ExportError: the shapes differ.
    """
    if expected.shape != found.shape:
        raise ExportError(f"on {image} the file's output has the shape {found.shape}, the model's {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Difference(expected.shape, math.inf, math.inf, image)
    absolute = float(np.abs(expected.astype(np.float64) - found).max(initial=0))
    magnitude = float(np.abs(expected).max(initial=0))
    return Difference(expected.shape, absolute, absolute / max(magnitude, LEAST_MAGNITUDE), image)


def compare(run: Runner, module: ExportedGraph, images: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """Run a file on the CPU beside the model and return every output's worst difference.

    Where the candidates of a head are a set, the order in which a file has them does not count. Where their order
    counts, the model answers for the tokens that the file has chosen, and the choice is compared by how likely these
    tokens are to the model.

    Args:
        run: runs the file.
        module: the model, on the CPU.
        images: network inputs by description.

    Raises:
        ExportError: the file does not run, or its outputs are other ones.
    """
    sets, names = module.set_heads(), [name for names in module.output_names().values() for name in names]
    worst: dict[str, Difference] = {}
    for image, pixels in images.items():
        found = run(pixels)
        if names != list(found):
            raise ExportError(f"the file has the outputs {', '.join(found)}, the model {', '.join(names)}")
        for head, (wanted, given) in _side_by_side(module, pixels, found).items():
            for name, values in (in_order_of(wanted, given) if head in sets else given).items():
                here = difference(wanted[name], values, image)
                if name not in worst or here.relative > worst[name].relative:
                    worst[name] = here
    return worst


def _side_by_side(
    module: ExportedGraph, pixels: np.ndarray, found: Mapping[str, np.ndarray]
) -> dict[str, tuple[Outputs, Outputs]]:
    """Return by head what the model answers, and what a file has answered."""
    told = {head: found[f"{head}_{TOKENS}"] for head in module.ordered_heads()}
    choices = module.watched({head: torch.from_numpy(tokens) for head, tokens in told.items()})
    with torch.inference_mode():
        answers = module.by_head(torch.from_numpy(pixels), choices)
    pairs: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
    for head, outputs in answers.items():
        wanted = {name: tensor.numpy() for name, tensor in outputs.items()}
        pairs[head] = wanted, {name: found[name] for name in wanted}
    for head, tokens in told.items():
        name, (wanted, given) = f"{head}_{TOKENS}", pairs[head]
        wanted[name], given[name] = choices.in_scores(head, tokens)
    return pairs


def compare_onnx(path: Path, module: ExportedGraph, images: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """Do what ``compare`` does with an ONNX file in ONNX Runtime.

    Raises:
        ExportError: the file is no valid ONNX, or does not run, or its outputs are other ones.
    """
    return compare(onnx_runner(path), module, images)


def onnx_runner(path: Path) -> Runner:
    """Return what runs an ONNX file in ONNX Runtime on the CPU.

    Raises:
        ExportError: the file is no valid ONNX.
    """
    import onnx
    import onnxruntime

    with failing_as("ONNX Runtime"):
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with failing_as("ONNX Runtime"):
            return dict(zip(names, session.run(names, {INPUT_NAME: pixels}), strict=True))

    return run


@contextmanager
def failing_as(program: str) -> Iterator[None]:
    """Turn whatever a program that runs files raises into one sentence.

    Raises:
        ExportError: it raised something.
    """
    try:
        yield
    except Exception as error:  # These packages raise errors of their own that share no base class.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"the exported model does not run in {program}: {reason}") from error


def judge(differences: Mapping[str, Difference], tolerance: float, limits: Mapping[str, float] | None = None) -> None:
    """Accept a file or refuse it.

    Args:
        differences: per output.
        tolerance: largest relative difference that passes.
        limits: by output, what passes instead where the model's own rounding explains more.

    Raises:
        ExportError: an output is further off; the worst one is named.
    """
    limits = limits or {}
    beyond = {name: each for name, each in differences.items() if each.relative > limits.get(name, tolerance)}
    if beyond:
        name, worst = max(beyond.items(), key=lambda item: item[1].relative)
        more = " and than rounding explains" if limits.get(name, tolerance) > tolerance else ""
        raise ExportError(
            f"output '{name}' of the exported model differs from the model by {worst.relative:.2g} of its largest "
            f"value on {worst.image}, more than --tolerance {tolerance:g}{more}; no file was written"
        )
