"""Checks of a fixture of a deformable DETR of any size and variant: parts, layers, proposals, outputs and answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from data.samples import Placement
from models.convert.label_classes import COCO_IDS
from models.memory import Memory
from models.predictions import Detections, PostprocessOptions
from models.set_outputs import SetLayer, SetOutputs
from tests.parity.ms_detr_loss_checks import check_losses
from tests.parity.ms_detr_rebuild import Rebuilt, flags_of, network_input, rebuild_detr
from tests.parity.published import Fixture, Report
from utils.errors import UsageError

NEAR_TIE = 2e-5
"""Scores of proposals that are nearer to each other than this may change places, as the fixtures say."""
FRAME = 10
"""Sides of a picture in those of the one within it."""
EVERY = re.compile(r"every (\d+)\s*-?\s*(?:st|nd|rd|th)")


def check_detr_model(fixture: Fixture, report: Report) -> None:
    """Rebuild a fixture's network, fill it and compare everything that the fixture holds."""
    rebuilt = rebuild_detr(fixture, report)
    check_description(rebuilt, fixture, report)
    images, sizes = network_input(rebuilt, fixture, report)
    graph = rebuilt.graph.train()
    with recorded(rebuilt) as found, torch.set_grad_enabled("losses" in fixture.facts):
        (raw,) = graph(images, sizes=sizes).values()
    check_arrays(rebuilt, raw, found, fixture, report)
    check_eval_mode(rebuilt, images, sizes, raw, fixture, report)
    if "losses" in fixture.facts:
        check_losses(rebuilt, raw, fixture, report)
    for name in sorted(set(fixture.arrays) - report.seen):
        report.unread(name)


def check_description(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare what can be said without running the network."""
    facts, graph, head = fixture.facts, rebuilt.graph, rebuilt.head
    learning = sum(value.numel() for value in graph.parameters() if value.requires_grad)
    if "parameters" in facts:
        report.same("parameters", learning, facts["parameters"])
    if "parameters_total_including_frozen" in facts:
        every = sum(value.numel() for value in graph.parameters())
        report.same("parameters_total_including_frozen", every, facts["parameters_total_including_frozen"])
    flags = flags_of(fixture)
    ours = {
        "num_queries": rebuilt.queries.queries,
        "with_box_refine": head.box_refine,
        "look_forward_twice": head.look_forward_twice,
        "mixed_selection": getattr(rebuilt.queries, "mixed_selection", False),
        "two_stage": head.proposes,
        "use_aux_ffn": any(name.startswith("linear3") for name, _ in head.layers[0].named_children()),
        "use_ms_detr": head.branch,
    }
    for flag, value in ours.items():
        report.same(f"--{flag}", value, flags.get(flag, False))


@contextmanager
def recorded(rebuilt: Rebuilt) -> Iterator[dict[str, list[Any]]]:
    """Record what rows and layers give while the graph runs."""
    found: dict[str, list[Any]] = {"maps": [], "sources": [], "encoder": [], "memory": [], "decoder": [], "queries": []}
    rows = rebuilt.rows
    inputs = {rebuilt.graph.spec.rows[row].sources[0] for row in rows.projections}
    modules = [("maps", rebuilt.graph.model[row]) for row in sorted(inputs)]
    modules += [("sources", rebuilt.graph.model[row]) for row in rows.projections]
    modules += [("encoder", layer) for layer in rebuilt.encoder.layers]
    modules += [("memory", rebuilt.encoder), ("queries", rebuilt.queries)]
    modules += [("decoder", layer) for layer in rebuilt.head.layers]
    handles = [
        module.register_forward_hook(lambda _, __, output, kind=kind: found[kind].append(output))
        for kind, module in modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def statistics(values: Sequence[Tensor]) -> Tensor:
    """Return mean and standard deviation of every tensor, (N, 2) float64."""
    return torch.stack([torch.stack((one.double().mean(), one.double().std())) for one in values])


def check_arrays(
    rebuilt: Rebuilt, raw: SetOutputs, found: dict[str, list[Any]], fixture: Fixture, report: Report
) -> None:
    """Compare arrays of training mode: what every layer says, and what is within the network."""
    kept = check_chosen(rebuilt, raw, fixture, report)
    kind = "train_arrays" if "losses" in fixture.facts else "eval_arrays"
    ours = inner_arrays(raw, found, fixture) | layer_arrays(raw)
    for name in sorted(set(ours) & set(fixture.arrays)):
        own, published = ours[name].detach(), torch.as_tensor(fixture.arrays[name])
        if name == "memory_sample":
            own, published = (in_pictures(values, found["memory"][0], fixture) for values in (own, published))
        if name in PER_QUERY:
            step = step_of(fixture, name)
            slots = kept[:, ::step]
            own = own[..., ::step, :][..., slots, :]
            published = published[..., slots, :] if published.shape[-2] == slots.shape[1] else published
        report.close(name, own, published, fixture.tolerance(kind))


PER_QUERY = ("logits_o2o", "boxes_o2o", "logits_o2m", "boxes_o2m", "pred_logits_o2m", "pred_boxes_o2m")
"""Arrays whose axis before the last one is that of queries."""


def layer_arrays(raw: SetOutputs) -> dict[str, Tensor]:
    """Return what every layer of both branches says, of all queries."""
    branches: dict[str, tuple[SetLayer, ...]] = {"o2o": (*raw.earlier, raw.last), "o2m": raw.one_to_many}
    found = {}
    for branch, layers in branches.items():
        if layers:
            found |= {f"logits_{branch}": torch.stack([layer.logits for layer in layers])}
            found |= {f"boxes_{branch}": torch.stack([layer.boxes for layer in layers])}
    if raw.one_to_many:
        found |= {"pred_logits_o2m": raw.one_to_many[-1].logits, "pred_boxes_o2m": raw.one_to_many[-1].boxes}
    return found


def inner_arrays(raw: SetOutputs, found: dict[str, list[Any]], fixture: Fixture) -> dict[str, Tensor]:
    """Return what a fixture records within the network; which tokens and channels its own words say."""
    arrays = {
        "backbone_stats": statistics(found["maps"]),
        "src_stats": statistics(found["sources"]),
        "enc_stats": statistics(found["encoder"]),
        "dec_o2o_stats": statistics([content for content, _ in found["decoder"]]),
    }
    if raw.one_to_many:
        arrays["dec_o2m_stats"] = statistics([aside for _, aside in found["decoder"]])
    if "memory_sample" in fixture.arrays:
        channels = re.search(r"channels (\d+)-(\d+)", words_of(fixture, "memory_sample"))
        if channels is None:
            raise UsageError(f"{fixture.path}: says of memory_sample no 'channels N-M'")
        wanted = slice(int(channels[1]), int(channels[2]) + 1)
        arrays["memory_sample"] = found["memory"][0].values[:, :: step_of(fixture, "memory_sample"), wanted]
    if raw.proposals is not None:
        arrays |= {"enc_class0": raw.proposals.logits[..., 0]}
        arrays |= {"enc_boxes": raw.proposals.boxes[:, :: step_of(fixture, "enc_boxes")]}
        anchors = raw.proposals.anchors[:, :: step_of(fixture, "anchors")]
        alone = "anchors" in fixture.arrays and fixture.arrays["anchors"].ndim == 2
        arrays |= {"anchors": anchors[0] if alone else anchors}
    return arrays


def in_pictures(values: Tensor, memory: Memory, fixture: Fixture) -> Tensor:
    """Return what lies in the pictures of a sample of tokens (B, N, C).

    What the published network computes for tokens of padding is read by nothing, and here it is another number.
    """
    if memory.mask is None:
        return values
    return values[memory.mask[:, :: step_of(fixture, "memory_sample")]]


def words_of(fixture: Fixture, name: str) -> str:
    """Return what a fixture says of one of its arrays."""
    return fixture.facts.get("outputs", {}).get(name, {}).get("what", "")


def step_of(fixture: Fixture, name: str) -> int:
    """Return of which entries an array holds every so many, by the fixture's words."""
    words = words_of(fixture, name)
    if words.startswith("as "):
        words = words_of(fixture, words.split()[1])
    every = EVERY.search(words)
    return int(every[1]) if every else 1


def check_chosen(rebuilt: Rebuilt, raw: SetOutputs, fixture: Fixture, report: Report) -> Tensor:
    """Compare which tokens are proposed, and return the queries (B, Q) whose token is the published one.

    Tokens whose published scores are nearly equal may change places.
    """
    every = torch.ones(raw.logits.shape[:2], dtype=torch.bool)
    if "topk_tokens" not in fixture.arrays:
        return every
    scores = torch.as_tensor(fixture.arrays["enc_class0"])
    published = torch.as_tensor(fixture.arrays["topk_tokens"]).long()
    ours = chosen_tokens(rebuilt, raw)
    equal = ours == published
    near = (scores.gather(1, ours) - scores.gather(1, published)).abs() < NEAR_TIE
    told = torch.where(near, published, ours)
    report.same("topk_tokens", told.tolist(), published.tolist())
    report.same("tokens of all queries", sorted(ours.flatten().tolist()), sorted(published.flatten().tolist()))
    return equal


def chosen_tokens(rebuilt: Rebuilt, raw: SetOutputs) -> Tensor:
    """Return the token of every query, (B, Q), as the row of queries chooses."""
    return rebuilt.queries._best(raw.proposals.logits[..., 0])[..., 0]


def check_eval_mode(
    rebuilt: Rebuilt,
    images: Tensor,
    sizes: list[tuple[int, int]],
    trained: SetOutputs,
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare what the network answers where it does not learn, and the answers for a picture."""
    rebuilt.graph.eval()
    with torch.no_grad():
        (raw,) = rebuilt.graph(images, sizes=sizes).values()
    report.same("branches of training in eval mode", (raw.earlier, raw.one_to_many, raw.proposals), ((), (), None))
    tolerance = fixture.tolerance("eval_arrays")
    # In training mode the same tokens are chosen; slots of tokens that tie there are compared with ours there.
    kept = check_same_mode(raw, trained, report)
    for name, own in (("pred_logits", raw.logits), ("pred_boxes", raw.boxes)):
        if name in fixture.arrays:
            step = step_of(fixture, name)
            slots = kept[:, ::step]
            published = torch.as_tensor(fixture.arrays[name])
            report.close(name, own[:, ::step][slots], published[slots], tolerance)
    if "post_scores" in fixture.arrays:
        check_answers(rebuilt, raw, fixture, report)


def check_same_mode(raw: SetOutputs, trained: SetOutputs, report: Report) -> Tensor:
    """Compare the answers of both modes, and return the queries (B, Q) that have one token in both."""
    apart = (raw.boxes - trained.boxes.detach()).abs().amax(-1)
    report.same("queries that differ between the modes", int((apart > 1e-4).sum()), 0)
    return apart <= 1e-4


def answers(rebuilt: Rebuilt, raw: SetOutputs, fixture: Fixture) -> dict[str, Tensor]:
    """Return what the published program answers for the first picture.

    Raises:
        UsageError: the fixture does not say for which size of picture, or how many answers.
    """
    words = words_of(fixture, "post_scores")
    size, most = re.search(r"image (\d+)x(\d+)", words), re.search(r"top-(\d+)", words)
    if size is None or most is None:
        raise UsageError(f"{fixture.path}: says '{words}', which gives no image HxW or no top-K")
    height, width = int(size[1]), int(size[2])
    boxes = rebuilt.head.predict(raw._replace(sizes=None), (height, width)).boxes
    # Labels are category ids, also those that no category has; so a head whose classes these are answers alike.
    every = Detections(boxes[:1], raw.logits[:1].sigmoid(), distinct=True)
    options = PostprocessOptions(conf=0.0, max_det=int(most[1]), multi_label=True)
    # Published boxes are not clipped, and ours are to the picture, so this one lies within a much larger one.
    place = Placement(FRAME * height, FRAME * width, left=-FRAME // 2 * width, top=-FRAME // 2 * height)
    (found,) = rebuilt.head.postprocess(every, options, [place])
    shift = torch.tensor([place.left, place.top] * 2)
    count = len(fixture.arrays["post_scores"])
    found = {"post_scores": found.scores, "post_labels": found.classes, "post_boxes": found.boxes + shift}
    return {name: values[:count] for name, values in found.items()}


def check_answers(rebuilt: Rebuilt, raw: SetOutputs, fixture: Fixture, report: Report) -> None:
    """Compare the answers for a picture, and our own classes with the published labels."""
    for name, values in answers(rebuilt, raw, fixture).items():
        report.close(name, values, fixture.arrays[name], fixture.tolerance("eval_arrays"))
    if rebuilt.head.category_ids is not None:
        check_classes(rebuilt, rebuilt.head.predict(raw, (1, 1)), fixture, report)


def check_classes(rebuilt: Rebuilt, own: Detections, fixture: Fixture, report: Report) -> None:
    """Compare the answers in COCO's 80 classes with the labels that are of a class."""
    head = rebuilt.head
    report.same("category ids", tuple(head.category_ids), COCO_IDS)
    found = head.postprocess(own, PostprocessOptions(conf=0.0, max_det=300), [Placement(10, 10)] * len(own.boxes))[0]
    labels = torch.as_tensor(fixture.arrays["post_labels"]).long()
    known = labels[torch.isin(labels, torch.tensor(COCO_IDS))]
    ids = torch.tensor(head.category_ids)[found.classes]
    report.same(f"classes of {len(known)} answers", ids[: len(known)].tolist(), known.tolist())
