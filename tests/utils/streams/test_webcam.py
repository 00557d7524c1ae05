"""A webcam as OpenCV reads it: its frames come in their order and size, and one that is unplugged is given up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.pretend_webcam import INDEX, environment, is_possible

REPO = Path(__file__).resolve().parents[3]
WATCH = f"""
import json
from utils.streams.live_options import LiveOptions
from utils.streams.live_readers import LiveReaders
from utils.streams.live_source import live_sources

with LiveReaders(live_sources(["{INDEX}"]), LiveOptions(queue=100, first_delay=0.01, reconnect=2)) as readers:
    frames = [frame for batch in readers.batches(1) for frame in batch]
    told = [[frame.source, *frame.image.shape, *frame.image[5, 5].tolist()] for frame in frames]
    print(json.dumps([told, readers.readers["webcam{INDEX}"].rate, str(readers.failures["webcam{INDEX}"])]))
"""


@pytest.mark.skipif(not is_possible(), reason="a webcam can be made up on Linux, with a C compiler and V4L2 in OpenCV")
def test_a_webcam_until_it_is_unplugged(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", WATCH], cwd=REPO, env=environment(tmp_path, 20), capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    frames, rate, failure = json.loads(process.stdout)
    assert {tuple(frame[:4]) for frame in frames} == {("webcam7", 48, 64, 3)}
    # OpenCV may take the first to see whether the camera works.
    assert rate == 50 and 19 <= len(frames) <= 20
    assert failure == "webcam 7: the connection was lost and 2 tries did not bring it back; see to the source"
    greys = np.array([frame[4:] for frame in frames])
    assert (greys.max(1) - greys.min(1) <= 2).all(), "without colour, as it was sent"
    # A step of 16 is one of 18.6 in what goes from 16 to 235; the number goes from 1 to 12, and black is 16.
    numbers = np.round(greys[:, 0] / 18.63).astype(int) + 1
    assert list(numbers) == [(numbers[0] - 1 + i) % 12 + 1 for i in range(len(frames))]
