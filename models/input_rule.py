"""What a model expects of a picture: the key ``input`` of its YAML, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.transforms.letterbox import FITS, MOST_LIMIT, SHRINKS, LetterboxRule
from utils.errors import ModelError, did_you_mean
from utils.yaml_text import is_number

RGB, BGR = "RGB", "BGR"
CENTER, TOP_LEFT = "center", "top-left"
WORDS = {"channels": (RGB, BGR), "letterbox": (CENTER, TOP_LEFT), "shrink": SHRINKS, "fit": FITS}
"""Keys whose value is one of a few words."""
KEYS = (
    *("channels", "scale", "mean", "std"),
    *("letterbox", "square", "pad", "shrink", "margin", "group"),
    *("fit", "limit", "stride"),
)
MOST_MARGIN = 8
MOST_GROUP = 1000
MOST_STRIDE = 1024
UNPADDED = {"letterbox": TOP_LEFT, "square": False, "margin": 0, "group": 1}
"""Keys that say where padding goes, with the values that a rule without padding may have."""


@dataclass(frozen=True)
class InputRule:
    """How uint8 RGB pixels become the network's input: reordered, then ``(pixel / scale - mean) / std``.

    Attributes:
        channels: order in which the network reads them, RGB or BGR.
        scale: divisor, above 0.
        mean: per channel in the network's order, or None.
        std: the same.
        letterbox: how a picture is placed within the input.
        stride: height and width of inputs are multiples of it, pixels; None leaves that to the rows.
    """

    channels: str = RGB
    scale: float = 255.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    letterbox: LetterboxRule = field(default_factory=LetterboxRule)
    stride: int | None = None


def read_input_rule(given: Any, channels: int, source: str) -> InputRule:
    """Check the key ``input`` of a model YAML.

    Args:
        given: its value; None stands for a YAML without it.
        channels: of the network's input.
        source: the file's name, for messages.

    Raises:
        ModelError: a key is unknown or a value does not fit; the sentence names it.
    """
    if given is None:
        return InputRule()
    unknown = [str(key) for key in given if key not in KEYS] if isinstance(given, Mapping) else [str(given)]
    if unknown:
        raise ModelError(
            f"{source}: 'input' takes {', '.join(KEYS)}, but has '{unknown[0]}'.{did_you_mean(unknown[0], KEYS)}"
        )
    for key, words in WORDS.items():
        if key in given and given[key] not in words:
            near = did_you_mean(given[key], words) or did_you_mean(str(given[key]).upper(), words)
            raise _wrong(source, key, " or ".join(words), f"{given[key]!r}.{near}")
    if given.get("channels", RGB) != RGB and channels != 3:
        raise ModelError(f"{source}: 'input' has channels {given['channels']}, but 'ch' says {channels}; leave one out")
    scale = given.get("scale", 255.0)
    if not is_number(scale) or not scale > 0:
        raise _wrong(source, "scale", "a number above 0", repr(scale))
    mean, std = (_per_channel(given.get(key), key, channels, source) for key in ("mean", "std"))
    stride = _whole(given, "stride", 0, 1, MOST_STRIDE, source) if "stride" in given else None
    return InputRule(given.get("channels", RGB), float(scale), mean, std, _letterbox(given, source), stride)


def _letterbox(given: Mapping[str, Any], source: str) -> LetterboxRule:
    """Return how pictures are placed; words are checked already."""
    usual = LetterboxRule()
    square, margin = given.get("square", usual.square), given.get("margin", usual.margin)
    if not isinstance(square, bool):
        raise _wrong(source, "square", "true or false", repr(square))
    if not is_number(margin) or not 0 <= margin <= MOST_MARGIN:
        raise _wrong(source, "margin", f"a number from 0 to {MOST_MARGIN}, in strides", repr(margin))
    fit, limit = given.get("fit", usual.fit), given.get("limit", usual.limit)
    if not is_number(limit) or not 1 <= limit <= MOST_LIMIT:
        raise _wrong(source, "limit", f"a number from 1 to {MOST_LIMIT}, in short sides", repr(limit))
    if fit != "shortest" and "limit" in given:
        raise ModelError(f"{source}: 'input' has a limit, which belongs to 'fit: shortest'; add that or leave it out")
    for key, allowed in UNPADDED.items():
        if fit == "shortest" and given.get(key, allowed) != allowed:
            raise ModelError(
                f"{source}: 'input' has fit shortest, which pads nothing around a picture, and {key} {given[key]}; "
                "leave one of the two out"
            )
    return LetterboxRule(
        anchor=given.get("letterbox", TOP_LEFT if fit == "shortest" else CENTER),
        square=square,
        pad=_whole(given, "pad", usual.pad, 0, 255, source),
        shrink=given.get("shrink", usual.shrink),
        margin=float(margin),
        group=_whole(given, "group", usual.group, 1, MOST_GROUP, source),
        fit=fit,
        limit=float(limit),
    )


def _whole(given: Mapping[str, Any], key: str, default: int, least: int, most: int, source: str) -> int:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(source, key, f"a whole number from {least} to {most}", repr(value))
    return value


def _per_channel(numbers: Any, key: str, channels: int, source: str) -> tuple[float, ...] | None:
    if numbers is None:
        return None
    fits = isinstance(numbers, list) and len(numbers) == channels and all(is_number(n) for n in numbers)
    if not fits or (key == "std" and min(numbers) <= 0):
        what = "numbers above 0" if key == "std" else "numbers"
        raise _wrong(source, key, f"{channels} {what}, one per channel", repr(numbers))
    return tuple(float(number) for number in numbers)


def _wrong(source: str, key: str, wanted: str, given: str) -> ModelError:
    return ModelError(f"{source}: 'input' needs for {key} {wanted}, but has {given}")
