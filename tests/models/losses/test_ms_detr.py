"""The loss of MS-DETR: every term and gradient, how a batch may be cut, queries and tokens that pad, waiting."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.assigners.hungarian import match
from models.assigners.set_pairs import SetPairs
from models.losses.focal import binary_cross_entropy
from models.losses.focal_classes import FocalClasses
from models.losses.ms_detr import MS_DETR_RECIPE, MSDETRCriterion, loss_groups
from models.losses.query_criterion import box_losses
from models.losses.set_targets import SetTargets
from models.set_outputs import SetLayer, SetOutputs, SetProposals
from tests.models.losses import slow_ms_detr as slow
from tests.models.losses.made_up_batches import numbers, random_batch
from tests.pretend_device import PretendDevice, Remote
from utils.errors import ModelError

CLASSES, QUERIES, TOKENS, LAYERS = 3, 8, 11, 2
GAINS = {"": (1.0, 5.0, 2.0), "o2m_": (2.0, 5.0, 2.0), "enc_": (2.0, 5.0, 2.0)}


def criterion(**hyp: Any) -> MSDETRCriterion:
    return MSDETRCriterion(QUERIES, {"o2m": 1, **hyp}, LAYERS, one_to_many=True, encoder=True)


def outputs(images: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> SetOutputs:
    """Return raw outputs of all branches that ask for gradients."""
    draw = torch.Generator().manual_seed(seed)

    def layer(count: int = QUERIES) -> SetLayer:
        logits = torch.randn(images, count, CLASSES, generator=draw, dtype=torch.float64) * 2
        boxes = torch.randn(images, count, 4, generator=draw, dtype=torch.float64).sigmoid()
        return SetLayer(logits.to(dtype).requires_grad_(), boxes.to(dtype).requires_grad_())

    one, many = [layer() for _ in range(LAYERS)], tuple(layer() for _ in range(LAYERS))
    proposed, anchors = layer(TOKENS), layer(TOKENS).boxes.detach()
    return SetOutputs(*one[-1], None, tuple(one[:-1]), many, SetProposals(*proposed, anchors))


def layers_of(raw: SetOutputs) -> dict[str, list[SetLayer]]:
    """Return the layers by branch."""
    return {
        "": [*raw.earlier, raw.last],
        "o2m_": list(raw.one_to_many),
        "enc_": [SetLayer(raw.proposals.logits, raw.proposals.boxes)],
    }


def leaves(raw: SetOutputs) -> list[Tensor]:
    return [value for layers in layers_of(raw).values() for layer in layers for value in layer]


def cut(raw: SetOutputs, own: slice) -> SetOutputs:
    """Return what was said of some pictures."""
    earlier, many = (
        tuple(SetLayer(layer.logits[own], layer.boxes[own]) for layer in group)
        for group in (raw.earlier, raw.one_to_many)
    )
    proposals = SetProposals(*(value[own] for value in raw.proposals))
    return SetOutputs(raw.logits[own], raw.boxes[own], None, earlier, many, proposals)


def names_of(prefix: str, layer: int) -> list[str]:
    ending = "" if prefix == "enc_" else f"_{layer}"
    return [f"{prefix}{part}{ending}" for part in ("cls", "box", "giou")]


def parts_slowly(raw: SetOutputs, targets: SetTargets, merge: bool, on_anchors: bool) -> dict[str, float]:
    """Return all terms by the formulas."""
    found: dict[str, float] = {}
    count = max(int(targets.valid.sum()), 1)
    for image, real in enumerate(targets.valid):
        objects = targets.boxes[image][real].double().tolist()
        classes = targets.classes[image][real].tolist()
        single: list[slow.Pairs] = []
        for prefix, layers in layers_of(raw).items():
            for number, layer in enumerate(layers):
                said = layer.logits[image].tolist(), layer.boxes[image].tolist()
                if prefix == "enc_":
                    picture = slow.Picture(*said, objects, [0] * len(objects))
                    matched = picture._replace(boxes=raw.proposals.anchors[image].tolist()) if on_anchors else picture
                    pairs = slow.hungarian(matched, 0.0 if on_anchors else 2.0)
                    owner = dict(pairs)
                elif prefix == "":
                    picture = slow.Picture(*said, objects, classes)
                    pairs = slow.hungarian(picture)
                    owner = dict(pairs)
                    single.append(pairs)
                else:
                    picture = slow.Picture(*said, objects, classes)
                    pairs, owner = slow.one_to_many(picture, single[number] if merge else None)
                for name, value, gain in zip(
                    names_of(prefix, number), slow.terms(picture, pairs, owner), GAINS[prefix], strict=True
                ):
                    found[name] = found.get(name, 0.0) + gain * value / count
    return found


@settings(max_examples=8, deadline=None)
@given(
    images=st.integers(1, 2),
    most=st.integers(0, 10),
    merge=st.booleans(),
    on_anchors=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_every_term_is_that_of_the_formula(images: int, most: int, merge: bool, on_anchors: bool, seed: int) -> None:
    """Also with more objects than queries."""
    batch, raw = random_batch(images, most, CLASSES, seed=seed), outputs(images, seed, torch.float64)
    loss = criterion(o2m_merge=merge, enc_anchors=on_anchors)
    targets = loss.prepare(batch)
    parts = numbers(loss(raw, targets))
    assert tuple(parts) == tuple(name for names in loss_groups(LAYERS, True, True).values() for name in names)
    assert parts == pytest.approx(parts_slowly(raw, targets, merge, on_anchors), rel=1e-6, abs=1e-9)


def test_the_published_model_has_13_times_3_terms() -> None:
    groups = loss_groups(6, one_to_many=True, encoder=True)
    assert {name: len(parts) for name, parts in groups.items()} == {"o2o": 18, "o2m": 18, "enc": 3}
    assert groups["o2o"][:4] == ("cls_0", "box_0", "giou_0", "cls_1") and groups["o2m"][-1] == "o2m_giou_5"
    assert groups["enc"] == ("enc_cls", "enc_box", "enc_giou")
    assert set(loss_groups(6, one_to_many=False, encoder=False)) == {"o2o"}


@pytest.mark.parametrize("prefix", GAINS)
def test_gradients_match_finite_differences(prefix: str) -> None:
    batch, raw = random_batch(2, 3, CLASSES), outputs(2, dtype=torch.float64)
    loss = criterion()
    targets = loss.prepare(batch)
    given = [value for layer in layers_of(raw)[prefix] for value in layer]

    def parts(*_: Tensor) -> tuple[Tensor, ...]:
        found = loss(raw, targets)
        return tuple(found[name] for number in range(len(given) // 2) for name in names_of(prefix, number))

    assert torch.autograd.gradcheck(parts, given, atol=1e-6, fast_mode=True)
    others = [value for value in leaves(raw) if all(value is not own for own in given)]
    assert torch.autograd.grad(sum(parts()), others, allow_unused=True) == (None,) * len(others)


@pytest.mark.parametrize("pieces", [2, 4])
def test_cutting_a_nominal_batch_changes_nothing(pieces: int) -> None:
    """Also what is drawn by chance, what one-to-many pairs are divided by, and what is logged beside."""
    batch, raw = random_batch(4, 5, CLASSES), outputs(4)
    batch.valid[2] = False
    loss = criterion(o2m_positive_share=0.25)
    expected = loss(raw, loss.prepare(batch))
    seen = numbers(loss.seen())
    wanted = torch.autograd.grad(sum(expected.values()), leaves(raw))
    micro = [(part, loss.prepare(part)) for part in batch.cut(pieces)]
    totals = sum(targets.normalizers for _, targets in micro)
    found, watched, start = dict.fromkeys(expected, torch.zeros(())), dict.fromkeys(seen, 0.0), 0
    for part, targets in micro:
        share = loss(cut(raw, slice(start, start + len(part))), targets, totals)
        found = {name: found[name] + share[name] for name in share}
        watched = {name: watched[name] + value for name, value in numbers(loss.seen()).items()}
        start += len(part)
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-5)
    assert watched == pytest.approx(seen) and tuple(seen) == loss.watched == ("class_error",)
    for own, other in zip(torch.autograd.grad(sum(found.values()), leaves(raw)), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_the_cap_leaves_fewer_pairs() -> None:
    batch, raw = random_batch(3, 3, CLASSES), outputs(3)
    found = {}
    for share in (0.0, 1.0, 0.125):
        loss = criterion(o2m_positive_share=share, o2m_threshold=0.0)
        found[share] = loss.assign(raw, loss.prepare(batch)).many
    assert torch.equal(found[0.0].used, found[1.0].used)
    assert int(found[0.125].used.sum(2).max()) == 1 < int(found[0.0].used.sum(2).max())


def far(layer: SetLayer) -> SetLayer:
    return SetLayer(*map(Remote, layer))


def test_a_call_waits_once_for_the_device() -> None:
    """However many layers and branches learn."""
    batch, raw = random_batch(3, 4, CLASSES), outputs(3)
    loss = criterion(o2m_merge=True, o2m_positive_share=0.5)
    targets = loss.prepare(batch)
    expected = numbers(loss(raw, targets))
    away = SetOutputs(
        *far(raw.last),
        None,
        tuple(map(far, raw.earlier)),
        tuple(map(far, raw.one_to_many)),
        SetProposals(*map(Remote, raw.proposals)),
    )
    moved = SetTargets(Remote(targets.boxes), Remote(targets.classes), Remote(targets.valid), targets.normalizers)
    with PretendDevice() as device:
        parts = loss(away, moved)
        assert len(device.copies) == 1
    assert {name: float(part.here) for name, part in parts.items()} == pytest.approx(expected)


def test_tokens_that_are_never_proposed_have_an_anchor_like_others() -> None:
    """As published: the anchor whose numbers are all 1 is nearest to an object that fills the picture."""
    batch, raw = random_batch(1, 2, CLASSES), outputs(1)
    batch.valid[:] = True
    loss = criterion()
    targets = loss.prepare(batch)
    targets.boxes[0] = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.3, 0.3, 0.1, 0.1]])
    anchors = torch.cat((torch.rand(1, TOKENS, 2), torch.full((1, TOKENS, 2), 0.05)), -1)
    anchors[0, 3] = 1.0
    found = loss.assign(raw._replace(proposals=raw.proposals._replace(anchors=anchors)), targets).encoder
    assert found.owner[0, 0, 3] == 0 and int((found.owner >= 0).sum()) == 2


def test_pictures_without_objects_have_finite_losses_and_gradients() -> None:
    for batch in (random_batch(2, 0, CLASSES), random_batch(2, 3, CLASSES)):
        batch.valid[:] = False
        raw = outputs(2)
        parts = criterion()(raw, criterion().prepare(batch))
        found = numbers(parts)
        assert all((value == 0) == ("cls" not in name) and math.isfinite(value) for name, value in found.items())
        gradients = torch.autograd.grad(sum(parts.values()), leaves(raw))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert all(gradient.any() == (gradient.shape[2] == CLASSES) for gradient in gradients)


def test_an_empty_batch_has_a_loss_of_zero_and_a_gradient() -> None:
    batch, raw = random_batch(2, 3, CLASSES).without_samples(), outputs(0)
    parts = criterion()(raw, criterion().prepare(batch), torch.tensor([3.0, 5.0, 3.0, 2.0]))
    assert set(numbers(parts).values()) == {0.0}
    sum(parts.values()).backward()
    assert all(value.grad is not None for value in leaves(raw))


def test_everything_is_float32_under_autocast() -> None:
    batch, raw = random_batch(2, 3, CLASSES), outputs(2)
    loss = criterion()
    targets = loss.prepare(batch)
    half = raw._replace(logits=raw.logits.bfloat16(), boxes=raw.boxes.bfloat16())
    expected = loss(half._replace(logits=half.logits.float(), boxes=half.boxes.float()), targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(half, targets)
    assert all(part.dtype == torch.float32 for part in found.values())
    assert numbers(found) == numbers(expected)


def test_without_one_to_many_its_terms_rest(caplog: pytest.LogCaptureFixture) -> None:
    batch, raw = random_batch(2, 3, CLASSES), outputs(2)
    with caplog.at_level(logging.WARNING, "yolograph"):
        loss = criterion(o2m=0)
        assert "the recipe's o2m is 0" in caplog.text
        caplog.clear()
        plain = MSDETRCriterion(QUERIES, {"o2m": 1}, LAYERS, one_to_many=False, encoder=True)
        assert "the recipe's o2m is 1" in caplog.text
    targets = loss.prepare(batch)
    with_it, without, never = (numbers(each(raw, targets)) for each in (criterion(), loss, plain))
    names = loss_groups(LAYERS, True, True)["o2m"]
    assert loss.resting == dict.fromkeys(names) and criterion().resting == {} == plain.resting
    assert all(without[name] == 0 for name in names) and not set(names) & set(never)
    assert never == {name: value for name, value in with_it.items() if name not in names}
    assert MS_DETR_RECIPE["o2m"] == 0


def test_a_recipe_out_of_range_is_refused() -> None:
    with pytest.raises(ModelError, match="recipe key o2m_k must be a whole number of 1 or more, but it is 0"):
        criterion(o2m_k=0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.1, 4), st.integers(0, 2**31))
def test_the_focal_loss_is_that_of_one_hot_labels(alpha: float, gamma: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 5, 4, generator=draw, dtype=torch.float64) * 5
    labels = torch.randint(-1, 4, (2, 3, 5), generator=draw)
    goal = torch.nn.functional.one_hot(labels.clamp(min=0), 4) * (labels >= 0)[..., None]
    expected = binary_cross_entropy(logits, goal.double(), gamma=gamma, alpha=alpha).sum(-1)
    torch.testing.assert_close(FocalClasses(alpha, gamma).losses(logits, labels), expected)


def test_logits_far_out_have_finite_gradients() -> None:
    logits = torch.tensor([[-500.0, 500.0, 0.0]], requires_grad=True)
    for label in (-1, 0, 1):
        loss = FocalClasses(0.25, 0.5).losses(logits, torch.tensor([label])).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def published_targets(facts: dict[str, Any]) -> SetTargets:
    """Return the objects of a fixture."""
    images, most = len(facts["targets"]), max(len(image["labels"]) for image in facts["targets"])
    boxes, classes = torch.zeros(images, most, 4), torch.zeros(images, most, dtype=torch.int64)
    valid = torch.zeros(images, most, dtype=torch.bool)
    for i, image in enumerate(facts["targets"]):
        own = slice(0, len(image["labels"]))
        boxes[i, own], classes[i, own] = torch.tensor(image["boxes"]), torch.tensor(image["labels"])
        valid[i, own] = True
    return SetTargets(boxes, classes, valid, torch.zeros(4))


def published_pairs(listed: list[dict[str, Any]]) -> SetPairs:
    """Return the pairs of the layers of a fixture; no class is learnt."""
    most = max(len(image["queries"]) for image in listed)
    query, column = torch.zeros(2, 1, len(listed), most, dtype=torch.int64)
    used = torch.zeros(1, len(listed), most, dtype=torch.bool)
    for image in listed:
        own = slice(0, len(image["queries"]))
        query[0, image["image"], own] = torch.tensor(image["queries"])
        column[0, image["image"], own] = torch.tensor(image["targets"])
        used[0, image["image"], own] = True
    return SetPairs(query, column, used, torch.full((1, len(listed), 300), -1))


def published_anchors(facts: dict[str, Any]) -> Tensor:
    """Return (B, S, 4) by the published rule, token by token, for levels of strides 8 to 64."""
    height, width = facts["input"]["shape"][2:]
    images = []
    for rows_valid, columns_valid in facts["input"]["valid_sizes_hw"]:
        found = []
        for level in range(4):
            stride = 8 * 2**level
            rows, columns = -(-height // stride), -(-width // stride)
            # A cell is in the picture where the pixel that stands for it is.
            inside_y = sum(int(i * height / rows) < rows_valid for i in range(rows))
            inside_x = sum(int(i * width / columns) < columns_valid for i in range(columns))
            for y in range(rows):
                for x in range(columns):
                    side = 0.05 * 2**level
                    box = [(x + 0.5) / inside_x, (y + 0.5) / inside_y, side, side]
                    fits = y < inside_y and x < inside_x and all(0.01 < value < 0.99 for value in box)
                    found.append(box if fits else [1.0] * 4)
        images.append(found)
    return torch.tensor(images)


@pytest.mark.parametrize("name", ["ms-detr-losses", "ms-detr-pp-300-losses", "ms-detr-impl-a-losses"])
def test_published_boxes_and_anchors(name: str, shared: Path) -> None:
    """Box losses of the published pairs, and the matching of the encoder's anchors, one of whose batch is padded."""
    facts = json.loads((shared / "parity" / f"{name}.json").read_text())
    arrays = np.load(shared / "parity" / f"{name}.npz")
    targets = published_targets(facts)
    count = int(targets.valid.sum())
    for branch, ending in (("one_to_one", ""), ("one_to_many", "_o2m")):
        pairs = published_pairs(facts[f"matching_{branch}"]["layer5"])
        boxes = torch.from_numpy(arrays[f"pred_boxes{ending}"])[None]
        box, giou = box_losses(boxes, targets, pairs)
        assert float(box) / count == pytest.approx(facts["losses"][f"loss_bbox{ending}"], rel=1e-5)
        assert float(giou) / count == pytest.approx(facts["losses"][f"loss_giou{ending}"], rel=1e-5)
    anchors = published_anchors(facts)
    np.testing.assert_allclose(anchors[:, ::4].numpy(), arrays["anchors"], atol=1e-5)
    loss = MSDETRCriterion(300, {}, 6, one_to_many=False, encoder=True)
    nothing = torch.zeros(*anchors.shape[:2], 91)
    costs = loss.proposal_costs(SetProposals(nothing, torch.zeros_like(anchors), anchors), targets)
    (found,) = match([costs], targets.valid)
    for image in facts["matching_encoder"]:
        own = found.image == image["image"]
        assert found.query[own].tolist() == image["queries"] and found.object[own].tolist() == image["targets"]
