"""Optimizers with three parameter groups: what decays, what does not, and biases that do not.

Which is which is the recipe key ``decay``; its first word is YOLOv5's rule. Parameters with a learning-rate factor of
their own are in further groups of the same three kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim import Adam as AdamOptimizer

from models.heads.base import Head
from utils.errors import ModelError, did_you_mean

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
GROUPS = ("decay", "no_decay", "bias")
OPTIMIZERS = ("SGD", "Adam", "AdamW")
WEIGHTS, HEADS, ALL = "weights", "heads", "all"
DECAYS = (WEIGHTS, HEADS, ALL)
"""Recipe key ``decay``: weights decay; of heads everything decays too; everything decays."""


def parameter_groups(model: nn.Module, decay: str = WEIGHTS) -> dict[str, dict[str, nn.Parameter]]:
    """Split the trainable parameters: biases, scales of norms, and everything else.

    Kernels of depthwise convolutions and weights of linear layers are among everything else, as in any other layer.
    What a module lists in its class attribute ``no_decay``, such as tokens and position tables, is among the scales of
    norms.

    Args:
        model: whose parameters.
        decay: ``weights`` as said; ``heads``: every parameter of a head is in ``decay`` as well, its biases and norms
            included; ``all``: every parameter of the model is.

    Returns:
        ``decay``, ``no_decay`` and ``bias``, each a mapping of names; every trainable parameter is in exactly one, also
        one that several modules share, which has the name of the first.
    """
    groups: dict[str, dict[str, nn.Parameter]] = {name: {} for name in GROUPS}
    seen: set[nn.Parameter] = set()
    whole = _parts_that_decay_whole(model, decay)
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            group = "decay" if module in whole else _group_of(module, leaf)
            groups[group][f"{prefix}.{leaf}" if prefix else leaf] = parameter
    return groups


def _parts_that_decay_whole(model: nn.Module, decay: str) -> set[nn.Module]:
    """Return the modules of which every parameter decays."""
    if decay == ALL:
        return set(model.modules())
    heads = [module for module in model.modules() if isinstance(module, Head)] if decay == HEADS else []
    return {part for head in heads for part in head.modules()}


def _group_of(module: nn.Module, leaf: str) -> str:
    if leaf in getattr(module, "no_decay", ()):
        return "no_decay"
    return "bias" if leaf.endswith("bias") else "no_decay" if isinstance(module, NORMS) else "decay"


def split_by_factor(
    groups: Mapping[str, Mapping[str, nn.Parameter]], factors: Mapping[str, float]
) -> dict[tuple[str, float], list[nn.Parameter]]:
    """Divide groups of parameters further by their factors: those of factor 1 first, also where there are none.

    Args:
        groups: what ``parameter_groups`` returned.
        factors: by name of a parameter, 1 where there is none.
    """
    split: dict[tuple[str, float], list[nn.Parameter]] = {(name, 1.0): [] for name in groups}
    for name, parameters in groups.items():
        for parameter_name, parameter in parameters.items():
            split.setdefault((name, float(factors.get(parameter_name, 1.0))), []).append(parameter)
    return split


def build_optimizer(
    model: nn.Module, hyp: Mapping[str, Any], weight_decay: float, factors: Mapping[str, float] | None = None
) -> Optimizer:
    """Return the recipe's optimizer over the three groups, in the order of ``GROUPS``.

    A group's ``name`` is one of ``GROUPS``, its ``factor`` multiplies whatever learning rate the group is given. The
    first three groups have the factor 1; behind them come those with other factors.

    Args:
        model: the model; frozen parameters are left out.
        hyp: ``optimizer`` (SGD, Adam, AdamW), ``lr0``, ``momentum``, ``decay``.
        weight_decay: of the parameters that decay.
        factors: learning-rate factor by name of a parameter, 1 where there is none;
            see ``models.row_use.parameter_factors``.

    Raises:
        ModelError: the recipe names an unknown optimizer.
    """
    kind = hyp.get("optimizer", "SGD")
    if kind not in OPTIMIZERS:
        raise ModelError(
            f"recipe key optimizer is '{kind}', but must be one of {', '.join(OPTIMIZERS)}."
            f"{did_you_mean(kind, OPTIMIZERS)}"
        )
    rate, momentum = hyp["lr0"], hyp["momentum"]
    groups_of_model = parameter_groups(model, hyp.get("decay", WEIGHTS))
    groups = [
        {
            "params": parameters,
            "name": name,
            "factor": factor,
            "lr": rate * factor,
            "weight_decay": weight_decay if name == "decay" else 0.0,
        }
        for (name, factor), parameters in split_by_factor(groups_of_model, factors or {}).items()
    ]
    if kind == "SGD":
        return SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    adam = AdamOptimizer if kind == "Adam" else AdamW
    return adam(groups, lr=rate, betas=(momentum, 0.999), fused=True)


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named ``KEY/PARAMETER``."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{key}/{names[parameter]}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Restore what ``optimizer_tensors`` returned."""
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        key, _, parameter_name = name.partition("/")
        parameter = parameters[parameter_name]
        # Fused optimizers count their steps on the device, too.
        on_device = value.to(parameter.device, copy=True)
        if value.shape == parameter.shape:
            # Fused optimizers walk through memory; a parameter's state has to lie there as the parameter does.
            on_device = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(on_device)
        optimizer.state[parameter][key] = on_device
