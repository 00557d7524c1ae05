"""Balancing heads: factors of their losses that are learned, or gradients that are made to agree.

A file per method; ``build_balance`` returns the one that the recipe names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from models.graph import Graph
from models.row_use import last_shared_rows, parameter_users
from utils.errors import ModelError, did_you_mean
from utils.recipe import CHOICES
from utils.training.balance.base import Balance
from utils.training.balance.gradnorm import GradNorm
from utils.training.balance.pcgrad import ProjectedGradients
from utils.training.balance.uncertainty import Uncertainty

LOGGER = logging.getLogger("yolograph")

__all__ = ["Balance", "GradNorm", "ProjectedGradients", "Uncertainty", "build_balance"]


def build_balance(graph: Graph, hyp: Mapping[str, Any], parameters: Sequence[nn.Parameter], seed: int) -> Balance:
    """Return what balances the heads of a model under a recipe.

    A model with one head has nothing to balance; its only factor is 1, whatever the recipe says.

    Args:
        graph: the model.
        hyp: ``balance``, ``balance_lr``, ``balance_alpha``.
        parameters: those that learn, in the order in which ``combine`` will get their gradients.
        seed: of the run.

    Raises:
        ModelError: there is no such method, or it finds nothing in the model that it could work on.
    """
    method, heads = hyp["balance"], list(graph.heads)
    if method not in CHOICES["balance"]:
        raise ModelError(
            f"recipe key 'balance' is '{method}', but must be one of {', '.join(CHOICES['balance'])}."
            f"{did_you_mean(method, CHOICES['balance'])}"
        )
    if method == "fixed" or len(heads) == 1:
        if method != "fixed":
            LOGGER.info("balance: %s has no effect on a model with one head", method)
        return Balance(heads)
    if method == "uncertainty":
        return Uncertainty(heads, hyp["balance_lr"])
    names = {id(parameter): name for name, parameter in graph.named_parameters()}
    users = parameter_users(graph)
    shared = [len(users.get(names[id(parameter)], ())) > 1 for parameter in parameters]
    if method == "pcgrad":
        return ProjectedGradients(heads, shared, seed)
    rows = last_shared_rows(graph)
    watched = [
        common and int(names[id(parameter)].split(".")[1]) in rows
        for parameter, common in zip(parameters, shared, strict=True)
    ]
    if not any(watched):
        raise ModelError(
            "recipe key 'balance' is gradnorm, which compares gradients in the last rows that heads share, but no such "
            "row learns; freeze fewer rows or take balance: uncertainty"
        )
    return GradNorm(heads, watched, hyp["balance_lr"], hyp["balance_alpha"])
