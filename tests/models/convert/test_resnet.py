"""ResNets that classify pictures begin the training of a deformable DETR, and are refused where a model is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.convert.ms_detr_names import hugging_face_resnet_name
from models.transfer import transfer_weights
from models.weights import build_model, load_weights
from tests.models.convert.published_detr import filled_rows, resnet_state, small_spec, torchvision_file
from utils.errors import ModelError, UsageError

SPEC = small_spec()


def batch_norm_spec() -> Any:
    """Return a model whose ResNet learns, its norms too."""
    rows = [list(row) for row in SPEC.values["backbone"]]
    rows[0] = [-1, 1, "ResNetStem", rows[0][3]]
    for row in rows[1:]:
        row[3] = [*row[3][:3], {"norm": "batch"}]
    return SPEC.with_values(backbone=rows)


def test_torchvision_begins_a_model_whose_norms_learn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = filled_rows(SPEC)
    torch.save(torchvision_file(rows), tmp_path / "resnet.pth")
    checkpoint = load_weights(tmp_path / "resnet.pth")
    assert checkpoint.is_start and checkpoint.progress["converted"]["left out"] == "fc.weight, fc.bias"
    assert checkpoint.progress["converted"]["family"] == "ResNet (torchvision or timm)"
    fresh = filled_rows(batch_norm_spec(), seed=1)
    account = transfer_weights(fresh, checkpoint)
    taken, own = resnet_state(rows), resnet_state(fresh)
    assert taken.keys() <= own.keys() and all(torch.equal(own[name], value) for name, value in taken.items())
    assert len(account.copied) == len(resnet_state(rows)) and not account.other_shape and not account.unused
    assert not caplog.records
    assert any(isinstance(module, nn.BatchNorm2d) for module in fresh.modules())


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
def test_a_file_saved_by_several_gpus_begins_a_model(wrap: Any, tmp_path: Path) -> None:
    rows = filled_rows(SPEC)
    torch.save(wrap({f"module.{name}": value for name, value in torchvision_file(rows).items()}), tmp_path / "r.pth")
    found, own = load_weights(tmp_path / "r.pth").weights, rows.state_dict()
    assert found and all(torch.equal(value, own[name]) for name, value in found.items())


@pytest.mark.parametrize("prefix", ["", "resnet."])
def test_hugging_face_has_the_same_under_other_names(prefix: str, tmp_path: Path) -> None:
    rows = filled_rows(SPEC)
    state = resnet_state(rows, lambda name: f"{prefix}{hugging_face_resnet_name(name)}")
    state = {name: value.clone() for name, value in state.items()} | {"classifier.1.bias": torch.zeros(10)}
    save_file(state, tmp_path / "model.safetensors")
    checkpoint = load_weights(tmp_path / "model.safetensors")
    own = rows.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in checkpoint.weights.items())
    assert len(checkpoint.weights) == len(state) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer2.0.se.weight": torch.zeros(4)}, r"layer2\.0\.se\.weight has no place"),
        ({"layer3.1.bn2.bias": None}, r"layer3\.1\.bn2\.bias is missing"),
        ({"layer3.1.bn2.bias": torch.zeros(4)}, r"layer3\.1\.bn2\.bias has another shape"),
    ],
)
def test_another_network_is_refused_in_a_sentence(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = {name: value for name, value in (torchvision_file(filled_rows(SPEC)) | change).items() if value is not None}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=message):
        load_weights(tmp_path / "x.pth")


def test_it_is_no_model_and_has_no_grid_of_patches(tmp_path: Path) -> None:
    torch.save(torchvision_file(filled_rows(SPEC)), tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"is a ResNet that classifies pictures.*--cfg ms-detr-r50-300"):
        build_model(load_weights(tmp_path / "x.pth"), tmp_path / "x.pth")
    with pytest.raises(UsageError, match="--pretrained-grid is for a vision transformer"):
        load_weights(tmp_path / "x.pth", grid=(14, 14))
