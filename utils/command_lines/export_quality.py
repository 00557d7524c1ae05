"""Options of ``export.py`` about what a file is worth beside the model, and about whole numbers of eight bits."""

from __future__ import annotations

import argparse

from utils.errors import UsageError

CHECK_IMAGES, CALIBRATION_IMAGES, PASSES = 128, 128, 20
FLOAT_TOLERANCE, REDUCED_TOLERANCE = 0.001, 0.02
INT8_FORMATS = ("onnx", "openvino")
"""Formats that can hold a quantised model."""


def add_quality_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about how a file is measured beside the model, and about ``--int8``."""
    add = parser.add_argument_group("what the file is worth").add_argument
    add("--data", help="data YAML: AP and mIoU of file and model are measured on pictures of its val split")
    add("--segdata", help="segmentation data in place of the YAML's: a root folder or another data YAML")
    add(
        "--check-images",
        type=int,
        default=CHECK_IMAGES,
        metavar="N",
        help="measure on the first N pictures of the split, or of the generated ones (default %(default)s)",
    )
    add(
        "--ap-tolerance",
        type=float,
        help="how much lower AP or mIoU of a file may be than the model's "
        f"(default {FLOAT_TOLERANCE:g}; {REDUCED_TOLERANCE:g} with --int8 and --half)",
    )
    add(
        "--passes",
        type=int,
        default=PASSES,
        metavar="N",
        help="passes of file and model, by turns, for the median time of each (default %(default)s)",
    )
    add = parser.add_argument_group("whole numbers of eight bits").add_argument
    add(
        "--int8",
        action="store_true",
        help="quantise: weights and maps in eight bits, input and decoding in float32; onnx through ONNX Runtime, "
        "openvino through NNCF; needs --data, so that the cost is measured",
    )
    add(
        "--calibration",
        metavar="SOURCE",
        help="pictures that tell the ranges of values: a folder, a list, or a data YAML whose train split is taken "
        "(default: the train split of --data, and of --segdata)",
    )
    add(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="take N of them, evenly spaced (default %(default)s)",
    )


def check_quality_options(options: argparse.Namespace) -> None:
    """Refuse values that nothing could be measured or quantised with.

    Raises:
        UsageError: a value is out of its range, or options do not go together.
    """
    for name in ("check_images", "calibration_images", "passes"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, but is {getattr(options, name)}")
    if options.ap_tolerance is not None and not 0 <= options.ap_tolerance <= 1:
        raise UsageError(f"--ap-tolerance must be 0 to 1, but is {options.ap_tolerance}")
    if options.segdata is not None and options.data is None:
        raise UsageError("--segdata stands in place of the masks that --data names; give both")
    if not options.int8:
        for flag, asked in (
            ("--calibration", options.calibration is not None),
            ("--calibration-images", options.calibration_images != CALIBRATION_IMAGES),
        ):
            if asked:
                raise UsageError(f"{flag} is about --int8; give both, or leave it out")
        return
    unfit = [name for name in options.include if name not in INT8_FORMATS]
    if unfit:
        raise UsageError(f"--int8 is for {' and '.join(INT8_FORMATS)}, not for {unfit[0]}; leave one of them out")
    if options.half:
        raise UsageError("--int8 and --half are two number formats; give one of them")
    if options.data is None and not (options.skip_check and options.calibration is not None):
        raise UsageError(
            "--int8 needs pictures with labels, so that it can be said what the file costs in AP or mIoU: give --data, "
            "or --calibration and --skip-check"
        )
