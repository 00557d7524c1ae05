"""What ``python detect.py`` does without arguments: the newest trained model, or a small one, on the embedded set."""

from __future__ import annotations

from pathlib import Path

from data.config import load_data_config
from data.sources import Sources, find_sources
from utils.errors import UsageError

RUNS = Path("runs/train")
EXAMPLE_DATA, FILM = "embedded", "street.mp4"
BEST = "*/weights/best.safetensors"
EXAMPLE_WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "demo" / "street.safetensors"


def choose_weights(runs: Path = RUNS, otherwise: Path = EXAMPLE_WEIGHTS) -> list[str]:
    """Return the weights of the training run that has saved its best ones last, or those of the example.

    Args:
        runs: folder of training runs.
        otherwise: weights to take where there is no run.

    Raises:
        UsageError: there are neither.
    """
    found = sorted(runs.glob(BEST), key=lambda path: path.stat().st_mtime)
    if found:
        return [str(found[-1])]
    if otherwise.is_file():
        return [str(otherwise)]
    raise UsageError(
        f"no weights: there is no {runs / BEST} and no {otherwise.name}; give --weights, or train a model first: "
        "python train.py"
    )


def example_sources() -> Sources:
    """Return the validation pictures and the film of the embedded set, which is written if it is not there yet."""
    task = next(iter(load_data_config(EXAMPLE_DATA).tasks.values()))
    pictures = find_sources(str(task.splits["val"][0]))
    return Sources(pictures.images, [task.root / FILM])
