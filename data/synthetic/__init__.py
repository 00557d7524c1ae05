"""Generated street scenes: the data set of the quick start and the tests, written on first use."""

from __future__ import annotations

from data.synthetic.classes import DETECT_NAMES, KEYPOINT_NAMES, SEGMENT_NAMES
from data.synthetic.embedded import ensure_embedded
from data.synthetic.scene import Scene, render_scene
from data.synthetic.video import render_video_frames, write_video

__all__ = [
    "DETECT_NAMES",
    "KEYPOINT_NAMES",
    "SEGMENT_NAMES",
    "Scene",
    "ensure_embedded",
    "render_scene",
    "render_video_frames",
    "write_video",
]
