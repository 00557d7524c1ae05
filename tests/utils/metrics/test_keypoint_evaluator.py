"""The keypoint evaluator against pycocotools, at the edges, and in its outputs."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.keypoints import COCO_PERSON, KeypointSpec, generic_keypoints
from data.samples import Batch, Sample, collate
from models.predictions import PoseResult
from utils.boxes import plan_letterbox, points_to_network, scale_to_network
from utils.metrics import EVALUATORS, build_evaluator
from utils.metrics.coco_results import CocoIds, coco_image_id
from utils.metrics.keypoint_evaluator import KeypointEvaluator

HAND = KeypointSpec(
    names=("wrist", "thumb", "index", "little"), flip=(0, 1, 2, 3), sigmas=(0.1, 0.05, 0.04, 0.06), skeleton=((0, 1),)
)
Parts = list[tuple[Batch, list[PoseResult]]]


def random_set(
    spec: KeypointSpec, seed: int, images: int = 16, classes: int = 1, areas: bool = True, noise: float = 0.06
) -> Parts:
    """Return batches of two letterboxed images and noisy poses in native pixels.

    Some images have no labels; with ``areas`` there are crowds too, as in COCO's files, and some objects have no
    labelled keypoint.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, images, 2):
        made = [random_image(rng, spec, k, classes, areas, noise) for k in (start, start + 1)]
        parts.append((collate([sample for sample, _ in made]), [result for _, result in made]))
    return parts


def random_image(
    rng: np.random.Generator, spec: KeypointSpec, number: int, classes: int, areas: bool, noise: float
) -> tuple[Sample, PoseResult]:
    placement = plan_letterbox((int(rng.integers(200, 500)), int(rng.integers(200, 500))), (320, 320)).placement
    count = int(rng.integers(1, 8)) if number % 5 else 0
    high = np.array((placement.width, placement.height), np.float32)
    low = rng.random((count, 2)).astype(np.float32) * high * 0.6
    size = np.exp(rng.uniform(np.log(20), np.log(180), (count, 2))).astype(np.float32)
    boxes = np.concatenate([low, np.minimum(low + size, high)], 1)
    size = boxes[:, 2:] - boxes[:, :2]
    points = boxes[:, None, :2] + rng.random((count, len(spec), 2)).astype(np.float32) * size[:, None]
    visibility = rng.integers(0, 3, (count, len(spec))).astype(np.float32)
    visibility[rng.random(count) < 0.15] = 0
    kinds = rng.integers(0, classes, count)
    sample = Sample(
        image=np.full((320, 320, 3), 114, np.uint8),
        boxes=scale_to_network(boxes, placement),
        classes=kinds,
        keypoints=points_to_network(np.concatenate([points, visibility[..., None]], 2), placement),
        id=f"images/{number:06d}.jpg",
        placement=placement,
        areas=(size.prod(1) * rng.uniform(0.3, 0.8, count)).astype(np.float32) if areas else None,
        crowd=rng.random(count) < 0.15 if areas else None,
    )
    pick = rng.integers(0, count, 30) if count else np.zeros(0, int)
    shift = rng.normal(0, noise, (len(pick), len(spec), 2)) * rng.choice((0.2, 1, 3), (len(pick), 1, 1))
    found = points[pick] + shift * size[pick].max(1)[:, None, None]
    jitter = rng.normal(0, 0.05, (len(pick), 4)) * np.tile(size[pick], 2)
    result = PoseResult(
        boxes=torch.from_numpy((boxes[pick] + jitter).astype(np.float32)),
        scores=torch.from_numpy(np.sort(rng.random(len(pick)).astype(np.float32))[::-1].copy()),
        classes=torch.from_numpy(kinds[pick]),
        keypoints=torch.from_numpy(np.concatenate([found, rng.random((*found.shape[:2], 1))], 2).astype(np.float32)),
        spec=spec,
    )
    return sample, result


def evaluated(parts: Parts, spec: KeypointSpec, names: list[str] | None = None) -> KeypointEvaluator:
    evaluator = KeypointEvaluator(names or ["person"], spec)
    for batch, results in parts:
        evaluator.update(results, batch)
    return evaluator


def run_pycocotools(parts: Parts, spec: KeypointSpec, classes: int, folder: Path):
    """Evaluate the same batches with the protocol's published code, through files as its users do."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = {"images": [], "categories": [{"id": c, "name": str(c)} for c in range(classes)], "annotations": []}
    found = []
    for batch, results in parts:
        for i, (result, place) in enumerate(zip(results, batch.placements, strict=True)):
            image = coco_image_id(batch.ids[i])
            truth["images"].append({"id": image})
            for j in np.flatnonzero(batch.valid[i].numpy()).tolist():
                x1, y1, x2, y2 = batch.boxes[i, j].double().tolist()
                x1, x2 = ((x - place.left) / place.scale_x for x in (x1, x2))
                y1, y2 = ((y - place.top) / place.scale_y for y in (y1, y2))
                points = batch.keypoints[i, j].double().numpy().copy()
                points[:, 0] = (points[:, 0] - place.left) / place.scale_x
                points[:, 1] = (points[:, 1] - place.top) / place.scale_y
                truth["annotations"].append(
                    {
                        "id": len(truth["annotations"]) + 1,
                        "image_id": image,
                        "category_id": int(batch.classes[i, j]),
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": 0.53 * (x2 - x1) * (y2 - y1) if batch.areas is None else float(batch.areas[i, j]),
                        "iscrowd": 0 if batch.crowd is None else int(batch.crowd[i, j]),
                        "keypoints": points.ravel().tolist(),
                        "num_keypoints": int((points[:, 2] > 0).sum()),
                    }
                )
            columns = (result.keypoints.double().flatten(1), result.classes, result.scores)
            found += [
                {"image_id": image, "keypoints": points, "category_id": c, "score": score}
                for points, c, score in zip(*(column.tolist() for column in columns), strict=True)
            ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    with redirect_stdout(StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(spec.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


STATS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


@pytest.mark.parametrize("areas", [True, False])
@pytest.mark.parametrize(("spec", "seed", "classes"), [(COCO_PERSON, 0, 1), (HAND, 1, 1), (generic_keypoints(9), 2, 3)])
def test_equals_pycocotools(spec: KeypointSpec, seed: int, classes: int, areas: bool, tmp_path: Path) -> None:
    parts = random_set(spec, seed, classes=classes, areas=areas)
    evaluator = evaluated(parts, spec, [str(c) for c in range(classes)])
    evaluation = run_pycocotools(parts, spec, classes, tmp_path)
    metrics = evaluator.compute()
    np.testing.assert_allclose([metrics[name] for name in STATS], evaluation.stats, rtol=0, atol=1e-6)
    assert 0.02 < metrics["AP"] < 0.98
    assert evaluator.fitness() == metrics["AP"]
    precision = evaluation.eval["precision"][..., 0, 0]
    for c, row in enumerate(evaluator.per_class()):
        assert row["AP"] == pytest.approx(precision[:, :, c].mean(), abs=1e-6)
        assert row["AP50"] == pytest.approx(precision[0, :, c].mean(), abs=1e-6)


def exact(parts: Parts, spec: KeypointSpec, shift: float = 0.0) -> Parts:
    """Return the labels as results, all keypoints shifted right by a share of the object's size."""
    changed = []
    for batch, _ in parts:
        truth = evaluated([(batch, [empty(spec)] * len(batch))], spec).state()
        results = []
        for record in truth:
            keypoints = record.label_keypoints.copy()
            keypoints[..., 0] += shift * np.sqrt(record.sizes)[:, None]
            boxes, classes = map(torch.from_numpy, (record.label_boxes, record.label_classes))
            results.append(PoseResult(boxes, torch.ones(len(boxes)), classes, torch.from_numpy(keypoints), spec))
        changed.append((batch, results))
    return changed


def empty(spec: KeypointSpec) -> PoseResult:
    nothing = torch.zeros(0)
    return PoseResult(torch.zeros(0, 4), nothing, nothing.long(), torch.zeros(0, len(spec), 3), spec)


@pytest.mark.parametrize("spec", [COCO_PERSON, HAND])
def test_perfect_poses_score_one(spec: KeypointSpec) -> None:
    metrics = evaluated(exact(random_set(spec, 3), spec), spec).compute()
    names = ("AP50", "AP", "AP75", "AR", "AR50", "AR75", "box_AP50", "box_AP")
    assert [metrics[name] for name in names] == pytest.approx([1.0] * len(names))


def test_shifted_poses_lose_where_the_formula_says() -> None:
    """With one sigma, a shift by d of the object's size gives every object an OKS of exp(-d^2 / (8 sigma^2))."""
    spec = replace(HAND, sigmas=(0.1,) * 4)
    parts = random_set(spec, 4, areas=False)
    for batch, _ in parts:
        batch.keypoints[..., 2] = 2
    shift = 0.2 * np.sqrt(2 * np.log(1 / 0.72))
    metrics = evaluated(exact(parts, spec, shift), spec).compute()
    assert metrics["AP50"] == pytest.approx(1) and metrics["AP75"] == pytest.approx(0, abs=1e-9)
    assert metrics["AP"] == pytest.approx(0.5), "0.50, 0.55 ... 0.70 of ten thresholds are reached"
    assert metrics["box_AP"] == pytest.approx(1), "only the keypoints were shifted"


def test_crowds_and_objects_without_keypoints_count_neither_way() -> None:
    parts = exact(random_set(HAND, 5), HAND)
    ignored = sum(int((~record.counts).sum()) for record in evaluated(parts, HAND).state())
    assert ignored > 3
    missing = []
    for (batch, results), start in zip(parts, range(0, 100, 2), strict=False):
        kept = []
        for record, result in zip(evaluated(parts, HAND).state()[start : start + 2], results, strict=True):
            mask = torch.from_numpy(record.counts)
            columns = (result.boxes, result.scores, result.classes, result.keypoints)
            kept.append(PoseResult(*(column[mask] for column in columns), HAND))
        missing.append((batch, kept))
    assert evaluated(missing, HAND).compute()["AR"] == pytest.approx(1)
    assert evaluated(missing, HAND).compute()["AP"] == pytest.approx(1)
    labels = evaluated(parts, HAND).per_class()[0]["labels"]
    assert labels == sum(int(record.counts.sum()) for record in evaluated(parts, HAND).state())


def test_missing_areas_are_said_once_below_the_table() -> None:
    evaluator = evaluated(random_set(HAND, 6, areas=False), HAND)
    labels = evaluator.per_class()[0]["labels"]
    assert evaluator.table().count("0.53 of the box") == 1
    assert evaluator.table().splitlines()[-1].startswith(f"{labels} of {labels} labels")
    known = evaluated(random_set(HAND, 6), HAND).table().splitlines()
    assert [line.split()[0] for line in known] == ["person", "keypoints", "boxes"]
    assert len({len(line) for line in known}) == 1
    several = evaluated(random_set(HAND, 6, classes=2), HAND, ["left", "right"]).table().splitlines()
    assert [line.split()[0] for line in several] == ["class", "keypoints", "boxes", "left", "right"]


def without_labels(parts: Parts) -> Parts:
    return [(replace(batch, valid=torch.zeros_like(batch.valid)), results) for batch, results in parts]


def without_results(parts: Parts) -> Parts:
    return [(batch, [empty(HAND)] * len(batch)) for batch, _ in parts]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        without_results(random_set(HAND, 7)),
        without_labels(random_set(HAND, 7)),
        without_results(without_labels(random_set(HAND, 7))),
    ],
    ids=["no images", "no predictions", "no labels", "neither"],
)
def test_nothing_to_measure_is_zero(parts: Parts, tmp_path: Path) -> None:
    evaluator = evaluated(parts, HAND)
    metrics = evaluator.compute()
    assert [metrics[name] for name in ("AP50", "AP", "AP75", "AR", "box_AP")] == [0] * 5
    assert evaluator.fitness() == 0 and evaluator.per_class()[0]["AP"] == 0
    assert evaluator.table().startswith("person")
    assert all(path.stat().st_size for path in evaluator.plot(tmp_path))


def test_results_do_not_depend_on_batches_order_or_processes() -> None:
    parts = random_set(HAND, 8)
    whole = evaluated(parts, HAND)
    first, second = evaluated(parts[:5], HAND), evaluated(parts[4:], HAND)
    before = first.compute()
    first.merge(second.state())
    assert first.compute() == pytest.approx(whole.compute(), abs=1e-9) and first.compute() != before
    assert evaluated(parts[::-1], HAND).compute() == pytest.approx(whole.compute(), abs=1e-9)


def test_keypoints_stay_with_their_scores_when_results_are_not_in_order() -> None:
    parts = random_set(HAND, 9)
    shuffled = []
    for batch, results in parts:
        turned = [PoseResult(*(c.flip(0) for c in (r.boxes, r.scores, r.classes, r.keypoints)), HAND) for r in results]
        shuffled.append((batch, turned))
    assert evaluated(shuffled, HAND).compute() == pytest.approx(evaluated(parts, HAND).compute(), abs=1e-9)


def test_a_class_without_labels_does_not_shift_the_others() -> None:
    parts = random_set(HAND, 14, classes=2)
    two = evaluated(parts, HAND, ["left", "right"]).per_class()
    moved = []
    for batch, results in parts:
        batch = replace(batch, classes=batch.classes + 1)
        moved.append((batch, [PoseResult(r.boxes, r.scores, r.classes + 1, r.keypoints, HAND) for r in results]))
    three = evaluated(moved, HAND, ["absent", "left", "right"]).per_class()
    assert three[1:] == two and two[0]["AP"] != two[1]["AP"]
    nothing = {"name": "absent", "images": 0, "labels": 0, "AP50": 0, "AP": 0, "AP75": 0, "AR": 0}
    assert three[0] == nothing | {"AP_medium": -1, "AP_large": -1}


def test_coco_json_is_read_by_pycocotools_with_the_same_result(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    parts = random_set(COCO_PERSON, 10)
    evaluator = evaluated(parts, COCO_PERSON)
    images = [record.id for record in evaluator.state()]
    evaluator.coco_json(tmp_path / "poses.json", CocoIds.of_names(images, classes=1))
    run_pycocotools(parts, COCO_PERSON, 1, tmp_path)
    with redirect_stdout(StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "poses.json")), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(evaluator.compute()["AP"], abs=2e-3)
    rows = json.loads((tmp_path / "poses.json").read_text())
    assert set(rows[0]) == {"image_id", "category_id", "keypoints", "score"} and len(rows[0]["keypoints"]) == 51


def test_plots(tmp_path: Path) -> None:
    paths = evaluated(random_set(HAND, 12), HAND).plot(tmp_path)
    assert paths[0].name == "keypoint_PR_curve.png" and "PR_curve.png" in {path.name for path in paths}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_a_batch_without_keypoints_is_refused() -> None:
    batch, results = random_set(HAND, 13)[0]
    with pytest.raises(ValueError, match="keypoints"):
        KeypointEvaluator(["hand"], HAND).update(results, replace(batch, keypoints=None))


def test_a_head_names_its_evaluator_and_gives_its_keypoints() -> None:
    built = build_evaluator(SimpleNamespace(evaluator="keypoints", keypoints=HAND), ["hand"])
    assert isinstance(built, KeypointEvaluator) and built.spec is HAND and built.names == ["hand"]
    for name in ("boxes", "masks"):
        assert type(build_evaluator(SimpleNamespace(evaluator=name), ["a", "b"])) is EVALUATORS[name]
