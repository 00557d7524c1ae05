"""A tiny untrained model for poses of cranes with five keypoints, its checkpoint, and a set to test it with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from data.keypoints import KeypointSpec
from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import load_graph

CRANE = KeypointSpec(
    names=("hook", "left_foot", "right_foot", "left_light", "right_light"),
    flip=(0, 2, 1, 4, 3),
    sigmas=(0.05, 0.1, 0.1, 0.08, 0.08),
    skeleton=((0, 1), (0, 2), (1, 3), (2, 4)),
)
BACKBONE = """
nc: 1
nkpt: 5
width_multiple: 0.125
input: {channels: BGR, scale: 1, letterbox: top-left, square: true}
backbone:
  - [-1, 1, Conv, [64, 6, 2, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
head:
"""
POSES = BACKBONE + "  - [[2, 3], 1, YOLOXPose, [nc, 64, nkpt]]\n"
POSES_AND_AREAS = POSES + "  - [2, 1, SegMaskBase, [2, 1, 64]]\n"


def write_weights(path: Path, model: str = POSES, seed: int = 3, keypoints: KeypointSpec = CRANE) -> Path:
    """Write a checkpoint of a model with random weights that is fairly sure of many objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.parent / "tiny_poses.yaml"
    text.write_text(model)
    torch.manual_seed(seed)
    graph = load_graph(text)
    head = graph.heads["pose"]
    with torch.no_grad():
        for level in range(len(head.strides)):
            for preds in (head.cls_preds, head.obj_preds, head.vis_preds):
                preds[level].weight.normal_(std=0.5)
                preds[level].bias.fill_(1.0)
            head.vis_preds[level].bias.zero_()
            head.offset_preds[level].weight.normal_(std=1.0)
            head.reg_preds[level].bias.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0]))
    graph.set_keypoints("pose", keypoints)
    names = {"pose": ["crane"], "segment": ["ground", "sky"]}
    save_checkpoint(
        path,
        Checkpoint(
            "tiny_poses.yaml",
            graph.spec.text,
            {name: names[name] for name in graph.heads},
            {"ema": graph.state_dict()},
            keypoints=graph.keypoints,
        ),
    )
    return path


def write_set(root: Path, images: int = 5, size: tuple[int, int] = (96, 64), seed: int = 0) -> Path:
    """Write a small pose set of label files and return its data YAML; the first image has no object.

    Args:
        root: folder of the set.
        images: in its only split, ``val``.
        size: width and height of the pictures.
        seed: of what lies in them.
    """
    rng = np.random.default_rng(seed)
    for folder in ("images/val", "labels/val"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(images):
        blots = rng.integers(0, 255, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"images/val/{i:03d}.png"), cv2.resize(blots, size, interpolation=cv2.INTER_CUBIC))
        rows = [random_row(rng) for _ in range(i)]
        (root / f"labels/val/{i:03d}.txt").write_text("".join(f"{row}\n" for row in rows))
    skeleton = ", ".join(f"[{CRANE.names[a]}, {CRANE.names[b]}]" for a, b in CRANE.skeleton)
    (root / "cranes.yaml").write_text(
        f"path: {root}\n"
        "pose:\n"
        "  train: images/val\n"
        "  val: images/val\n"
        "  names: [crane]\n"
        "  kpt:\n"
        f"    names: [{', '.join(CRANE.names)}]\n"
        "    flip: [[left_foot, right_foot], [left_light, right_light]]\n"
        f"    sigmas: {list(CRANE.sigmas)}\n"
        f"    skeleton: [{skeleton}]\n"
    )
    return root / "cranes.yaml"


def random_row(rng: np.random.Generator) -> str:
    """Return one line of a label file."""
    low, size = rng.uniform(0, 0.5, 2), rng.uniform(0.2, 0.5, 2)
    points = np.concatenate([low + size * rng.random((len(CRANE), 2)), rng.integers(0, 3, (len(CRANE), 1))], 1)
    points[points[:, 2] == 0] = 0
    return "0 " + " ".join(f"{value:.6f}" for value in (*(low + size / 2), *size, *points.ravel()))
