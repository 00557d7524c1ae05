"""Tiles of large pictures: what all looks find together is what is there, once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data.transforms.letterbox import CENTERED
from models.inference import Inference, load_inference
from models.predictions import Detections, MaskResult, Masks, Poses, PostprocessOptions
from models.predictor import STAGES, Predictor
from models.tiled_predictor import TiledPredictor
from models.tiles import Tiling
from tests import tiny_poses
from tests.tiny_detector import make_picture, write_weights
from tests.tiny_poses import CRANE
from tests.tiny_yolos import tiny_yolos
from utils.boxes import box_iou_matrix
from utils.detection_results import detection_results
from utils.pose_results import pose_results
from utils.stage_clock import StageClock

CPU = torch.device("cpu")
COLOURS = {0: (255, 0, 0), 1: (0, 255, 0)}
BIG = (10, 20, 170, 150)


class Blots:
    """Stands in for a model: finds every red (0) and green (1) rectangle of at least 3 x 3 input pixels.

    Args:
        kind: of the candidates that it gives: boxes, boxes of a set, or poses.
    """

    stride = 32
    letterbox = CENTERED

    def __init__(self, kind: str = "boxes") -> None:
        self.kind, self.batches = kind, []
        finish = pose_results if kind == "poses" else detection_results
        objects = SimpleNamespace(targets=("boxes", "classes"), postprocess=finish)
        areas = SimpleNamespace(targets=("masks",), postprocess=self._areas)
        self.heads = {"areas": areas, "objects": objects}

    def __call__(self, images: torch.Tensor, heads: Any, dtype: Any, sizes: Any = None) -> dict[str, Any]:
        self.batches.append(len(images))
        answers = {"objects": self._objects(images), "areas": Masks(self._logits(images))}
        return {head: answers[head] for head in heads}

    def _objects(self, images: torch.Tensor) -> Detections:
        found = [self._blots(image.permute(1, 2, 0).numpy()) for image in images]
        most = max(len(rows) for rows in found)
        table = torch.zeros(len(images), most, 6)
        for i, rows in enumerate(found):
            table[i, : len(rows)] = torch.tensor(rows).reshape(-1, 6)
        boxes, scores = table[..., :4], torch.zeros(len(images), most, 2)
        scores.scatter_(2, table[..., 5:].long(), table[..., 4:5])
        detections = Detections(boxes, scores, distinct=self.kind == "set")
        if self.kind != "poses":
            return detections
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        keypoints = torch.cat((centre, torch.ones_like(centre[..., :1])), -1)[:, :, None].expand(-1, -1, len(CRANE), -1)
        return Poses(boxes, scores, keypoints=keypoints, spec=CRANE)

    @staticmethod
    def _blots(image: np.ndarray) -> list[tuple[float, ...]]:
        rows = []
        for index, colour in COLOURS.items():
            mask = (np.abs(image.astype(int) - colour).max(2) < 60).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            rows += [(x, y, x + w, y + h, 0.9, index) for x, y, w, h, _ in stats[1:].tolist() if min(w, h) >= 3]
        return rows

    @staticmethod
    def _logits(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images.float().mean(1) * 0 + 100, images[:, 0].float(), images[:, 1].float()], 1)

    @staticmethod
    def _areas(masks: Masks, options: Any, placements: Any) -> list[MaskResult]:
        return [MaskResult(logits.argmax(0).to(torch.uint8)) for logits in masks.logits]


def tiled(model: Any, heads: list[str], tiling: Tiling, size: int, batch_size: int = 3, **options: Any):
    return TiledPredictor(
        model,
        dict.fromkeys(heads, size),
        PostprocessOptions(**options),
        CPU,
        None,
        StageClock(STAGES),
        tiling,
        batch_size,
    )


def painted(size: tuple[int, int], boxes: list[tuple[int, int, int, int, int]]) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2, index in boxes:
        image[y1:y2, x1:x2] = COLOURS[index]
    return image


def objects_of(result: Any) -> list[tuple[int, ...]]:
    return sorted(
        (*box, index) for box, index in zip(result.boxes.round().int().tolist(), result.classes.tolist(), strict=True)
    )


SMALL = [(5, 5, 13, 15, 0), (60, 70, 74, 78, 1), (120, 58, 136, 72, 0), (150, 110, 158, 120, 1), (62, 20, 70, 30, 0)]


@pytest.mark.parametrize("kind", ["boxes", "set", "poses"])
def test_small_objects_come_once_and_where_they_are(kind):
    model = Blots(kind)
    # Many lie across the ends of tiles of 64 pixels, and in several tiles.
    predictor = tiled(model, ["objects"], Tiling(64, 0.3), 64)
    result = predictor([painted((128, 192), SMALL)])[0]["objects"]
    assert objects_of(result) == sorted(SMALL)
    assert max(model.batches) == 3, "tiles share passes"
    if kind == "poses":
        centres = (result.boxes[:, :2] + result.boxes[:, 2:]) / 2
        assert torch.allclose(result.keypoints[..., :2], centres[:, None].expand(-1, len(CRANE), -1), atol=0.6)
    # The whole picture alone does not show them well enough: that is what tiles are for.
    whole = Predictor(Blots(kind), {"objects": 64}, PostprocessOptions(), CPU, None, StageClock(STAGES))
    overlaps = box_iou_matrix(result.boxes, whole([painted((128, 192), SMALL)])[0]["objects"].boxes)
    assert len(overlaps.flatten()) == 0 or overlaps.max() < 0.99


def test_pieces_of_a_large_object_give_way_to_the_whole_of_it():
    picture = painted((192, 192), [(*BIG, 0), (160, 160, 180, 180, 1)])
    result = tiled(Blots(), ["objects"], Tiling(64, 0.2), 64)([picture])[0]["objects"]
    assert len(result.boxes) == 2
    expected = torch.tensor([BIG, (160, 160, 180, 180)]).float()
    overlaps = box_iou_matrix(expected, result.boxes[result.classes.argsort()])
    assert (overlaps.diagonal() > 0.9).all()


def test_where_all_is_one_class_pieces_give_way_whatever_they_are_taken_for():
    class Guessing(Blots):
        def _objects(self, images: torch.Tensor) -> Detections:
            found = super()._objects(images)
            side = images.shape[-1]
            cut = ((found.boxes < 1) | (found.boxes > side - 1)).any(-1, keepdim=True)
            return replace(found, scores=torch.where(cut, found.scores, found.scores.flip(-1)))

    picture = painted((192, 192), [(*BIG, 0)])
    apart, joined = (
        tiled(Guessing(), ["objects"], Tiling(64, 0.2), 64, one_class=one_class)([picture])[0]["objects"]
        for one_class in (False, True)
    )
    assert len(apart.boxes) > 1 and apart.classes.unique().tolist() == [0, 1], "pieces are taken for another class"
    assert joined.classes.tolist() == [0]
    assert box_iou_matrix(joined.boxes, torch.tensor([BIG]).float()) > 0.9


def test_kernels_are_chosen_on_a_picture_that_is_not_cut(monkeypatch):
    model = Blots()
    predictor = tiled(model, ["objects"], Tiling(32, 0.9), 640)
    # Where there is a GPU, this is done on it; here the CPU has to stand in for it.
    monkeypatch.setattr(predictor, "_wait", lambda: None)
    monkeypatch.setattr("torch.Tensor.to", lambda tensor, *_, **__: tensor)
    predictor.device = torch.device("cuda")
    predictor.warm_up(640)
    assert model.batches == [1]


def test_sure_pieces_do_not_give_way_to_a_whole_that_is_a_guess():
    class Unsure(Blots):
        sureness = 1.0

        def _objects(self, images: torch.Tensor) -> Detections:
            found = super()._objects(images)
            cut = ((found.boxes < 1) | (found.boxes > images.shape[-1] - 1)).any(-1, keepdim=True)
            return replace(found, scores=torch.where(cut, found.scores, found.scores * self.sureness))

    counts = []
    model, picture = Unsure(), painted((192, 192), [(*BIG, 0)])
    for model.sureness in (0.4, 0.6):
        counts.append(len(tiled(model, ["objects"], Tiling(64, 0.2), 64)([picture])[0]["objects"].boxes))
    assert counts[0] > counts[1] == 1


def test_a_piece_stays_where_nothing_shows_the_whole():
    # Too thin to be seen in the whole picture, and longer than a tile.
    picture = painted((64, 400), [(100, 30, 300, 34, 0)])
    boxes = tiled(Blots(), ["objects"], Tiling(64, 0.0), 64)([picture])[0]["objects"].boxes
    assert len(boxes) >= 3
    assert float((boxes[:, 2] - boxes[:, 0]).sum()) >= 199, "all of it is found, in pieces"


def test_areas_are_told_by_the_tile_that_has_them_deepest_inside():
    rng = np.random.default_rng(0)
    wanted = np.kron(rng.integers(0, 3, (13, 19)), np.ones((10, 10), int))
    picture = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)[wanted]
    both = tiled(Blots(), ["areas", "objects"], Tiling(64, 0.25), 64)([picture, picture[:40, :50]])
    assert list(both[0]) == ["areas", "objects"]
    assert np.array_equal(both[0]["areas"].class_map.numpy(), wanted)
    assert both[1]["areas"].class_map.shape != (0, 0)


def test_areas_alone_need_no_look_at_the_whole_picture():
    model = Blots()
    tiled(model, ["areas"], Tiling(64, 0.0), 64, batch_size=8)([np.zeros((128, 128, 3), np.uint8)])
    assert model.batches == [4]


def test_a_picture_of_one_tile_is_looked_at_as_ever(tmp_path):
    inference = load_inference([write_weights(tmp_path / "tiny.safetensors")])
    image, options = make_picture((60, 80)), PostprocessOptions(conf=0.1, max_det=30)
    sizes = {"detect": 64, "segment": 64}
    clock = StageClock(STAGES)
    plain = Predictor(inference, sizes, options, CPU, None, clock)
    cut = TiledPredictor(inference, sizes, options, CPU, None, clock, Tiling(96, 0.2), 2)
    before, after = plain([image])[0], cut([image])[0]
    assert cut.shape_text(image) == plain.shape_text(image) == "64x64"
    assert len(before["detect"].boxes) > 3
    assert torch.allclose(before["detect"].boxes, after["detect"].boxes, atol=1e-3)
    assert torch.equal(before["detect"].classes, after["detect"].classes)
    assert torch.equal(before["segment"].class_map, after["segment"].class_map)
    assert cut.shape_text(make_picture((200, 100))) == "64x32 and 6 tiles at 64x64"


@pytest.mark.parametrize("kind", ["set", "poses"])
def test_heads_of_every_kind_look_at_tiles(kind: str, tmp_path):
    if kind == "set":
        model = Inference([tiny_yolos()])
    else:
        model = load_inference([tiny_poses.write_weights(tmp_path / "poses.safetensors")])
    (head,) = model.heads
    image, options = make_picture((140, 100)), PostprocessOptions(conf=0.01, max_det=50)
    predictor = TiledPredictor(model, {head: 64}, options, CPU, None, StageClock(STAGES), Tiling(64, 0.2), 4)
    result = predictor([image])[0][head]
    assert 3 < len(result.boxes) <= 50
    assert result.boxes.min() >= 0 and (result.boxes.amax(0)[2:] <= torch.tensor([100, 140])).all()
    assert result.boxes[:, 1].max() > 80 > 30 > result.boxes[:, 1].min(), "in the lower tiles and in the upper ones"
    assert torch.equal(result.scores, result.scores.sort(descending=True).values)
    same = result.classes[:, None] == result.classes
    overlaps = box_iou_matrix(result.boxes, result.boxes) * same
    assert (overlaps.fill_diagonal_(0) <= options.iou + 1e-3).all()
    if kind == "poses":
        assert result.keypoints.shape == (len(result.boxes), len(CRANE), 3)


def test_limits_hold_for_the_whole_picture_and_for_several_classes():
    picture = painted((128, 192), SMALL)
    model = Blots()
    assert len(tiled(model, ["objects"], Tiling(64, 0.3), 64, max_det=2)([picture])[0]["objects"].boxes) == 2
    only = tiled(model, ["objects"], Tiling(64, 0.3), 64, classes=(1,))([picture])[0]["objects"]
    assert objects_of(only) == sorted(box for box in SMALL if box[4] == 1)

    class OfBoth(Blots):
        def _objects(self, images: torch.Tensor) -> Detections:
            found = super()._objects(images)
            return replace(found, scores=found.scores.amax(-1, keepdim=True).expand_as(found.scores).clone())

    twice = tiled(OfBoth(), ["objects"], Tiling(64, 0.3), 64, multi_label=True)([picture])[0]["objects"]
    assert objects_of(twice) == sorted((*box[:4], index) for box in SMALL for index in (0, 1))
