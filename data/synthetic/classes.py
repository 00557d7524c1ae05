"""What is in a generated street: the names of its classes and of a person's keypoints."""

from __future__ import annotations

DETECT_NAMES = ["car", "person", "sign"]
SEGMENT_NAMES = ["sky", "road", "grass", "building", "car", "person", "sign"]
"""``road`` is all paved ground, ``grass`` is all that grows (trees too), ``sign`` is the plate with its pole."""
KEYPOINT_NAMES = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
]
"""The order of COCO."""

SKY, ROAD, GRASS, BUILDING = (SEGMENT_NAMES.index(name) for name in ("sky", "road", "grass", "building"))
CAR, PERSON, SIGN = (DETECT_NAMES.index(name) for name in ("car", "person", "sign"))
