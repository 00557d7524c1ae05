"""Checks of the matchings, the losses and the gradients of a whole deformable DETR."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from data.samples import Batch
from models.assigners.set_pairs import SetPairs
from models.losses.ms_detr import MixedPairs, MSDETRCriterion
from models.losses.query_criterion import as_objectness
from models.losses.set_targets import SetTargets
from models.set_outputs import SetLayer, SetOutputs
from tests.parity.ms_detr_rebuild import Rebuilt
from tests.parity.published import Fixture, Report, Tolerance, tensor
from tests.parity.yolox_loss_checks import batch_of_objects
from utils.recipe import load_recipe

GRADIENTS = Tolerance(1e-6, 1e-2)
"""Of a network's tensors; the fixtures ask for a relative 1e-2, the absolute part lets gradients of zero be zero."""
EXACT = Tolerance(0.0, 1e-12)
TWINS = 1e-4
"""Queries whose logits and boxes differ by less say the same."""
PARTS = {"loss_ce": "cls", "loss_bbox": "box", "loss_giou": "giou"}
KEYS = {"loss_ce": "class", "loss_bbox": "box", "loss_giou": "giou"}
LOSS = re.compile(r"(loss_ce|loss_bbox|loss_giou|class_error|cardinality_error)(?:_(\d+))?(_o2m|_enc)?")
"""Name of a published loss: part, layer where it is not the last, and branch."""
WEIGHT = re.compile(r"(loss_ce|loss_bbox|loss_giou)(_enc|)(?:_(\d+))?(_o2m|)")
MATCHERS = {
    ("one_to_one", "class"): "set_cost_focal",
    ("one_to_one", "bbox"): "set_cost_box",
    ("one_to_one", "giou"): "set_cost_giou",
    ("encoder", "bbox"): "set_cost_box",
    ("encoder", "giou"): "set_cost_giou",
    ("one_to_many", "iou"): "o2m_iou_share",
    ("one_to_many", "threshold"): "o2m_threshold",
    ("one_to_many", "k"): "o2m_k",
}
"""Our recipe keys of published numbers of the matchings."""


def check_losses(rebuilt: Rebuilt, raw: SetOutputs, fixture: Fixture, report: Report) -> None:
    """Compare matchings, losses and gradients.

    Args:
        rebuilt: the network.
        raw: what it said in training mode, with gradients.
        fixture: what is compared with.
        report: where to.
    """
    shipped = load_recipe(rebuilt.graph.spec.values["recipe"])
    recipe = {key: shipped.get(key, default) for key, default in rebuilt.head.recipe.items()}
    report.same("one-to-many supervision of the recipe", bool(recipe["o2m"]), bool(raw.one_to_many))
    check_weights(recipe, fixture, report)
    criterion = rebuilt.head.criterion(recipe)
    targets = criterion.prepare(published_batch(rebuilt, raw, fixture, report))
    pairs = criterion.assign(raw, targets)
    check_matchings(pairs, raw, fixture, report)
    parts = criterion(raw, targets)
    rebuilt.graph.zero_grad()
    sum(parts.values()).backward()
    check_parts(criterion, parts, raw, targets, pairs, fixture, report)
    check_gradients(rebuilt, fixture, report)


def check_weights(recipe: dict[str, Any], fixture: Fixture, report: Report) -> None:
    """Compare the weights of the losses and of the costs with those of our recipe."""
    published = fixture.facts.get("weights", {})
    report.same(f"weights of {len(published)} losses", {name: recipe[_gain_key(name)] for name in published}, published)
    for matcher, values in fixture.facts.get("matchers", {}).items():
        for name, published in values.items():
            if (key := MATCHERS.get((matcher, name))) is not None:
                report.close(f"{matcher}: {name}", recipe[key], published, EXACT)
            elif (matcher, name) == ("one_to_many", "class_probability"):
                report.close(f"{matcher}: {name}", 1 - recipe["o2m_iou_share"], published, Tolerance(0, 1e-9))
            elif (matcher, name) == ("encoder", "class"):
                report.same(f"{matcher}: {name}", 0 if recipe["enc_anchors"] else "counts", published)
            else:
                report.same(f"{matcher}: {name}", "anchors" if recipe["enc_anchors"] else "boxes", published)


def _gain_key(name: str) -> str:
    """Return our recipe key of a published loss's weight."""
    part, encoder, _, many = WEIGHT.fullmatch(name).groups()
    return f"{'enc' if encoder else 'o2m' if many else 'set'}_{KEYS[part]}"


def published_batch(rebuilt: Rebuilt, raw: SetOutputs, fixture: Fixture, report: Report) -> Batch:
    """Return the published objects; their labels are category ids, which become our classes."""
    shape = fixture.facts["input"]["shape"]
    ids = rebuilt.head.category_ids or list(range(rebuilt.head.labels))
    sizes = raw.sizes or (tuple(shape[2:]),) * shape[0]
    rows = []
    for image, (height, width) in zip(fixture.facts["targets"], sizes, strict=True):
        report.same("form of the boxes", image["box_format"].startswith("cxcywh, fractions"), True)
        boxes = tensor(image["boxes"]).view(-1, 4) * torch.tensor([width, height, width, height])
        classes = [ids.index(label) for label in image["labels"]]
        rows.append([[kind, *box] for kind, box in zip(classes, boxes.tolist(), strict=True)])
    batch = batch_of_objects(rows, shape)
    batch.sizes = raw.sizes
    return batch


def pairs_of(pairs: SetPairs, layer: int, image: int) -> list[tuple[int, int]]:
    """Return query and object of the pairs of an image."""
    used = pairs.used[layer, image]
    found = (pairs.query[layer, image][used].tolist(), pairs.object[layer, image][used].tolist())
    return list(zip(*found, strict=True))


def twins(layer: SetLayer, image: int) -> list[int]:
    """Return for every query of an image the first one that says the same.

    Proposals of padding have one content and one box, so their queries stay equal through all layers, and which of them
    answers for an object is arbitrary, as the fixtures say.
    """
    said = torch.cat((layer.logits[image], layer.boxes[image]), -1).detach()
    return (torch.cdist(said, said, p=torch.inf) < TWINS).int().argmax(1).tolist()


def check_matchings(pairs: MixedPairs, raw: SetOutputs, fixture: Fixture, report: Report) -> None:
    """Compare which query learns which object, in every layer of every branch."""
    branches = (
        ("matching_one_to_one", pairs.one, (*raw.earlier, raw.last)),
        ("matching_one_to_many", pairs.many, raw.one_to_many),
    )
    for name, found, layers in branches:
        for layer, images in fixture.facts.get(name, {}).items():
            number = int(layer.removeprefix("layer"))
            for image in images:
                first = twins(layers[number], image["image"])
                _check_image(f"{name} {layer}", found, number, image, first, report)
    for image in fixture.facts.get("matching_encoder", []):
        _check_image("matching_encoder", pairs.encoder, 0, image, range(raw.proposals.boxes.shape[1]), report)


def _check_image(
    what: str, found: SetPairs, layer: int, image: dict[str, Any], first: Sequence[int], report: Report
) -> None:
    wanted = zip(image["queries"], image["targets"], strict=True)
    ours = pairs_of(found, layer, image["image"])
    compared = [sorted((first[query], target) for query, target in some) for some in (ours, wanted)]
    report.same(f"{what} of image {image['image']}", *compared)


def check_parts(
    criterion: MSDETRCriterion,
    parts: dict[str, Tensor],
    raw: SetOutputs,
    targets: SetTargets,
    pairs: MixedPairs,
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare every loss without its weight, their weighted sum, and what is logged beside them."""
    report.same("parts of the loss", sorted(parts), sorted(n for names in criterion.names.values() for n in names))
    layers = {"o2o": (*raw.earlier, raw.last), "o2m": raw.one_to_many}
    report.close("class_error as it is logged", criterion.seen()["class_error"], *_published_error(fixture))
    for name, published in fixture.facts["losses"].items():
        tolerance = fixture.tolerance("losses")
        if name == "total_weighted":
            report.close(name, sum(parts.values()), published, tolerance)
            continue
        if (found := LOSS.fullmatch(name)) is None:
            report.unread(name)
            continue
        part, number, branch = found[1], found[2], (found[3] or "_o2o")[1:]
        layer = (0 if branch == "enc" else len(layers[branch]) - 1) if number is None else int(number)
        said = SetLayer(raw.proposals.logits, raw.proposals.boxes) if branch == "enc" else layers[branch][layer]
        if part in PARTS:
            own = {"o2o": f"{PARTS[part]}_{layer}", "o2m": f"o2m_{PARTS[part]}_{layer}", "enc": f"enc_{PARTS[part]}"}
            gain = getattr(criterion.gains[branch], PARTS[part])
            report.close(name, parts[own[branch]] / gain, published, tolerance)
        elif part == "class_error":
            kind = {"o2o": pairs.one, "o2m": pairs.many, "enc": pairs.encoder}[branch]
            goal = as_objectness(targets) if branch == "enc" else targets
            report.close(name, class_error(said, goal, kind.layers(slice(layer, layer + 1))), published, tolerance)
        else:
            report.close(name, cardinality_error(said, targets), published, tolerance)


def _published_error(fixture: Fixture) -> tuple[float, Tolerance]:
    return fixture.facts["losses"]["class_error"], fixture.tolerance("losses")


def class_error(layer: SetLayer, targets: SetTargets, pairs: SetPairs) -> float:
    """Return how many percent of the pairs have another likeliest label than their object's."""
    labels = targets.classes.gather(1, pairs.object[0])
    likeliest = layer.logits.argmax(-1).gather(1, pairs.query[0])
    wrong = (likeliest != labels) & pairs.used[0]
    return float(100 * wrong.sum() / pairs.used.sum().clamp(min=1))


def cardinality_error(layer: SetLayer, targets: SetTargets) -> float:
    """Return by how many the objects differ from the queries whose likeliest label is not the last one, on average.

    The published program takes the last label for that of no object, which there is not; it is a number of its own.
    """
    seen = (layer.logits.argmax(-1) != layer.logits.shape[-1] - 1).sum(1)
    return float((seen - targets.valid.sum(1)).abs().float().mean())


def check_gradients(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare the length of every tensor's gradient."""
    if "grad_norm" not in fixture.arrays:
        return
    gradients = {name: value.grad for name, value in rebuilt.graph.named_parameters() if value.grad is not None}
    norms = {piece.name: float(piece.of(gradients).norm()) for piece in rebuilt.pieces if piece.ours[0] in gradients}
    # The published program lists a tensor that has several names under whichever comes first in it.
    names = [rebuilt.copies.get(name, name) for name in fixture.facts["grad_names"]]
    report.same("gradients missing here", [name for name in names if name not in norms], [])
    report.same("gradients only here", [name for name in norms if name not in names], [])
    report.close("grad_norm", [norms.get(name, -1.0) for name in names], fixture.arrays["grad_norm"], GRADIENTS)
    if "parameters_without_gradient" in fixture.facts:
        learning = {name for name, value in rebuilt.graph.named_parameters() if value.requires_grad}
        without = [piece.name for piece in rebuilt.pieces if piece.ours[0] in learning - set(gradients)]
        report.same("parameters_without_gradient", without, fixture.facts["parameters_without_gradient"])
