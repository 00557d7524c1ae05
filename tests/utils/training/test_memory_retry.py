"""Running out of memory: recognised, retried in smaller pieces, and given up with a mend."""

from __future__ import annotations

import logging
import weakref
from types import SimpleNamespace

import pytest
import torch

from utils.errors import RunError, is_out_of_memory
from utils.training.memory_retry import MemoryRetry
from utils.training.options import MACHINE_OPTIONS
from utils.training.step import Stepper

TOO_MUCH = 2**60


def failed_allocation() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    return caught.value


def test_what_the_allocators_say_is_recognised() -> None:
    assert is_out_of_memory(failed_allocation()), "PyTorch says it in other words now"
    with pytest.raises(MemoryError) as caught:
        bytearray(TOO_MUCH)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_pieces_double_until_a_single_image_does_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    retry = MemoryRetry()
    for images, pieces in ((8, 2), (4, 4), (2, 8)):
        retry.on_failure(failed_allocation(), images)
        assert retry.pieces == pieces
    assert len(caplog.messages) == 3
    assert caplog.messages[1].startswith(
        "out of memory with 4 images at a time: from now on batches are worked on in 4"
    )
    with pytest.raises(RunError, match=r"single image .*allocate.*--img-size.*--recompute"):
        retry.on_failure(failed_allocation(), 1)
    assert retry.pieces == 8


def test_another_error_goes_on_its_way() -> None:
    retry = MemoryRetry()
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError) as caught:
        retry.on_failure(error, 8)
    assert caught.value is error and retry.pieces == 1


class Held:
    """Stands for a large tensor of the attempt that failed."""


def test_what_the_failed_attempt_held_is_free_before_the_next(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "yolograph")
    alive: list[weakref.ref] = []

    def attempt() -> None:
        held = Held()
        alive.append(weakref.ref(held))
        torch.empty(TOO_MUCH, dtype=torch.uint8)

    retry = MemoryRetry()
    try:
        attempt()
    except RuntimeError as error:
        assert alive[0]() is not None
        retry.on_failure(error, 2)
        assert alive[0]() is None


def test_where_norms_are_shared_the_mend_is_one_that_a_resumed_run_takes() -> None:
    stepper = SimpleNamespace(world=SimpleNamespace(synchronises_norms=True))
    with pytest.raises(RunError, match="--resume --recompute"):
        Stepper._cut_smaller(stepper, torch.OutOfMemoryError("CUDA out of memory"), {})
    assert "recompute" in MACHINE_OPTIONS and "batch_size" not in MACHINE_OPTIONS
