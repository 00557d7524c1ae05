"""The formats of ``export.py``'s files."""

from __future__ import annotations

SUFFIXES = {
    "onnx": ".onnx",
    "torchscript": ".torchscript",
    "openvino": ".xml",
    "tensorrt": ".engine",
    "safetensors": ".safetensors",
}
"""Endings of the files of every format."""
READ_BACK = tuple(name for name in SUFFIXES if name != "tensorrt")
"""Formats whose files ``detect.py`` and ``test.py`` take as weights."""
OF_ONNX = ("onnx", "openvino", "tensorrt")
"""Formats that a model goes to by way of ONNX."""
