"""Imports every module of the house, so that the registry knows their names. A new layer or head is added here."""

from models.heads import detect, segment, yolox, yolox_pose
from models.layers import (
    activations,
    channel_attention,
    conv,
    cross,
    csp,
    depthwise,
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
    "depthwise",
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
    "yolox",
    "yolox_pose",
]
