"""The command line of ``detect.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from models.views import choose_passes
from utils.command_lines.inference import (
    add_folder_options,
    add_machine_options,
    add_model_options,
    require_at_least,
    require_shares,
)
from utils.errors import UsageError
from utils.image_size import require_possible_sizes
from utils.masks_from_boxes import SAM_WIDTHS
from utils.plots.skeletons import LEAST_SCORE

DESCRIPTION = """Run every head of a model on images and videos: objects as labelled boxes, poses as skeletons, areas as
a coloured overlay.

--source is an image, a video, a folder (its subfolders are left out), a quoted glob, or a .txt file with one image or
video per line. Results go to a new folder runs/detect/exp, exp2, ... under the names of their sources; a video becomes
an .mp4 of the same frame count, frame rate and size, without sound (an odd row or column is cut off)."""

EPILOG = """what is written:
  NAME                        the picture with boxes and overlay (not with --nosave)
  labels/STEM.txt             --save-txt: 'class x y w h' per object, relative to the image; confidence with --save-conf
                              a pose also 'x y v' per keypoint: v is 2 if found, else 0; its score with --save-conf
  labelme/STEM.json           --save-labelme: objects for the annotation tool labelme, with the relative path of the
                              image; rectangles, with --sam polygons; found keypoints are points in a pose's group
  masks/STEM.png              --save-mask: the class index of every pixel; with --sam that of the object, 255 for none
  masks/STEM_colour.png       --save-mask: the same in colours
  of a video                  labels/STEM_FRAME.txt, labelme/STEM_FRAME.json with the frame itself as STEM_FRAME.jpg,
                              masks/STEM_FRAME.png ..., frames counted from 1
  STEM taken by another file  STEM_2, STEM_3 ...; several heads of one kind: labels_HEAD, masks_HEAD

masks of objects: --sam takes weights of Segment Anything (sam_vit_b_01ec64.pth ...), which you get yourself, and needs
its package: pip install -r requirements-sam.txt. Each box becomes a mask, laid over the picture in the colour of its
class with the weight of --mask-alpha.

examples:
  python detect.py --weights runs/train/exp/weights/best.safetensors --source street.jpg
  python detect.py --weights best.safetensors --source photos/ --save-txt --save-conf --conf-thres 0.4
  python detect.py --weights best.safetensors --source 'photos/**/*.png' --save-mask --nosave
  python detect.py --weights best.safetensors --source drive.mp4 --batch-size 8 --dtype auto
  python detect.py --weights best.safetensors --source photos/ --class-names car 'traffic light' --save-labelme
  python detect.py --weights best.safetensors --source photos/ --sam sam_vit_b_01ec64.pth --save-labelme --nosave

Files that cannot be read are named and left out; the run fails only if none can be read.
exit codes: 0 there is a result, 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    require_shares(options, "conf_thres", "iou_thres", "mask_alpha", "kpt_conf")
    require_possible_sizes("--img-size", [options.img_size])
    require_possible_sizes("--base-size", [options.base_size])
    require_at_least(options, batch_size=1, max_det=1, line_thickness=1)
    options.passes = choose_passes(options.augment, options.tta)
    if options.save_conf and not options.save_txt:
        raise UsageError("--save-conf adds a column to the files of --save-txt; give both")
    if options.sam_size and not options.sam:
        raise UsageError("--sam-size says which model the weights of --sam belong to; give both")
    if options.sam and options.nosave and not (options.save_mask or options.save_labelme):
        raise UsageError("--sam outlines objects, but --nosave shows nothing of it; add --save-mask or --save-labelme")
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="detect.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model and pictures")
    model.add_argument("--source", required=True, help="image, video, folder, quoted glob, or .txt list of files")
    add_model_options(model)
    _add_sizes(model)
    _add_objects(parser.add_argument_group("objects"))
    _add_files(parser.add_argument_group("files"))
    _add_drawing(parser.add_argument_group("drawing"))
    machine = parser.add_argument_group("machine")
    add_machine_options(machine)
    machine.add_argument(
        "--batch-size", type=int, default=1, help="most pictures of equal input shape per pass (default %(default)s)"
    )
    return parser


def _add_sizes(group: argparse._ArgumentGroup) -> None:
    """Add the options about what the heads see."""
    add = group.add_argument
    add("--heads", nargs="+", help="only these heads (default: all, in one pass)")
    add(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        default=640,
        help="long side, pixels; the short side for models whose YAML says 'fit: shortest' (default %(default)s)",
    )
    add("--base-size", type=int, help="the same for segmentation; costs a second pass (default: --img-size)")


def _add_objects(group: argparse._ArgumentGroup) -> None:
    """Add the options about which objects are kept, and what is found out about them."""
    add = group.add_argument
    add("--conf-thres", "--conf", type=float, default=0.25, help="least confidence (default %(default)s)")
    add("--iou-thres", "--iou", type=float, default=0.45, help="overlap that suppresses (default %(default)s)")
    add("--max-det", type=int, default=1000, help="most objects per image (default %(default)s)")
    add("--agnostic-nms", action="store_true", help="suppress across classes")
    add("--classes", type=int, nargs="+", metavar="INDEX", help="keep only objects of these class indices")
    add(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="keep only objects of these classes; with --classes those of either. What is not kept is not drawn, "
        "written or counted",
    )
    add(
        "--kpt-conf",
        type=float,
        help="least score of a keypoint to draw, and for --save-txt and --save-labelme to count as found, 0..1 "
        f"(default {LEAST_SCORE})",
    )
    add("--sam", metavar="WEIGHTS", help="outline every object with Segment Anything; the file of its weights")
    add("--sam-size", choices=tuple(SAM_WIDTHS), help="which of its models that is (default: what the file holds)")


def _add_files(group: argparse._ArgumentGroup) -> None:
    """Add the options about what is written, and where."""
    add = group.add_argument
    add("--save-txt", action="store_true", help="write objects as label text")
    add("--save-conf", action="store_true", help="add the confidence to --save-txt")
    add("--save-labelme", action="store_true", help="write objects as JSON for labelme, one file per image or frame")
    add("--save-mask", action="store_true", help="write class maps as PNG")
    add("--nosave", "--no-save", action="store_true", help="write no pictures and no videos")
    add_folder_options(group, "runs/detect", "run")


def _add_drawing(group: argparse._ArgumentGroup) -> None:
    """Add the options about what pictures look like."""
    add = group.add_argument
    add(
        "--line-thickness", type=int, help="line width of boxes and limbs, pixels (default: follows the picture's size)"
    )
    add("--hide-labels", action="store_true", help="draw boxes without labels")
    add("--hide-conf", action="store_true", help="draw labels without the confidence")
    add("--mask-alpha", type=float, default=0.4, help="weight of the overlay's colours, 0..1 (default %(default)s)")
