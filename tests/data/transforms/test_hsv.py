from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.transforms import hsv
from data.transforms.hsv import change_hsv, compiled_change
from utils.errors import StoppedRun

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="needs numba: pip install -r requirements-fast.txt"
)
CUT_OFF = (-0.5 + 2**-13,) * 3


@pytest.fixture
def in_opencv(monkeypatch):
    """Return a form of change_hsv that never uses the compiled pass."""

    def change(*given):
        with monkeypatch.context() as patch:
            patch.setattr(hsv, "compiled_change", lambda: None)
            return change_hsv(*given)

    return change


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """Return every one of the 16.8 million colours once."""
    levels = np.arange(256, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(4096, 4096, 3)


def assert_nearly_the_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Allow what OpenCV's builds without fused multiplications differ by: a level, in one of a thousand colours."""
    differs = (ours != theirs).any(-1)
    assert differs.mean() <= 1e-3
    assert np.abs(ours[differs].astype(int) - theirs[differs]).max(initial=0) <= 1


@needs_numba
@pytest.mark.parametrize(
    ("gains", "terms"),
    [
        ((1.0, 1.0, 1.0), (0, 0, 0)),
        ((1.013, 1.62, 0.71), CUT_OFF),
        ((0.987, 0.34, 1.38), CUT_OFF),
        ((1.9, 1.1, 1.2), CUT_OFF),
        ((1, 1, 1), (5, 30, -30)),
        ((1, 1, 1), (-5, -30, 30)),
        ((1, 1, 1), (170, 0, 0)),
    ],
)
def test_the_compiled_pass_makes_of_every_colour_what_opencv_makes(colours, in_opencv, gains, terms):
    assert_nearly_the_same(change_hsv(colours, gains, terms), in_opencv(colours, gains, terms))


@needs_numba
@settings(deadline=None, max_examples=60)
@given(
    gains=st.tuples(st.floats(0, 2), st.floats(0, 3), st.floats(0, 3)),
    terms=st.tuples(st.integers(-255, 255), st.integers(-255, 255), st.integers(-255, 255)),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
def test_any_change_of_any_size_is_opencvs(gains, terms, height, width):
    image = np.random.default_rng(height * 71 + width).integers(0, 256, (height, width, 3), np.uint8)
    compiled = compiled_change()
    assert compiled is not None
    ours = change_hsv(image, gains, terms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hsv, "compiled_change", lambda: None)
        theirs = change_hsv(image, gains, terms)
    # At the end of rows OpenCV works without vector instructions and rounds where they cut off.
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_hues_are_brought_back_into_the_circle_from_either_side():
    green = np.full((2, 2, 3), (0, 200, 0), np.uint8)
    for turn in (-60, 120, -240, 300 - 180):
        np.testing.assert_array_equal(change_hsv(green, (1, 1, 1), (turn % 180 - 180, 0, 0)), [[[200, 0, 0]] * 2] * 2)
    red = green[..., [1, 0, 2]].copy()
    np.testing.assert_array_equal(change_hsv(red, (1, 1, 1), (-0.9, 0, 0)), change_hsv(red, (1, 1, 1), (-1, 0, 0)))


def test_without_numba_opencv_does_it(monkeypatch, caplog):
    image = np.random.default_rng(0).integers(0, 256, (9, 64, 3), np.uint8)
    expected = change_hsv(image, (1.01, 1.2, 0.8), CUT_OFF)
    compiled_change.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert compiled_change() is None
    assert_nearly_the_same(change_hsv(image, (1.01, 1.2, 0.8), CUT_OFF), expected)
    assert not caplog.records
    compiled_change.cache_clear()


class HalfInstalled(types.ModuleType):
    """A numba whose compiler is not to be found: whatever is asked of it fails as llvmlite does."""

    error: Exception = OSError("Could not find the shared object file")

    def __getattr__(self, name: str) -> object:
        raise self.error


def switched_off() -> object:
    numba = pytest.importorskip("numba")
    return types.SimpleNamespace(**{**vars(numba), "config": types.SimpleNamespace(DISABLE_JIT=1)})


@pytest.mark.parametrize("numba", [lambda: None, lambda: HalfInstalled("numba"), switched_off])
def test_a_numba_that_does_not_work_is_said_once_and_done_without(numba, monkeypatch, caplog):
    compiled_change.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "numba", numba())
    monkeypatch.delitem(sys.modules, "data.transforms.hsv_compiled", raising=False)
    image = np.full((2, 2, 3), 100, np.uint8)
    for _ in range(2):
        np.testing.assert_array_equal(change_hsv(image, (1, 1, 0.5), CUT_OFF), image // 2)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "numba does not work" in caplog.text
    compiled_change.cache_clear()


def test_a_signal_while_numba_compiles_still_ends_the_run(monkeypatch):
    numba = HalfInstalled("numba")
    numba.error = StoppedRun("stopped by SIGTERM before the first step")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.delitem(sys.modules, "data.transforms.hsv_compiled", raising=False)
    compiled_change.cache_clear()
    with pytest.raises(StoppedRun):
        compiled_change()
    compiled_change.cache_clear()
