"""A short film of one street: cars drive by, people walk on the pavements, the camera stands still."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from data.synthetic.camera import Camera, point
from data.synthetic.cars import Car, sample_car
from data.synthetic.light import sample_light
from data.synthetic.people import Person, sample_person
from data.synthetic.scene import Actor, Scene, draw_actors, label, look, set_stage
from data.synthetic.signs import Sign, sample_sign
from data.synthetic.street import sample_street
from utils.errors import RunError

FPS = 25

_LANE_NEAR, _LANE_FAR = -3.0, 70.0
_WALK_NEAR, _WALK_FAR = 8.0, 20.0
_STEP_CYCLE = 1.5
"""Metres that somebody walks in two steps."""


@dataclass(frozen=True)
class _Driver:
    """A car that comes back at the other end of its lane; ``speed`` in m/s, negative towards the camera."""

    car: Car
    speed: float

    def at(self, seconds: float) -> Car:
        way = self.car.z - _LANE_NEAR + self.speed * seconds
        return replace(self.car, z=_LANE_NEAR + way % (_LANE_FAR - _LANE_NEAR))


@dataclass(frozen=True)
class _Walker:
    """Somebody who walks up and down a pavement; ``speed`` in m/s."""

    person: Person
    speed: float

    def at(self, seconds: float) -> Person:
        length = _WALK_FAR - _WALK_NEAR
        walked = self.person.z - _WALK_NEAR + self.speed * seconds
        lap = walked % (2 * length)
        comes_back = lap > length
        return replace(
            self.person,
            z=_WALK_NEAR + (2 * length - lap if comes_back else lap),
            heading=self.person.heading + (np.pi if comes_back else 0.0),
            phase=self.person.phase + 2 * np.pi * walked / _STEP_CYCLE,
        )


def render_video_frames(seed: int, frames: int, size: tuple[int, int], fps: float = FPS) -> Iterator[Scene]:
    """Draw the frames of a film one by one; everything moves steadily from frame to frame.

    Args:
        seed: of all choices.
        frames: how many.
        size: width and height in pixels.
        fps: frames per second of the film.

    Yields:
        A labelled scene per frame.
    """
    rng = np.random.default_rng([seed, 2])
    width, height = size
    camera = Camera(width, height, x=6.2, y=2.9, yaw=-0.3, horizon=0.4 * height, focal=1.08 * height)
    light = replace(sample_light(rng), blur=0.0, noise=0.7)
    stage = set_stage(camera, light, sample_street(rng, None, None))
    movers, signs = _sample_traffic(rng)
    for frame in range(frames):
        actors: list[Actor] = [mover.at(frame / fps) for mover in movers]
        # A car that passes the camera is beside it, out of the picture, before it is too near to be drawn.
        actors = [actor for actor in actors if camera.depth(point(actor.x, 0, actor.z)) > 1.5] + signs
        yield label(stage, actors, look(*draw_actors(stage, actors)), rng)


def write_video(
    path: str | Path, seed: int = 0, frames: int = 75, fps: float = FPS, size: tuple[int, int] = (640, 480)
) -> Path:
    """Write a film of a street as MPEG-4; it appears at ``path`` only when it is complete.

    Args:
        path: of the .mp4 file; its folder must exist.
        seed: of all choices.
        frames: how many.
        fps: frames per second.
        size: width and height in pixels, both even.

    Returns:
        The path.

    Raises:
        RunError: the file cannot be opened or OpenCV has no encoder for it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.mp4")
    try:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
        if not writer.isOpened():
            raise RunError(
                f"{path}: the video cannot be opened for writing; choose a folder that exists and is writable"
            )
        for scene in render_video_frames(seed, frames, size, fps):
            writer.write(cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
        writer.release()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _sample_traffic(rng: np.random.Generator) -> tuple[list[_Driver | _Walker], list[Sign]]:
    movers: list[_Driver | _Walker] = []
    for lane, heading, speed, count in ((-2.0, np.pi, -9.0, 4), (2.0, 0.0, 8.0, 3)):
        # Cars of a lane are equally fast, so they keep the distance that they have here.
        gap = (_LANE_FAR - _LANE_NEAR) / count
        for place in range(count):
            z = _LANE_NEAR + gap * (place + float(rng.uniform(0.1, 0.6)))
            movers.append(_Driver(sample_car(rng, lane + float(rng.uniform(-0.2, 0.2)), z, heading), speed))
    for x in (-5.9, -5.3, -4.8, 4.9, 5.5):
        person = sample_person(rng, x, float(rng.uniform(_WALK_NEAR, 2 * _WALK_FAR)), 0.0)
        walks = replace(person, stride=float(rng.uniform(0.42, 0.55)), raised=0.0)
        movers.append(_Walker(walks, float(rng.uniform(1.1, 1.6))))
    return movers, [
        sample_sign(rng, -4.4, float(rng.uniform(12, 15))),
        sample_sign(rng, 4.4, float(rng.uniform(10, 13))),
    ]
