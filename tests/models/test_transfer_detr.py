"""Weights of one deformable DETR begin another: other supervision, other classes, or the same under other labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.blank_rows import BlankRows
from models.checkpoint import Checkpoint
from models.convert.label_classes import COCO_IDS
from models.resnet_rows import same_stages
from models.spec import ModelSpec, load_spec
from models.transfer import transfer_weights
from tests.models.convert.published_detr import filled_rows, small_spec

DECODER, QUERIES = "model.11", "model.10"


def checkpoint_of(spec: ModelSpec) -> Checkpoint:
    rows = filled_rows(spec)
    names = {name: [str(i) for i in range(head.num_classes)] for name, head in rows.heads.items()}
    return Checkpoint("x.yaml", spec.text, names, {"model": rows.state_dict()})


def with_ids(spec: ModelSpec) -> ModelSpec:
    """Return the model with COCO's 80 classes under the published 91 labels."""
    head = [list(row) for row in spec.values["head"]]
    for row in head[-2:]:
        options = row[3][-1] if isinstance(row[3][-1], dict) else {}
        plain = row[3][:-1] if options else row[3]
        row[3] = [*plain, {**options, "category_ids": list(COCO_IDS)}]
    return spec.with_values(nc=80, head=head)


@pytest.fixture
def mixed() -> BlankRows:
    return filled_rows(small_spec("ms-detr-r50-300", nc=80), seed=1)


def test_deformable_detr_begins_mixed_supervision_with_all_that_it_has(mixed: BlankRows) -> None:
    given = checkpoint_of(small_spec("deformable-detr-r50", nc=80))
    account = transfer_weights(mixed, given)
    assert sorted(account.copied) == sorted(given.weights) and not account.unused
    assert {name.split(".")[4] for name in account.fresh} == {"linear3", "linear4", "norm4"}


def test_classes_under_published_labels_are_numbered_anew(mixed: BlankRows) -> None:
    given = checkpoint_of(with_ids(small_spec("ms-detr-r50-300")))
    account = transfer_weights(mixed, given)
    state, ids = mixed.state_dict(), list(COCO_IDS)
    for part in ("weight", "bias"):
        for layer in range(2):
            name = f"{DECODER}.class_embed.{layer}.{part}"
            assert torch.equal(state[name], given.weights[name][ids])
        name = f"{QUERIES}.class_embed.{part}"
        # Label 0 of proposals says whether there is any object, whatever class 0 is.
        assert torch.equal(state[name][0], given.weights[name][0])
    assert not account.other_shape and len(account.changed) == 6


def test_other_classes_keep_what_tells_objects_from_background(
    mixed: BlankRows, caplog: pytest.LogCaptureFixture
) -> None:
    given = checkpoint_of(small_spec("ms-detr-r50-300", nc=5))
    before = {name: value.clone() for name, value in mixed.state_dict().items()}
    account = transfer_weights(mixed, given)
    state = mixed.state_dict()
    name = f"{QUERIES}.class_embed.weight"
    assert torch.equal(state[name][0], given.weights[name][0]) and torch.equal(state[name][1:], before[name][1:])
    assert {full for full, *_ in account.other_shape} == {
        f"{DECODER}.class_embed.{layer}.{part}" for layer in range(2) for part in ("weight", "bias")
    }
    assert "what tells objects from background" in account.summary()
    assert "begins anew: it has 5 outputs in the weights and 80 here" in caplog.text


def test_a_resnet_in_other_rows_is_found(mixed: BlankRows) -> None:
    # A row in front moves all others.
    moved = [[-1, 1, "nn.Identity", []], *[list(row) for row in mixed.spec.values["backbone"]]]
    head = [[_later(row[0]), *row[1:]] for row in mixed.spec.values["head"]]
    ours = BlankRows(mixed.spec.with_values(backbone=moved, head=head))
    assert same_stages(mixed, ours) == {f"model.{row}": f"model.{row + 1}" for row in range(5)}
    short = BlankRows(load_spec("yolos-ti"))
    assert same_stages(mixed, short) == same_stages(short, mixed) == {}


def _later(sources: Any) -> Any:
    return [_later(source) for source in sources] if isinstance(sources, list) else sources + 1
