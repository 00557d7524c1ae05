"""Setting a run of ``detect.py`` up: the model is loaded, the options are held against it, the folder is made."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from data.sources import Sources
from models.exported.model import device_for
from models.inference import Inference, forward_format, load_inference
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from models.tiled_predictor import TiledPredictor
from utils.annotate import Style
from utils.command_lines.exported_files import (
    number_formats,
    say_what_is_chosen,
    say_what_stays_empty,
    take_fixed_input,
)
from utils.command_lines.tracking import tracking_method
from utils.core_share import CoreShare
from utils.detecting.choices import choose_heads, choose_thresholds, refuse_idle_options
from utils.detecting.explaining import choose_explanation
from utils.detecting.following import TRACK
from utils.detecting.run import DRAW, MASKS, READ, WRITE, Run
from utils.errors import UsageError
from utils.files import increment_run_folder
from utils.masks_from_boxes import load_segment_anything
from utils.plots.skeletons import LEAST_SCORE
from utils.plots.window import PictureWindow
from utils.result_files import ResultFiles, Wanted
from utils.result_formats.grad_cam_files import GradCamFiles
from utils.result_formats.stills_film import require_equal_sizes
from utils.stage_clock import StageClock

LOGGER = logging.getLogger("yolograph")


def prepare(options: argparse.Namespace, sources: Sources) -> Run:
    """Load the model, hold the options against it, and make the run folder.

    Args:
        options: of the command line.
        sources: what will be read.

    Raises:
        UsageError: an option does not fit the model or the sources.
        ModelError: weights are missing or damaged.
        RunError: pictures shall be shown, and there is no display.
    """
    tracking = tracking_method(options, sources)
    device = device_for(options.weights, options.device)
    share = CoreShare.of(device, options.workers, passes_of(sources, options.batch_size))
    model = load_inference(options.weights, device, options.passes, options.deploy, share.passes)
    dtype = forward_format(model, options.dtype)
    take_fixed_input(options, model)
    say_what_stays_empty(model, options.batch_size)
    say_what_is_chosen(model)
    heads = choose_heads(model, options)
    base_size = options.base_size or options.img_size
    sizes = {head: base_size if "masks" in model.heads[head].targets else options.img_size for head in heads}
    refuse_idle_options(model, heads, options)
    thresholds = choose_thresholds(model, heads, options, tracking)
    grad_cam = choose_explanation(options, model, sizes)
    box_masks = load_segment_anything(options.sam, options.sam_size, device) if options.sam else None
    window = PictureWindow("detect.py") if options.view_img else None
    extra = [*([TRACK] if tracking else []), *([MASKS] if box_masks else [])]
    clock = StageClock((READ, *STAGES, *extra, DRAW, WRITE))
    predictor = build_predictor(options, model, sizes, thresholds, device, dtype, clock)
    predictor.warm_up(options.img_size)
    if options.save_as_video:
        require_equal_sizes(sources.images)
    wanted = choose_files(options)
    files = ResultFiles(run_folder(options, sources, wanted), model.names, wanted)
    if grad_cam is not None:
        files.add(lambda paths: GradCamFiles(paths, model.names, grad_cam, options.batch_size))
    style = choose_style(options, wanted)
    LOGGER.info(
        "%s on %s in %s, heads %s",
        " + ".join(options.weights),
        device,
        number_formats(model, dtype),
        ", ".join(heads),
    )
    return Run(
        predictor,
        model.names,
        files,
        style,
        inputs=len(sources),
        batch_size=options.batch_size,
        clock=clock,
        share=share,
        box_masks=box_masks,
        tracking=tracking,
        stride=options.vid_stride,
        most_frames=options.max_frames,
        window=window,
    )


def build_predictor(
    options: argparse.Namespace,
    model: Inference,
    sizes: dict[str, int],
    thresholds: Mapping[str, PostprocessOptions],
    device: torch.device,
    dtype: torch.dtype | None,
    clock: StageClock,
) -> Predictor:
    """Return what looks at pictures, as a whole or in tiles too."""
    given = model, sizes, thresholds, device, dtype, clock
    if options.tiling is None:
        return Predictor(*given)
    return TiledPredictor(*given, options.tiling, options.batch_size)


def passes_of(sources: Sources, batch_size: int) -> int | None:
    """Return how many passes still images need at least; None where there are videos or live sources."""
    return None if sources.videos or sources.live else -(-len(sources.images) // batch_size)


def choose_style(options: argparse.Namespace, wanted: Wanted) -> Style:
    """Return what drawings look like."""
    labels, confidences = not options.hide_labels, not options.hide_conf
    return Style(
        options.line_thickness, labels, confidences, options.mask_alpha, wanted.keypoint_score, options.track_colours
    )


def choose_files(options: argparse.Namespace) -> Wanted:
    """Return which files to write."""
    return Wanted(
        pictures=not options.nosave,
        labels=options.save_txt,
        confidences=options.save_conf,
        masks=options.save_mask,
        keypoint_score=LEAST_SCORE if options.kpt_conf is None else options.kpt_conf,
        labelme=options.save_labelme,
        crops=options.save_crop,
        table=options.save_csv,
        coco=options.save_json,
        submission=options.submit,
        explanations=options.explain is not None,
        film_rate=options.fps if options.save_as_video else None,
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
