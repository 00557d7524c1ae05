"""Use a trained model on pictures and videos: ``python detect.py --weights best.safetensors --source PATH``."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.sources import Frame, Sources, find_sources, read_frames
from models.inference import Inference, load_inference
from models.predictions import DetectionResult, PostprocessOptions
from models.predictor import STAGES, Predictor, group_equal
from utils.annotate import Style, annotate, count_objects, describe
from utils.class_filter import kept_classes
from utils.command_lines.detecting import parse_options
from utils.devices import autocast_dtype, select_device
from utils.errors import DataError, UsageError, did_you_mean, run_command
from utils.files import increment_run_folder
from utils.logging import start_logging
from utils.masks_from_boxes import BoxMasks, load_segment_anything, with_masks
from utils.plots.drawing import save_picture
from utils.plots.skeletons import LEAST_SCORE
from utils.result_files import ResultFiles, Wanted
from utils.stage_clock import StageClock
from utils.video import VideoReader, VideoWriter

LOGGER = logging.getLogger("yolograph")
MASKS_STAGE = "masks"
MOST_MASK_CLASSES = 255


@dataclass
class Run:
    """One run of the command: what it works with, and what has come of it.

    Attributes:
        predictor: pictures to results.
        names: class names per head.
        files: where results go.
        style: how they are drawn.
        inputs: number of images and videos to read.
        batch_size: most pictures per pass.
        clock: time per stage.
        box_masks: outlines the objects, or None.
        images: still images done.
        videos: videos done.
        frames: frames of those videos.
        failures: inputs that could not be read.
        cut_short: videos with fewer frames than they announce.
    """

    predictor: Predictor
    names: dict[str, list[str]]
    files: ResultFiles
    style: Style
    inputs: int
    batch_size: int
    clock: StageClock
    box_masks: BoxMasks | None = None
    images: int = 0
    videos: int = 0
    frames: int = 0
    failures: list[Path] = field(default_factory=list)
    cut_short: list[Path] = field(default_factory=list)

    def failed(self, path: Path, error: DataError) -> None:
        """Take note of an input that cannot be read; the run goes on if there are others.

        Raises:
            DataError: it was the only input.
        """
        if self.inputs == 1:
            raise error
        self.failures.append(path)
        LOGGER.warning("left out: %s", error)

    def batches(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, dict[str, Any], float]]:
        """Yield every frame with its results and the milliseconds spent on it, predicted in batches of equal shape."""
        keyed = ((self.predictor.input_shapes(frame.image), frame) for frame in timed(frames, self.clock, "read"))
        for group in group_equal(keyed, self.batch_size):
            started = time.perf_counter()
            found = self.predictor([frame.image for frame in group])
            if self.box_masks is not None:
                with self.clock.time(MASKS_STAGE):
                    pairs = zip(group, found, strict=True)
                    found = [with_masks(frame.image, results, self.box_masks) for frame, results in pairs]
            milliseconds = 1000 * (time.perf_counter() - started) / len(group)
            for frame, results in zip(group, found, strict=True):
                yield frame, results, milliseconds


def timed(items: Iterable[Any], clock: StageClock, stage: str) -> Iterator[Any]:
    """Yield the items and count the time that getting them takes for a stage."""
    iterator = iter(items)
    while True:
        with clock.time(stage):
            item = next(iterator, None)
        if item is None:
            return
        yield item


def detect(options: argparse.Namespace) -> Path:
    """Run the model over the source and return the run folder.

    Raises:
        DataError: no input could be read.
    """
    sources = find_sources(options.source)
    run = prepare(options, sources)
    detect_images(run, sources.images)
    for number, path in enumerate(sources.videos, 1):
        try:
            detect_video(run, path, f"video {number}/{len(sources.videos)} {path.name}")
        except DataError as error:
            run.failed(path, error)
    report(run, options.source)
    return run.files.folder


def prepare(options: argparse.Namespace, sources: Sources) -> Run:
    """Load the model, hold the options against it, and make the run folder."""
    device = select_device(options.device)
    dtype = autocast_dtype(device, options.dtype)
    model = load_inference(options.weights, device, options.passes, deploy=options.deploy)
    heads = choose_heads(model, options)
    base_size = options.base_size or options.img_size
    sizes = {head: base_size if "masks" in model.heads[head].targets else options.img_size for head in heads}
    refuse_idle_options(model, heads, options)
    thresholds = choose_thresholds(model, heads, options)
    box_masks = load_segment_anything(options.sam, options.sam_size, device) if options.sam else None
    clock = StageClock(("read", *STAGES, *([MASKS_STAGE] if box_masks else []), "draw and write"))
    predictor = Predictor(model, sizes, thresholds, device, dtype, clock)
    predictor.warm_up(options.img_size)
    score = LEAST_SCORE if options.kpt_conf is None else options.kpt_conf
    wanted = Wanted(
        pictures=not options.nosave,
        labels=options.save_txt,
        confidences=options.save_conf,
        masks=options.save_mask,
        keypoint_score=score,
        labelme=options.save_labelme,
    )
    files = ResultFiles(run_folder(options, sources, wanted), model.names, wanted)
    style = Style(options.line_thickness, not options.hide_labels, not options.hide_conf, options.mask_alpha, score)
    LOGGER.info(
        "%s on %s in %s, heads %s",
        " + ".join(options.weights),
        device,
        str(dtype or torch.float32).removeprefix("torch."),
        ", ".join(heads),
    )
    return Run(predictor, model.names, files, style, len(sources), options.batch_size, clock, box_masks)


def choose_heads(model: Inference, options: argparse.Namespace) -> list[str]:
    """Return the heads to run.

    Raises:
        UsageError: the model has no such head.
    """
    for name in options.heads or ():
        if name not in model.heads:
            hint = did_you_mean(name, model.heads)
            raise UsageError(f"--heads {name}: the model has no such head, only {', '.join(model.heads)}.{hint}")
    return [name for name in model.heads if not options.heads or name in options.heads]


def choose_thresholds(
    model: Inference, heads: Sequence[str], options: argparse.Namespace
) -> dict[str, PostprocessOptions]:
    """Return for every head to run how its predictions become results.

    Raises:
        UsageError: the model has no such class of objects.
    """
    thresholds = PostprocessOptions(
        conf=options.conf_thres, iou=options.iou_thres, max_det=options.max_det, agnostic=options.agnostic_nms
    )
    objects = {name: model.names[name] for name in heads if "boxes" in model.heads[name].targets}
    classes = kept_classes(objects, options.classes, options.class_names)
    return {name: replace(thresholds, classes=classes.get(name)) for name in heads}


def refuse_idle_options(model: Inference, heads: Sequence[str], options: argparse.Namespace) -> None:
    """Make sure that every option that needs a kind of head finds one.

    Raises:
        UsageError: none of the heads to run answers what an option asks for, or it has too many classes for that.
    """
    answered = {target for head in heads for target in model.heads[head].targets}
    wishes = (
        ("--save-txt", options.save_txt, "boxes"),
        ("--save-labelme", options.save_labelme, "boxes"),
        ("--classes", options.classes, "boxes"),
        ("--class-names", options.class_names, "boxes"),
        ("--sam", options.sam, "boxes"),
        ("--kpt-conf", options.kpt_conf is not None, "keypoints"),
        ("--save-mask", options.save_mask and not options.sam, "masks"),
        ("--base-size", options.base_size, "masks"),
    )
    for name, given, target in wishes:
        if given and target not in answered:
            raise UsageError(
                f"{name} needs a head for {target}, but this run has only {', '.join(heads)}; leave it out"
            )
    most = max((len(model.names[head]) for head in heads if "boxes" in model.heads[head].targets), default=0)
    if options.sam and options.save_mask and most > MOST_MASK_CLASSES:
        raise UsageError(
            f"--save-mask writes classes 0 to {MOST_MASK_CLASSES - 1}, but the model has {most}; take --save-labelme"
        )


def run_folder(options: argparse.Namespace, sources: Sources, wanted: Wanted) -> Path:
    """Make the folder of the run, unless nothing is to be written.

    Raises:
        UsageError: it is the folder of the inputs, which the results would replace.
    """
    folder = Path(options.project) / options.name
    if options.exist_ok and folder.resolve() in {path.parent.resolve() for path in sources.images + sources.videos}:
        raise UsageError(f"{folder} holds the inputs, which the results would replace; choose another --name")
    return increment_run_folder(options.project, options.name, options.exist_ok) if wanted.anything else folder


def detect_images(run: Run, paths: list[Path]) -> None:
    """Run the model over still images: one line, and the wanted files, for each."""
    for frame, results, milliseconds in run.batches(read_frames(paths, run.failed)):
        with run.clock.time("draw and write"):
            target = run.files.name_for(frame.path)
            if run.files.wanted.pictures:
                save_picture(target, annotate(frame.image, results, run.names, run.style))
            run.files.save_results(target.stem, results, frame.image.shape[:2])
            run.files.save_labelme(target.stem, results, frame.image, frame.path)
        run.images += 1
        LOGGER.info(
            "image %d/%d %s: %s, %s, %.1f ms",
            frame.number,
            len(paths),
            frame.path.name,
            run.predictor.shape_text(frame.image),
            describe(results, run.names),
            milliseconds,
        )


def detect_video(run: Run, path: Path, title: str) -> None:
    """Run the model over a video: the same number of frames at the same rate, and the wanted files of every frame.

    Raises:
        DataError: not one frame can be read.
    """
    target = run.files.name_for(path).with_suffix(".mp4")
    objects: dict[str, list[np.ndarray]] = {}
    spent = 0.0
    with VideoReader(path) as video, VideoWriter(target, video.rate) as writer, frame_bar(video, title) as bar:
        frames = (Frame(path, image, number) for number, image in enumerate(video, 1))
        for frame, results, milliseconds in run.batches(frames):
            with run.clock.time("draw and write"):
                if run.files.wanted.pictures:
                    writer.write(annotate(frame.image, results, run.names, run.style))
                run.files.save_results(f"{target.stem}_{frame.number}", results, frame.image.shape[:2])
                run.files.save_labelme(f"{target.stem}_{frame.number}", results, frame.image)
            for head, result in results.items():
                if isinstance(result, DetectionResult):
                    objects.setdefault(head, []).append(result.classes.numpy())
            spent += milliseconds
            bar.update()
    run.videos += 1
    run.frames += video.frames_read
    counts = [f", {count_objects(np.concatenate(found), run.names[head])}" for head, found in objects.items()]
    LOGGER.info(
        "%s: %s, %d frames at %.4g per second%s, %.1f ms",
        title,
        run.predictor.shape_text(frame.image),
        video.frames_read,
        video.rate,
        "".join(counts),
        spent / video.frames_read,
    )
    if video.missing:
        run.cut_short.append(path)
        LOGGER.warning(
            "%s: announces %d frames, but only %d can be read; the result ends there",
            path,
            video.announced,
            video.frames_read,
        )


def frame_bar(video: VideoReader, title: str) -> tqdm:
    """Return the progress bar of a video; there is none where nobody watches a terminal."""
    return tqdm(total=video.announced or None, desc=title, unit="frame", leave=False, dynamic_ncols=True, disable=None)


def report(run: Run, source: str) -> None:
    """Say what was done, how long it took, and what could not be read.

    Raises:
        DataError: there is no result at all.
    """
    if run.images + run.videos == 0:
        raise DataError(f"{source}: not one of the {run.inputs} inputs can be read; mend the files named above")
    pictures = run.images + run.frames
    LOGGER.info("\nmean of %s: %s", plural(pictures, "picture"), run.clock.per_image(pictures))
    done = [plural(run.images, "image")] if run.images else []
    if run.videos:
        done.append(f"{plural(run.videos, 'video')} of {plural(run.frames, 'frame')}")
    LOGGER.info("%s done", " and ".join(done))
    if run.files.wanted.anything:
        LOGGER.info("results in %s", run.files.folder)
    for paths, what in ((run.cut_short, "end early"), (run.failures, "failed")):
        if paths:
            LOGGER.warning(
                "%d of %d inputs %s: %s", len(paths), run.inputs, what, ", ".join(path.name for path in paths)
            )


def plural(count: int, noun: str) -> str:
    """Return ``1 image``, ``2 images``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    detect(parse_options(arguments))


if __name__ == "__main__":
    run_command(main)
