"""The set loss: its parts and gradients, how a batch may be cut, formats, odd labels, copies from the device."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.samples import Batch
from models.assigners.hungarian import match, pair_costs
from models.assigners.one_to_many import OneToManyRule
from models.assigners.set_pairs import pairs_of_matches
from models.losses.set_prediction import YOLOS_RECIPE, SetCriterion
from models.set_outputs import SetLayer, SetOutputs
from tests.models.assigners.test_hungarian import pair_cost_slowly
from tests.models.losses.made_up_batches import SIZE, numbers, random_batch
from tests.pretend_device import PretendDevice, Remote
from utils.boxes import xywh_to_xyxy, xyxy_to_xywh

CLASSES, QUERIES = 4, 7
NAMES = ("cls", "box", "giou")


def criterion(**hyp: Any) -> SetCriterion:
    return SetCriterion(QUERIES, hyp)


def outputs(images: int, seed: int = 1, labels: int = CLASSES, dtype: torch.dtype = torch.float32) -> SetOutputs:
    """Return raw outputs that ask for gradients."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, QUERIES, labels + 1, generator=draw, dtype=torch.float64) * 2
    boxes = torch.randn(images, QUERIES, 4, generator=draw, dtype=torch.float64).sigmoid()
    return SetOutputs(logits.to(dtype).requires_grad_(), boxes.to(dtype).requires_grad_())


def padded_batch(images: int, seed: int = 0, most: int = 4) -> Batch:
    """Return a batch of pictures of different sizes, at most ``SIZE`` a side, each box within its own picture."""
    batch = random_batch(images, most, CLASSES, seed=seed)
    sizes = [(SIZE - 16 * (i % 3), SIZE - 16 * (i % 2)) for i in range(images)]
    scale = torch.tensor([(w, h, w, h) for h, w in sizes]).float()[:, None] / SIZE
    return replace(batch, boxes=batch.boxes.clamp(0, SIZE) * scale, sizes=sizes)


def test_fractions_are_of_the_valid_area() -> None:
    batch = padded_batch(3)
    whole = replace(batch, boxes=batch.boxes.clone(), sizes=None)
    targets, of_canvas = criterion().prepare(batch), criterion().prepare(whole)
    for i, (height, width) in enumerate(batch.sizes):
        corners = xywh_to_xyxy(targets.boxes[i]) * torch.tensor([width, height, width, height])
        torch.testing.assert_close(corners, batch.boxes[i])
    torch.testing.assert_close(xywh_to_xyxy(of_canvas.boxes) * SIZE, batch.boxes)


def parts_slowly(raw: SetOutputs, batch: Batch, no_object: float) -> dict[str, float]:
    """Return the parts by the formula, one query after the other, in double precision, without gains."""
    weighted, weights, box, giou, objects = 0.0, 0.0, 0.0, 0.0, int(batch.valid.sum())
    loss = criterion()
    targets = loss.prepare(batch)
    (found,) = loss.match([raw.last], targets)
    place = {(int(i), int(q)): int(m) for i, q, m in zip(found.image, found.query, found.object, strict=True)}
    for i in range(len(batch)):
        for q in range(QUERIES):
            powers = [math.exp(v) for v in raw.logits[i, q].tolist()]
            m = place.get((i, q))
            label = CLASSES if m is None else int(batch.classes[i, m])
            weight = no_object if m is None else 1.0
            weighted -= weight * math.log(powers[label] / sum(powers))
            weights += weight
            if m is not None:
                goal = (xyxy_to_xywh(batch.boxes[i, m].double()) / SIZE).tolist()
                own = raw.boxes[i, q].double().tolist()
                box += sum(abs(a - b) for a, b in zip(own, goal, strict=True))
                giou += 1 - pair_cost_slowly(0.0, own, goal, loss.cost_weights._replace(box=0.0, giou=-1.0))
    return {"cls": weighted / max(weights, 1e-9), "box": box / max(objects, 1), "giou": giou / max(objects, 1)}


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(0, 9), st.floats(0.05, 1.0), st.integers(0, 2**31))
def test_the_parts_are_those_of_the_formula(images: int, most: int, no_object: float, seed: int) -> None:
    """Also with more objects than queries: further ones count in the mean of boxes and are matched with nothing."""
    batch, raw = random_batch(images, most, CLASSES, seed=seed), outputs(images, seed)
    found = numbers(criterion(set_no_object=no_object)(raw, criterion(set_no_object=no_object).prepare(batch)))
    slow = parts_slowly(raw, batch, no_object)
    gains = {"cls": 1.0, "box": 5.0, "giou": 2.0}
    assert list(found) == list(NAMES)
    assert found == pytest.approx({name: gains[name] * slow[name] for name in NAMES}, rel=1e-4, abs=1e-5)


def test_a_cost_is_made_of_the_probability_of_the_class() -> None:
    batch, raw = random_batch(2, 3, CLASSES), outputs(2)
    loss = criterion(set_cost_class=3.0, set_cost_box=0.0, set_cost_giou=0.0)
    targets = loss.prepare(batch)
    costs = pair_costs(loss.classes.costs(raw.logits, targets), raw.boxes, targets.boxes, loss.cost_weights)
    for i, q, m in ((0, 0, 0), (1, 6, 2), (1, 3, 1)):
        expected = -3 * raw.logits[i, q].softmax(0)[batch.classes[i, m]]
        torch.testing.assert_close(costs[i, q, m], expected)


@pytest.mark.parametrize("part", [*NAMES, *(f"o2m_{name}_0" for name in NAMES)])
def test_gradients_match_finite_differences(part: str) -> None:
    batch, raw = random_batch(2, 3, CLASSES), outputs(2, dtype=torch.float64)
    loss = SetCriterion(QUERIES, {"set_earlier": 0.5, "o2m": 1}, earlier=1)
    targets = loss.prepare(batch)

    def value(logits: Tensor, boxes: Tensor, earlier: Tensor) -> Tensor:
        return loss(SetOutputs(logits, boxes, None, (SetLayer(earlier, boxes.flip(1)),)), targets)[part]

    given = (raw.logits, raw.boxes, raw.logits.detach().flip(1).requires_grad_())
    assert torch.autograd.gradcheck(value, given, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_cutting_a_nominal_batch_changes_nothing(pieces: int) -> None:
    """8 x 1, 4 x 2 and 1 x 8 pictures of different sizes, some without objects, one with more than queries."""
    batch = padded_batch(8, most=9)
    batch.valid[3] = False
    batch.valid[5] = True
    loss, raw = criterion(), outputs(8)
    expected = loss(raw, loss.prepare(batch))
    wanted = torch.autograd.grad(sum(expected.values()), (raw.logits, raw.boxes))
    micro = [(part, loss.prepare(part)) for part in batch.cut(pieces)]
    totals = sum(targets.normalizers for _, targets in micro)
    found, start = dict.fromkeys(NAMES, torch.zeros(())), 0
    for part, targets in micro:
        own = slice(start, start + len(part))
        share = loss(SetOutputs(raw.logits[own], raw.boxes[own]), targets, totals)
        found = {name: found[name] + share[name] for name in NAMES}
        start += len(part)
    assert len(micro) == pieces and numbers(found) == pytest.approx(numbers(expected), rel=1e-5)
    for own, other in zip(torch.autograd.grad(sum(found.values()), (raw.logits, raw.boxes)), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_everything_is_float32_under_autocast() -> None:
    batch, raw = random_batch(2, 3, CLASSES), outputs(2)
    loss = criterion()
    targets = loss.prepare(batch)
    half = SetOutputs(raw.logits.bfloat16(), raw.boxes.bfloat16())
    expected = loss(SetOutputs(half.logits.float(), half.boxes.float()), targets)
    with torch.autocast("cpu", torch.bfloat16):
        found, (pairs,) = loss(half, targets), loss.match([half.last], targets)
    assert all(part.dtype == torch.float32 for part in found.values())
    assert numbers(found) == numbers(expected)
    (alone,) = loss.match([SetLayer(half.logits.float(), half.boxes.float())], targets)
    assert torch.equal(pairs.query, alone.query) and torch.equal(pairs.object, alone.object)


@pytest.mark.parametrize("earlier", [0, 3])
def test_a_call_waits_once_for_the_device(earlier: int) -> None:
    """However many layers learn, also with totals that lie on the host."""
    batch, raw = random_batch(3, 4, CLASSES), outputs(3)
    loss, layers = criterion(set_earlier=1.0), tuple(outputs(3, seed).last for seed in range(earlier))
    targets = loss.prepare(batch)
    expected = numbers(loss(raw._replace(earlier=layers), targets))
    far = SetOutputs(*map(Remote, raw.last), None, tuple(SetLayer(*map(Remote, layer)) for layer in layers))
    moved = replace(targets, boxes=Remote(targets.boxes), classes=Remote(targets.classes), valid=Remote(targets.valid))
    with PretendDevice() as device:
        parts = loss(far, moved)
        assert len(device.copies) == 1
    assert {name: float(part.here) for name, part in parts.items()} == pytest.approx(expected)


def test_pictures_without_objects_teach_that_there_is_none() -> None:
    batch, raw = random_batch(2, 0, CLASSES), outputs(2)
    parts = criterion()(raw, criterion().prepare(batch))
    nothing = F.cross_entropy(raw.logits.flatten(0, 1), torch.full((2 * QUERIES,), CLASSES))
    assert numbers(parts) == pytest.approx({"cls": float(nothing.detach()), "box": 0.0, "giou": 0.0})
    sum(parts.values()).backward()
    assert raw.logits.grad.abs().sum() > 0 and not raw.boxes.grad.any()
    parts = criterion(set_no_object=0)(raw, criterion(set_no_object=0).prepare(batch))
    assert numbers(parts) == {"cls": 0.0, "box": 0.0, "giou": 0.0}


def test_an_empty_batch_has_a_loss_of_zero_and_a_gradient() -> None:
    batch, raw = random_batch(2, 3, CLASSES).without_samples(), outputs(0)
    parts = criterion()(raw, criterion().prepare(batch), torch.tensor([3.0, 5.0, 3.0, 2.0]))
    assert numbers(parts) == {"cls": 0.0, "box": 0.0, "giou": 0.0}
    sum(parts.values()).backward()
    assert raw.logits.grad is not None


def test_predictions_that_are_no_numbers_give_a_loss_that_is_none() -> None:
    """The step that made them is left out by the training loop; nothing fails before."""
    batch, raw = random_batch(2, 3, CLASSES), outputs(2)
    with torch.no_grad():
        raw.logits[0] = torch.nan
        raw.boxes[1, 2] = torch.inf
    parts = criterion()(raw, criterion().prepare(batch))
    assert not math.isfinite(numbers(parts)["cls"])


def test_objects_without_area_have_finite_losses() -> None:
    batch, raw = random_batch(1, 2, CLASSES), outputs(1)
    batch.valid[:] = True
    batch.boxes[0, 0] = torch.tensor([8.0, 8.0, 8.0, 8.0])
    with torch.no_grad():
        raw.boxes[0, 0] = torch.tensor([0.125, 0.125, 0.0, 0.0])
    parts = criterion()(raw, criterion().prepare(batch))
    sum(parts.values()).backward()
    assert all(part.isfinite() for part in parts.values()) and raw.boxes.grad.isfinite().all()


def test_classes_learn_under_their_category_ids() -> None:
    ids = [1, 3, 4, 7]
    batch, raw = random_batch(2, 3, CLASSES), outputs(2, labels=8)
    loss, plain = SetCriterion(QUERIES, {}, ids), SetCriterion(QUERIES, {})
    targets = loss.prepare(batch)
    assert targets.classes.tolist() == [[ids[k] for k in row] for row in batch.classes.tolist()]
    relabelled = replace(batch, classes=targets.classes)
    assert numbers(loss(raw, targets)) == numbers(plain(raw, plain.prepare(relabelled)))


def test_earlier_layers_are_matched_by_themselves_and_weighed() -> None:
    batch, raw = random_batch(2, 4, CLASSES), outputs(2)
    layers = (outputs(2, 5).last, outputs(2, 6).last)
    targets = criterion().prepare(batch)
    alone = [numbers(criterion()(SetOutputs(*layer), targets)) for layer in (raw.last, *layers)]
    together = numbers(criterion(set_earlier=0.25)(raw._replace(earlier=layers), targets))
    expected = {name: alone[0][name] + 0.25 * (alone[1][name] + alone[2][name]) for name in NAMES}
    assert together == pytest.approx(expected, rel=1e-5)
    assert YOLOS_RECIPE["set_earlier"] == 0
    assert numbers(criterion()(raw._replace(earlier=layers), targets)) == alone[0]


def test_one_to_many_supervises_earlier_layers_beside_or_instead() -> None:
    batch, raw = random_batch(2, 4, CLASSES), outputs(2)
    layers = (outputs(2, 5).last, outputs(2, 6).last)
    both = raw._replace(earlier=layers)
    loss = SetCriterion(QUERIES, {"o2m": 1, "o2m_class": 3.0}, earlier=2)
    targets = loss.prepare(batch)
    found, plain = numbers(loss(both, targets)), numbers(criterion()(raw, targets))
    names = [f"o2m_{part}_{layer}" for layer in range(2) for part in NAMES]
    assert list(found) == [*NAMES, *names] and {name: found[name] for name in NAMES} == plain
    for number, layer in enumerate(layers):
        pairs = loss.assign_many([layer], targets, OneToManyRule())
        labels = torch.full((2, QUERIES), CLASSES)
        for image, query in (pairs.owner[0] >= 0).nonzero().tolist():
            labels[image, query] = targets.classes[image, pairs.owner[0, image, query]]
        weights = torch.tensor([1.0] * CLASSES + [0.1])
        own = F.cross_entropy(layer.logits.flatten(0, 1), labels.flatten(), weights, reduction="sum")
        # The denominator is that of one-to-one matching, which follows from labels.
        assert found[f"o2m_cls_{number}"] == pytest.approx(3 * float(own.detach() / targets.normalizers[1]))
        assert int(pairs.used.sum()) >= int(targets.valid.sum()) / 2 and found[f"o2m_box_{number}"] > 0
    together = numbers(SetCriterion(QUERIES, {"o2m": 1, "set_earlier": 0.25}, earlier=2)(both, targets))
    assert {name: together[name] for name in NAMES} == numbers(criterion(set_earlier=0.25)(both, targets))
    assert together["o2m_giou_1"] == found["o2m_giou_1"]


def test_one_to_many_merges_with_the_matching_of_its_own_layer() -> None:
    batch, raw = random_batch(2, 4, CLASSES), outputs(2)
    layers = (outputs(2, 5).last, outputs(2, 6).last)
    loss = SetCriterion(QUERIES, {"o2m": 1, "o2m_merge": True}, earlier=2)
    targets = loss.prepare(batch)
    found = numbers(loss(raw._replace(earlier=layers), targets))
    assert {name: found[name] for name in NAMES} == numbers(criterion()(raw, targets))
    one = pairs_of_matches(loss.match(layers, targets), 2, QUERIES, batch.boxes.shape[1])
    many = loss.assign_many(layers, targets, OneToManyRule(merge=True), one)
    assert (many.owner[one.owner >= 0] >= 0).all()
    terms = loss.terms(layers, targets, many, targets.normalizers)
    assert found["o2m_box_1"] == pytest.approx(5 * float(terms[1, 1].detach()))


def test_one_to_many_that_nobody_asks_for_rests() -> None:
    loss = SetCriterion(QUERIES, {}, earlier=1)
    batch, raw = random_batch(2, 4, CLASSES), outputs(2)
    parts = numbers(loss(raw._replace(earlier=(outputs(2, 5).last,)), loss.prepare(batch)))
    names = [f"o2m_{part}_0" for part in NAMES]
    assert loss.resting == dict.fromkeys(names) and [parts[name] for name in names] == [0, 0, 0]
    assert SetCriterion(QUERIES, {"o2m": 1}, earlier=1).resting == {}


def test_mistakes_that_are_logged() -> None:
    """One picture with two objects, another with none; queries 0 and 1 lie on the objects."""
    batch = random_batch(2, 2, CLASSES)
    batch.valid[:] = torch.tensor([[True, True], [False, False]])
    batch.classes[0] = torch.tensor([1, 2])
    logits = torch.zeros(2, QUERIES, CLASSES + 1)
    logits[..., CLASSES] = 5.0
    logits[0, 0, 1] = logits[0, 1, 3] = logits[0, 4, 0] = logits[1, 0, 0] = 9.0
    boxes = torch.full((2, QUERIES, 4), 0.05)
    boxes[0, :2] = xyxy_to_xywh(batch.boxes[0]) / SIZE
    loss = criterion()
    loss(SetOutputs(logits, boxes), loss.prepare(batch))
    found = loss.seen()
    assert tuple(found) == loss.watched
    # One of two classes is wrong; three queries of the first picture see an object, one of the second.
    assert numbers(found) == {"class_error": 50.0, "cardinality_error": 1.0}


def test_the_assignment_shows_the_centres_of_the_boxes_of_matched_queries() -> None:
    batch, raw = padded_batch(3), outputs(3)
    sizes = tuple(batch.sizes)
    loss = criterion()
    shown = loss.assignment(raw._replace(sizes=sizes), batch)
    (found,) = loss.match([raw.last], loss.prepare(batch))
    assert torch.equal(shown.image, found.image) and torch.equal(shown.object, found.object)
    for i, q, place in zip(found.image.tolist(), found.query.tolist(), shown.places, strict=True):
        height, width = sizes[i]
        expected = raw.boxes[i, q, :2].detach() * torch.tensor([width, height])
        torch.testing.assert_close(place, expected)
    rows = {(int(i), int(m)) for i, m in zip(shown.image, shown.object, strict=True)}
    assert rows == {(int(i), int(m)) for i, m in batch.valid.nonzero()}


def test_matching_of_the_loss_is_the_best_one() -> None:
    """Queries that lie exactly on the objects are chosen, whatever their order."""
    batch = random_batch(3, 5, CLASSES)
    loss = criterion()
    targets = loss.prepare(batch)
    boxes = torch.full((3, QUERIES, 4), 0.02)
    boxes[:, [6, 2, 4, 0, 1]] = targets.boxes
    (found,) = loss.match([SetLayer(torch.zeros(3, QUERIES, CLASSES + 1), boxes)], targets)
    order = torch.tensor([6, 2, 4, 0, 1])
    assert torch.equal(found.query, order[found.object]) and len(found.query) == int(batch.valid.sum())
    assert match([torch.zeros(0, QUERIES, 3)], torch.zeros(0, 3, dtype=torch.bool))[0].query.shape == (0,)
