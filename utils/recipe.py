"""Training recipes: YAML files of hyperparameters under ``data/hyps``, filled up with defaults and checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import ModelError, did_you_mean
from utils.recipe_keys import CHOICES, DEFAULTS, WITHOUT_EFFECT, kind_of
from utils.yaml_text import read_yaml

LOGGER = logging.getLogger("yolograph")
RECIPE_FOLDER = Path(__file__).resolve().parents[1] / "data" / "hyps"

__all__ = ["CHOICES", "DEFAULTS", "RECIPE_FOLDER", "WITHOUT_EFFECT", "fill_recipe", "load_recipe"]


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe.

    Args:
        path: of the YAML, or the name of one in ``data/hyps`` (with or without ``.yaml``).

    Returns:
        Every known key with its value, the file's where it has the key.

    Raises:
        ModelError: the file is missing or broken, or a key is unknown or of the wrong kind.
    """
    path = _find(Path(path))
    given = read_yaml(path, ModelError)
    if not isinstance(given, Mapping):
        raise ModelError(f"{path}: a recipe is a list of keys and values, such as lr0: 0.01")
    return fill_recipe(given, str(path))


def fill_recipe(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the defaults with ``given`` over them, checked.

    Raises:
        ModelError: a key is unknown or its value is of the wrong kind; the sentence names it.
    """
    for key, value in given.items():
        if key not in DEFAULTS:
            raise ModelError(f"{source}: there is no recipe key '{key}'.{did_you_mean(str(key), DEFAULTS)}")
        _check(source, key, value)
        if key in WITHOUT_EFFECT and value != DEFAULTS[key]:
            LOGGER.warning("%s: the recipe key %s has no effect: %s", source, key, WITHOUT_EFFECT[key])
    return {**DEFAULTS, **given}


def _check(source: str, key: str, value: Any) -> None:
    kind = kind_of(key)
    if not kind.fits(value):
        near = did_you_mean(value, CHOICES[key]) if key in CHOICES and isinstance(value, str) else ""
        raise ModelError(
            f"{source}: recipe key '{key}' must be {kind.wanted}, but it is {value!r}{_number_hint(value)}"
            f"{'.' + near if near else ''}"
        )


def _number_hint(value: Any) -> str:
    """Return the mend for a number that YAML takes for a word, such as 1e-3."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    return "" if number is None else f", which YAML reads as a word; write {number:.10f}".rstrip("0").rstrip(".")


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    wanted = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    known = {entry.name: entry for entry in sorted(RECIPE_FOLDER.glob("*.yaml"))}
    if wanted in known and len(path.parts) == 1:
        return known[wanted]
    raise ModelError(
        f"{path}: there is no such recipe; give a path or a name from data/hyps.{did_you_mean(wanted, known)}"
    )
