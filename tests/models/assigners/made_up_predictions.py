"""Made-up predictions and labels for tests of assigners that score points, and their comparison with slow formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from models.anchor_points import AnchorPoints, anchor_points
from models.assigners.scored_points import ScoredPoints
from models.losses.box_targets import BoxTargets
from tests.models.assigners.slow_scored import Found, SlowImage

HEIGHT, WIDTH, CLASSES = 64, 96, 3
SHAPES: dict[str, list[tuple[int, int]]] = {
    "three levels": [(8, 12), (4, 6), (2, 3)],
    "one level": [(8, 12)],
    "two levels": [(4, 6), (2, 3)],
    "four levels": [(8, 12), (4, 6), (2, 3), (1, 2)],
    "seven points": [(2, 3), (1, 1)],
    "one point": [(1, 1)],
    "one row": [(1, 12), (1, 6)],
}


@dataclass
class Given:
    """Predictions and labels of a batch on some levels.

    Attributes:
        boxes: (B, A, 4) predicted x1 y1 x2 y2.
        logits: (B, A, C).
        labels: the objects.
        points: A anchor points.
    """

    boxes: Tensor
    logits: Tensor
    labels: BoxTargets
    points: AnchorPoints

    def of_images(self, order: list[int]) -> Given:
        """Return some of the images in some order."""
        index = torch.tensor(order, dtype=torch.int64)
        labels = BoxTargets(
            self.labels.boxes[index], self.labels.classes[index], self.labels.valid[index], self.labels.normalizers
        )
        return Given(self.boxes[index], self.logits[index], labels, self.points)

    def with_padding(self, rows: int) -> Given:
        """Return the same with further rows of padding that hold junk."""
        images = len(self.boxes)
        labels = BoxTargets(
            torch.cat((self.labels.boxes, torch.tensor([2.0, 2.0, 60.0, 60.0]).expand(images, rows, 4)), 1),
            torch.cat((self.labels.classes, torch.ones(images, rows, dtype=torch.int64)), 1),
            torch.cat((self.labels.valid, torch.zeros(images, rows, dtype=torch.bool)), 1),
            self.labels.normalizers,
        )
        return replace(self, labels=labels)

    def on_meta(self) -> Given:
        """Return the same on a device that has no values to give."""
        shapes, strides = self.points.shapes, self.points.level_strides
        meta = torch.device("meta")
        labels = BoxTargets(
            *(part.to(meta) for part in (self.labels.boxes, self.labels.classes, self.labels.valid)),
            self.labels.normalizers,
        )
        return Given(self.boxes.to(meta), self.logits.to(meta), labels, anchor_points(shapes, strides, meta))

    def slow(self, image: int, rows: Tensor) -> SlowImage:
        """Return an image with some rows of its labels in float64."""
        return SlowImage(
            self.boxes[image].double().tolist(),
            self.logits[image].double().tolist(),
            self.points.centres.double().tolist(),
            self.points.strides[:, 0].double().tolist(),
            [r * c for r, c in self.points.shapes],
            self.labels.boxes[image, rows].double().tolist(),
            self.labels.classes[image, rows].tolist(),
        )


def grid(levels: str) -> AnchorPoints:
    """Return the anchor points of levels whose cells fill the same picture."""
    shapes = SHAPES[levels]
    first = WIDTH // shapes[0][1]
    return anchor_points(shapes, [first * 2**i for i in range(len(shapes))])


def made_up(
    counts: Sequence[int],
    seed: int,
    least: float = 2.0,
    most: float = 60.0,
    rows: int | None = None,
    levels: str = "three levels",
) -> Given:
    """Return a batch with so many objects per image, in rows anywhere among rows of padding.

    About two thirds of the points predict a box like that of one of the objects; some of the others are inside out.
    """
    draw = torch.Generator().manual_seed(seed)
    points = grid(levels)
    images, room = len(counts), max(counts, default=0) if rows is None else rows
    centre = torch.rand(images, room, 2, generator=draw) * torch.tensor([WIDTH, HEIGHT]) * 1.1
    half = (torch.rand(images, room, 2, generator=draw) * math.log(most / least) + math.log(least)).exp() / 2
    objects = torch.cat((centre - half, centre + half), -1)
    valid = torch.zeros(images, room, dtype=torch.bool)
    for i, count in enumerate(counts):
        valid[i, torch.randperm(room, generator=draw)[:count]] = True
    reach = (torch.rand(images, len(points), 4, generator=draw) * 4 - 0.7) * points.strides
    boxes = torch.cat((points.centres - reach[..., :2], points.centres + reach[..., 2:]), -1)
    if room:
        pick = torch.randint(0, room, (images, len(points)), generator=draw)[..., None].expand(-1, -1, 4)
        size = (half * 2).repeat(1, 1, 2)
        noise = torch.randn(boxes.shape, generator=draw) * 0.15
        near = objects.gather(1, pick) + noise * size.gather(1, pick)
        boxes = torch.where(torch.rand(images, len(points), 1, generator=draw) < 0.67, near, boxes)
    logits = torch.randn(images, len(points), CLASSES, generator=draw) * 2
    classes = torch.randint(0, CLASSES, (images, room), generator=draw)
    return Given(boxes, logits, BoxTargets(objects, classes, valid, torch.tensor([float(images)])), points)


def check_against_formula(batch: Given, found: ScoredPoints, formula: Callable[[SlowImage], Found]) -> int:
    """Compare every image; return how many points are positive.

    Raises:
        Doubt: rounding may decide somewhere.
    """
    positive, matched, score = found.dense()
    total = 0
    for i in range(len(batch.boxes)):
        rows = batch.labels.valid[i].nonzero()[:, 0]
        expected = formula(batch.slow(i, rows))
        own = positive[i].nonzero()[:, 0].tolist()
        assert own == sorted(expected)
        for a in own:
            owner, goal = expected[a]
            assert int(matched[i, a]) == int(rows[owner])
            assert float(score[i, a]) == pytest.approx(goal, abs=3e-5)
        assert (matched[i][~positive[i]] == -1).all() and (score[i][~positive[i]] == 0).all()
        total += len(own)
    return total


def same(found: ScoredPoints, expected: ScoredPoints, order: list[int] | None = None) -> bool:
    """Return whether two assignments say the same of every point, the second one's images in some order."""
    pairs = zip(found.dense(), expected.dense(), strict=True)
    return all(torch.equal(ours, theirs if order is None else theirs[order]) for ours, theirs in pairs)
