"""``python -m models.convert IN.pt OUT.safetensors``: an official checkpoint becomes one of ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.checkpoint import save_checkpoint
from models.checkpoint_info import describe_checkpoint
from models.convert.official import read_official
from models.weights import build_model
from utils.errors import UsageError, run_command

DESCRIPTION = """Turn an official checkpoint into a .safetensors file that says what it is and executes nothing.

Whole-model files of YOLOv5 (v3 to v7) and of the multi-task YOLOv5 are rebuilt from the YAML inside them. The model of
YOLOX and YOLOX-Pose files, official or mmyolo's, and of mmyolo's files of YOLO-MS, YOLOv6 and YOLOv8, with or without
MS-Blocks, follows from their tensors. Other state dicts hold tensors alone: name their model with --cfg. Every command
also takes the original file as --weights."""

EPILOG = """examples:
  python -m models.convert yolov5n.pt yolov5n.safetensors
  python -m models.convert yolox_s.pth yolox_s.safetensors
  python -m models.convert yolo-ms_xs.pth yoloms_xs.safetensors
  python -m models.convert state_dict.pth mine.safetensors --cfg yolov5s.yaml

exit codes: 0 written, 1 no space, 2 wrong usage, 4 the file or the model is at fault"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert one file; ``arguments`` stand in for the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.convert",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN", help="official checkpoint, such as yolov5n.pt")
    parser.add_argument("target", type=Path, metavar="OUT", help="file to write, ending in .safetensors")
    parser.add_argument("--cfg", help="model YAML for a file without one: a path or a name below models/configs")
    parser.add_argument(
        "--raw", action="store_true", help="the weights that were not averaged, of a training checkpoint of mmengine"
    )
    options = parser.parse_args(arguments)
    if options.target.suffix != ".safetensors":
        raise UsageError(f"{options.target}: the name of the file to write must end in .safetensors")
    if not options.target.parent.is_dir():
        raise UsageError(f"{options.target}: there is no folder {options.target.parent}; make it first")
    if not options.source.is_file():
        raise UsageError(f"{options.source}: there is no such file")
    checkpoint = read_official(options.source, options.cfg, options.raw)
    # Built once from what is about to be written, so that a file that appears can be used.
    build_model(checkpoint, options.source)
    save_checkpoint(options.target, checkpoint)
    print(describe_checkpoint(checkpoint))
    print(f"wrote {options.target}")


if __name__ == "__main__":
    run_command(main)
