"""Rounding of the model itself: it explains a difference of its own size, and no other."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from export import Job
from tests.tiny_ms_detr import LEARNT_ALONE, tiny_ms_detr
from utils.errors import ExportError
from utils.export.agreement import Difference
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import NONE
from utils.export.rounding import limits, own_rounding

NOISE = {"noise": np.random.default_rng(0).integers(0, 256, (1, 3, 24, 32), np.uint8)}


def off_by(relative: float) -> dict[str, Difference]:
    return {"a": Difference((1,), relative, relative, "noise")}


@pytest.fixture(scope="module")
def module() -> ExportedGraph:
    graph = tiny_ms_detr(LEARNT_ALONE)
    return ExportedGraph(graph, graph.heads)


@pytest.mark.parametrize(
    ("tolerance", "rounding", "limit"),
    [
        (1e-4, {}, 1e-4),
        (1e-4, {"a": 1e-6}, 1e-4),
        (1e-4, {"a": 2e-4}, 4e-4),
        (1e-4, {"a": 0.5}, 1e-3),
        (0, {"a": 1}, 0),
    ],
)
def test_twice_the_rounding_passes_up_to_ten_tolerances(
    tolerance: float, rounding: dict[str, float], limit: float
) -> None:
    assert limits(off_by(0.1), tolerance, rounding) == pytest.approx({"a": limit})


def test_a_model_is_nearly_itself_in_float64_and_stays_in_float32(module: ExportedGraph) -> None:
    found = own_rounding(module, NOISE)
    assert list(found) == ["detect_boxes", "detect_scores"]
    assert all(1e-9 < each < 1e-4 for each in found.values())
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def job_of(module: ExportedGraph, tolerance: float | None) -> Job:
    return Job(module, module, (1, 24, 32), NONE, NOISE, SimpleNamespace(tolerance=tolerance))


@pytest.mark.parametrize(("times", "passes"), [(1.5, True), (3.0, False)])
def test_a_file_is_judged_by_the_rounding_of_the_model(
    module: ExportedGraph, times: float, passes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.inference_mode():
        right = {name: tensor.numpy() for name, tensor in module(torch.from_numpy(NOISE["noise"])).items()}
    boxes = right["detect_boxes"].astype(np.float64)
    rounding = own_rounding(module, NOISE)["detect_boxes"]
    found = right | {"detect_boxes": boxes + times * rounding * np.abs(boxes).max()}
    caplog.set_level(logging.INFO, "yolograph")
    if passes:
        told = json.loads(job_of(module, rounding).judge(lambda _: found))
        assert "no more than rounding explains" in caplog.text
        assert told["largest_difference"] > told["tolerance"] and told["explained_by_rounding"] == ["detect_boxes"]
    else:
        with pytest.raises(ExportError, match=r"'detect_boxes' .* and than rounding explains"):
            job_of(module, rounding).judge(lambda _: found)


@pytest.mark.parametrize("tolerance", [None, 0.02])
def test_what_is_no_number_passes_no_check(module: ExportedGraph, tolerance: float | None) -> None:
    with torch.inference_mode():
        found = {name: tensor.numpy().copy() for name, tensor in module(torch.from_numpy(NOISE["noise"])).items()}
    assert json.loads(job_of(module, tolerance).judge(lambda _: found))["tolerance"] == tolerance
    found["detect_scores"][0, 0] = np.nan
    with pytest.raises(ExportError, match=r"output 'detect_scores' .* is not finite"):
        job_of(module, tolerance).judge(lambda _: found)
