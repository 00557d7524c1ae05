"""The command lines of ``python -m utils.explain``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from utils.command_lines.inference import (
    add_folder_options,
    add_machine_options,
    require_at_least,
    require_shares,
)
from utils.errors import UsageError
from utils.explain.token_heads import ALL
from utils.image_size import require_possible_sizes

ATTENTION, TOKENS = "attention", "tokens"
_PROG = "python -m utils.explain"
_EXIT_CODES = "exit codes: 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault"

_DESCRIPTION = """Show what a transformer with detection tokens (YOLOS) does.

  attention   pictures of what the tokens look at in a picture, per attention head
  tokens      what each token finds over a data set: where, how large, of which classes

Each has its own manual: python -m utils.explain attention --help"""

_ATTENTION = """Draw the self-attention of detection tokens: how much each looks at every patch of a picture.

Drawn are the tokens that are surer of an object than --conf, or those named by --tokens. All pictures have the size of
their source, and every patch lies where the network saw it. Colours go from the least (dark) to the greatest (yellow)
value of each map; attention to other tokens is not shown."""

_ATTENTION_FILES = """what is written, in runs/explain/exp/STEM for every picture:
  img.png                        the picture
  pred_img.png                   with the boxes of the drawn tokens, 'NUMBER: class score'
  gt_img.png                     with the labelled boxes, if --data has the picture
  Det-Tok-I_attn.png             montage of token I: its box, the mean of the heads, every head
  Det-Tok-I_overlay.jpg          the same maps laid over the picture, smoothed between patches
  Det-Tok-I/attn-head-mean.png   the maps one by one, patches as squares
  Det-Tok-I/attn-headH.png
  Det-Tok-I/overlay-mean.jpg     the overlays one by one
  Det-Tok-I/overlay-headH.jpg
with several blocks the maps of each are in a folder block-ROW.NUMBER, and beside these
  Det-Tok-I_blocks.jpg           the mean over the picture, block by block

examples:
  python -m utils.explain attention --weights yolos_ti.safetensors --source street.jpg
  python -m utils.explain attention --weights best.safetensors --source photos/ --conf 0.5 --block 0 5 -1
  python -m utils.explain attention --weights best.safetensors --source street.jpg --tokens 3 17 --block 1.11
  python -m utils.explain attention --weights best.safetensors --data my_data.yaml --index 5

"""

_TOKENS = """Run a data set and show what each detection token specialises in.

All predictions of all tokens go into one file, predictions.npz, with the labels beside them; the pictures are drawn
from it, and --npz draws them again without a model."""

_TOKENS_FILES = """what is written, in runs/explain/exp:
  predictions.npz     arrays, see docs/explain.md
  token_boxes.png     a panel per token: centres of its boxes, blue up to 32x32 pixels, red from 96x96, else green
  token_classes.png   how often tokens answer with each class, mean and band, beside the labels, on a log axis

examples:
  python -m utils.explain tokens --weights yolos_ti.safetensors --data coco.yaml --img-size 512
  python -m utils.explain tokens --weights best.safetensors --data my_data.yaml --split train --conf 0.5
  python -m utils.explain tokens --npz runs/explain/exp/predictions.npz --tokens 40 41 42 --conf 0.9

"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``options.command`` is ``attention`` or ``tokens``.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    require_shares(options, "conf")
    require_possible_sizes("--img-size", [options.img_size])
    if options.command == ATTENTION:
        _check_attention(options)
    else:
        _check_tokens(options)
    return options


def _check_attention(options: argparse.Namespace) -> None:
    if options.source is None and options.data is None:
        raise UsageError("attention needs pictures: give --source, or --data with --index")
    if options.source is not None and options.index is not None:
        raise UsageError("--index chooses pictures of --data, --source names them itself; leave one of them out")
    options.index = options.index or [0]


def _check_tokens(options: argparse.Namespace) -> None:
    require_at_least(options, batch_size=1, workers=0)
    if options.npz is not None and (options.weights or options.data):
        raise UsageError("--npz draws from a file of an earlier run; leave --weights and --data out")
    if options.npz is None and not (options.weights and options.data):
        raise UsageError("tokens needs --weights and --data, or the file of an earlier run with --npz")
    options.all_tokens = options.tokens == [ALL]
    options.tokens = None if options.tokens is None or options.all_tokens else _numbers(options.tokens)


def _numbers(words: Sequence[str]) -> list[int]:
    for word in words:
        if not word.isdecimal():
            raise UsageError(f"--tokens {word}: give numbers of tokens, from 0, or the one word {ALL}")
    return list(dict.fromkeys(map(int, words)))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of both commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=_PROG, description=_DESCRIPTION, epilog=_EXIT_CODES, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="attention | tokens")
    for name, about, files, add_options in (
        (ATTENTION, _ATTENTION, _ATTENTION_FILES, _add_attention),
        (TOKENS, _TOKENS, _TOKENS_FILES, _add_tokens),
    ):
        summary = about.splitlines()[0].rstrip(".:")
        add_options(
            commands.add_parser(name, help=summary, description=about, epilog=files + _EXIT_CODES, formatter_class=raw)
        )
    return parser


def _add_attention(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model and pictures")
    add = model.add_argument
    add("--weights", required=True, help="checkpoint, ours or an official one")
    add("--source", help="image, folder, quoted glob, or .txt list of images")
    _add_data(model, "data YAML, for pictures with the labelled boxes; without --source also for the pictures")
    add("--index", type=int, nargs="+", metavar="N", help="pictures of --data by position in the split (default 0)")
    _add_size_and_head(model)
    what = parser.add_argument_group("what is drawn")
    add = what.add_argument
    add("--conf", type=float, default=0.9, help="least score of a drawn token, 0..1 (default %(default)s)")
    add("--tokens", type=int, nargs="+", metavar="N", help="draw these tokens, from 0, whatever their scores")
    add(
        "--block",
        nargs="+",
        default=["-1"],
        metavar="B",
        help="blocks whose attention is drawn: a position among all (0 the first, -1 the last), ROW.NUMBER as in the "
        f"model YAML, numbers from 0, or {ALL} (default -1)",
    )
    add_folder_options(parser.add_argument_group("files"), "runs/explain", "run")
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", default="", help="cpu, or the number of a GPU (default: the first GPU, else the CPU)"
    )


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model and data")
    add = model.add_argument
    add("--weights", help="checkpoint, ours or an official one")
    _add_data(model, "data YAML: a path or a name in data/configs")
    add("--npz", metavar="FILE", help="predictions.npz of an earlier run: draw it again, without a model")
    _add_size_and_head(model)
    add(
        "--batch-size",
        type=int,
        default=16,
        help="images per batch; the answers do not depend on it (default %(default)s)",
    )
    what = parser.add_argument_group("what is drawn")
    add = what.add_argument
    add("--conf", type=float, default=0.0, help="count predictions of at least this score, 0..1 (default all)")
    add(
        "--tokens",
        nargs="+",
        metavar="N",
        help=f"tokens that get a panel, from 0, or {ALL} (default the first ten)",
    )
    add_folder_options(parser.add_argument_group("files"), "runs/explain", "run")
    machine = parser.add_argument_group("machine")
    add_machine_options(machine)
    machine.add_argument(
        "--workers", type=int, default=8, help="worker processes, at most one per core (default %(default)s)"
    )


def _add_data(group: argparse._ArgumentGroup, about: str) -> None:
    group.add_argument("--data", help=about)
    group.add_argument(
        "--split", default="val", choices=("train", "val", "test"), help="split of --data (default %(default)s)"
    )


def _add_size_and_head(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        default=640,
        help="size of pictures in the network's input, as for detect.py, pixels (default %(default)s)",
    )
    group.add_argument("--head", help="name of the head, where several answer by tokens")
