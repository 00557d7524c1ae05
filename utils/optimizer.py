"""Optimizers with the three parameter groups of YOLOv5: weights with decay, norm scales without, biases without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim import Adam as AdamOptimizer

from utils.errors import ModelError, did_you_mean

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
GROUPS = ("decay", "no_decay", "bias")
OPTIMIZERS = ("SGD", "Adam", "AdamW")


def parameter_groups(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """Split the trainable parameters: biases, scales of norms, and everything else.

    Returns:
        ``decay``, ``no_decay`` and ``bias``, each a mapping of names; every trainable parameter is in exactly one.
    """
    groups: dict[str, dict[str, nn.Parameter]] = {name: {} for name in GROUPS}
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            group = "bias" if leaf.endswith("bias") else "no_decay" if isinstance(module, NORMS) else "decay"
            groups[group][f"{prefix}.{leaf}" if prefix else leaf] = parameter
    return groups


def build_optimizer(model: nn.Module, hyp: Mapping[str, Any], weight_decay: float) -> Optimizer:
    """Return the recipe's optimizer over the three groups, in the order of ``GROUPS``.

    Args:
        model: the model; frozen parameters are left out.
        hyp: ``optimizer`` (SGD, Adam, AdamW), ``lr0``, ``momentum``.
        weight_decay: decay of the first group.

    Raises:
        ModelError: the recipe names an unknown optimizer.
    """
    kind = hyp.get("optimizer", "SGD")
    if kind not in OPTIMIZERS:
        raise ModelError(
            f"recipe key optimizer is '{kind}', but must be one of {', '.join(OPTIMIZERS)}."
            f"{did_you_mean(kind, OPTIMIZERS)}"
        )
    groups = [
        {"params": list(parameters.values()), "name": name, "weight_decay": weight_decay if name == "decay" else 0.0}
        for name, parameters in parameter_groups(model).items()
    ]
    rate, momentum = hyp["lr0"], hyp["momentum"]
    if kind == "SGD":
        return SGD(groups, lr=rate, momentum=momentum, nesterov=True, fused=True)
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
        on_device = value.to(parameter.device)
        if on_device.dim() == 4:
            on_device = on_device.to(memory_format=torch.channels_last)
        optimizer.state[parameter][key] = on_device
