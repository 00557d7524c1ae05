"""Mistakes in a model YAML: each ends in exit code 4 and one line on stderr that names file, row and mend."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.graph import load_graph
from models.spec import find_config
from utils.errors import run_command

Values = dict[str, Any]
GOOD: Values = yaml.safe_load(find_config("yolov5n_multitask").read_text(encoding="utf-8"))
FIRST_HEAD_ROW = 10


def row(index: int, *items: Any) -> Callable[[Values], None]:
    """Replace row ``index`` of the file."""

    def change(values: Values) -> None:
        section, at = ("backbone", index) if index < FIRST_HEAD_ROW else ("head", index - FIRST_HEAD_ROW)
        values[section][at] = list(items)

    return change


def add(*items: Any) -> Callable[[Values], None]:
    """Add a last row."""
    return lambda values: values["head"].append(list(items))


def put(**keys: Any) -> Callable[[Values], None]:
    """Set top-level keys."""
    return lambda values: values.update(keys)


def drop(key: str) -> Callable[[Values], None]:
    """Remove a top-level key."""
    return lambda values: values.pop(key)


def rename(key: str, wrong: str) -> Callable[[Values], None]:
    """Misspell a top-level key."""
    return lambda values: values.update({wrong: values.pop(key)})


def two_names(values: Values) -> None:
    """Give two rows the same name."""
    values["head"][0].append("fine")
    values["head"][4].append("fine")


def deepen(values: Values) -> None:
    """Multiply every repeat by far too much."""
    values["depth_multiple"] = 1000


def lengthen(values: Values) -> None:
    """Repeat a row instead of its number."""
    values["head"] += [[-1, 1, "nn.Identity", []]] * 1000


PSP = ("SegMaskPSP", ["n_segcls", 3, 256, False])
MISTAKES: dict[str, tuple[Callable[[Values], Any], list[str]]] = {
    "no channels left": (row(2, -1, 3, "C3", [128, True, 1, 0.0]), ["row 2 (C3", "and 0 output channels"]),
    "channels below nought": (row(2, -1, 1, "CrossConv", [128, 3, 1, 1, -1.0]), ["row 2 (CrossConv", "-32 output"]),
    "endless channels": (row(2, -1, 3, "C3", [128, True, 1, float("inf")]), ["row 2 (C3", "has the number inf"]),
    "no reduction": (row(2, -1, 1, "FFM", [128, 0]), ["row 2 (FFM", "the reduction is from 1 to the 32"]),
    "scales of no channels": (row(2, -1, 1, "DAPPM", [128, -8]), ["row 2 (DAPPM", "the hidden channels are"]),
    "no layers": (row(2, -1, 1, "TransformerBlock", [128, 4, 0]), ["row 2 (TransformerBlock", "the layers are"]),
    "first argument in the usage": (row(2, -1, 1, "Contract", [2, 2]), ["row 2 (Contract", "takes [factor=2]"]),
    "too many repeats": (row(2, -1, 10**6, "C3", [128]), ["row 2 (C3", "repeats 1,000,000 times; 1,000 is the most"]),
    "too many repeats together": (deepen, ["its rows repeat", "times together; 5,000 is the most"]),
    "too many rows": (lengthen, ["it has 1,0", "rows; 1,000 is the most"]),
    "too many classes": (put(nc=10**8), ["row 25", "has the number 100,000,000, where 100,000 is the largest"]),
    "too many anchors": (put(anchors=10**4), ["row 25", "a count of up to 50", "10000"]),
    "too many pools": (row(9, -1, 1, "SPP", [1024, [5] * 50_000]), ["row 9 (SPP", "has a list of 50,000 entries"]),
    "a number without end": (put(nc=10**900), ["row 25", "has the number of more than 64 bits"]),
    "a width without end": (put(width_multiple=1e9), ["'width_multiple' has the number 1e+09"]),
    "unknown module": (row(2, -1, 3, "C33", [128]), ["row 2 (C33", "no module named", "Did you mean 'C3'?"]),
    "python in place of a module": (row(2, -1, 3, "os.system('x')", [1]), ["row 2", "no module named", "there are"]),
    "python in an argument": (
        row(1, -1, 1, "Conv", [128, 3, 2, None, 1, 1, "nn.ReLU()"]),
        ["row 1", "'act' should be"],
    ),
    "misspelt nn module": (
        row(11, -1, 1, "nn.Upsmple", [None, 2, "nearest"]),
        ["row 11", "Did you mean 'nn.Upsample'?"],
    ),
    "row that does not exist": (row(12, [-1, 30], 1, "Concat", [1]), ["row 12", "reads row 30", "rows 0 to 11"]),
    "forward reference": (row(12, [-1, 20], 1, "Concat", [1]), ["row 12", "row 20, which comes later", "rows 0 to 11"]),
    "row that reads itself": (row(12, [-1, 12], 1, "Concat", [1]), ["row 12", "reads itself", "rows 0 to 11"]),
    "from before the image": (row(1, -5, 1, "Conv", [128, 3, 2]), ["row 1", "-5 reaches", "it can read row 0"]),
    "from an unknown name": (row(12, [-1, "p4"], 1, "Concat", [1]), ["row 12", "no earlier row has the name 'p4'"]),
    "from that is no number": (row(12, [-1, 6.5], 1, "Concat", [1]), ["row 12", "one is 6.5"]),
    "empty from": (row(12, [], 1, "Concat", [1]), ["row 12", "'from' is an empty list", "name at least one row"]),
    "three items": (row(1, -1, 1, "Conv"), ["row 1", "a row is [from, number, module, args]"]),
    "number 0": (row(2, -1, 0, "C3", [128]), ["row 2", "1 or more, but it is 0"]),
    "number in words": (row(2, -1, "three", "C3", [128]), ["row 2", "but it is 'three'"]),
    "arguments without brackets": (row(1, -1, 1, "Conv", 128), ["row 1", "must be a list, such as [64, 3, 2]"]),
    "module that is a number": (row(1, -1, 1, 3, [128]), ["row 1", "a module's name, but it is 3"]),
    "strides that do not meet": (
        row(12, [-1, 4], 1, "Concat", [1]),
        ["row 12", "differ in stride", "Read row 5 (1/16)"],
    ),
    "concatenation of rows": (row(12, [-1, 6], 1, "Concat", [2]), ["row 12", "dimension 1, the channels", "is 2"]),
    "channels in words": (row(1, -1, 1, "Conv", ["wide", 3, 2]), ["row 1", "output channels", "'wide'"]),
    "channels below 1": (row(1, -1, 1, "Conv", [-128, 3, 2]), ["row 1", "above 0, but it is -128"]),
    "no arguments": (row(1, -1, 1, "Conv", []), ["row 1", "output channels, is missing", "Conv takes [c_out"]),
    "too many arguments": (
        row(1, -1, 1, "Conv", [128, 3, 2, 1, 1, 1, True, 9]),
        ["row 1", "does not fit", "Conv takes"],
    ),
    "argument of another type": (row(2, -1, 3, "C3", [128, 2]), ["row 2", "'shortcut' should be bool", "it is 2"]),
    "kernel in words": (row(1, -1, 1, "Conv", [128, "three", 2]), ["row 1", "'kernel' should be", "'three'"]),
    "kernel of nothing": (
        row(1, -1, 1, "nn.ConvTranspose2d", [128, 0, 2]),
        ["row 1", "the kernel is one number above 0"],
    ),
    "kernel of three sizes": (row(1, -1, 1, "Conv", [128, [3, 3, 3], 2]), ["row 1", "or two for height and width"]),
    "stride 0": (row(1, -1, 1, "Conv", [128, 3, 0]), ["row 1", "the stride is one number above 0"]),
    "groups that do not divide": (
        row(1, -1, 1, "Conv", [128, 3, 2, 1, 3]),
        ["row 1", "3 groups do not divide 16 input"],
    ),
    "kernel larger than its map": (
        row(9, -1, 1, "Conv", [1024, 99, 1, 0]),
        ["row 9", "row 8 with 256 channels at 1/32"],
    ),
    "even pool": (row(9, -1, 1, "SPP", [1024, [5, 8]]), ["row 9", "odd numbers", "one is 8"]),
    "unknown upsampling": (
        row(11, -1, 1, "nn.Upsample", [None, 2, "nearst"]),
        ["row 11", "no mode 'nearst'", "nearest"],
    ),
    "block that reads two rows": (row(5, [-1, 3], 1, "Conv", [512, 3, 2]), ["row 5", "lists 2", "put a Concat row"]),
    "channels beyond memory": (row(9, -1, 1, "Conv", [10**5, 999]), ["no memory for its", "lower width_multiple"]),
    "head with a row too few": (row(24, [16, 19], 1, *PSP), ["row 24", "SegMaskPSP reads 3 rows, but 'from' names 2"]),
    "head rows in another order": (row(24, [22, 19, 16], 1, *PSP), ["row 24", "at 1/32", "from fine to coarse"]),
    "misspelt symbol": (row(24, [16, 19, 22], 1, "SegMaskPSP", ["n_segcl"]), ["row 24", "Did you mean 'n_segcls'?"]),
    "more classes than a mask holds": (put(n_segcls=300), ["row 24", "at most 255 classes, not 300"]),
    "levels without anchors": (row(25, [17, 20], 1, "Detect", ["nc", "anchors"]), ["row 25", "3 lists", "2 rows"]),
    "detection head without anchors": (row(25, [17, 20, 23], 1, "Detect", ["nc"]), ["row 25", "takes [nc, anchors]"]),
    "odd anchors": (put(anchors=[[10, 13, 16]] * 3), ["row 25", "flat list w0, h0, w1, h1"]),
    "negative anchors": (put(anchors=[[10, -13]] * 3), ["row 25", "pixels above 0, but one is -13"]),
    "no classes": (put(nc=0), ["row 25", "number of classes", "but it is 0"]),
    "missing nc": (drop("nc"), ["row 25", "add the key 'nc' to the file"]),
    "missing anchors": (drop("anchors"), ["row 25", "add the key 'anchors' to the file"]),
    "missing backbone": (drop("backbone"), ["'backbone' is missing; add it"]),
    "misspelt head": (rename("head", "haed"), ["'head' is missing; rename the key 'haed' to 'head'"]),
    "misspelt multiplier": (
        rename("width_multiple", "width_multipel"),
        ["'width_multipel'", "Did you mean 'width_mul"],
    ),
    "multiplier 0": (put(width_multiple=0), ["'width_multiple' must be a number above 0, but it is 0"]),
    "multiplier in words": (put(depth_multiple="deep"), ["'depth_multiple' must be a number", "'deep'"]),
    "half a channel": (put(ch=3.5), ["'ch' must be a whole number, but it is 3.5"]),
    "unknown channel rule": (put(channel_rule="cut"), ["'channel_rule' must be ceil or truncate, but it is 'cut'"]),
    "misspelt channel rule": (put(channel_rule="truncat"), ["Did you mean 'truncate'?"]),
    "multiple of cut channels": (
        put(channel_rule="truncate", channel_multiple=8),
        ["'channel_multiple' has no meaning where 'channel_rule' is truncate; leave one"],
    ),
    "no channels after the cut": (
        put(channel_rule="truncate", width_multiple=0.01),
        ["row 0 (Conv", "0 output channels"],
    ),
    "norm without keys": (put(norm=1.0e-5), ["'norm' is written like {eps: 1.0e-5, momentum: 0.1}, but it is 1e-05"]),
    "misspelt norm": (put(norm={"epsilon": 1e-5}), ["'norm' takes eps and momentum, but has 'epsilon'", "Did you"]),
    "eps as YAML reads it": (put(norm={"eps": "1e-5"}), ["for eps a number above 0", "but has '1e-5'; write 1.0e-5"]),
    "eps 0": (put(norm={"eps": 0}), ["'norm' needs for eps a number above 0 and below 1, but has 0"]),
    "momentum above 1": (put(norm={"momentum": 3}), ["for momentum a number above 0 and up to 1, but has 3"]),
    "eps without end": (put(norm={"eps": 10**900}), ["'norm' has the number of more than 64 bits"]),
    "eps of a row without end": (
        row(9, -1, 1, "SPPF", [1024, 5, {"norm": {"eps": 10**900}}]),
        ["row 9 (SPPF", "it has the number of more than 64 bits"],
    ),
    "norm of a row": (
        row(9, -1, 1, "SPPF", [1024, 5, {"norm": {"eps": -1}}]),
        ["row 9 (SPPF from -1): 'norm' needs for eps", "but has -1"],
    ),
    "unknown option of a row": (
        row(9, -1, 1, "SPPF", [1024, 5, {"eps": 1.0e-3}]),
        ["row 9", "the mapping behind its arguments takes activation and norm, but has 'eps'"],
    ),
    "activation of a row": (
        row(1, -1, 1, "Conv", [128, 3, 2, {"activation": "nn.Relu()"}]),
        ["row 1 (Conv", "'activation': there is no activation 'Relu'", "Did you mean 'ReLU'?"],
    ),
    "mapping among the arguments": (
        row(1, -1, 1, "Conv", [128, {"norm": {}}, 3]),
        ["row 1 (Conv", "'kernel' should be"],
    ),
    "channels that make no branches": (
        row(2, -1, 1, "MSBlock", [128, [1, 3], 1, 3, 2, 5]),
        ["row 2 (MSBlock", "its 19 hidden channels (32 x 3 / 5) do not divide into 2 branches; change expand, down"],
    ),
    "channels that make no pools": (
        lambda v: (
            row(24, [16, 19, 22], 1, "SegMaskPSP", ["n_segcls", 3, 255, False])(v),
            put(channel_rule="truncate")(v),
        ),
        ["row 24 (SegMaskPSP", "pyramid pooling divides its channels among four pools, but has 63 channels"],
    ),
    "unknown attention": (
        row(2, -1, 1, "MSBlock", [128, [1, 3, 3], 1, 3, 2, 1, "attention"]),
        ["row 2 (MSBlock", "the attention is se or None, but it is 'attention'"],
    ),
    "branches without layers": (
        row(2, -1, 1, "MSBlock", [128, [1, 3, 3], 0]),
        ["row 2 (MSBlock", "kernels, layers and down are 1 or more, but they are 3 kernels, 0 and 1"],
    ),
    "branches without end": (
        row(2, -1, 1, "MSBlock", [128, [1, 3, 3], 20_000]),
        ["row 2 (MSBlock", "the layers of a branch are 100 at most, but they are 20000"],
    ),
    "kernels in words": (row(2, -1, 1, "MSBlock", [128, [1, "three"]]), ["row 2 (MSBlock", "'kernels' should be"]),
    "even kernel": (
        row(2, -1, 1, "MSBlock", [128, [1, 4, 3]]),
        ["row 2 (MSBlock", "odd numbers above 0, so that the size stays, but one is 4"],
    ),
    "levels of different channels": (
        row(25, [17, 20, 23], 1, "RTMDetHead", ["nc"]),
        ["row 25 (RTMDetHead", "the rows it reads have equal channels, but these have 64, 128, 256; put a Conv row"],
    ),
    "towers without convolutions": (
        row(25, [17], 1, "RTMDetHead", ["nc", 0]),
        ["row 25", "the convolutions of a tower are 1 to 100, but they are 0"],
    ),
    "towers without end": (
        row(25, [17], 1, "RTMDetHead", ["nc", 20_000]),
        ["row 25", "the convolutions of a tower are 1 to 100, but they are 20000"],
    ),
    "activation of a head": (
        row(25, [17], 1, "RTMDetHead", ["nc", 2, "leaky_relu"]),
        ["row 25", "an activation is written like nn.LeakyReLU(0.1), but it is 'leaky_relu'"],
    ),
    "unknown activation": (put(activation="nn.Relu()"), ["'activation'", "known are", "Did you mean 'ReLU'?"]),
    "python in place of an activation": (put(activation="print(1)"), ["'activation'", "no activation 'print'"]),
    "misspelt input": (put(input={"means": [0, 0, 0]}), ["'input' takes", "Did you mean 'mean'?"]),
    "mean for two channels": (put(input={"mean": [0, 0]}), ["3 numbers, one per channel, but has [0, 0]"]),
    "deviation 0": (put(input={"std": [1, 0, 1]}), ["for std 3 numbers above 0"]),
    "rows that are no list": (put(backbone={"a": 1}), ["'backbone' must be a list of rows"]),
    "no rows": (put(backbone=[], head=[]), ["there are no rows; list them"]),
    "no head": (lambda v: v.update(head=v["head"][:-2]), ["no row is a head; end the file with one, such as"]),
    "two heads of one name": (
        add([17, 20, 23], 1, "Detect", ["nc", "anchors"]),
        ["row 26", "row 25 is already the head 'detect'", "a name of its own"],
    ),
    "row that reads a head": (add(-1, 1, "Conv", [64]), ["row 26", "reads row 25, which is a head"]),
    "name given twice": (two_names, ["row 14", "'fine' is already that of row 10; choose another"]),
    "name with a space": (row(10, -1, 1, "Conv", [512, 1, 1], "a b"), ["row 10", "a word of letters", "'a b'"]),
}
TEXTS: dict[str, tuple[str, list[str]]] = {
    "empty file": ("", ["a mapping with the keys nc, backbone and head"]),
    "list": ("- 1\n- 2\n", ["a mapping with the keys"]),
    "tab": ("nc: 1\n\tbackbone: []\n", ["line 2", "mend the YAML syntax there"]),
    "open bracket": ("nc: 80\nbackbone: [[1,\nhead: ]\n", ["expected ',' or ']'", "mend the YAML syntax there"]),
    "key twice": ("nc: 80\nnc: 3\n", ["line 2: the key 'nc' is there already in line 1; remove one of the two"]),
    "python object": ('nc: !!python/object/apply:os.system ["true"]\n', ["line 1", "constructor"]),
}


def fail(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Load a model as a command does and return what it wrote to stderr."""
    with pytest.raises(SystemExit) as end:
        run_command(lambda: load_graph(path) and None)
    assert end.value.code == 4
    return capsys.readouterr().err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_model(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = MISTAKES[mistake]
    values = copy.deepcopy(GOOD)
    change(values)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    text = fail(path, capsys)
    assert text.startswith("error: mine.yaml") and text.count("\n") == 1
    for word in words:
        assert word in text


@pytest.mark.parametrize("mistake", TEXTS)
def test_wrong_text(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written, words = TEXTS[mistake]
    path = tmp_path / "mine.yaml"
    path.write_text(written, encoding="utf-8")
    text = fail(path, capsys)
    assert "mine.yaml" in text and text.count("\n") == 1
    for word in words:
        assert word in text


def test_a_missing_file_is_answered_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    text = fail(Path("yolov5q.yaml"), capsys)
    assert "Did you mean 'yolov5" in text and text.count("\n") == 1


def test_bytes_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "mine.yaml: cannot be read as text" in fail(path, capsys)


def test_the_unchanged_file_loads() -> None:
    assert set(load_graph("yolov5n_multitask").heads) == {"segment", "detect"}
