"""The weights that come along find what is in pictures that they have not seen."""

from __future__ import annotations

import json

import test as test_command
from data.synthetic import ensure_embedded
from tests.conftest import REPO
from utils.detecting.defaults import EXAMPLE_SIZE, EXAMPLE_WEIGHTS

MOST_BYTES = 1_000_000
SET = """
path: streets
detect: {train: images/train, val: images/val, names: [car, person, sign]}
segment: {train: images/train, val: images/val, masks: masks, ignore: 255,
  names: [sky, road, grass, building, car, person, sign]}
"""


def test_they_are_small_and_good_at_streets_of_another_seed(tmp_path, monkeypatch):
    assert EXAMPLE_WEIGHTS == REPO / "data/demo/street.safetensors"
    assert EXAMPLE_WEIGHTS.stat().st_size <= MOST_BYTES
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("data.synthetic.embedded.FRAMES", 1)
    ensure_embedded("streets", train=1, val=16, seed=7)
    (tmp_path / "streets.yaml").write_text(SET)
    size = str(EXAMPLE_SIZE)
    test_command.main(
        f"--weights {EXAMPLE_WEIGHTS} --data streets.yaml --img-size {size} --device cpu --noplots --workers 0".split()
    )
    heads = json.loads((tmp_path / "runs/test/exp/results.json").read_text())["heads"]
    assert heads["detect"]["metrics"]["AP50"] > 0.8
    assert heads["segment"]["metrics"]["mIoU"] > 0.75
