"""Mistakes around tokens in a model YAML: each is one sentence that names the row and the mend."""

from __future__ import annotations

from typing import Any

import pytest

from models.graph import Graph
from models.spec import parse_spec
from tests.models.tiny_vision_transformer import tiny_values
from utils.errors import ModelError

CONV = [-1, 1, "Conv", [8, 1, 1]]
MISTAKES: dict[str, tuple[str, int, list[Any], tuple[str, ...]]] = {
    "heads that do not divide": ("backbone", 2, [-1, 1, "ViTBlock", ["width", 5]], ("row 2 (ViTBlock", "5", "24", "4")),
    "no heads": ("backbone", 2, [-1, 1, "ViTBlock", ["width", 0]], ("0 attention heads", "nearest")),
    "another width": ("backbone", 2, [-1, 1, "ViTBlock", [48, 4]], ("width is 48", "have 24", "write 24")),
    "another width of the norm": ("backbone", 3, [-1, 1, "TokenNorm", [12]], ("width is 12", "write 24")),
    "a flat norm": ("backbone", 3, [-1, 1, "TokenNorm", ["width", 0]], ("eps is above 0",)),
    "a norm of no number": ("backbone", 3, [-1, 1, "TokenNorm", ["width", float("nan")]], ("eps is above 0",)),
    "no hidden channel": ("backbone", 2, [-1, 1, "ViTBlock", ["width", 2, 0]], ("mlp_ratio", "0")),
    "hidden channels of no number": (
        "backbone",
        2,
        [-1, 1, "ViTBlock", ["width", 2, float("nan")]],
        ("mlp_ratio", "nan"),
    ),
    "one side": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 16, 5, [48]]], ("pe_size", "height and width", "[48]")),
    "a number as pe_size": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 16, 5, 48]], ("pe_size", "list", "48")),
    "half a pixel": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 16, 5, [48.5, 64]]], ("should be list[int]", "48.5")),
    "a picture below a patch": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 16, 5, [8, 64]]], ("one patch of 16",)),
    "a misspelt symbol": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 16, 5, "pe_sise"]], ("pe_sise", "pe_size")),
    "pe_size of a block": ("backbone", 1, [-1, 1, "ViTBlockPE", ["width", 2, 4.0, [9, 9]]], ("row 1", "pe_size")),
    "no pe_size": ("backbone", 1, [-1, 1, "ViTBlockPE", ["width", 2, 4.0]], ("number of arguments", "pe_size")),
    "a huge patch": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 512, 5, [512, 512]]], ("patch is from 1 to 256",)),
    "no width": ("backbone", 0, [-1, 1, "ViTEmbed", [0, 16, 5, [48, 64]]], ("width is above 0",)),
    "less than no tokens": ("backbone", 0, [-1, 1, "ViTEmbed", ["width", 16, -1, [48, 64]]], ("[DET]", "-1")),
    "patches twice": ("backbone", 0, [-1, 2, "ViTEmbed", ["width", 16, 5, [48, 64]]], ("once", "write 1")),
    "patches of a row": (
        "backbone",
        1,
        [-1, 1, "ViTEmbed", ["width", 2, 5, [48, 64]]],
        ("row 0 gives tokens", "image"),
    ),
    "patches of a map": ("head", 2, [-1, 1, "ViTEmbed", ["width", 2, 5, [48, 64]]], ("row 5 gives a feature map",)),
    "a Conv on tokens": (
        "backbone",
        3,
        CONV,
        ("row 3 (Conv from -1): row 2 gives tokens, not a feature map", "TokenMap"),
    ),
    "a Concat of tokens": ("head", 3, [[3, 6], 1, "Concat", [1]], ("row 3 gives tokens", "TokenMap")),
    "an activation on tokens": ("backbone", 3, [-1, 1, "nn.GELU", []], ("row 2 gives tokens", "TokenMap")),
    "a YOLOv5 head on tokens": ("head", 4, [[3], 1, "Detect", ["nc", [[8, 8]]]], ("row 3 gives tokens", "TokenMap")),
    "a segmentation head on tokens": ("head", 3, [3, 1, "SegMaskBase", [4]], ("row 3 gives tokens", "TokenMap")),
    "a YOLOS head on a map": ("head", 4, [5, 1, "YOLOSDetect", ["nc"]], ("row 5 gives a feature map", "ViTBlock")),
    "a YOLOS head on the image": ("backbone", 0, [-1, 1, "YOLOSDetect", ["nc"]], ("the image has none", "ViTEmbed")),
    "a block on the image": (
        "backbone",
        0,
        [-1, 1, "ViTBlock", ["width", 2]],
        ("row 0 (ViTBlock", "the image", "ViTEmbed"),
    ),
    "a block on a map": ("head", 2, [-1, 1, "ViTBlock", [8, 2]], ("row 6 (ViTBlock", "row 5 gives a feature map")),
    "two rows of tokens": ("backbone", 3, [[1, 2], 1, "TokenNorm", ["width"]], ("reads one row", "lists 2")),
    "a map with arguments": ("head", 0, [-1, 1, "TokenMap", [8]], ("no arguments",)),
    "a map twice": ("head", 0, [-1, 2, "TokenMap", []], ("does not repeat",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str) -> None:
    section, index, row, words = MISTAKES[mistake]
    values = tiny_values()
    values[section][index] = row
    with pytest.raises(ModelError) as caught:
        Graph(parse_spec(values, "mine.yaml"))
    text = str(caught.value)
    assert text.startswith("mine.yaml, row ") and "\n" not in text
    for word in words:
        assert word in text


def test_a_head_without_detection_tokens() -> None:
    with pytest.raises(ModelError, match=r"\[DET\] tokens.*det_tokens"):
        Graph(parse_spec({**tiny_values(), "det_tokens": 0}, "mine.yaml"))


def test_the_good_file_is_good() -> None:
    assert set(Graph(parse_spec(tiny_values(), "mine.yaml")).heads) == {"detect", "segment"}
