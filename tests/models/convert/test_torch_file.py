"""The layouts of PyTorch's files, read without PyTorch's reader, against what was saved."""

from __future__ import annotations

import collections
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.convert.records import Inert, StoredTensor
from models.convert.torch_file import TorchFile
from tests.models.convert.pickled_models import save_as_tar
from utils.errors import ModelError

DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
LAYOUTS = {"zip": True, "row of pickles": False}


def values(tensors: dict[str, StoredTensor], file: TorchFile) -> dict[str, torch.Tensor]:
    return {name: file.tensor(stored) for name, stored in tensors.items()}


@pytest.mark.parametrize("zipped", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_type(dtype: torch.dtype, zipped: bool, tmp_path: Path) -> None:
    saved = torch.randint(0, 2, (3, 4, 5)).to(dtype)
    torch.save({"a": saved}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with TorchFile(tmp_path / "x.pt") as file:
        assert torch.equal(file.tensor(file.root["a"]), saved)
        assert file.tensor(file.root["a"]).dtype == dtype


@pytest.mark.parametrize("zipped", LAYOUTS.values(), ids=LAYOUTS)
def test_views_scalars_and_empty_tensors(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    saved = {
        "whole": base,
        "transposed": base.t(),
        "inner": base[1:3, 2:5],
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(base[0]),
    }
    torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with TorchFile(tmp_path / "x.pt") as file:
        found = values(file.root, file)
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert found["empty"].shape == (0, 3)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(saved=PLAIN, zipped=st.booleans(), protocol=st.sampled_from([2, 3, 4, 5]))
def test_plain_values_round_trip(
    saved: object, zipped: bool, protocol: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("plain") / "x.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    with TorchFile(path) as file:
        assert file.root == saved and type(file.root) is type(saved)


def test_sets_are_lists_and_ordered_dicts_are_dicts(tmp_path: Path) -> None:
    ordered = collections.OrderedDict(b=1, a=2)
    torch.save({"set": {3}, "frozen": frozenset({4}), "ordered": ordered}, tmp_path / "x.pt")
    with TorchFile(tmp_path / "x.pt") as file:
        assert file.root == {"set": [3], "frozen": [4], "ordered": {"b": 1, "a": 2}}
        assert list(file.root["ordered"]) == ["b", "a"]


def test_other_objects_are_inert_records(tmp_path: Path) -> None:
    saved = {
        "path": Path("runs") / "exp",
        "device": torch.device("cpu"),
        "type": torch.float16,
        "conv": torch.nn.Conv2d(1, 2, 3),
    }
    saved["fitness"] = np.array([0.5])
    torch.save(saved, tmp_path / "x.pt")
    with TorchFile(tmp_path / "x.pt") as file:
        root = file.root
        assert isinstance(root["path"], Inert) and root["path"].class_name == "PosixPath"
        assert root["path"].args == ("runs", "exp") or root["path"].args == ("runs/exp",)
        assert root["device"].kind == "torch.device" and root["device"].args == ("cpu",)
        assert root["conv"].kind == "torch.nn.modules.conv.Conv2d" and root["conv"].state["out_channels"] == 2
        assert file.tensor(root["conv"].state["_parameters"]["bias"]).shape == (2,)
        assert isinstance(root["fitness"], Inert)


def test_an_expanded_tensor_can_be_described_but_not_read(tmp_path: Path) -> None:
    torch.save({"grid": torch.zeros(1).expand(10**6)}, tmp_path / "x.pt")
    with TorchFile(tmp_path / "x.pt") as file:
        assert file.root["grid"].shape == (10**6,)
        with pytest.raises(ModelError, match="repeats its numbers"):
            file.tensor(file.root["grid"])


def test_the_tar_layout(tmp_path: Path) -> None:
    saved = {"weight": torch.randn(3, 4), "steps": torch.tensor([5, 6]), "bias": torch.randn(7)}
    path = tmp_path / "old.pt"
    save_as_tar(saved, path)
    with TorchFile(path) as file:
        found = values(file.root, file)
    assert list(found) == list(saved)
    assert all(torch.equal(found[name], saved[name]) for name in saved)


@pytest.mark.parametrize("zipped", LAYOUTS.values(), ids=LAYOUTS)
def test_every_truncation_is_one_sentence(zipped: bool, tmp_path: Path) -> None:
    torch.save({"a": torch.arange(50.0), "b": "x" * 50}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "x.pt").read_bytes()
    path = tmp_path / "cut.pt"
    for length in range(4, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.pt.*again"), TorchFile(path) as file:
            file.tensor(file.root["a"])


@given(position=st.integers(0, 10**9), value=st.integers(0, 255), zipped=st.booleans())
def test_one_wrong_byte_never_ends_in_a_traceback(
    position: int, value: int, zipped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("wrong") / "x.pt"
    torch.save({"a": torch.arange(6.0), "b": [1, {"c": None}]}, path, _use_new_zipfile_serialization=zipped)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(bytes(data))
    try:
        with TorchFile(path) as file:
            if isinstance(file.root, dict) and isinstance(file.root.get("a"), StoredTensor):
                file.tensor(file.root["a"])
    except ModelError as error:
        assert "x.pt" in str(error) and "\n" not in str(error)


def test_a_big_endian_file_and_a_torchscript_export_are_named(tmp_path: Path) -> None:
    import zipfile

    for name, sentence in (("byteorder", "big-endian"), ("constants.pkl", "TorchScript")):
        path = tmp_path / f"{name}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", b"\x80\x02}.")
            archive.writestr(f"x/{name}", b"big")
        with pytest.raises(ModelError, match=sentence):
            TorchFile(path)


def test_a_storage_that_is_shorter_than_its_tensor_says(tmp_path: Path) -> None:
    torch.save(torch.arange(8.0), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pt").read_bytes()
    count = struct.pack("<q", 8)
    assert data.count(count) == 1
    (tmp_path / "x.pt").write_bytes(data.replace(count, struct.pack("<q", 9)))
    with pytest.raises(ModelError, match="ends too early"):
        TorchFile(tmp_path / "x.pt")
