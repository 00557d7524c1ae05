"""Predictors side by side: the same answers to the last bit, and one set of weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.inference import load_inference
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from models.predictor_pool import PredictorPool
from tests.tiny_detector import make_picture, write_weights
from utils.core_share import CoreShare
from utils.stage_clock import StageClock


@pytest.fixture
def predictor(tmp_path) -> Predictor:
    model = load_inference([write_weights(tmp_path / "tiny.safetensors")])
    sizes = {"detect": 64, "segment": 96}
    return Predictor(model, sizes, PostprocessOptions(0.1), torch.device("cpu"), None, StageClock(STAGES))


def test_a_twin_shares_weights_and_clock_and_nothing_else(predictor):
    twin = predictor.twin()
    [own], [other] = predictor.model.graphs, twin.model.graphs
    assert own is not other and twin.clock is predictor.clock
    pairs = list(zip(own.parameters(), other.parameters(), strict=True))
    assert pairs and all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    assert not any(a is b for a, b in zip(own.modules(), other.modules(), strict=True))


def test_answers_of_threads_are_those_of_one(predictor):
    pictures = [make_picture(size, seed) for seed, size in enumerate([(60, 80), (80, 60), (40, 90)] * 6)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = [predictor([picture])[0] for picture in pictures]
        pool = PredictorPool(predictor, 3)
        with ThreadPoolExecutor(6, initializer=CoreShare(3, 1).enter_thread) as workers:
            found = [results[0] for results in workers.map(lambda picture: pool([picture]), pictures)]
    finally:
        torch.set_num_threads(threads)
    assert sum(len(results["detect"].boxes) for results in expected) > 20
    for results, same in zip(found, expected, strict=True):
        for field in ("boxes", "scores", "classes"):
            assert torch.equal(getattr(results["detect"], field), getattr(same["detect"], field))
        assert torch.equal(results["segment"].class_map, same["segment"].class_map)
