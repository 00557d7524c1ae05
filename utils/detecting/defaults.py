"""What ``python detect.py`` does without arguments: the newest trained model, or a small one, on the embedded set."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data.config import load_data_config
from data.sources import Sources, find_sources
from utils.errors import DataError, UsageError
from utils.yaml_text import read_yaml

RUNS = Path("runs/train")
EXAMPLE_DATA, FILM = "embedded", "street.mp4"
BEST = "*/weights/best.safetensors"
EXAMPLE_WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "demo" / "street.safetensors"
EXAMPLE_SIZE, USUAL_SIZE = 256, 640


class Choice(NamedTuple):
    """A model to look through where the user names none.

    Attributes:
        weights: its file.
        img_size: long side of the pictures that its heads for objects were trained with, pixels.
        base_size: that of its heads for masks.
    """

    weights: Path
    img_size: int
    base_size: int


def choose_weights(runs: Path = RUNS, otherwise: Path = EXAMPLE_WEIGHTS) -> Choice:
    """Return the weights of the training run that has saved its best ones last, or those of the example.

    Args:
        runs: folder of training runs.
        otherwise: weights to take where there is no run.

    Raises:
        UsageError: there are neither.
    """
    found = sorted(runs.glob(BEST), key=lambda path: path.stat().st_mtime)
    if found:
        return Choice(found[-1], *_trained_sizes(found[-1].parents[1]))
    if otherwise.is_file():
        return Choice(otherwise, EXAMPLE_SIZE, EXAMPLE_SIZE)
    raise UsageError(
        f"no weights: there is no {runs / BEST} and no {otherwise.name}; give --weights, or train a model first: "
        "python train.py"
    )


def _trained_sizes(run: Path) -> tuple[int, int]:
    """Return the sizes that a training run noted down, the usual one where it has no note that can be read."""
    try:
        options = read_yaml(run / "opt.yaml", DataError)
        img_size = int(options["img_size"][0])
        return img_size, int(options["base_size"] or img_size)
    except (DataError, LookupError, TypeError, ValueError):
        return USUAL_SIZE, USUAL_SIZE


def example_sources() -> Sources:
    """Return the validation pictures and the film of the embedded set, which is written if it is not there yet."""
    task = next(iter(load_data_config(EXAMPLE_DATA).tasks.values()))
    pictures = find_sources(str(task.splits["val"][0]))
    return Sources(pictures.images, [task.root / FILM])
