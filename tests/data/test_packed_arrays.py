from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.packed_arrays import arrays_to_device, tensors_to_device


def test_arrays_arrive_as_they_were():
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.random((3, 5)).astype(np.float32),
        "flags": rng.random((7,)) < 0.5,
        "none": np.zeros((0, 4), np.int64),
        "b": rng.integers(-5, 5, (2, 3, 2)),
        "sliced": rng.integers(0, 9, (6, 4)).astype(np.int32)[::2, 1:],
        "one": np.float64(2.5) * np.ones(1),
    }
    moved = arrays_to_device(arrays, torch.device("cpu"))
    assert list(moved) == list(arrays)
    for name, array in arrays.items():
        assert moved[name].shape == array.shape
        np.testing.assert_array_equal(moved[name].numpy(), array)
        assert moved[name].dtype == torch.from_numpy(array.copy()).dtype


def test_nothing_is_also_moved():
    assert arrays_to_device({}, torch.device("cpu")) == {}


@dataclass
class Record:
    numbers: Tensor
    flags: Tensor
    word: str
    further: Tensor | None = None


def test_records_keep_what_is_no_tensor():
    record = Record(torch.arange(6).view(2, 3), torch.tensor([True, False]), "as it is")
    assert tensors_to_device(record, torch.device("cpu")) is record
    moved = tensors_to_device(record, torch.device("meta"))
    assert moved.word == "as it is" and moved.further is None and record.numbers.device.type == "cpu"
    assert moved.numbers.device.type == moved.flags.device.type == "meta"
    assert moved.numbers.shape == (2, 3) and moved.flags.dtype == torch.bool
    # Parts on several devices move one by one.
    mixed = Record(record.numbers, record.flags.to("meta"), "mixed")
    assert tensors_to_device(mixed, torch.device("meta")).numbers.device.type == "meta"
