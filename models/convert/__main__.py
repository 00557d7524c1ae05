"""``python -m models.convert IN OUT``: an official checkpoint becomes one of ours, or a YOLOS one of Hugging Face."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.checkpoint import is_checkpoint, read_header, save_checkpoint
from models.checkpoint_info import describe_checkpoint
from models.convert.hugging_face import CONFIG, weights_in_folder
from models.convert.official import read_official
from models.convert.to_hugging_face import write_hugging_face
from models.convert.weight_file import is_safetensors
from models.exported.paths import require_no_export
from models.weights import SNIFFED_BYTES, build_model, load_weights
from utils.errors import ModelError, UsageError, run_command

DESCRIPTION = """Turn an official checkpoint into a .safetensors file that says what it is and executes nothing.

Whole-model files of YOLOv5 (v3 to v7) and of the multi-task YOLOv5 are rebuilt from the YAML inside them. The model of
YOLOX and YOLOX-Pose files, official or mmyolo's, and of mmyolo's files of YOLO-MS, YOLOv6 and YOLOv8, with or without
MS-Blocks, follows from their tensors; so does that of a YOLOS, an MS-DETR or a Deformable-DETR, official or of Hugging
Face (a folder, or its model.safetensors or pytorch_model.bin). Other state dicts hold tensors alone: name their model
with --cfg. Every command also takes the original file as --weights.

With --to huggingface a YOLOS of any kind, ours, official or from Hugging Face, becomes a folder that transformers
reads: model.safetensors, config.json and preprocessor_config.json."""

EPILOG = """examples:
  python -m models.convert yolov5n.pt yolov5n.safetensors
  python -m models.convert yolox_s.pth yolox_s.safetensors
  python -m models.convert yolo-ms_xs.pth yoloms_xs.safetensors
  python -m models.convert yolos-tiny/ yolos-ti.safetensors
  python -m models.convert ms_detr_300.pth ms-detr-300.safetensors
  python -m models.convert runs/train/exp/weights/best.safetensors my-yolos/ --to huggingface
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
    parser.add_argument("source", type=Path, metavar="IN", help="official checkpoint, such as yolov5n.pt, or a folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="file to write, ending in .safetensors; or a folder")
    parser.add_argument("--cfg", help="model YAML for a file without one: a path or a name below models/configs")
    parser.add_argument(
        "--raw", action="store_true", help="the weights that were not averaged, of a training checkpoint of mmengine"
    )
    parser.add_argument("--to", choices=["huggingface"], help="write a folder of Hugging Face's transformers instead")
    parser.add_argument(
        "--img-size", type=int, metavar="N", help="short side of pictures for --to huggingface (default: the run's own)"
    )
    options = parser.parse_args(arguments)
    if not options.source.exists():
        raise UsageError(f"{options.source}: there is no such file")
    if options.to is None:
        convert_to_ours(options)
    else:
        convert_to_hugging_face(options)


def official_file(source: Path) -> Path:
    """Return the file itself: of a folder the weights in it.

    Raises:
        ModelError: it is an exported file or a checkpoint of ours, or a folder without weights.
    """
    if not (source / CONFIG).is_file():
        require_no_export(source)
    file = weights_in_folder(source) if source.is_dir() else source
    with open(file, "rb") as opened:
        start = opened.read(SNIFFED_BYTES)
    if is_safetensors(start) and is_checkpoint(file):
        read_header(file)
        raise ModelError(f"{file}: is a checkpoint of this program already; there is nothing to convert")
    return file


def convert_to_ours(options: argparse.Namespace) -> None:
    """Write a checkpoint of ours."""
    if options.img_size is not None:
        raise UsageError("--img-size belongs to --to huggingface; checkpoints of this program keep that elsewhere")
    if options.target.suffix != ".safetensors":
        raise UsageError(f"{options.target}: the name of the file to write must end in .safetensors")
    if not options.target.parent.is_dir():
        raise UsageError(f"{options.target}: there is no folder {options.target.parent}; make it first")
    checkpoint = read_official(official_file(options.source), options.cfg, options.raw)
    # Built once from what is about to be written, so that a file that appears can be used.
    build_model(checkpoint, options.source)
    save_checkpoint(options.target, checkpoint)
    print(describe_checkpoint(checkpoint))
    print(f"wrote {options.target}")


def convert_to_hugging_face(options: argparse.Namespace) -> None:
    """Write a folder as transformers has it."""
    if options.raw:
        raise UsageError("--raw is for files of mmengine, which hold no YOLOS; leave it out")
    if options.target.exists() and not options.target.is_dir():
        raise UsageError(f"{options.target}: is a file; name the folder to write")
    if not options.target.absolute().parent.is_dir():
        raise UsageError(f"{options.target}: there is no folder {options.target.parent}; make it first")
    if options.img_size is not None and options.img_size < 1:
        raise UsageError(f"--img-size is a number of pixels above 0, but it is {options.img_size}")
    if options.cfg is None:
        checkpoint = load_weights(options.source)
    else:
        checkpoint = read_official(official_file(options.source), options.cfg)
    write_hugging_face(options.target, checkpoint, options.source, options.img_size)
    print(describe_checkpoint(checkpoint))
    print(f"wrote {options.target}")


if __name__ == "__main__":
    run_command(main)
