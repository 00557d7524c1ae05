"""Checks of a fixture of a YOLOS of any size: parts, blocks, attention, positions, outputs and answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.convert.label_classes import COCO_IDS
from models.heads.yolos import YOLOSDetect
from models.layers.vit import ViTBlock
from models.set_outputs import SetOutputs
from models.tokens import Tokens
from tests.parity.published import Fixture, Report
from tests.parity.yolos_loss_checks import check_losses
from tests.parity.yolos_rebuild import Rebuilt, network_input, rebuild_yolos
from utils.errors import UsageError


def check_yolos_model(fixture: Fixture, report: Report) -> None:
    """Rebuild a fixture's network, fill it and compare everything that the fixture holds."""
    rebuilt = rebuild_yolos(fixture, report)
    check_description(rebuilt, fixture, report)
    images = network_input(rebuilt, fixture, report)
    if "losses" in fixture.facts:
        check_losses(rebuilt, images, fixture, report)
    else:
        check_eval(rebuilt, images, fixture, report)
    for name in sorted(set(fixture.arrays) - report.seen):
        report.unread(name)


def check_description(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare what can be said without running the network."""
    facts, embed, blocks = fixture.facts, rebuilt.embed, rebuilt.blocks
    if "parameters" in facts:
        report.same("parameters", sum(value.numel() for value in rebuilt.graph.parameters()), facts["parameters"])
    layout, patch = embed.tables.layout, embed.tables.layout.patch
    grids = {block.tables.grid for block in blocks if hasattr(block, "tables")}
    ours: dict[str, Any] = {
        "embed_dim": int(layout),
        "depth": len(blocks),
        "heads": blocks[0].heads,
        "patch": patch,
        "det_token_num": layout.suffix,
        "num_classes": rebuilt.head.labels,
        "init_pe_size": [embed.tables.grid],
        "mid_pe_size": sorted(grids),
    }
    for key, published in facts.get("config", {}).items():
        if key in ("init_pe_size", "mid_pe_size"):
            published = [] if published is None else [(published[0] // patch, published[1] // patch)]
        report.same(key.replace("_", " "), ours.get(key), published)


def check_eval(rebuilt: Rebuilt, images: Tensor, fixture: Fixture, report: Report) -> None:
    """Compare everything of eval mode."""
    graph, tolerance = rebuilt.graph.eval(), fixture.tolerance("eval_arrays")
    with torch.no_grad(), recorded_blocks(rebuilt) as blocks:
        (raw,) = graph(images).values()
        ours = {"pred_logits": raw.logits, "pred_boxes": raw.boxes}
        ours |= block_arrays(rebuilt, blocks, fixture)
        ours |= answers(rebuilt, raw, fixture, report)
    for name in sorted(set(ours) & set(fixture.arrays)):
        report.close(name, ours[name], fixture.arrays[name], tolerance)


@contextmanager
def recorded_blocks(rebuilt: Rebuilt) -> Iterator[list[tuple[Tokens, Tensor]]]:
    """Record what every block reads, and what it gives before its own table is added, while the graph runs."""
    found: list[tuple[Tokens, Tensor]] = []

    def keep(module: ViTBlock, given: tuple[Tokens], _: Any) -> None:
        found.append((given[0], ViTBlock.forward(module, given[0]).values.clone()))

    handles = [block.register_forward_hook(keep) for block in rebuilt.blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def block_arrays(rebuilt: Rebuilt, blocks: list[tuple[Tokens, Tensor]], fixture: Fixture) -> dict[str, Tensor]:
    """Return what a fixture records of blocks and positions; which tokens and channels its own words say."""
    found: dict[str, Tensor] = {}
    words = {name: entry["what"] for name, entry in fixture.facts.get("outputs", {}).items()}
    last, _ = blocks[-1]
    patches = slice(last.prefix, last.values.shape[1] - last.suffix)
    if "block_stats" in fixture.arrays:
        stats = [(float(values.double().mean()), float(values.double().std())) for _, values in blocks]
        found["block_stats"] = torch.tensor(stats, dtype=torch.float64)
    if "block_det_tokens" in fixture.arrays:
        channels = _range(words["block_det_tokens"], "channels")
        tokens = _numbers(words["block_det_tokens"], "detection tokens")
        own = [values[:, -last.suffix :][:, tokens][..., channels] for _, values in blocks]
        found["block_det_tokens"] = torch.stack(own)
    if "attention_last" in fixture.arrays:
        tokens = _numbers(words["attention_last"], "query detection tokens")
        attention = rebuilt.blocks[-1].attention(last, slice(-last.suffix, None))
        found["attention_last"] = attention[:, :, tokens, patches]
    if "pos_embed_interp" in fixture.arrays:
        entries = _numbers(words["pos_embed_interp"], "sequence positions")
        channels = _range(words["pos_embed_interp"], "channels")
        table = rebuilt.embed.tables.positions(rebuilt.embed.pos_embed, last.grid)
        found["pos_embed_interp"] = table[:, entries][..., channels]
    return found


def _numbers(words: str, after: str) -> list[int]:
    """Return the whole numbers that are listed behind some words; what stands in brackets is no number of the list.

    Raises:
        UsageError: there are none.
    """
    text = re.sub(r"\([^)]*\)", "", words.partition(after)[2])
    listed = re.match(r"[\s\d,]+", text)
    numbers = [int(number) for number in re.findall(r"\d+", listed[0])] if listed else []
    if not numbers:
        raise UsageError(f"a fixture says '{words}', which lists no numbers behind '{after}'")
    return numbers


def _range(words: str, after: str) -> slice:
    """Return the range that is given behind some words.

    Raises:
        UsageError: there is none.
    """
    found = re.search(rf"{after} (\d+)-(\d+)", words)
    if found is None:
        raise UsageError(f"a fixture says '{words}', which gives no range behind '{after}'")
    return slice(int(found[1]), int(found[2]) + 1)


def answers(rebuilt: Rebuilt, raw: SetOutputs, fixture: Fixture, report: Report) -> dict[str, Tensor]:
    """Return what the published program answers for a picture, and compare our own classes with its labels."""
    if "post_labels" not in fixture.arrays:
        return {}
    words = fixture.facts["outputs"]["post_scores"]["what"]
    size = re.search(r"(\d+) \(height\) x (\d+)", words)
    if size is None:
        raise UsageError(f"{fixture.path}: says '{words}', which gives no (height) x (width) of the picture")
    height, width = int(size[1]), int(size[2])
    head = rebuilt.head
    # Its labels are category ids, also those that no category has; so a head whose classes these are answers alike.
    found = YOLOSDetect([rebuilt.embed.tables.layout], head.labels).predict(raw, (height, width))
    scores, labels = found.scores[0].max(-1)
    check_classes(rebuilt, raw, labels, scores, report)
    return {"post_scores": scores, "post_labels": labels, "post_boxes": found.boxes[0]}


def check_classes(rebuilt: Rebuilt, raw: SetOutputs, labels: Tensor, scores: Tensor, report: Report) -> None:
    """Compare the answers in COCO's 80 classes with the labels, where the likeliest label is that of a class."""
    head = rebuilt.head
    if head.category_ids is None:
        return
    report.same("category ids", tuple(head.category_ids), COCO_IDS)
    own = head.predict(raw, (1, 1)).scores[0].max(-1)
    ids = torch.tensor(head.category_ids)
    known = torch.isin(labels, ids)
    report.same(f"classes of {int(known.sum())} tokens", ids[own.indices[known]].tolist(), labels[known].tolist())
    report.same("their scores", own.values[known].tolist(), scores[known].tolist())
