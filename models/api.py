"""Models in Python, in three lines::

model = load("yolov5n.pt")
results = model(["bus.jpg", "zidane.jpg"])
results.save()
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from data.pictures import Picture, take_pictures
from models.exported.model import device_for
from models.graph import Graph
from models.inference import Inference, forward_format, load_inference
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor, group_equal
from models.results import ImageResult, Results
from models.views import Pass, choose_passes
from utils.environment import check_environment
from utils.errors import UsageError
from utils.image_size import require_possible_sizes
from utils.stage_clock import StageClock


@dataclass(eq=False, slots=True)
class Model:
    """A trained model, or several that answer together: it takes pictures and returns what it found in them.

    The settings are plain attributes: ``model.conf = 0.4`` holds from the next call on. They are held against their
    ranges when the model is called.

    Attributes:
        inference: what answers.
        conf: least confidence of an object, 0..1.
        iou: overlap above which the less certain of two boxes is left out, 0..1.
        max_det: most objects per picture.
        classes: indices of the classes of objects to keep, or None for all.
        agnostic: let boxes suppress each other across classes.
        size: longer side of a picture in the network's input, pixels, or its shorter one where the model's YAML says
            ``fit: shortest``; rounded up to a multiple of the stride.
        half: compute in 16 bits where the device does: float16 on a GPU, bfloat16 on a CPU.
        augment: look three times: as it is, mirrored at 0.83 and at 0.67 of the size.
        batch_size: most consecutive pictures of equal input shape per pass; more is faster on a GPU, and may change the
            last digits.
        tta: look six times: as it is, at half and at one and a half of the size, and mirrored at each.
    """

    inference: Inference = field(repr=False)
    conf: float = 0.25
    iou: float = 0.45
    max_det: int = 1000
    classes: Sequence[int] | int | None = None
    agnostic: bool = False
    size: int = 640
    half: bool = False
    augment: bool = False
    batch_size: int = 1
    tta: bool = False

    def __call__(
        self, images: Any, size: int | None = None, augment: bool | None = None, tta: bool | None = None
    ) -> Results:
        """Look at pictures.

        Args:
            images: one picture or a list of any mix: paths, PIL images, NumPy arrays (H, W, 3) uint8 RGB, torch tensors
                (3, H, W); see ``data.pictures.take_pictures``. OpenCV's BGR arrays need ``image[..., ::-1]``.
            size: for this call, in place of the attribute.
            augment: for this call, in place of the attribute.
            tta: for this call, in place of the attribute.

        Returns:
            The results in the order of the pictures, in native pixels, on the CPU.

        Raises:
            UsageError: a setting or a picture is of a kind or range that cannot be taken.
            DataError: a file is missing or cannot be decoded.
        """
        clock = StageClock(STAGES)
        augment = self.augment if augment is None else augment
        tta = self.tta if tta is None else tta
        with _words_of_python():
            passes = choose_passes(augment, tta)
        predictor = self._predictor(self.size if size is None else size, passes, clock)
        require_whole(self.batch_size, "batch_size")
        keyed = ((predictor.input_shapes(picture.image), picture) for picture in take_pictures(images))
        found: list[ImageResult] = []
        for group in group_equal(keyed, self.batch_size):
            found += self._look(predictor, group)
        return Results(found)

    @property
    def class_names(self) -> Mapping[str, Sequence[str]]:
        """Class names of every head."""
        return self.inference.names

    @property
    def names(self) -> Sequence[str]:
        """Class names of the head for boxes or, if there is none, of the only head.

        Raises:
            UsageError: there are several such heads; ``class_names`` has all.
        """
        heads = self.inference.heads
        asked = [name for name, head in heads.items() if "boxes" in head.targets] or list(heads)
        if len(asked) > 1:
            raise UsageError(f"the model has several heads ({', '.join(asked)}); write class_names['{asked[0]}']")
        return self.class_names[asked[0]]

    @property
    def stride(self) -> int:
        """Height and width of the network's input are multiples of it, pixels."""
        return self.inference.stride

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.inference.device

    def to(self, device: str | int | torch.device) -> Model:
        """Move the model in place, and return it.

        Raises:
            UsageError: there is no such device, or the model is an exported file, which stays where it was opened.
        """
        chosen = choose_device(device)
        if self.inference.files and chosen != self.device:
            file = self.inference.files[0].path
            raise UsageError(f"{file} was opened on {self.device}; load it again with device='{chosen}'")
        for graph in self.inference.graphs:
            if isinstance(graph, Graph):
                graph.to(chosen)
        return self

    def cpu(self) -> Model:
        """Move the model to the CPU, and return it."""
        return self.to("cpu")

    def cuda(self) -> Model:
        """Move the model to the first GPU, and return it.

        Raises:
            UsageError: there is none.
        """
        return self.to("cuda")

    def _predictor(self, size: int, passes: Sequence[Pass], clock: StageClock) -> Predictor:
        """Return what turns arrays into results under the settings as they are now."""
        require_whole(size, "size")
        require_possible_sizes("size", [int(size)])
        device = self.device
        with _words_of_python():
            inference = Inference(self.inference.graphs, passes)
            dtype = forward_format(inference, "half" if self.half else "float32")
        return Predictor(inference, dict.fromkeys(inference.heads, int(size)), self._options(), device, dtype, clock)

    def _options(self) -> PostprocessOptions:
        require_share(self.conf, "conf")
        require_share(self.iou, "iou")
        require_whole(self.max_det, "max_det")
        return PostprocessOptions(
            conf=float(self.conf),
            iou=float(self.iou),
            max_det=int(self.max_det),
            agnostic=bool(self.agnostic),
            classes=self._kept_classes(),
        )

    def _kept_classes(self) -> tuple[int, ...] | None:
        if self.classes is None:
            return None
        counts = [head.num_classes for head in self.inference.heads.values() if "boxes" in head.targets]
        if not counts:
            raise UsageError("classes chooses among objects, but the model has no head for boxes; set it to None")
        if isinstance(self.classes, str) or not isinstance(self.classes, Integral | Iterable):
            raise UsageError(f"classes must be None, an index or a list of indices, but is {self.classes!r}")
        classes = [self.classes] if isinstance(self.classes, Integral) else list(self.classes)
        for index in classes:
            if not isinstance(index, Integral) or not 0 <= index < max(counts):
                raise UsageError(f"classes holds {index!r}, but the model's classes are 0 to {max(counts) - 1}")
        return tuple(int(index) for index in classes)

    def _look(self, predictor: Predictor, pictures: Sequence[Picture]) -> list[ImageResult]:
        """Return the results of pictures that share a pass; each has an equal part of its time."""
        before = dict(predictor.clock.seconds)
        found = predictor([picture.image for picture in pictures])
        spent = {
            stage: 1000 * (seconds - before[stage]) / len(pictures)
            for stage, seconds in predictor.clock.seconds.items()
        }
        return [
            ImageResult(
                image=picture.image,
                name=picture.name,
                path=picture.path,
                heads=heads,
                class_names=self.class_names,
                speed=spent,
                input_shape=predictor.shape_text(picture.image),
            )
            for picture, heads in zip(pictures, found, strict=True)
        ]


def load(
    weights: str | Path | Sequence[str | Path],
    device: str | int | torch.device = "",
    conf: float = 0.25,
    iou: float = 0.45,
    max_det: int = 1000,
    classes: Sequence[int] | int | None = None,
    agnostic: bool = False,
    size: int = 640,
    half: bool = False,
    augment: bool = False,
    batch_size: int = 1,
    tta: bool = False,
    deploy: bool = False,
) -> Model:
    """Load a trained model for use in Python.

    Args:
        weights: a checkpoint, ours or an official ``.pt``, or a list of checkpoints that answer together; or a file
            that ``export.py`` has written.
        device: ``cpu``, the number of a GPU, a ``torch.device``, or empty for the first GPU or else the CPU.
        conf: see ``Model``, like all that follow.
        iou: see ``Model``.
        max_det: see ``Model``.
        classes: see ``Model``.
        agnostic: see ``Model``.
        size: see ``Model``.
        half: see ``Model``.
        augment: see ``Model``.
        batch_size: see ``Model``.
        tta: see ``Model``.
        deploy: re-parameterise models that can be, such as YOLOv6: the same results in less time.

    Raises:
        ModelError: a file is missing, damaged or no checkpoint.
        UsageError: there is no such device, the models do not have the same heads and classes, they do not take RGB, or
            an exported file does not run here or as it is asked to.
        RunError: the installation is broken.
    """
    check_environment()
    paths = list(weights) if isinstance(weights, list | tuple) else [weights]
    for path in paths:
        if not isinstance(path, str | Path):
            raise UsageError(f"weights must be the path of a checkpoint or a list of paths, but holds {path!r}")
        if "://" in str(path):
            raise UsageError(f"{path}: nothing is downloaded; save the weights to a file and give its path")
    if not paths:
        raise UsageError("weights is an empty list; give the path of a checkpoint")
    chosen = choose_device(device, paths)
    with _words_of_python():
        inference = load_inference(paths, chosen, deploy=deploy)
    return Model(inference, conf, iou, max_det, classes, agnostic, size, half, augment, batch_size, tta)


def choose_device(device: str | int | torch.device | None, weights: Sequence[str | Path] = ()) -> torch.device:
    """Return the device that a caller means; empty or None is the first GPU, or else the CPU.

    Args:
        device: as the caller has it.
        weights: paths of what shall run there; exported files that cannot run on a GPU leave the CPU.

    Raises:
        UsageError: there is no such device.
    """
    text = "" if device is None else str(device)
    with _words_of_python():
        return device_for(weights, "cuda:0" if text.strip().lower() == "cuda" else text)


def require_share(value: Any, name: str) -> None:
    """Make sure that a setting is a number in 0..1.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise UsageError(f"{name} must be in 0..1, but is {value!r}")


def require_whole(value: Any, name: str) -> None:
    """Make sure that a setting is a whole number above 0.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, Integral) or value < 1:
        raise UsageError(f"{name} must be a whole number, 1 or more, but is {value!r}")


@contextmanager
def _words_of_python() -> Iterator[None]:
    """Let errors name arguments as they are written here and not as options of a command."""
    try:
        yield
    except UsageError as error:
        raise UsageError(re.sub(r"--(?=\w)", "", str(error))) from None
