"""What the formats of one command share."""

from __future__ import annotations

from types import SimpleNamespace

import onnx
import pytest
from torch import nn

from utils.export.job import Job
from utils.export.metadata import NONE


def test_formats_share_one_translation_and_change_copies_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    translated = []

    def build(form: nn.Module, *_: object) -> onnx.ModelProto:
        translated.append(form)
        return onnx.ModelProto(producer_name="once")

    monkeypatch.setattr("utils.export.job.build_onnx", build)
    form = nn.Linear(1, 1)
    job = Job(form, form, (1, 64, 64), NONE, {}, SimpleNamespace(half=False, opset=None))
    job.onnx_model().producer_name = "changed"
    assert job.onnx_model().producer_name == job.in_float32.producer_name == "once"
    assert translated == [form]
    halved = Job(form, form, (1, 64, 64), NONE, {}, SimpleNamespace(half=True, opset=None))
    halved.onnx_model()
    assert translated[1].weight.dtype.itemsize == 2 and form.weight.dtype.itemsize == 4
