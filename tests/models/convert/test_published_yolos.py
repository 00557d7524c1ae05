"""Published weights of YOLOS give their published answers; skipped where the files are not.

``YOLOGRAPH_WEIGHTS`` names a folder with those of ``yolos-tiny``, ``yolos-small``, ``yolos-small-300``,
``yolos-small-dwr`` and ``yolos-base`` that are there, each a folder as Hugging Face has it, and the picture
``000000039769.jpg`` of COCO val2017.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.weights import load_model

PICTURE = "000000039769.jpg"
ANSWERS = {
    "yolos-tiny": (
        [[-39.5022, -11.9820, -17.6888], [-29.9574, -9.9769, -17.7691], [-42.3281, -20.7200, -30.6294]],
        [[0.4021, 0.0836, 0.7979], [0.0184, 0.2609, 0.0364], [0.1781, 0.2004, 0.2095]],
    ),
    "yolos-small": (
        [[-24.0248, -10.3024, -14.8290], [-42.0392, -16.8200, -27.4334], [-27.2743, -11.8154, -18.7148]],
        [[0.2559, 0.5455, 0.4706], [0.2989, 0.7279, 0.1875], [0.7732, 0.4017, 0.4462]],
    ),
    "yolos-small-300": (
        [[-36.2220, -14.4385, -23.5457], [-35.6970, -14.7583, -21.3935], [-31.5939, -13.6042, -16.8049]],
        [[0.7614, 0.2316, 0.4728], [0.7168, 0.4495, 0.3855], [0.4996, 0.1466, 0.9996]],
    ),
    "yolos-small-dwr": (
        [[-42.8668, -24.1049, -41.1690], [-34.7456, -14.1274, -24.9194], [-33.7898, -12.1946, -25.6495]],
        [[0.5587, 0.2773, 0.0605], [0.5004, 0.3014, 0.9994], [0.4999, 0.1548, 0.9994]],
    ),
    "yolos-base": (
        [[-40.6064, -24.3084, -32.6447], [-55.1990, -30.7719, -35.5877], [-51.4311, -33.3507, -35.6462]],
        [[0.5555, 0.2794, 0.0655], [0.9049, 0.2664, 0.1894], [0.9183, 0.1984, 0.1635]],
    ),
}
"""Of the first three tokens, the first three logits and box values."""


@pytest.fixture
def folder() -> Path:
    """The folder of weights; the test is skipped where none is named."""
    named = os.environ.get("YOLOGRAPH_WEIGHTS")
    if not named:
        pytest.skip("needs published weights; name their folder with YOLOGRAPH_WEIGHTS")
    return Path(named)


def picture_of_then(path: Path, short_side: int) -> np.ndarray:
    """Return the picture as it was resized in 2022: sides are not yet cut to multiples of 16."""
    with Image.open(path) as image:
        width, height = image.size
        short, long = sorted((width, height))
        assert long / short * short_side <= 1333
        size = [short_side if side == short else int(short_side * long / short) for side in (width, height)]
        return np.array(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


@pytest.mark.parametrize("name", ANSWERS)
def test_published_weights_give_their_published_answers(name: str, folder: Path) -> None:
    if not (folder / name).is_dir() or not (folder / PICTURE).is_file():
        pytest.skip(f"{folder} has no {name} or no {PICTURE}")
    graph = load_model(folder / name)
    image = picture_of_then(folder / PICTURE, 512 if name == "yolos-tiny" else 800)
    with torch.no_grad():
        raw = graph(torch.from_numpy(image).permute(2, 0, 1)[None])["detect"]
    logits, boxes = (torch.tensor(values) for values in ANSWERS[name])
    torch.testing.assert_close(raw.logits[0, :3, :3], logits, atol=0.02, rtol=1e-3)
    torch.testing.assert_close(raw.boxes[0, :3, :3], boxes, atol=1e-3, rtol=0)
    found = graph.heads["detect"].predict(raw, image.shape[:2])
    best = found.scores[0].max(-1)
    seen = {graph.names["detect"][i] for i in best.indices[best.values > 0.9].tolist()}
    assert {"cat", "remote"} <= seen
