"""Whether a file computes what the model computes: both run side by side on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from data.transforms.letterbox import CENTERED, LetterboxRule, apply_plan
from utils.boxes import plan_stretch
from utils.errors import ExportError, is_out_of_memory
from utils.export.candidate_order import Outputs, in_order_of
from utils.export.difference import Difference, magnitude_of
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import INPUT_NAME
from utils.export.object_agreement import compare_class_maps, compare_objects
from utils.export.objects_graph import CLASS_MAP, ObjectsGraph
from utils.export.token_choices import TOKENS

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Runs a file: uint8 (B, 3, H, W) pixels to the outputs by name, in the order of the file."""


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
    return Difference(expected.shape, absolute, absolute / magnitude_of(expected), image)


def compare(
    run: Runner, module: ExportedGraph, images: Mapping[str, np.ndarray], objects: ObjectsGraph | None = None
) -> dict[str, Difference]:
    """Run a file beside the model and return every output's worst difference.

    Where the candidates of a head are a set, the order in which a file has them does not count. Where their order
    counts, the model answers for the tokens that the file has chosen, and the choice is compared by how likely these
    tokens are to the model. Objects are held against the model's candidates.

    Args:
        run: runs the file.
        module: the model, on the CPU; it answers with candidates.
        images: network inputs by description.
        objects: how the file makes objects of candidates; None where it answers with these too.

    Raises:
        ExportError: the file does not run, or its outputs are other ones.
    """
    sets, by_head = module.set_heads(), (objects or module).output_names()
    names = [name for of_head in by_head.values() for name in of_head]
    worst: dict[str, Difference] = {}
    for image, pixels in images.items():
        found = run(pixels)
        if names != list(found):
            raise ExportError(f"the file has the outputs {', '.join(found)}, the model {', '.join(names)}")
        here: dict[str, Difference] = {}
        for head, (wanted, given) in _side_by_side(module, pixels, found, by_head).items():
            if objects is None:
                values = in_order_of(wanted, given) if head in sets else given
                here |= {name: difference(wanted[name], values[name], image) for name in values}
            else:
                here |= _of_objects(objects, head, wanted, given, image)
        for name, each in here.items():
            if name not in worst or each.relative > worst[name].relative:
                worst[name] = each
    return {name: worst[name] for name in names}


def _of_objects(objects: ObjectsGraph, head: str, wanted: Outputs, given: Outputs, image: str) -> dict[str, Difference]:
    """Return the differences of a head's objects from the model's candidates."""
    candidates, found = ({name.removeprefix(f"{head}_"): each for name, each in of.items()} for of in (wanted, given))
    told = {}
    if TOKENS in found:
        told[TOKENS] = difference(candidates.pop(TOKENS), found.pop(TOKENS), image)
    if head in objects.rules:
        told |= compare_objects(candidates, found, objects.rules[head], image)
    else:
        told[CLASS_MAP] = compare_class_maps(candidates["logits"], found[CLASS_MAP], image)
    return {f"{head}_{field}": each for field, each in told.items()}


def _side_by_side(
    module: ExportedGraph, pixels: np.ndarray, found: Outputs, names: Mapping[str, Sequence[str]]
) -> dict[str, tuple[Outputs, Outputs]]:
    """Return by head what the model answers, and what a file has answered under the names of its outputs."""
    told = {head: found[f"{head}_{TOKENS}"] for head in module.ordered_heads()}
    choices = module.watched({head: torch.from_numpy(tokens) for head, tokens in told.items()})
    with torch.inference_mode():
        answers = module.by_head(torch.from_numpy(pixels), choices)
    pairs: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
    for head, outputs in answers.items():
        wanted = {name: tensor.numpy() for name, tensor in outputs.items()}
        pairs[head] = wanted, {name: found[name] for name in names[head]}
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


def onnx_runner(path: Path, device: torch.device | None = None) -> Runner:
    """Return what runs an ONNX file in ONNX Runtime.

    Args:
        path: of the file.
        device: where it runs, None for the CPU.

    Raises:
        ExportError: the file is no valid ONNX, or ONNX Runtime cannot compute on that device.
    """
    import onnx
    import onnxruntime

    provider: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if device is not None and device.type != "cpu":
        # The 10 bits of TF32 would be off by more than the tolerance.
        provider = ("CUDAExecutionProvider", {"device_id": str(device.index), "use_tf32": "0"})
        if provider[0] not in onnxruntime.get_available_providers():
            raise ExportError(
                f"--device {device.index}: this ONNX Runtime cannot compute on a GPU; "
                "run: pip install onnxruntime-gpu, or leave --device out"
            )
    with failing_as("ONNX Runtime"):
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=[provider])
    names = [output.name for output in session.get_outputs()]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with failing_as("ONNX Runtime"):
            return dict(zip(names, session.run(names, {INPUT_NAME: pixels}), strict=True))

    return run


@contextmanager
def failing_as(program: str) -> Iterator[None]:
    """Turn whatever a program that runs files raises into one sentence; that memory is short stays as it is.

    Raises:
        ExportError: it raised something.
    """
    try:
        yield
    except Exception as error:  # These packages raise errors of their own that share no base class.
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"the exported model does not run in {program}: {reason}") from error


def require_possible(differences: Mapping[str, Difference]) -> None:
    """Refuse a file that answers with what is no number, or no possible answer, however large a difference passes.

    Raises:
        ExportError: an output is infinitely far off.
    """
    for name, worst in differences.items():
        if not math.isfinite(worst.relative):
            raise ExportError(
                f"output '{name}' of the exported model, or of the model itself, is not finite or no possible answer "
                f"on {worst.image}; no file was written"
            )


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
