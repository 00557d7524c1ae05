"""The method that a recipe names, over the parameters of a model."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import yaml

from models.graph import Graph, load_graph
from models.spec import parse_spec
from utils.errors import ModelError
from utils.recipe import CHOICES, DEFAULTS
from utils.training.balance import Balance, GradNorm, ProjectedGradients, Uncertainty, build_balance

KINDS = {"fixed": Balance, "uncertainty": Uncertainty, "gradnorm": GradNorm, "pcgrad": ProjectedGradients}


def build(graph: Graph, method: str) -> Balance:
    parameters = [p for p in graph.parameters() if p.requires_grad]
    return build_balance(graph, {**DEFAULTS, "balance": method}, parameters, 0)


def test_every_method_of_the_recipe(tiny_model: Path) -> None:
    assert set(KINDS) == set(CHOICES["balance"])
    graph = load_graph(tiny_model)
    for method, kind in KINDS.items():
        balance = build(graph, method)
        assert type(balance) is kind
        assert balance.heads == ("segment", "detect")
        assert [factor.item() for factor in balance.factors().values()] == [1, 1]
    assert build(graph, "fixed").state_dict() == {}


def test_an_unknown_method(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean 'pcgrad'"):
        build(load_graph(tiny_model), "pcgrd")


@pytest.mark.parametrize("method", list(KINDS))
def test_one_head_has_nothing_to_balance(
    method: str, tiny_model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("yolograph"), "propagate", True)
    values = yaml.safe_load(tiny_model.read_text())
    values["head"] = values["head"][1:]
    with caplog.at_level(logging.INFO, "yolograph"):
        assert type(build(Graph(parse_spec(values, "one.yaml")), method)) is Balance
    assert ("no effect on a model with one head" in caplog.text) == (method != "fixed")


@pytest.mark.parametrize("norms", ["shared", "per-task"])
def test_which_parameters_count(norms: str, tiny_model: Path) -> None:
    graph = load_graph(tiny_model)
    graph = Graph(graph.spec.with_values(bn=norms))
    names = [name for name, p in graph.named_parameters() if p.requires_grad]
    # Rows 0 to 2 serve both heads, row 2 is the last of them.
    surgery, norm = build(graph, "pcgrad"), build(graph, "gradnorm")
    kinds = ["conv.weight"] if norms == "per-task" else ["conv.weight", "bn.weight", "bn.bias"]
    assert [names[i] for i in surgery._shared] == [f"model.{row}.{kind}" for row in range(3) for kind in kinds]
    assert [names[i] for i in norm._watched] == [f"model.2.{kind}" for kind in kinds]


def test_gradient_norms_need_a_shared_row_that_learns(tiny_model: Path) -> None:
    graph = load_graph(tiny_model)
    for row in (0, 1, 2):
        graph.model[row].requires_grad_(False)
    with pytest.raises(ModelError, match="no such row learns"):
        build(graph, "gradnorm")


@pytest.mark.parametrize("method", ["gradnorm", "pcgrad"])
def test_separate_gradients_of_a_model(method: str, tiny_model: Path) -> None:
    """What the heads have for themselves is untouched, and no shared gradient is lost."""
    torch.manual_seed(0)
    graph = load_graph(tiny_model).train()
    parameters = [p for p in graph.parameters() if p.requires_grad]
    balance = build_balance(graph, {**DEFAULTS, "balance": method}, parameters, 0)
    assert balance.separate
    gradients, losses = {}, {}
    for name in graph.heads:
        output = graph(torch.rand(2, 3, 64, 64), heads=[name])[name]
        losses[name] = sum(level.square().mean() for level in output)
        gradients[name] = list(torch.autograd.grad(losses[name], parameters, allow_unused=True))
    combined = balance.combine(gradients, 1)
    assert [gradient.shape for gradient in combined] == [parameter.shape for parameter in parameters]
    both = [all(gradients[name][i] is not None for name in gradients) for i in range(len(parameters))]
    assert 0 < sum(both) < len(both)
    for i, shared in enumerate(both):
        if not shared:
            assert any(combined[i] is gradients[name][i] for name in gradients)
    balance.update(losses, torch.zeros(()), dict.fromkeys(losses, 1.0))
    moved = any(factor != 1 for factor in balance.factors().values())
    assert moved == (method == "gradnorm")
