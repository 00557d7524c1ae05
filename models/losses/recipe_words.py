"""Words that a recipe chooses from a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils.errors import ModelError, did_you_mean


def chosen_word(hyp: Mapping[str, Any], key: str, defaults: Mapping[str, Any], words: tuple[str, ...]) -> str:
    """Return a recipe's word.

    Raises:
        ModelError: it is none of ``words``.
    """
    word = hyp.get(key, defaults[key])
    if word not in words:
        raise ModelError(
            f"recipe key {key} is '{word}', but must be one of {', '.join(words)}.{did_you_mean(str(word), words)}"
        )
    return word
