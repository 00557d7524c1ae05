"""Folders and files as Hugging Face's transformers writes them: weights, and a config.json that says what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.convert.records import MOST_NAME
from models.convert.yolos_spec import Facts, as_size
from utils.errors import ModelError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: a safetensors file holds no program that somebody else might run."""
INDEX = ".index.json"
SHARD = re.compile(r".+-\d+-of-(?!0*1\.)\d+\.(safetensors|bin)")
"""How one of several files is called into which the weights of a model are cut."""
CUT = "cut into several files, which are not read here; save the model again with a larger max_shard_size"
MOST_BYTES = 2**22
MOST_HEADS = 1000
LEAST_EPS, MOST_EPS = 0.0, 1e-5
OURS = {"hidden_act": "gelu", "qkv_bias": True, "num_channels": 3}
"""What a model may say that is computed here, in its own words."""


def weights_in_folder(folder: Path) -> Path:
    """Return the file of weights in a folder of transformers.

    Raises:
        ModelError: there is none, or the weights are cut into several files.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}{INDEX}").is_file():
            raise ModelError(f"{folder}: its weights are {CUT}")
    if not (folder / CONFIG).is_file():
        raise ModelError(
            f"{folder}: is a folder without a {CONFIG}, so no model of transformers; give a file of weights"
        )
    raise ModelError(f"{folder}: has a {CONFIG}, but neither {' nor '.join(WEIGHTS)}; download the folder again")


def require_uncut(path: Path) -> None:
    """Refuse a file that is by its name one of several with the weights of a model.

    Raises:
        ModelError: it is one.
    """
    if SHARD.fullmatch(path.name):
        raise ModelError(f"{path}: holds a part of a model, whose weights are {CUT}")


def config_beside(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the config.json beside a file of weights, and its path; None where there is none.

    Raises:
        ModelError: it is damaged.
    """
    config = path.with_name(CONFIG)
    if not config.is_file():
        return None
    try:
        data = config.read_bytes()[: MOST_BYTES + 1]
        values = json.loads(data) if len(data) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ModelError(f"{config}: is no configuration of a model; download it again, or move it away")
    return config, values


def facts_of_config(config: tuple[Path, dict[str, Any]], *kinds: str) -> Facts:
    """Return what a config.json says that tensors do not tell.

    Args:
        config: its path and what it holds.
        kinds: the ``model_type`` that it may have.

    Raises:
        ModelError: it is that of another kind of model, or a value is none that can be computed here.
    """
    path, values = config
    require_kind(path, values, *kinds)
    require_values(path, values, OURS)
    eps = values.get("layer_norm_eps", MOST_EPS)
    if not isinstance(eps, int | float) or not LEAST_EPS <= eps <= MOST_EPS:
        raise ModelError(f"{path}: 'layer_norm_eps' is {str(eps)[:MOST_NAME]}, but 1e-6 is computed here; take another")
    heads = values.get("num_attention_heads")
    if heads is not None and (type(heads) is not int or not 1 <= heads <= MOST_HEADS):
        raise ModelError(f"{path}: 'num_attention_heads' is no number from 1 to {MOST_HEADS:,}; download it again")
    return Facts(heads=heads, pe_size=as_size(values.get("image_size")), labels=label_names_of(values))


def require_kind(path: Path, values: Mapping[str, Any], *kinds: str) -> None:
    """Refuse the configuration of another kind of model.

    Args:
        path: of the config.json.
        values: what it holds.
        kinds: the ``model_type`` that it may have.

    Raises:
        ModelError: it has another one.
    """
    kind = values.get("model_type")
    if kind not in kinds:
        raise ModelError(
            f"{path}: belongs to a model of the type {str(kind)[:MOST_NAME]!r}, not {' or '.join(kinds)}; keep the "
            "weights and their own config.json in a folder"
        )


def require_values(path: Path, values: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse the configuration of a model that is not computed here.

    Args:
        path: of the config.json.
        values: what it holds; keys that are missing are as wanted.
        wanted: what is computed here.

    Raises:
        ModelError: a value is another one.
    """
    for key, ours in wanted.items():
        if values.get(key, ours) != ours:
            raise ModelError(
                f"{path}: '{key}' is {str(values[key])[:MOST_NAME]!r}, and only {ours!r} is computed here; take "
                "another model"
            )


def label_names_of(values: Mapping[str, Any]) -> list[str] | None:
    """Return the names of all labels in a configuration, in order; None where they are not named one by one."""
    named = values.get("id2label")
    if not isinstance(named, dict):
        return None
    found = [named.get(str(i)) for i in range(len(named))]
    usable = all(isinstance(name, str) and len(name) <= MOST_NAME and name.isprintable() for name in found)
    return found if usable and found else None
