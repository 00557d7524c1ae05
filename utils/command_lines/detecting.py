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
from utils.command_lines.live import add_live_options, check_live_options
from utils.command_lines.tiles import add_tile_option, tiling_of
from utils.command_lines.tracking import add_tracking_options
from utils.core_share import MOST_PASSES
from utils.errors import UsageError
from utils.image_size import require_possible_sizes
from utils.masks_from_boxes import SAM_WIDTHS
from utils.plots.skeletons import LEAST_SCORE

DESCRIPTION = """Run every head of a model on images and videos: objects as labelled boxes, poses as skeletons, areas as
a coloured overlay.

Results go to a new folder runs/detect/exp, exp2, ... under the names of their sources; a video becomes an .mp4 of the
same frame count, frame rate and size, without sound (an odd row or column is cut off). Without arguments the newest
trained model, or a small one that comes along, looks at generated street scenes."""

SOURCES = """--source is one of these; what exists as a file or folder is never taken for a webcam or a glob:
  photo.jpg, drive.mp4        an image or a video
  photos/                     the images and videos of a folder; those of its subfolders too with --recursive
  'photos/**/*.png'           a glob, quoted so that the shell leaves it to the program
  list.txt                    an image, a video, an address or the index of a webcam per line
  -                           such a list on standard input
  0                           a webcam, by its index
  rtsp://HOST/PATH            a network stream; also rtmp://, http:// and https://. A recording behind an HTTP address
                              is read to its end, and no frame of it dropped
  cameras.streams             several of them at once: an address or the index of a webcam per line, # for comments
Of a live source the newest frames count: what comes too fast is dropped, and counted. It is left by Ctrl-C.

"""

DEFAULT_FILM_RATE, LOWEST_FILM_RATE, HIGHEST_FILM_RATE = 30.0, 0.1, 1000.0
"""Frames per second of the video that --save-as-video makes."""

EPILOG = """what is written:
  NAME                        the picture with boxes and overlay (not with --nosave)
  labels/STEM.txt             --save-txt: 'class x y w h' per object, relative to the image; confidence with --save-conf
                              a pose also 'x y v' per keypoint: v is 2 if found, else 0; its score with --save-conf
                              the last column with --track is the object's number, -1 if it is not followed
  labelme/STEM.json           --save-labelme: objects for the annotation tool labelme, with the relative path of the
                              image; rectangles, with --sam polygons; found keypoints are points in a pose's group;
                              with --track the group is the object's number
  masks/STEM.png              --save-mask: the class index of every pixel; with --sam that of the object, 255 for none
  masks/STEM_colour.png       --save-mask: the same in colours
  crops/CLASS/STEM.jpg        --save-crop: the part of the image that an object covers; of more objects of that class
                              STEM_2.jpg, STEM_3.jpg ..., the most certain first
  objects.csv                 --save-csv: a row per object with picture, frame, head, class, name, confidence, corners
                              in pixels and, with --track, its number; it grows picture by picture
  HEAD_predictions.json       --save-json: 'image_id' is STEM, as a number if it has digits only; 'category_id' is the
                              class index; poses have their keypoints, objects followed by --track a 'track_id'
  results/STEM_pred.png       --submit: class maps in the label ids of Cityscapes; zip the folder for its server
  explain/STEM_CLASS.jpg      --explain: a map over the picture for each of the five surest classes of objects, or
                              largest classes of areas; CLASS is index and name. The brighter, the more it counts
  images.mp4                  --save-as-video: all drawn still images one after the other
  of a video                  labels/STEM_FRAME.txt, labelme/STEM_FRAME.json with the frame itself as STEM_FRAME.jpg,
                              masks/STEM_FRAME.png, crops/CLASS/STEM_FRAME_1.jpg ..., frames counted from 1
  STEM taken by another file  STEM_2, STEM_3 ...; several heads of one kind: labels_HEAD, masks_HEAD ...

masks of objects: --sam takes weights of Segment Anything (sam_vit_b_01ec64.pth ...), which you get yourself, and needs
its package: pip install -r requirements-sam.txt. Each box becomes a mask, laid over the picture in the colour of its
class with the weight of --mask-alpha.

examples:
  python detect.py --weights runs/train/exp/weights/best.safetensors --source street.jpg
  python detect.py --weights best.safetensors --source photos/ --save-txt --save-conf --conf-thres 0.4
  python detect.py --weights best.safetensors --source 'photos/**/*.png' --save-mask --nosave
  python detect.py --weights best.safetensors --source drive.mp4 --batch-size 8 --dtype auto
  python detect.py --weights best.safetensors --source drive.mp4 --track ocsort --save-csv --vid-stride 2
  python detect.py --weights best.safetensors --source aerial.png --tile 640 0.2 --batch-size 8
  python detect.py --weights yolov5n.pt --source photos/ --explain 20
  python detect.py --weights best.safetensors --source rtsp://192.168.0.7:8554/door --save-csv
  find photos -newer last_run -name '*.jpg' | python detect.py --weights best.safetensors --source -
  python detect.py --weights best.safetensors --source photos/ --class-names car 'traffic light' --save-labelme
  python detect.py --weights best.safetensors --source photos/ --sam sam_vit_b_01ec64.pth --save-labelme --nosave

Files that cannot be read are named and left out; the run fails only if none can be read. Ctrl-C or SIGTERM ends a run
with what is done: files and videos are complete as far as they go.
exit codes: 0 there is a result, 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault,
            130 the user ended the run"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    require_shares(options, "conf_thres", "iou_thres", "mask_alpha", "kpt_conf")
    require_possible_sizes("--img-size", [options.img_size])
    require_possible_sizes("--base-size", [options.base_size])
    require_at_least(options, batch_size=1, max_det=1, line_thickness=1, vid_stride=1, max_frames=1, workers=1)
    check_live_options(options)
    options.tiling = tiling_of(options.tile)
    options.passes = choose_passes(options.augment, options.tta)
    if options.save_conf and not options.save_txt:
        raise UsageError("--save-conf adds a column to the files of --save-txt; give both")
    if options.fps is not None and not options.save_as_video:
        raise UsageError("--fps is the rate of the video of --save-as-video; give both (videos keep their own rate)")
    options.fps = DEFAULT_FILM_RATE if options.fps is None else options.fps
    if not LOWEST_FILM_RATE <= options.fps <= HIGHEST_FILM_RATE:
        raise UsageError(f"--fps must be {LOWEST_FILM_RATE:g} to {HIGHEST_FILM_RATE:g}, but is {options.fps:g}")
    if options.sam_size and not options.sam:
        raise UsageError("--sam-size says which model the weights of --sam belong to; give both")
    if options.sam and options.nosave and not _shows_masks(options):
        raise UsageError("--sam outlines objects, but --nosave shows nothing of it; add --save-mask or --save-labelme")
    return options


def _shows_masks(options: argparse.Namespace) -> bool:
    """Tell whether anything shows the masks of objects where no pictures are written."""
    return options.save_mask or options.save_labelme or options.save_as_video or options.view_img


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="detect.py",
        description=DESCRIPTION,
        epilog=SOURCES + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model and pictures")
    model.add_argument(
        "--source",
        help="image, video, folder, glob, list, webcam or stream; see below (default: pictures and the film of the "
        "embedded set)",
    )
    model.add_argument("--recursive", action="store_true", help="look into the subfolders of a folder, too")
    add_model_options(model, default_weights="best.safetensors of the newest runs/train/*, else the example's")
    _add_sizes(model)
    _add_objects(parser.add_argument_group("objects"))
    _add_files(parser.add_argument_group("files"))
    _add_drawing(parser.add_argument_group("drawing"))
    moving = parser.add_argument_group("videos, webcams and streams")
    _add_frames(moving)
    add_live_options(moving)
    add_tracking_options(moving)
    machine = parser.add_argument_group("machine")
    add_machine_options(machine)
    machine.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="most pictures of equal input shape per pass; of live sources those that are there now, each with one "
        "(default %(default)s)",
    )
    machine.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"passes side by side (default: one per core of a CPU, {MOST_PASSES} at most; one on a GPU)",
    )
    return parser


def _add_frames(group: argparse._ArgumentGroup) -> None:
    """Add the options about which frames of moving pictures are looked at."""
    add = group.add_argument
    add("--vid-stride", type=int, default=1, metavar="N", help="look at every N-th frame (default %(default)s)")
    add("--max-frames", type=int, metavar="N", help="look at N frames of each video or live source, and end there")


def _add_sizes(group: argparse._ArgumentGroup) -> None:
    """Add the options about what the heads see."""
    add = group.add_argument
    add("--heads", nargs="+", help="only these heads (default: all, in one pass)")
    add(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        help="long side, pixels; the short side for models whose YAML says 'fit: shortest' (default 640; without "
        "--weights the size that the model was trained with)",
    )
    add("--base-size", type=int, help="the same for segmentation; costs a second pass (default: --img-size)")
    add_tile_option(group)


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
    add("--save-crop", action="store_true", help="write every object as a picture of its own")
    add("--save-csv", action="store_true", help="write the objects of all pictures as one table")
    add("--save-json", action="store_true", help="write the objects of all pictures as a results file of COCO per head")
    add(
        "--save-as-video",
        action="store_true",
        help="make one video of all drawn still images, which must be of one size; with --nosave, of them alone",
    )
    add("--fps", type=float, help=f"frames per second of that video (default {DEFAULT_FILM_RATE:g})")
    add(
        "--submit",
        action="store_true",
        help="write class maps as the benchmark server of Cityscapes takes them; for models of its 19 classes",
    )
    add(
        "--explain",
        metavar="ROW",
        help="write by Grad-CAM what in a row of the model, by its number or name, speaks for what was found; one of "
        "the rows that a head reads shows most (python -m models.graph MODEL.yaml lists them)",
    )
    add("--nosave", "--no-save", action="store_true", help="write no pictures and no videos of their sources")
    add_folder_options(group, "runs/detect", "run")


def _add_drawing(group: argparse._ArgumentGroup) -> None:
    """Add the options about what pictures look like."""
    add = group.add_argument
    add(
        "--line-thickness", type=int, help="line width of boxes and limbs, pixels (default: follows the picture's size)"
    )
    add("--view-img", action="store_true", help="show the pictures while the run goes on; needs a display")
    add("--hide-labels", action="store_true", help="draw boxes without labels")
    add("--hide-conf", action="store_true", help="draw labels without the confidence")
    add("--mask-alpha", type=float, default=0.4, help="weight of the overlay's colours, 0..1 (default %(default)s)")
