"""The loop over a video that anybody would write first: one frame after the other, the usual calls, nothing reused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from models.graph import Graph
from models.predictor import STAGES
from utils.plots.palette import class_colour, mask_palette
from utils.stage_clock import StageClock

DECODE, DRAW, ENCODE = "decode", "draw", "encode"
ALL_STAGES = (DECODE, *STAGES, DRAW, ENCODE)
Box = tuple[list[float], float, int]


class PlainVideoLoop:
    """Annotates a video with a graph; for letterboxes in the middle, as YOLOv5 has them.

    Args:
        graph: folded, in eval mode, on the CPU; its heads give boxes or areas.
        size: longer side of a picture in the input, pixels.
        conf: least confidence.
        iou: overlap that suppresses.

    Attributes:
        clock: time per stage.
        objects: found so far.
    """

    def __init__(self, graph: Graph, size: int, conf: float, iou: float) -> None:
        self.graph, self.size, self.conf, self.iou = graph, size, conf, iou
        self.clock = StageClock(ALL_STAGES)
        self.objects = 0

    def run(self, source: Path, target: Path, most: int | None = None) -> int:
        """Annotate at most so many frames, and return how many there were."""
        capture = cv2.VideoCapture(str(source))
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        codec = cv2.VideoWriter_fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(target), codec, capture.get(cv2.CAP_PROP_FPS), (width, height))
        frames = 0
        while most is None or frames < most:
            with self.clock.time(DECODE):
                found, frame = capture.read()
            if not found:
                break
            drawn = self.annotate(frame)
            with self.clock.time(ENCODE):
                writer.write(drawn)
            frames += 1
        with self.clock.time(ENCODE):
            writer.release()
        capture.release()
        return frames

    @torch.inference_mode()
    def annotate(self, frame: np.ndarray) -> np.ndarray:
        """Return an (H, W, 3) uint8 BGR frame with what was found in it."""
        with self.clock.time("preprocess"):
            inputs, place = self.letterbox(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        with self.clock.time("inference"):
            raw = self.graph(inputs)
        for name, head in self.graph.heads.items():
            with self.clock.time("postprocess"):
                if head.task == "segment":
                    answer: Any = self.class_map(raw[name][0], place, inputs.shape[-2:], frame.shape[:2])
                else:
                    answer = self.boxes(head.predict(raw[name], tuple(inputs.shape[-2:])), place, frame.shape[:2])
            with self.clock.time(DRAW):
                draw = draw_areas if head.task == "segment" else draw_boxes
                frame = draw(frame, answer, self.graph.names[name])
        return frame

    def letterbox(self, image: np.ndarray) -> tuple[Tensor, tuple[float, int, int, int, int]]:
        """Return (1, 3, h, w) uint8, and the scale, left, top, width and height of the picture in it."""
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        new_width, new_height = round(width * scale), round(height * scale)
        image = cv2.resize(image, (new_width, new_height))
        right, below = -new_width % self.graph.stride, -new_height % self.graph.stride
        left, top = right // 2, below // 2
        sides = (top, below - top, left, right - left)
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        return torch.from_numpy(image.transpose(2, 0, 1).copy())[None], (scale, left, top, new_width, new_height)

    def boxes(self, found: Any, place: tuple[float, int, int, int, int], size: tuple[int, int]) -> list[Box]:
        """Return corners in native pixels, confidence and class of the objects that are left."""
        scores, classes = found.scores[0].max(-1)
        if found.objectness is not None:
            scores = scores * found.objectness[0]
        sure = scores > self.conf
        boxes, scores, classes = found.boxes[0][sure], scores[sure], classes[sure]
        kept = batched_nms(boxes, scores, classes, self.iou)
        scale, left, top = place[:3]
        boxes = (boxes[kept] - boxes.new_tensor((left, top, left, top))) / scale
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, size[1])
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, size[0])
        self.objects += len(kept)
        return list(zip(boxes.tolist(), scores[kept].tolist(), classes[kept].tolist(), strict=True))

    @staticmethod
    def class_map(
        logits: Tensor,
        place: tuple[float, int, int, int, int],
        input_size: Sequence[int],
        size: tuple[int, int],
    ) -> np.ndarray:
        """Return the (H, W) uint8 classes of all native pixels."""
        _, left, top, width, height = place
        whole = F.interpolate(logits.float(), tuple(input_size), mode="bilinear", align_corners=True)
        picture = whole[:, :, top : top + height, left : left + width]
        native = F.interpolate(picture, size, mode="bilinear", align_corners=True)
        return native[0].argmax(0).to(torch.uint8).numpy()


def draw_boxes(frame: np.ndarray, boxes: Sequence[Box], names: Sequence[str]) -> np.ndarray:
    """Draw boxes with name and confidence on a BGR frame."""
    for corners, score, index in boxes:
        x1, y1, x2, y2 = (round(value) for value in corners)
        colour = class_colour(index)[::-1]
        text = f"{names[index]} {score:.2f}"
        cv2.rectangle(frame, (x1, y1), (x2, y2), colour, 3, cv2.LINE_AA)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.75, 1)
        cv2.rectangle(frame, (x1, y1 - height - 6), (x1 + width, y1), colour, cv2.FILLED)
        cv2.putText(frame, text, (x1, y1 - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.75, (255, 255, 255), 1, cv2.LINE_AA)
    return frame


def draw_areas(frame: np.ndarray, class_map: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Lay the colours of a class map over a BGR frame."""
    colours = mask_palette(list(names))[:, ::-1][class_map]
    return cv2.addWeighted(frame, 0.6, np.ascontiguousarray(colours), 0.4, 0)
