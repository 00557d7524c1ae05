"""Formats of forward passes: what a device computes in, and what is refused."""

from __future__ import annotations

import logging

import pytest
import torch

import utils.devices
from utils.devices import DTYPES, autocast_dtype, measured_gain, select_device, training_format
from utils.errors import UsageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture(params=["none", "_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def bfloat16_hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let this machine's CPU seem to compute in bfloat16, or not; returns which."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == request.param)
    return request.param != "none"


def test_what_the_user_names_is_taken() -> None:
    assert autocast_dtype(CPU, "float32") is None
    assert autocast_dtype(CPU, "bfloat16") == torch.bfloat16
    assert autocast_dtype(CUDA, "float16") == torch.float16
    assert set(DTYPES) == {"auto", "bfloat16", "float16", "float32"}


def test_float16_on_a_cpu_is_refused_with_the_mend() -> None:
    with pytest.raises(UsageError, match=r"^--dtype float16: a CPU .*take --dtype bfloat16"):
        autocast_dtype(CPU, "float16")


def test_auto_is_bfloat16_where_the_cpu_computes_in_it(bfloat16_hardware: bool) -> None:
    assert autocast_dtype(CPU, "auto") == (torch.bfloat16 if bfloat16_hardware else None)


def test_half_is_what_the_device_computes_in(bfloat16_hardware: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yolograph")
    assert autocast_dtype(CUDA, "half") == torch.float16
    assert caplog.messages == []
    assert autocast_dtype(CPU, "half") == (torch.bfloat16 if bfloat16_hardware else None)
    said = (
        [] if bfloat16_hardware else ["--half: this CPU computes in no 16-bit format, so everything stays in float32"]
    )
    assert caplog.messages == said


@pytest.mark.parametrize("supported", [False, True])
def test_auto_on_a_gpu_asks_for_hardware_without_emulation(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def is_supported(including_emulation: bool) -> bool:
        asked["emulation"] = including_emulation
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert autocast_dtype(CUDA, "auto") == (torch.bfloat16 if supported else None)
    assert asked == {"emulation": False}


@pytest.fixture
def gain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Let measurements give the parameter; returns where they were made."""
    places: list[torch.device] = []

    def measured(device: torch.device, dtype: torch.dtype) -> float:
        assert dtype == torch.bfloat16
        places.append(device)
        return request.param

    monkeypatch.setattr(utils.devices, "measured_gain", measured)
    return places


@pytest.mark.parametrize(
    ("gain", "name", "said"),
    [
        (2.13, "bfloat16", "bfloat16: 2.1 times as fast as float32 here"),
        (0.4, "float32", "float32: bfloat16 takes 2.5 times as long here"),
    ],
    indirect=["gain"],
)
def test_a_run_measures_what_the_flags_promise(
    bfloat16_hardware: bool,
    gain: list[torch.device],
    name: str,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "yolograph")
    settled = training_format(CPU, "auto")
    assert settled == (name if bfloat16_hardware else "float32")
    assert gain == ([CPU] if bfloat16_hardware else [])
    assert caplog.messages == [said if bfloat16_hardware else "float32: this CPU computes in no shorter format"]
    # A resumed run asks for what was settled, and nothing is measured again.
    gain.clear()
    caplog.clear()
    assert training_format(CPU, settled) == settled
    assert (gain, caplog.messages) == ([], [])


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "float16"), ((6, 1), "float32")])
def test_an_old_gpu_takes_float16_where_that_is_faster(
    capability: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "yolograph")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert training_format(CUDA, "auto") == name
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{name}: this GPU ")


def test_a_run_in_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--dtype float16: "):
        training_format(CPU, "float16")


def test_measuring_leaves_the_run_s_random_numbers_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with torch.no_grad():
        gain = measured_gain(CPU, torch.bfloat16)
    assert gain > 0
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("wanted", ["tpu", "cuda:x", "99", "-1"])
def test_a_device_that_is_not_there_is_one_sentence(wanted: str) -> None:
    with pytest.raises(UsageError, match=rf"^--device {wanted}: "):
        select_device(wanted)


def test_the_cpu_can_always_be_chosen() -> None:
    assert select_device(" CPU ") == CPU
