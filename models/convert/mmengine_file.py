"""What the files of mmengine's trainer have in common, whichever network they hold: averaged and raw weights, meta."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from models.convert.records import MOST_NAME, StoredTensor

RAW_KEY = "ema_state_dict"
"""Where the trainer leaves the weights that were not averaged: on saving it exchanges them with the averaged ones."""
RAW_START = "module."
NOT_WEIGHTS = re.compile(
    r"data_preprocessor\..+"
    r"|bbox_head\.(\w+\.)*(proj|priors_base_sizes|grid_offset|prior_inds)"
    r"|bbox_head\.(loss_pose|assigner_oks_calculator)\.sigmas"
)
"""Names of tensors that follow from the configuration and are not learnt."""


def raw_weights(root: Any) -> Mapping[str, StoredTensor] | None:
    """Return the weights of a training checkpoint that were not averaged, by name; None where it has none."""
    held = root.get(RAW_KEY) if isinstance(root, dict) else None
    if not isinstance(held, dict):
        return None
    found = {
        name.removeprefix(RAW_START): value
        for name, value in held.items()
        if isinstance(name, str) and name.startswith(RAW_START) and isinstance(value, StoredTensor)
    }
    return found or None


def written_class_names(root: Any) -> list[str]:
    """Return the class names of the data that a network was trained on; empty where the file does not say them."""
    meta = root.get("meta") if isinstance(root, dict) else None
    data = meta.get("dataset_meta") if isinstance(meta, dict) else None
    for key in ("classes", "CLASSES"):
        written = data.get(key) if isinstance(data, dict) else None
        found = [written] if isinstance(written, str) else written if isinstance(written, list | tuple) else []
        texts = [text for text in found if isinstance(text, str) and 0 < len(text) <= MOST_NAME]
        if texts and len(texts) == len(found):
            return texts
    return []
