"""AP and mIoU of a file and of its model on the same pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.loader import build_test_loader
from data.sample_source import TaskSource
from data.samples import Batch, Sample
from data.transforms.letterbox import LetterboxRule
from models.heads.base import Head
from models.inference import Inference
from models.predictions import DetectionResult, MaskResult, PoseResult, PostprocessOptions
from utils.errors import ExportError
from utils.export.check_pictures import Pictures
from utils.validation import HeadTest, run_head_test

OWN_OBJECTS = 10
"""So many objects of a picture, the surest ones, are labels where a model's own answers are."""
SEEN = 2
"""Visibility of a labelled keypoint."""


@dataclass(frozen=True)
class Measured:
    """What one head of a file and of its model is worth.

    Attributes:
        metric: ``AP`` or ``mIoU``.
        model: of the model, 0..1.
        file: of the file.
        labelled: whether real labels say so; otherwise the model's own answers stand in for them.
    """

    metric: str
    model: float
    file: float
    labelled: bool

    @property
    def cost(self) -> float:
        """How much lower the file is."""
        return self.model - self.file


@dataclass(frozen=True)
class Measure:
    """Pictures and how inputs are made of them, the same for a file and its model.

    Attributes:
        size: longer side of pictures in inputs, pixels, where the letterbox has no one shape.
        batch: images of a pass.
        letterbox: how a picture lies within the input.
        thresholds: of results.
    """

    size: int
    batch: int
    letterbox: LetterboxRule
    thresholds: PostprocessOptions

    def of_few(self) -> Measure:
        """Return the measure for labels that are a model's own answers: the surest objects of every picture."""
        few = replace(self.thresholds, max_det=min(OWN_OBJECTS, self.thresholds.max_det))
        return replace(self, thresholds=few)

    def of(self, model: Inference, name: str, source: TaskSource, names: Sequence[str]) -> float:
        """Return AP or mIoU of one head.

        Args:
            model: a file or the model.
            name: of the head.
            source: labelled pictures.
            names: of the classes.

        Raises:
            DataError: not one picture can be read.
        """
        test = self._test(model, source, names)
        evaluator = run_head_test(model, name, test, model.device, None, self.thresholds)
        test.report(test.loader.skipped)
        return float(evaluator.compute()[metric_of(model.heads[name])])

    def own_answers(self, model: Inference, name: str, pictures: Pictures) -> Pictures:
        """Return pictures with what a model finds in them as their labels.

        Args:
            model: whose answers they are.
            name: of the head.
            pictures: whose labels do not matter.
        """
        answers: dict[str, Sample] = {}
        by_id = {sample.id: sample for sample in pictures.samples}

        def take(head: str, batch: Batch, results: list[Any]) -> None:
            for id, result in zip(batch.ids, results, strict=True):
                answers[id] = answered(by_id[id], result)

        test = self._test(model, pictures, model.names[name])
        run_head_test(model, name, test, model.device, None, self.thresholds, sink=take, evaluator=_Nothing())
        return Pictures(pictures.task, [answers[sample.id] for sample in pictures.samples])

    def _test(self, model: Inference, source: TaskSource, names: Sequence[str]) -> HeadTest:
        loader = build_test_loader(source, self.size, self.batch, model.stride, 0, letterbox=self.letterbox)
        return HeadTest(loader, list(names), hidden=isinstance(source, Pictures))


class _Nothing:
    """Stands where an evaluator does, while results are labels to be."""

    def update(self, results: list[Any], batch: Batch) -> None:
        """Forget the results; the sink has them."""


def answered(sample: Sample, result: DetectionResult | MaskResult) -> Sample:
    """Return a picture with a result as its labels.

    Args:
        sample: the picture.
        result: what has been found in it, native pixels.
    """
    if isinstance(result, MaskResult):
        return Sample(sample.image, mask=result.class_map.cpu().numpy(), id=sample.id)
    labelled = Sample(sample.image, result.boxes.cpu().numpy(), result.classes.cpu().numpy(), id=sample.id)
    if not isinstance(result, PoseResult):
        return labelled
    keypoints = result.keypoints.clone()
    keypoints[..., 2] = SEEN
    return replace(labelled, keypoints=keypoints.cpu().numpy())


def metric_of(head: Head) -> str:
    """Return the name of the metric that counts for a head."""
    return "mIoU" if head.evaluator == "masks" else "AP"


def require_worth(found: Mapping[str, Measured], tolerance: float) -> None:
    """Accept a file or refuse it by what real labels say.

    Args:
        found: by head.
        tolerance: how much lower than the model's a number may be, 0..1.

    Raises:
        ExportError: one is lower than that; the worst one is named.
    """
    beyond = {name: each for name, each in found.items() if each.labelled and not each.cost <= tolerance}
    if beyond:
        name, worst = max(beyond.items(), key=lambda item: item[1].cost)
        raise ExportError(
            f"{worst.metric} of the exported head '{name}' is {worst.file:.4f}, that of the model {worst.model:.4f}: "
            f"lower by {worst.cost:.4f}, more than --ap-tolerance {tolerance:g}; no file was written"
        )


def table_of(found: Mapping[str, Measured]) -> Iterable[str]:
    """Return what was measured as lines of text."""
    width = max(len(name) for name in ("head", *found))
    yield f"{'head':{width}}  metric  model   file    difference"
    for name, each in found.items():
        yield f"{name:{width}}  {each.metric:6}  {each.model:.4f}  {each.file:.4f}  {each.file - each.model:+.4f}"
