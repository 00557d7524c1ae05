"""What travels from a worker: the same tensors, in memory that does not depend on the room in /dev/shm."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from data.deliveries import Delivery, Made, pack
from data.samples import Sample


def delivery(count: int = 3) -> Delivery:
    rng = np.random.default_rng(0)
    samples = [
        Sample(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((1, 4), np.float32), np.zeros(1, np.int64))
        for _ in range(count)
    ]
    for sample in samples:
        sample.mask = sample.image[..., 0].copy()
    return pack([Made(sample) for sample in samples])


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory without names is Linux's")
def test_pixels_travel_in_memory_without_a_name_as_they_are() -> None:
    made = delivery()
    opened = len(os.listdir("/proc/self/fd"))
    state = made.__getstate__()
    for name in ("images", "masks"):
        sent, own = getattr(state["batch"], name), getattr(made.batch, name)
        assert sent.is_shared() and torch.equal(sent, own)
        assert sent.stride() == own.stride() and sent.untyped_storage().data_ptr() != own.untyped_storage().data_ptr()
    assert Path("/proc/self/maps").read_text().count("memfd:yolograph") >= 2
    del sent, state
    assert len(os.listdir("/proc/self/fd")) == opened, "no file stays open"


def test_an_empty_share_travels_without_the_pixels_it_was_cut_from() -> None:
    made = delivery()
    made.batch = made.batch.without_samples()
    arrived = Delivery.__new__(Delivery)
    arrived.__setstate__(made.__getstate__())
    assert arrived.batch.images.shape == (0, 3, 6, 8) and arrived.batch.masks.shape == (0, 6, 8)
    assert arrived.batch.images.stride() == made.batch.images.stride()
    assert arrived.batch.images.untyped_storage().nbytes() == 0


def test_where_such_memory_is_full_torch_has_to_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "pwrite", refuse)
    made = delivery()
    assert made.__getstate__()["batch"].images is made.batch.images
