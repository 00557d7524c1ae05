"""What a written file is worth: opened as users open it, and measured beside its model."""

from __future__ import annotations

import argparse
import copy
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch

from data.sample_source import TaskSource
from data.transforms.letterbox import LetterboxRule
from models.exported.model import ExportedModel
from models.exported.paths import is_exported
from models.fusing import fuse_graph
from models.graph import Graph
from models.heads.base import Head
from models.inference import Inference, load_inference
from models.predictions import PostprocessOptions
from utils.export.check_pictures import (
    SCENES,
    ChosenHeads,
    FirstPictures,
    generated_pictures,
    labelled_pictures,
)
from utils.export.chosen_pixels import ChosenPixels
from utils.export.latency import Latency, by_turns
from utils.export.quality import Measure, Measured, metric_of, require_worth, table_of
from utils.validation import VALIDATION_OPTIONS

LOGGER = logging.getLogger("yolograph")
SPLIT = "val"


class Proof:
    """Measures files of one model. What it has found of the model serves all of them.

    Args:
        graph: the model as it is.
        heads: names of those that the files have.
        shape: batch size, height and width of the input.
        options: command-line values.
        device: where files and model run.

    Raises:
        DataError: the data do not fit the model, or cannot be read.
        UsageError: ``--segdata`` is given, and no head labels pixels.
    """

    def __init__(
        self,
        graph: Graph,
        heads: Sequence[str],
        shape: tuple[int, int, int],
        options: argparse.Namespace,
        device: torch.device,
    ) -> None:
        self.shape, self.options, self.device = shape, options, device
        self.chosen = ChosenHeads({name: graph.heads[name] for name in heads}, graph.names)
        self._answering = ChosenPixels if options.nms else Inference
        self.model = self._answering([fuse_graph(copy.deepcopy(graph).to(device))])
        self.sources: dict[str, TaskSource] = {}
        if options.data is not None:
            found = labelled_pictures(self.chosen, options, SPLIT)
            self.sources = {name: FirstPictures(source, options.check_images) for name, source in found.items()}
        self._of_model: dict[tuple[str, LetterboxRule], tuple[Measure, TaskSource, bool, float]] = {}

    def hold(self, path: Path, ending: str) -> str:
        """Measure a file beside the model, print what is found, and return it for the metadata.

        Args:
            path: of the file as it lies there.
            ending: of the name that it will have.

        Raises:
            ExportError: AP or mIoU is lower than the model's by more than ``--ap-tolerance``.
            ModelError: the file does not run.
        """
        with _named(path, ending) as named:
            # Read without a word about a check that is still going on.
            files = [ExportedModel(named, self.device)] if is_exported(named) else None
            file = Inference(files) if files else self._answering(load_inference([named], self.device).graphs)
            found = {name: self._measured(file, name) for name in self.chosen.heads if self._is_measured(name)}
            latency = self._latency(file)
        for line in self._report(found, latency):
            LOGGER.info("%s", line)
        require_worth(found, self.options.ap_tolerance)
        return json.dumps({"pictures": self._told(), "heads": {name: asdict(each) for name, each in found.items()}})

    def _is_measured(self, name: str) -> bool:
        """Whether there are pictures for a head; of given data only those that have labels for it count."""
        return name in self.sources or not self.sources

    def _measured(self, file: Inference, name: str) -> Measured:
        key = name, file.letterbox
        if key not in self._of_model:
            self._of_model[key] = self._prepared(file.letterbox, name)
        measure, source, labelled, own = self._of_model[key]
        of_file = measure.of(file, name, source, self.chosen.names[name])
        return Measured(metric_of(self.chosen.heads[name]), own, of_file, labelled)

    def _prepared(self, letterbox: LetterboxRule, name: str) -> tuple[Measure, TaskSource, bool, float]:
        """Return how a head is measured and on what, whether by real labels, and what the model is worth."""
        head, names = self.chosen.heads[name], self.chosen.names[name]
        measure = Measure(max(self.shape[1:]), self.shape[0], letterbox, self._thresholds(head))
        source, labelled = self.sources.get(name), True
        if source is None:
            source, labelled = generated_pictures(head, names, self.options.check_images)
            if not labelled:
                measure = measure.of_few()
                source = measure.own_answers(self.model, name, source)
        return measure, source, labelled, measure.of(self.model, name, source, names)

    def _thresholds(self, head: Head) -> PostprocessOptions:
        """Return those of a test; for files that choose objects themselves their own ones, for the model too."""
        options = self.options
        if options.nms:
            return PostprocessOptions(conf=options.conf_thres, iou=options.iou_thres, max_det=options.max_det)
        return replace(VALIDATION_OPTIONS, conf=head.test_confidence)

    @torch.inference_mode()
    def _latency(self, file: Inference) -> Latency:
        draw = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (self.shape[0], 3, *self.shape[1:]), generator=draw, dtype=torch.uint8)
        images = images.to(self.device)

        def run(model: Inference) -> None:
            model(images, self.chosen.heads)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return by_turns(lambda: run(self.model), lambda: run(file), self.options.passes)

    def _told(self) -> str:
        if self.sources:
            most = max(len(source) for source in self.sources.values())
            return f"the first {most} pictures of {Path(self.options.data).name} ({SPLIT})"
        scenes = min(SCENES, self.options.check_images)
        return f"{scenes} generated scene{'s' * (scenes > 1)}"

    def _report(self, found: dict[str, Measured], latency: Latency) -> Iterator[str]:
        yield ""
        yield from table_of(found)
        yield f"on {self._told()}"
        if not all(each.labelled for each in found.values()):
            yield "where the model's own answers are the labels; --data DATA.yaml measures by real ones"
        for name in (name for name, each in found.items() if not (each.labelled or each.model)):
            yield f"the model finds nothing there by '{name}', so its AP says nothing of the file"
        threads = torch.get_num_threads() if self.device.type == "cpu" else 0
        where = f"{threads} thread{'s' * (threads > 1)}" if threads else str(self.device)
        passes = f"{latency.passes} pass{'es' * (latency.passes > 1)}"
        yield (
            f"a batch of {self.shape[0]}: model {latency.model_ms:.1f} ms, file {latency.file_ms:.1f} ms, "
            f"{latency.speedup:.2f} times as fast (median of {passes} each, by turns; {where})"
        )


@contextmanager
def _named(path: Path, ending: str) -> Iterator[Path]:
    """Give a file that is being written a name with its ending, by which readers tell formats."""
    if path.suffix == ending:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"model{ending}"
        named.symlink_to(path.resolve())
        yield named
