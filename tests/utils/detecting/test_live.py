"""Frames of live sources on their way into passes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from data.frame import Frame
from utils.detecting.live import _batches
from utils.detecting.run import Run


def test_frames_of_one_shape_share_a_pass_whatever_lies_between_them() -> None:
    sizes = {"door": (48, 64), "yard": (64, 48), "gate": (48, 64)}
    frames = [Frame(None, np.zeros((*size, 3), np.uint8), 1, name) for name, size in sizes.items()]
    run = SimpleNamespace(
        batch_size=3, most_frames=2, predictor=SimpleNamespace(input_shapes=lambda image: image.shape)
    )
    run.batches = lambda items: Run.batches(run, items)
    stopped: list[str] = []
    readers = {name: SimpleNamespace(stop=lambda name=name: stopped.append(name)) for name in sizes}
    taken = _batches(
        run, SimpleNamespace(batches=lambda most: iter([frames[:most], frames[:1], frames]), readers=readers)
    )
    names = [[frame.source for frame in batch] for batch in taken]
    assert names == [["door", "gate"], ["yard"], ["door"], ["gate"], ["yard"]]
    assert stopped == ["door", "yard", "gate"], "each has given its two frames, and the third of the door is left out"
