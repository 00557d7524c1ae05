"""Imports every module of the house, so that the registry knows their names. A new layer or head is added here."""

from models.heads import detect, segment
from models.layers import (
    activations,
    channel_attention,
    conv,
    cross,
    csp,
    ghost,
    joining,
    mixconv,
    pooling,
    segmentation,
    space_depth,
    torch_modules,
    transformer,
)

__all__ = [
    "activations",
    "channel_attention",
    "conv",
    "cross",
    "csp",
    "detect",
    "ghost",
    "joining",
    "mixconv",
    "pooling",
    "segment",
    "segmentation",
    "space_depth",
    "torch_modules",
    "transformer",
]
