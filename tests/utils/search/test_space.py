"""Which keys a search changes: those that the model's heads can feel, within limits that hold the given recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.graph import Graph, load_graph
from tests.conftest import TINY_MODEL
from utils.errors import UsageError
from utils.recipe import DEFAULTS
from utils.search.space import recipe_with, search_space


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return graph_of(TINY_MODEL, tmp_path_factory.mktemp("both"))


def graph_of(text: str, folder: Path) -> Graph:
    path = folder / "model.yaml"
    path.write_text(text)
    return load_graph(str(path))


def without(row: str) -> str:
    return "\n".join(line for line in TINY_MODEL.splitlines() if row not in line)


def names_of(graph: Graph, hyp: dict, *asked: str) -> set[str]:
    return {key.name for key in search_space(hyp, graph, asked)}


def test_only_what_the_heads_can_feel_is_searched(both: Graph, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    detect = names_of(graph_of(without("SegMaskBase"), tmp_path / "a"), DEFAULTS)
    segment = names_of(graph_of(without(" Detect,"), tmp_path / "b"), DEFAULTS)
    everything = names_of(both, DEFAULTS)
    assert {"lr0", "momentum", "box", "mosaic"} <= detect and "seg_scale_low" not in detect
    assert {"lr0", "momentum", "seg_scale_low"} <= segment and not {"box", "mosaic", "hsv_h"} & segment
    assert everything == detect | segment | {"gains.detect", "gains.segment"}
    assert not {"fliplr", "perspective", "fl_gamma"} & everything


def test_keys_belong_to_the_heads_that_declare_them(tmp_path: Path) -> None:
    graph = load_graph("yolox_nano.yaml")
    found = names_of(graph, {**DEFAULTS, "augment": "yolox"})
    assert {"yolox_box", "yolox_obj", "mosaic", "degrees"} <= found
    assert not {"box", "anchor_t", "pose_oks", "scale", "hsv_h", "flipud"} & found
    with pytest.raises(UsageError, match="no head of the model has this key"):
        search_space(DEFAULTS, graph, ["cls_pw"])
    assert "yolox_box" not in names_of(graph_of(TINY_MODEL, tmp_path), DEFAULTS)


def test_conditions_of_other_keys_count(both: Graph) -> None:
    assert "warmup_bias_lr" not in names_of(both, {**DEFAULTS, "optimizer": "AdamW"})
    assert "seg_ohem_threshold" in names_of(both, {**DEFAULTS, "seg_loss": "ohem"})
    assert not {"gains.detect", "gains.segment"} & names_of(both, {**DEFAULTS, "balance": "uncertainty"})


def test_limits_are_widened_to_the_given_recipe(both: Graph) -> None:
    hyp = {**DEFAULTS, "lr0": 0.5, "momentum": 0.5, "weight_decay": 0}
    lr0, momentum, decay = search_space(hyp, both, ["lr0", "momentum", "weight_decay"])
    assert (lr0.start, lr0.high, lr0.log) == (0.5, 0.5, True)
    assert (momentum.low, momentum.start, momentum.high) == (0.5, 0.5, 0.98)
    # There is no way by factors from 0.
    assert (decay.low, decay.start, decay.log) == (0, 0, False)


def test_asked_keys_alone_and_each_once(both: Graph) -> None:
    assert [key.name for key in search_space(DEFAULTS, both, ["fliplr", "lr0", "fliplr"])] == ["fliplr", "lr0"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mosiac", "Did you mean 'mosaic'"),
        ("optimizer", "no such key to search"),
        ("gains.pose", "no such key to search"),
        ("seg_focal_gamma", "seg_loss is cross_entropy"),
    ],
)
def test_keys_that_cannot_be_searched_are_explained(key: str, words: str, both: Graph) -> None:
    with pytest.raises(UsageError, match=r"--evolve-keys") as caught:
        search_space(DEFAULTS, both, [key])
    assert words in str(caught.value)


def test_a_key_without_a_head_for_it_is_refused(tmp_path: Path) -> None:
    graph = graph_of(without(" Detect,"), tmp_path)
    with pytest.raises(UsageError, match="no head of the model learns boxes"):
        search_space(DEFAULTS, graph, ["mosaic"])


def test_values_go_into_a_copy_of_the_recipe() -> None:
    hyp = {**DEFAULTS, "gains": {"detect": 0.6, "segment": 0.35}}
    changed = recipe_with(hyp, {"lr0": 0.2, "gains.segment": 0.5})
    assert changed == {**hyp, "lr0": 0.2, "gains": {"detect": 0.6, "segment": 0.5}}
    assert hyp["gains"] == {"detect": 0.6, "segment": 0.35} and hyp["lr0"] == 0.01
