"""Imports every module of the house, so that the registry knows their names. A new layer or head is added here."""

from models.heads import detect, segment
from models.layers import conv, csp, joining, pooling, segmentation, torch_modules

__all__ = ["conv", "csp", "detect", "joining", "pooling", "segment", "segmentation", "torch_modules"]
