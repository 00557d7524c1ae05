"""Learning rates of single rows and parameters by their names."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from models.graph import Graph
from models.spec import parse_spec
from utils.errors import ModelError, UsageError
from utils.optimizer import build_optimizer
from utils.recipe import DEFAULTS
from utils.training.rate_factors import describe_rates, parameters_named, rate_factors
from utils.training.setup import freeze_rows

MODEL = """
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 4]]
  - [-1, 1, nn.MaxPool2d, [2, 2]]
  - [-1, 1, Conv, [8, 3, 2], wide]
head:
  - [-1, 1, Conv, [8, 1, 1]]
  - [[2, 3], 1, Detect, [nc, [[8, 8], [16, 16]]]]
"""
NOTHING: dict[str, Any] = {"lr_factors": {}, "lr_names": {}}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(parse_spec(yaml.safe_load(MODEL), "small.yaml"))


def rows_of(names: list[str]) -> set[int]:
    return {int(name.split(".")[1]) for name in names}


@pytest.mark.parametrize(
    ("entry", "rows"),
    [("backbone", {0, 2}), ("head", {3, 4}), ("0-2", {0, 2}), ("3", {3}), ("wide", {2}), ("detect", {4})],
)
def test_rows_are_named_as_for_freezing(graph: Graph, entry: str, rows: set[int]) -> None:
    found = parameters_named(graph, entry)
    assert rows_of(found) == rows and found == [n for n, _ in graph.named_parameters() if int(n.split(".")[1]) in rows]


def test_a_part_of_a_name_is_a_whole_word_or_several(graph: Graph) -> None:
    assert parameters_named(graph, "bn") == [
        f"model.{row}.bn.{leaf}" for row in (0, 2, 3) for leaf in ("weight", "bias")
    ]
    assert parameters_named(graph, "bn.bias") == [f"model.{row}.bn.bias" for row in (0, 2, 3)]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("con", "neither a row of small.yaml nor a part of a parameter's name there"),
        ("bakcbone", "Did you mean 'backbone'?"),
        ("model", "neither a row"),
        ("1", "rows of small.yaml without parameters"),
        ("3-1", "the range is empty; write 1-3"),
        ("0-5", "the model has only 5 rows, counted from 0"),
    ],
)
def test_unknown_names_are_refused(graph: Graph, entry: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        rate_factors(graph, NOTHING | {"lr_names": {entry: 0.1}})
    assert words in str(caught.value) and f"'lr_names' names '{entry}'" in str(caught.value)


def test_factors_meet_in_one_parameter(graph: Graph) -> None:
    hyp = {"lr_factors": {}, "lr_names": {"backbone": 0.1, "bn": 0.5, 4: 0.0}}
    factors = rate_factors(graph, hyp)
    assert factors["model.0.conv.weight"] == 0.1 and factors["model.0.bn.bias"] == pytest.approx(0.05)
    assert factors["model.3.bn.weight"] == 0.5 and "model.3.conv.weight" not in factors
    assert {factors[name] for name in factors if name.startswith("model.4.")} == {0.0}
    by_head = rate_factors(graph, {"lr_factors": {"detect": 0.5}, "lr_names": {"0": 0.1}})
    assert by_head["model.0.conv.weight"] == pytest.approx(0.05) and by_head["model.3.conv.weight"] == 0.5
    assert rate_factors(graph, NOTHING) == {}


def test_the_optimizer_has_a_group_for_every_factor(graph: Graph) -> None:
    hyp = {**DEFAULTS, "optimizer": "AdamW", "lr0": 0.01, "decay": "all", "lr_names": {"backbone": 0.1}}
    optimizer = build_optimizer(graph, hyp, 0.1, rate_factors(graph, hyp))
    rates = {
        group["lr"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups if group["params"]
    }
    slow = sum(p.numel() for n, p in graph.named_parameters() if n.startswith(("model.0", "model.2")))
    assert rates == {0.01: sum(p.numel() for p in graph.parameters()) - slow, 0.01 * 0.1: slow}
    assert describe_rates(graph, hyp) == "backbone 0.001" and describe_rates(graph, DEFAULTS) == ""


def test_a_name_with_a_question_mark_may_be_missing(graph: Graph) -> None:
    sure = {"lr0": 0.01, **NOTHING, "lr_names": {"backbone": 0.1}}
    unsure = {"lr0": 0.01, **NOTHING, "lr_names": {"backbone?": 0.1, "reference_points?": 0.1}}
    assert rate_factors(graph, unsure) == rate_factors(graph, sure) != {}
    assert describe_rates(graph, unsure) == "backbone 0.001"


def test_a_part_of_the_yaml_can_be_frozen() -> None:
    graph = Graph(parse_spec(yaml.safe_load(MODEL), "small.yaml"))
    freeze_rows(graph, ["backbone"])
    assert rows_of([name for name, p in graph.named_parameters() if not p.requires_grad]) == {0, 2}
    with pytest.raises(UsageError, match="--freeze backbnoe: no row has that name"):
        freeze_rows(graph, ["0", "backbnoe"])
