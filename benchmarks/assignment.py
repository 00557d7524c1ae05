"""What assigning whole batches brings: ``python -m benchmarks.assignment`` times it against a loop over images.

The loop of SimOTA is written here in the way of the published program: the candidates of each image are cut out,
class costs have the shape (objects, candidates, classes), and each object chooses by itself. Those of the other
assignments are in files of their own. Both ways get the same decoded predictions, answer with the same positive points,
and run by turns in one process.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.atss_loop import atss_by_loop
from benchmarks.dynamic_soft_label_loop import dynamic_soft_labels_by_loop
from benchmarks.hungarian_loop import hungarian_by_loop
from benchmarks.task_aligned_loop import task_aligned_by_loop
from models.anchor_points import AnchorPoints, anchor_points
from models.assigners.atss import assign_atss
from models.assigners.dynamic_soft_label import assign_dynamic_soft_labels
from models.assigners.simota import IOU_WEIGHT, MOST_CHOICES, SIMOTA_RULES, Labels, SimOTARule, assign_simota
from models.assigners.task_aligned import TASK_ALIGNED_RULES, TaskAlignedRule, assign_task_aligned
from models.losses.box_targets import BoxTargets
from models.losses.set_prediction import SetCriterion
from models.losses.set_targets import SetTargets
from models.set_outputs import SetLayer
from utils.boxes import box_iou_matrix, xywh_to_xyxy
from utils.devices import select_device
from utils.errors import RunError, UsageError, run_command

STRIDES = (8, 16, 32)
Predictions = tuple[Tensor, Tensor, Tensor]
Way = Callable[[], Tensor]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.assignment", description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16, help="images (default %(default)s)")
    parser.add_argument("--objects", type=int, default=20, help="objects of an image (default %(default)s)")
    parser.add_argument("--classes", type=int, default=80, help="classes (default %(default)s)")
    parser.add_argument("--queries", type=int, default=100, help="of an image, for sets (default %(default)s)")
    parser.add_argument("--img-size", type=int, default=640, help="side of an image, pixels (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads, 0 for as many as there are")
    parser.add_argument("--device", default="", help="cpu, or the number of a GPU")
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds of each (default %(default)s)")
    options = parser.parse_args()
    for name in ("batch_size", "objects", "classes", "queries", "img_size", "rounds"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, but is {getattr(options, name)}")
    return options


def made_up(options: argparse.Namespace, device: torch.device) -> tuple[Predictions, Labels, AnchorPoints]:
    """Return predictions of a half-trained model: around an object near its box, elsewhere boxes of any size."""
    draw = torch.Generator().manual_seed(0)
    images, objects, size = options.batch_size, options.objects, options.img_size
    shapes = [(size // stride, size // stride) for stride in STRIDES]
    points = anchor_points(shapes, STRIDES)
    centre = torch.rand(images, objects, 2, generator=draw) * size
    sides = (torch.rand(images, objects, 2, generator=draw) * 3 + 2.3).exp()
    boxes = torch.cat((centre, sides), -1)
    middle = points.centres
    distance = ((middle[None, :, None] - centre[:, None]) / sides[:, None]).abs().amax(-1)
    nearest = distance.argmin(-1)
    near = boxes.gather(1, nearest[..., None].expand(-1, -1, 4))
    noise = torch.randn(near.shape, generator=draw) * 0.15
    near = torch.cat((near[..., :2] + noise[..., :2] * near[..., 2:], near[..., 2:] * noise[..., 2:].exp()), -1)
    wild = torch.cat((middle.expand(images, -1, 2), (points.strides * 4).expand(images, -1, 2)), -1)
    covers = (distance.amin(-1) < 0.5)[..., None]
    classes = torch.randn(images, len(points), options.classes, generator=draw) - 3
    objectness = torch.randn(images, len(points), generator=draw) - 3 + 3 * covers[..., 0]
    labels = torch.randint(0, options.classes, (images, objects), generator=draw)
    valid = torch.ones(images, objects, dtype=torch.bool)
    predictions = tuple(part.to(device) for part in (near.where(covers, wild), objectness, classes))
    moved = Labels(*(part.to(device) for part in (boxes, labels, valid)))
    return predictions, moved, anchor_points(shapes, STRIDES, device)


def whole_batch(predictions: Predictions, labels: Labels, points: AnchorPoints, rule: SimOTARule) -> Tensor:
    """Assign with this project's program; return the matched object (B, A), -1 where there is none."""
    return assign_simota(*predictions, labels, points, rule).dense()[1]


@torch.no_grad()
def image_by_image(predictions: Predictions, labels: Labels, points: AnchorPoints, rule: SimOTARule) -> Tensor:
    """Assign one image after the other."""
    boxes, objectness, classes = predictions
    matched = torch.full(objectness.shape, -1, dtype=torch.int64, device=boxes.device)
    for i in range(len(boxes)):
        own_boxes, own_classes = labels.boxes[i], labels.classes[i]
        candidate, own = regions(own_boxes, points, rule)
        if not bool(candidate.any()):
            continue
        iou = box_iou_matrix(xywh_to_xyxy(own_boxes), xywh_to_xyxy(boxes[i][candidate]))
        count = len(own_classes)
        score = (classes[i][candidate].sigmoid() * objectness[i][candidate].sigmoid()[:, None]).sqrt()
        goal = F.one_hot(own_classes, score.shape[1]).float()[:, None].expand(-1, len(score), -1)
        entropy = F.binary_cross_entropy(score[None].expand(count, -1, -1), goal, reduction="none").sum(-1)
        cost = entropy - IOU_WEIGHT * (iou + rule.epsilon).log() + rule.penalty * ~own
        matched[i, candidate] = choose(cost, iou)
    return matched


def regions(boxes: Tensor, points: AnchorPoints, rule: SimOTARule) -> tuple[Tensor, Tensor]:
    """Return which points are candidates (A,), and which of these are an object's own (G, candidates)."""
    offset = points.centres[None] - boxes[:, None, :2]
    near = (offset.abs() < rule.region.radius * points.strides).all(-1)
    if not rule.region.boxes_count:
        candidate = near.any(0)
        return candidate, near[:, candidate]
    inside = (offset.abs() < boxes[:, None, 2:] / 2).all(-1)
    candidate = (near | inside).any(0)
    return candidate, (near & inside)[:, candidate]


def choose(cost: Tensor, iou: Tensor) -> Tensor:
    """Return the matched object of every candidate of an image, -1 where there is none."""
    taken = torch.zeros_like(cost, dtype=torch.bool)
    counts = iou.topk(min(MOST_CHOICES, iou.shape[1]), 1).values.sum(1).int().clamp(min=1).tolist()
    for number, count in enumerate(counts):
        taken[number, cost[number].topk(count, largest=False).indices] = True
    contested = taken.sum(0) > 1
    if bool(contested.any()):
        cheapest = cost[:, contested].argmin(0)
        taken[:, contested] = False
        taken[cheapest, contested.nonzero()[:, 0]] = True
    return taken.int().argmax(0).where(taken.any(0), -1)


def without_objectness(predictions: Predictions, labels: Labels) -> tuple[Tensor, Tensor, BoxTargets]:
    """Return predictions and labels for heads that know no objectness and want the corners of boxes."""
    images = torch.tensor([float(len(labels.valid))])
    targets = BoxTargets(xywh_to_xyxy(labels.boxes), labels.classes, labels.valid, images)
    return xywh_to_xyxy(predictions[0]), predictions[2], targets


def dynamic_soft_label_ways(predictions: Predictions, labels: Labels, points: AnchorPoints) -> dict[str, Way]:
    """Return both ways of dynamic soft labels."""
    given = (*without_objectness(predictions, labels), points)
    return {
        "whole batch": lambda: assign_dynamic_soft_labels(*given).dense()[1],
        "image by image": lambda: dynamic_soft_labels_by_loop(*given),
    }


def task_aligned_ways(
    predictions: Predictions, labels: Labels, points: AnchorPoints, rule: TaskAlignedRule
) -> dict[str, Way]:
    """Return both ways of a family's task-aligned assignment."""
    given = (*without_objectness(predictions, labels), points, rule)
    return {
        "whole batch": lambda: assign_task_aligned(*given).dense()[1],
        "image by image": lambda: task_aligned_by_loop(*given)[0],
    }


def atss_ways(predictions: Predictions, labels: Labels, points: AnchorPoints) -> dict[str, Way]:
    """Return both ways of ATSS."""
    boxes, _, targets = without_objectness(predictions, labels)
    return {
        "whole batch": lambda: assign_atss(boxes, targets, points).dense()[1],
        "image by image": lambda: atss_by_loop(boxes, targets, points)[0],
    }


def simota_ways(predictions: Predictions, labels: Labels, points: AnchorPoints, rule: SimOTARule) -> dict[str, Way]:
    """Return both ways of a variant of SimOTA."""
    return {
        "whole batch": lambda: whole_batch(predictions, labels, points, rule),
        "image by image": lambda: image_by_image(predictions, labels, points, rule),
    }


def hungarian_ways(labels: Labels, options: argparse.Namespace) -> dict[str, Way]:
    """Return both ways of matching objects with queries, whose boxes lie near objects or anywhere."""
    draw, device = torch.Generator().manual_seed(0), labels.boxes.device
    count, objects = labels.boxes.shape[0], (labels.boxes / options.img_size).clamp(max=1)
    boxes = torch.rand(count, options.queries, 4, generator=draw).to(device)
    boxes[:, : objects.shape[1]] = (boxes[:, : objects.shape[1]] + 3 * objects[:, : options.queries]) / 4
    logits = torch.randn(count, options.queries, options.classes + 1, generator=draw).to(device)
    criterion = SetCriterion(options.queries, {})
    targets = SetTargets(objects, labels.classes, labels.valid, torch.zeros(2))

    def whole_batch() -> Tensor:
        (found,) = criterion.match([SetLayer(logits, boxes)], targets)
        matched = torch.full(boxes.shape[:2], -1, dtype=torch.int64, device=device)
        matched[found.image, found.query] = found.object
        return matched

    return {
        "whole batch": whole_batch,
        "image by image": lambda: hungarian_by_loop(logits, boxes, targets, criterion.cost_weights),
    }


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Return how long one call takes, until the device has finished."""
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


def compare(name: str, ways: dict[str, Way], options: argparse.Namespace, device: torch.device) -> None:
    """Time both ways by turns, so that a busy machine slows both, and print medians and the ratio of the medians.

    Raises:
        RunError: they do not agree on which points are positive.
    """
    answers = [way() for way in ways.values()]
    # Costs are summed in another order, so that near ties may fall differently.
    if float((answers[0] != answers[1]).float().mean()) > 1e-4:
        raise RunError(f"the two ways of assigning disagree ({name}); one of them has a mistake")
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, assign in ways.items():
            times[way].append(milliseconds(assign, device))
    medians = {way: statistics.median(spent) for way, spent in times.items()}
    for way, spent in times.items():
        print(f"{name}, {way}: {medians[way]:.1f} ms (fastest {min(spent):.1f})")
    positive = float((answers[0] >= 0).sum()) / options.batch_size
    ratio = medians["image by image"] / medians["whole batch"]
    print(f"{name}: {positive:.0f} positive points per image, the batch is {ratio:.2f} times as fast as the loop")


def main() -> None:
    """Compare both ways of every assignment."""
    options = parse_options()
    device = select_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    predictions, labels, points = made_up(options, device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"python -m benchmarks.assignment {' '.join(sys.argv[1:])}".rstrip())
    print(f"{platform.machine()}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{options.batch_size} images x {options.objects} objects, {len(points)} points, {options.classes} classes")
    for name, rule in SIMOTA_RULES.items():
        compare(name, simota_ways(predictions, labels, points, rule), options, device)
    compare("dynamic soft label", dynamic_soft_label_ways(predictions, labels, points), options, device)
    for name, rule in TASK_ALIGNED_RULES.items():
        compare(f"task aligned of {name}", task_aligned_ways(predictions, labels, points, rule), options, device)
    compare("ATSS", atss_ways(predictions, labels, points), options, device)
    compare(f"Hungarian of {options.queries} queries", hungarian_ways(labels, options), options, device)


if __name__ == "__main__":
    run_command(main)
