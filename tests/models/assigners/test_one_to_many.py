"""One-to-many assignment against a plain loop, and what its options promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.assigners.hungarian import match
from models.assigners.one_to_many import OneToManyRule, assign_one_to_many, drawn_order, pair_scores
from models.assigners.set_pairs import NOTHING, SetPairs, pairs_of_matches
from tests.models.assigners.slow_one_to_many import assign_slowly, merge_slowly
from tests.models.losses.slow_ms_detr import overlaps
from tests.pretend_device import PretendDevice, Remote


def random_scores(layers: int, images: int, queries: int, objects: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return scores (K, B, Q, M) no two of which are equal, and which objects are none (B, M)."""
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(layers * images * queries * objects, generator=draw).double()
    scores = ((numbers + 1) / (len(numbers) + 1)).view(layers, images, queries, objects)
    return scores, torch.rand(images, objects, generator=draw) < 0.7


def listed(pairs: SetPairs, layer: int, image: int) -> list[tuple[int, int]]:
    """Return query and object of the pairs of a picture, sorted."""
    used = pairs.used[layer, image]
    return sorted(zip(pairs.query[layer, image][used].tolist(), pairs.object[layer, image][used].tolist(), strict=True))


def owners(pairs: SetPairs, layer: int, image: int) -> dict[int, int]:
    return {q: t for q, t in enumerate(pairs.owner[layer, image].tolist()) if t != NOTHING}


SHAPES = {"layers": st.integers(1, 3), "images": st.integers(1, 3), "queries": st.integers(1, 12)}
RULES = st.builds(
    OneToManyRule, k=st.integers(1, 8), threshold=st.floats(0, 1), positive_share=st.sampled_from([0.0, 0.2, 0.5])
)


@settings(max_examples=40, deadline=None)
@given(**SHAPES, objects=st.integers(0, 5), rule=RULES, merge=st.booleans(), seed=st.integers(0, 2**31))
def test_pairs_are_those_of_a_loop(
    layers: int, images: int, queries: int, objects: int, rule: OneToManyRule, merge: bool, seed: int
) -> None:
    scores, valid = random_scores(layers, images, queries, objects, seed)
    order = torch.rand(layers, images, queries, generator=torch.Generator().manual_seed(seed))
    single = pairs_of_matches(match(list(-scores), valid), images, queries, objects)
    found = assign_one_to_many(scores, valid, replace(rule, merge=merge), order, single)
    most = max(int(rule.positive_share * queries), 1) if rule.positive_share else None
    for layer in range(layers):
        for image in range(images):
            real = valid[image].nonzero()[:, 0].tolist()
            own = scores[layer, image][:, real].tolist()
            pairs, owner = assign_slowly(own, rule.k, rule.threshold, order[layer, image].tolist(), most)
            pairs, owner = [(q, real[t]) for q, t in pairs], {q: real[t] for q, t in owner.items()}
            if merge:
                owner = merge_slowly(owner, listed(single, layer, image))
                pairs = list(owner.items())
            assert listed(found, layer, image) == sorted(pairs)
            assert owners(found, layer, image) == owner


def test_the_one_to_one_pairs_are_those_of_the_matching() -> None:
    scores, valid = random_scores(2, 3, 4, 6, seed=3)
    matches = match(list(-scores), valid)
    found = pairs_of_matches(matches, 3, 4, 6)
    for layer, match_ in enumerate(matches):
        for image in range(3):
            own = match_.image == image
            wanted = list(zip(match_.query[own].tolist(), match_.object[own].tolist(), strict=True))
            assert listed(found, layer, image) == sorted(wanted) and owners(found, layer, image) == dict(wanted)


def test_a_score_is_made_of_overlap_and_probability() -> None:
    draw = torch.Generator().manual_seed(0)
    boxes, objects = torch.rand(2, 3, 5, 4, generator=draw), torch.rand(3, 4, 4, generator=draw)
    probabilities = torch.rand(2, 3, 5, 4, generator=draw)
    found = pair_scores(probabilities, boxes, objects, 0.7)
    for layer in range(2):
        for image in range(3):
            for query, thing in ((0, 0), (4, 1), (2, 3)):
                overlap, _ = overlaps(boxes[layer, image, query].tolist(), objects[image, thing].tolist())
                expected = 0.7 * overlap + 0.3 * float(probabilities[layer, image, query, thing])
                assert float(found[layer, image, query, thing]) == pytest.approx(expected, abs=1e-5)


def test_a_query_may_serve_two_objects_and_an_object_may_have_none() -> None:
    """Query 0 is the best one of both objects but counts for the first, so the second has no positive query."""
    scores = torch.tensor([[[[0.9, 0.8], [0.1, 0.05], [0.2, 0.1]]]])
    found = assign_one_to_many(scores, torch.ones(1, 2, dtype=torch.bool), OneToManyRule())
    assert listed(found, 0, 0) == [(0, 0)]
    # Now two queries answer for the second object best, and of those for it query 0 is still the very best.
    scores = torch.tensor([[[[0.9, 0.8], [0.1, 0.5], [0.2, 0.6]]]])
    found = assign_one_to_many(scores, torch.ones(1, 2, dtype=torch.bool), OneToManyRule())
    assert listed(found, 0, 0) == [(0, 0), (0, 1), (2, 1)] and owners(found, 0, 0) == {0: 0, 2: 1}


def test_the_flags_of_the_published_program_have_an_effect_here() -> None:
    scores, valid = random_scores(1, 1, 40, 2, seed=1)[0], torch.ones(1, 2, dtype=torch.bool)
    count = {k: int(assign_one_to_many(scores, valid, OneToManyRule(k=k)).used.sum()) for k in (1, 6, 9)}
    assert count == {1: 2, 6: 12, 9: 18}
    assert int(assign_one_to_many(scores, valid, OneToManyRule(threshold=1.0)).used.sum()) <= 2


def test_queries_that_pad_are_nobodys() -> None:
    scores, valid = random_scores(2, 2, 9, 3, seed=5)
    padded = scores.clone()
    padded[:, :, 6:] = -torch.inf
    whole, cut = (
        assign_one_to_many(given, valid, OneToManyRule(threshold=0.1)) for given in (padded, scores[:, :, :6])
    )
    for layer in range(2):
        for image in range(2):
            assert listed(whole, layer, image) == listed(cut, layer, image)
    assert (whole.owner[:, :, 6:] == NOTHING).all() and torch.equal(whole.owner[:, :, :6], cut.owner)


def test_scores_that_are_no_numbers_are_the_worst() -> None:
    scores, valid = random_scores(1, 1, 6, 2, seed=2)[0], torch.ones(1, 2, dtype=torch.bool)
    scores[0, 0, 4] = torch.nan
    found = assign_one_to_many(scores, valid, OneToManyRule())
    assert found.used.any() and 4 not in dict(listed(found, 0, 0))


def test_nobody_waits_for_the_device() -> None:
    scores, valid = random_scores(3, 2, 10, 4, seed=4)
    boxes = torch.rand(2, 4, 4)
    one = pairs_of_matches(match(list(-scores), valid), 2, 10, 4)
    far_one = SetPairs(*map(Remote, (one.query, one.object, one.used, one.owner)))
    rule = OneToManyRule(positive_share=0.5, merge=True)
    near = assign_one_to_many(scores, valid, rule, drawn_order(boxes, valid, 3, 10), one)
    with PretendDevice() as device:
        order = drawn_order(Remote(boxes), Remote(valid), 3, 10)
        far = assign_one_to_many(Remote(scores), Remote(valid), rule, order, far_one)
    assert device.copies == [] and torch.equal(far.owner.here, near.owner)


def test_what_is_drawn_follows_from_the_labels_of_a_picture_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    boxes, valid = torch.rand(5, 6, 4, generator=draw), torch.rand(5, 6, generator=draw) < 0.6
    numbers = drawn_order(boxes, valid, 4, 200)
    other = boxes.where(valid[..., None], torch.rand(5, 6, 4, generator=draw))
    wider = torch.cat((other, torch.rand(5, 3, 4, generator=draw)), 1)
    more = torch.cat((valid, torch.zeros(5, 3, dtype=torch.bool)), 1)
    assert torch.equal(drawn_order(wider, more, 4, 200), numbers), "padding has no part in it"
    assert torch.equal(drawn_order(boxes[2:3], valid[2:3], 4, 200), numbers[:, 2:3])
    moved = drawn_order(boxes + 1e-6, valid, 4, 200)
    assert (moved != numbers).float().mean() > 0.9
    assert numbers.min() >= 0 and numbers.max() <= 1 and numbers.unique().numel() == numbers.numel()
    assert numbers.mean((0, 2)).sub(0.5).abs().max() < 0.05 and numbers.std((0, 2)).sub(12**-0.5).abs().max() < 0.03
    layers = numbers.transpose(0, 1).reshape(20, 200)
    assert torch.corrcoef(layers).fill_diagonal_(0).abs().max() < 0.35


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"k": 0}, "o2m_k must be a whole number of 1 or more"),
        ({"threshold": 1.5}, "o2m_threshold must be a number from 0 to 1"),
        ({"iou_share": -0.1}, "o2m_iou_share must be"),
        ({"positive_share": 2}, "o2m_positive_share must be"),
    ],
)
def test_rules_out_of_range_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OneToManyRule(**values)
