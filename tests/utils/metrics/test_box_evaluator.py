"""The box evaluator against pycocotools, at the edges, and in its outputs."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch

from data.samples import Batch, Sample, collate
from models.predictions import DetectionResult
from utils.boxes import plan_letterbox, scale_to_network
from utils.errors import DataError
from utils.metrics import EVALUATORS
from utils.metrics.box_evaluator import BoxEvaluator
from utils.metrics.coco_results import CocoIds, coco_image_id
from utils.plots import confusion, curves

NAMES = ["car", "person", "dog", "kite", "never labelled"]
STATS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


def random_set(seed: int, images: int = 24) -> list[tuple[Batch, list[DetectionResult]]]:
    """Return batches of two letterboxed images and noisy results in native pixels; some images have no labels."""
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, images, 2):
        samples, results = [], []
        for k in (start, start + 1):
            placement = plan_letterbox((int(rng.integers(200, 500)), int(rng.integers(200, 500))), (320, 320)).placement
            count = int(rng.integers(0, 9)) if k % 7 else 0
            high = np.array((placement.width, placement.height), np.float32)
            low = rng.random((count, 2)).astype(np.float32) * high * 0.6
            size = np.exp(rng.uniform(np.log(8), np.log(180), (count, 2))).astype(np.float32)
            boxes = np.concatenate([low, np.minimum(low + size, high)], 1)
            classes = rng.integers(0, 4, count)
            samples.append(
                Sample(
                    image=np.full((320, 320, 3), 114, np.uint8),
                    boxes=scale_to_network(boxes, placement),
                    classes=classes,
                    id=f"images/{k:06d}.jpg",
                    placement=placement,
                )
            )
            pick = rng.integers(0, count, 40) if count else np.zeros(0, int)
            noise = rng.normal(0, 0.08, (len(pick), 4)) * np.tile(boxes[pick, 2:] - boxes[pick, :2], 2)
            found = (boxes[pick] + noise).astype(np.float32)
            mixed = np.where(rng.random(len(pick)) < 0.8, classes[pick], rng.integers(0, 5, len(pick)))
            scores = np.sort(rng.random(len(pick)).astype(np.float32))[::-1].copy()
            results.append(DetectionResult(*map(torch.from_numpy, (found, scores, mixed))))
        parts.append((collate(samples), results))
    return parts


def evaluated(parts, names=NAMES) -> BoxEvaluator:
    evaluator = BoxEvaluator(names)
    for batch, results in parts:
        evaluator.update(results, batch)
    return evaluator


def run_pycocotools(evaluator: BoxEvaluator, tmp_path):
    """Evaluate the same records with the protocol's published code, through files as its users do."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    records = evaluator.state()
    truth = {
        "images": [{"id": coco_image_id(record.id)} for record in records],
        "categories": [{"id": c, "name": name} for c, name in enumerate(evaluator.names)],
        "annotations": [],
    }
    for record in records:
        columns = (record.label_boxes.astype(float), record.label_classes, record.areas.astype(float), record.crowd)
        for box, c, area, crowd in zip(*(column.tolist() for column in columns), strict=True):
            w, h = box[2] - box[0], box[3] - box[1]
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": coco_image_id(record.id),
                    "category_id": c,
                    "bbox": [box[0], box[1], w, h],
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found = [
        {"image_id": coco_image_id(r.id), "category_id": c, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": s}
        for r in records
        for b, c, s in zip(r.boxes.astype(float).tolist(), r.classes.tolist(), r.scores.tolist(), strict=True)
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    with redirect_stdout(StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_pycocotools(seed, tmp_path):
    evaluator = evaluated(random_set(seed))
    evaluation = run_pycocotools(evaluator, tmp_path)
    metrics = evaluator.compute()
    np.testing.assert_allclose([metrics[name] for name in STATS], evaluation.stats, rtol=0, atol=1e-6)
    assert 0.05 < metrics["AP"] < 0.95
    precision = evaluation.eval["precision"][..., 0, 2]
    for c, row in enumerate(evaluator.per_class()[:4]):
        assert row["AP"] == pytest.approx(precision[:, :, c].mean(), abs=1e-6)
        assert row["AP50"] == pytest.approx(precision[0, :, c].mean(), abs=1e-6)


def with_crowds(parts, seed: int):
    """Mark some labels as crowds, and give every object an area that is smaller than its box."""
    rng = np.random.default_rng(seed)
    for batch, results in parts:
        sizes = (batch.boxes[..., 2:] - batch.boxes[..., :2]).prod(-1)
        areas = torch.from_numpy(rng.uniform(0.2, 0.9, sizes.shape)).float() * sizes
        yield replace(batch, areas=areas, crowd=torch.from_numpy(rng.random(sizes.shape) < 0.3)), results


def test_crowds_and_areas_count_as_in_pycocotools(tmp_path):
    parts = list(with_crowds(random_set(0), 1))
    evaluator = evaluated(parts)
    evaluation = run_pycocotools(evaluator, tmp_path)
    metrics = evaluator.compute()
    np.testing.assert_allclose([metrics[name] for name in STATS], evaluation.stats, rtol=0, atol=1e-6)
    plain = evaluated(random_set(0))
    assert metrics["AP_small"] != plain.compute()["AP_small"] and metrics["AP"] != plain.compute()["AP"]
    single = sum(int((batch.valid & ~batch.crowd).sum()) for batch, _ in parts)
    assert sum(row["labels"] for row in evaluator.per_class()) == single
    assert evaluator.table().splitlines()[1].split()[2] == str(single)


def test_members_of_a_crowd_are_neither_right_nor_wrong():
    """One object, one crowd beside it: predictions in the crowd change neither P nor R; elsewhere they cost P."""
    sample = Sample(
        image=np.zeros((64, 64, 3), np.uint8),
        boxes=np.array([[0, 0, 20, 20], [30, 0, 60, 60]], np.float32),
        classes=np.zeros(2, np.int64),
        areas=np.array([400, 1800], np.float32),
        crowd=np.array([False, True]),
        id="a.jpg",
        placement=plan_letterbox((64, 64), (64, 64)).placement,
    )

    def measured(*boxes: list[float], classes: tuple[int, ...] = (0, 0, 0)) -> dict[str, float]:
        count = len(boxes)
        result = DetectionResult(torch.tensor(boxes), torch.full((count,), 0.9), torch.tensor(classes[:count]))
        return evaluated([(collate([sample]), [result])], ["car", "dog"])

    found, member, elsewhere = [0.0, 0, 20, 20], [35.0, 5, 45, 15], [2.0, 40, 20, 60]
    assert measured(found, member).compute()["P"] == measured(found).compute()["P"] == pytest.approx(1)
    assert measured(found, member).compute()["R"] == pytest.approx(1)
    assert measured(found, elsewhere).compute()["P"] == pytest.approx(0.5)
    dog_in_crowd = measured(found, member, classes=(0, 1)).confusion_matrix()
    assert dog_in_crowd.sum() == 2, "a member of another class is wrong all the same"
    assert measured(found, member).confusion_matrix().sum() == 1


def test_perfect_results_score_one():
    parts = random_set(3)
    for batch, results in parts:
        for i, (placement, result) in enumerate(zip(batch.placements, results, strict=True)):
            truth = BoxEvaluator(NAMES)
            truth.update(results, batch)
            record = truth.state()[i]
            result.boxes, result.classes = torch.from_numpy(record.label_boxes), torch.from_numpy(record.label_classes)
            result.scores = torch.ones(len(result.boxes))
            assert (result.boxes[:, 2] <= placement.width).all()
    evaluator = evaluated(parts)
    metrics = evaluator.compute()
    assert [metrics[name] for name in ("P", "R", "AP50", "AP")] == pytest.approx([1, 1, 1, 1])
    assert evaluator.fitness() == pytest.approx(1)
    assert np.count_nonzero(evaluator.confusion_matrix() - np.diag(evaluator.confusion_matrix().diagonal())) == 0


def test_counts_and_absent_classes():
    parts = random_set(4)
    evaluator = evaluated(parts)
    rows = evaluator.per_class()
    labels = torch.cat([batch.classes[batch.valid] for batch, _ in parts])
    assert [row["labels"] for row in rows] == torch.bincount(labels, minlength=5).tolist()
    assert rows[0]["images"] == sum(int(((b.classes == 0) & b.valid).any(1).sum()) for b, _ in parts)
    nothing = {"name": "never labelled", "images": 0, "labels": 0, "P": 0, "R": 0, "AP50": 0, "AP": 0}
    assert rows[4] == nothing | {"AP_small": -1, "AP_medium": -1, "AP_large": -1}
    by_area = [[row[f"AP_{area}"] for row in rows if row[f"AP_{area}"] >= 0] for area in ("small", "medium", "large")]
    for area, known in zip(("small", "medium", "large"), by_area, strict=True):
        assert evaluator.compute()[f"AP_{area}"] == pytest.approx(np.mean(known) if known else -1)
    header, everything = (line.split() for line in evaluator.table().splitlines()[:2])
    assert header[-3:] == ["AP_S", "AP_M", "AP_L"]
    assert everything[-3] == (f"{evaluator.compute()['AP_small']:.3f}" if by_area[0] else "-")
    assert evaluator.compute()["AP"] == pytest.approx(np.mean([row["AP"] for row in rows[:4]]))
    assert evaluator.compute()["P"] == pytest.approx(np.mean([row["P"] for row in rows[:4]]))


def without_results(parts):
    none = DetectionResult(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    return [(batch, [none] * len(results)) for batch, results in parts]


def without_labels(parts):
    for batch, results in parts:
        batch.valid = torch.zeros_like(batch.valid)
        yield batch, results


@pytest.mark.parametrize(
    "parts",
    [
        [],
        without_results(random_set(5)),
        list(without_labels(random_set(5))),
        without_results(without_labels(random_set(5))),
    ],
    ids=["no images", "no predictions", "no labels", "neither"],
)
def test_nothing_to_measure_is_zero(parts, tmp_path):
    evaluator = evaluated(parts)
    metrics = evaluator.compute()
    assert [metrics[name] for name in ("P", "R", "AP50", "AP", "AP75")] == [0] * 5
    assert evaluator.fitness() == 0
    assert len(evaluator.per_class()) == 5 and evaluator.table().startswith("class")
    assert all(path.stat().st_size for path in evaluator.plot(tmp_path))


def test_results_do_not_depend_on_batches_order_or_processes():
    parts = random_set(6)
    whole = evaluated(parts)
    first, second = evaluated(parts[:5]), evaluated(parts[4:])
    first.compute()
    first.merge(second.state())
    assert first.compute() == pytest.approx(whole.compute(), abs=1e-9)
    np.testing.assert_array_equal(first.confusion_matrix(), whole.confusion_matrix())
    assert evaluated(parts[::-1]).compute() == pytest.approx(whole.compute(), abs=1e-9)


def test_update_after_compute_counts():
    parts = random_set(7)
    evaluator = evaluated(parts[:3])
    before = evaluator.compute()
    for batch, results in parts[3:]:
        evaluator.update(results, batch)
    assert evaluator.compute() != before
    assert evaluator.compute() == evaluated(parts).compute()


def test_coco_json(tmp_path):
    evaluator = evaluated(random_set(8))
    images = {record.id: int(record.id[7:-4]) for record in evaluator.state()}
    evaluator.coco_json(tmp_path / "p.json", CocoIds(images, [1, 3, 5, 7, 9]))
    rows = json.loads((tmp_path / "p.json").read_text())
    records = evaluator.state()
    assert len(rows) == sum(len(record.scores) for record in records)
    record = next(record for record in records if len(record.scores))
    row = next(row for row in rows if row["image_id"] == int(record.id[7:-4]))
    x1, y1, x2, y2 = record.boxes[0].astype(float)
    assert row["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=6e-4)
    assert row["score"] == pytest.approx(float(record.scores[0]), abs=6e-6)
    assert row["category_id"] == 2 * record.classes[0] + 1


def test_ids_of_names_refuse_two_images_with_one_id():
    with pytest.raises(DataError, match=r"b/1\.jpg and a/1\.jpg would both be image '1'.*rename"):
        CocoIds.of_names(["a/1.jpg", "c/2.jpg", "b/1.jpg"], 3)


def test_image_ids():
    assert coco_image_id("x/000000000139.jpg") == 139
    assert coco_image_id("x/street_01.jpg") == "street_01"
    assert coco_image_id("x/²3.jpg") == "²3"


def test_table_is_aligned_and_short_for_many_classes():
    parts = random_set(10)
    lines = evaluated(parts).table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == ["class", "all", "car", "person", "dog", "kite", "never"]
    many = evaluated(parts, [*NAMES, *(f"more {i}" for i in range(30))])
    assert len(many.table().splitlines()) == 2
    assert len(many.table(verbose=True).splitlines()) == 37


def test_plots(tmp_path):
    paths = evaluated(random_set(11)).plot(tmp_path)
    assert [path.name for path in paths] == [
        "PR_curve.png",
        "F1_curve.png",
        "P_curve.png",
        "R_curve.png",
        "confusion_matrix.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_the_areas_under_the_curves_are_the_ap50_of_the_table(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "plot_precision_recall", lambda *given: drawn.append(given))
    for module, name in ((curves, "plot_confidence_curve"), (confusion, "plot_confusion")):
        monkeypatch.setattr(module, name, lambda *given: None)
    evaluator = evaluated(random_set(11))
    evaluator.plot(tmp_path)
    (lines, areas, names, _), *others = drawn
    table = {row["name"]: row["AP50"] for row in evaluator.per_class() if row["labels"]}
    assert dict(zip(names, areas.tolist(), strict=True)) == table and not others
    np.testing.assert_allclose(lines.mean(1), areas, atol=1e-12)
    assert areas.mean() == pytest.approx(evaluator.compute()["AP50"]) and 0 < areas.mean() < 1


def test_registered():
    assert EVALUATORS["boxes"] is BoxEvaluator
