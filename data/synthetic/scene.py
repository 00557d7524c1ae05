"""One labelled picture: a street, the things in it, and what a camera sees of each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.camera import Camera, point
from data.synthetic.canvas import FIRST_INSTANCE, Canvas, class_of_owner
from data.synthetic.cars import Car, sample_car
from data.synthetic.classes import CAR, DETECT_NAMES, KEYPOINT_NAMES, PERSON, SEGMENT_NAMES, SIGN
from data.synthetic.light import Light, expose, sample_light
from data.synthetic.people import Person, sample_person
from data.synthetic.signs import Sign, sample_sign
from data.synthetic.street import CROSSING_WIDTH, Street, draw_street, sample_street
from data.synthetic.trees import Tree

LEAST_VISIBLE = 0.35
"""Share of an object that must be seen for it to be labelled."""
SMALLEST_SIDE = 8 / 192
"""Of a labelled box, in heights of the picture."""

Actor = Car | Person | Sign
_MASK_CLASS = [SEGMENT_NAMES.index(name) for name in DETECT_NAMES]


@dataclass
class Scene:
    """A picture and its labels.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels, each tight around what is seen of its object.
        classes: (n,) int64, indices of ``DETECT_NAMES``.
        keypoints: (n, 17, 3) float32, x y in pixels and 2 = seen, 1 = hidden, 0 = outside the picture (then x = y = 0);
            all zero for what is no person.
        mask: (H, W) uint8, indices of ``SEGMENT_NAMES``.
        instances: (H, W) uint8, 0 = no labelled object, i + 1 = object i of ``boxes``.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray
    mask: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class Stage:
    """A street under a light seen by a camera, drawn once and copied for every picture of it."""

    camera: Camera
    light: Light
    street: Street
    backdrop: Canvas


@dataclass(frozen=True)
class View:
    """A finished canvas and what is seen of its n objects.

    Attributes:
        canvas: the canvas.
        owners: (H, W) uint8, who owns each pixel of the picture.
        boxes: (n, 4) x1 y1 x2 y2 around each object's pixels.
        seen: (n,) bool, whether it is seen well enough to be labelled.
    """

    canvas: Canvas
    owners: np.ndarray
    boxes: np.ndarray
    seen: np.ndarray


def set_stage(camera: Camera, light: Light, street: Street) -> Stage:
    """Draw what stands still."""
    backdrop = Canvas(camera.width, camera.height)
    draw_street(backdrop, camera, light, street)
    return Stage(camera, light, street, backdrop)


def render_scene(rng: np.random.Generator, size: tuple[int, int] = (256, 192)) -> Scene:
    """Draw a street scene with cars, people and signs.

    What is hardly seen (``LEAST_VISIBLE``, ``SMALLEST_SIDE``) is not drawn at all. Most scenes have 2 to 6 objects.

    Args:
        rng: source of all choices; the same state gives the same bytes.
        size: width and height in pixels.
    """
    camera = _sample_camera(rng, size)
    crossing = float(rng.uniform(10.5, 15)) if rng.random() < 0.5 else None
    zebra = None
    if rng.random() < 0.55:
        zebra = crossing - 3.4 if crossing is not None else float(rng.uniform(7, 11.5))
    stage = set_stage(camera, sample_light(rng), sample_street(rng, crossing, zebra))
    for _ in range(6):
        actors = _cast(rng, stage)
        view = look(*draw_actors(stage, actors))
        if view.seen.sum() >= 2:
            break
    if not view.seen.all():
        actors = [actor for actor, is_seen in zip(actors, view.seen, strict=True) if is_seen]
        view = look(*draw_actors(stage, actors))
    return label(stage, actors, view, rng)


def draw_actors(stage: Stage, actors: list[Actor]) -> tuple[Canvas, np.ndarray]:
    """Draw trees and actors on a copy of the backdrop, the far ones first.

    Returns:
        The canvas, and (n,) how many of its pixels each actor had before nearer things hid some of them.
    """
    canvas, camera = stage.backdrop.copy(), stage.camera
    drawn = np.zeros(len(actors), np.int64)
    numbered: list[tuple[int | None, Actor | Tree]] = [
        *enumerate(actors),
        *((None, tree) for tree in stage.street.trees),
    ]
    for index, thing in sorted(numbered, key=lambda entry: -float(camera.depth(point(entry[1].x, 0, entry[1].z)))):
        if index is None:
            thing.draw(canvas, camera, stage.light)
        else:
            thing.draw(canvas, camera, stage.light, FIRST_INSTANCE + index)
            drawn[index] = np.count_nonzero(canvas.owners == FIRST_INSTANCE + index)
    return canvas, drawn


def look(canvas: Canvas, drawn: np.ndarray) -> View:
    """Find out what is seen of each object.

    Args:
        canvas: the finished canvas.
        drawn: (n,) canvas pixels of each object before others hid it.
    """
    count = len(drawn)
    owners = canvas.picture_owners()
    left = np.bincount(canvas.owners.ravel(), minlength=256)[FIRST_INSTANCE : FIRST_INSTANCE + count]
    inside = np.array([canvas.inside_share(FIRST_INSTANCE + index) for index in range(count)]).reshape(count)
    boxes = _tight_boxes(owners, count)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    seen = (left / np.maximum(drawn, 1) * inside >= LEAST_VISIBLE) & (sides >= SMALLEST_SIDE * canvas.height)
    return View(canvas, owners, boxes, seen)


def label(stage: Stage, actors: list[Actor], view: View, rng: np.random.Generator) -> Scene:
    """Expose the picture and label the actors that are seen well enough."""
    chosen = np.flatnonzero(view.seen)
    numbers = np.zeros(256, np.uint8)
    numbers[FIRST_INSTANCE + chosen] = np.arange(1, len(chosen) + 1)
    keypoints = np.zeros((len(chosen), len(KEYPOINT_NAMES), 3), np.float32)
    for row, index in enumerate(chosen):
        if actors[index].kind == PERSON:
            keypoints[row] = _see_keypoints(actors[index].keypoints(stage.camera), view.owners, FIRST_INSTANCE + index)
    return Scene(
        image=expose(view.canvas.picture(), stage.light, rng),
        boxes=view.boxes[chosen].astype(np.float32),
        classes=np.array([actors[index].kind for index in chosen], np.int64),
        keypoints=keypoints,
        mask=class_of_owner([_MASK_CLASS[actor.kind] for actor in actors])[view.owners],
        instances=numbers[view.owners],
    )


def _tight_boxes(owners: np.ndarray, count: int) -> np.ndarray:
    """Return (count, 4) x1 y1 x2 y2 around the pixels of each object, zeros where it has none."""
    boxes = np.zeros((count, 4))
    ids = np.arange(FIRST_INSTANCE, FIRST_INSTANCE + count)
    rows, columns = np.nonzero(owners >= FIRST_INSTANCE)
    index = owners[rows, columns].astype(np.int64) - FIRST_INSTANCE
    for values, low, high in ((columns, 0, 2), (rows, 1, 3)):
        lowest, highest = np.full(len(ids), np.iinfo(np.int64).max), np.full(len(ids), -1)
        np.minimum.at(lowest, index, values)
        np.maximum.at(highest, index, values)
        boxes[:, low] = np.where(highest >= 0, lowest, 0)
        boxes[:, high] = highest + 1
    return boxes


def _see_keypoints(keypoints: np.ndarray, owners: np.ndarray, owner: int) -> np.ndarray:
    """Mark what others hide with 1 and clear what lies outside the picture; keypoints (17, 3)."""
    height, width = owners.shape
    x, y = keypoints[:, 0], keypoints[:, 1]
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    columns = np.clip(x, 0, width - 1).astype(np.int64)
    rows = np.clip(y, 0, height - 1).astype(np.int64)
    visibility = np.where(owners[rows, columns] == owner, keypoints[:, 2], 1)
    return np.where(inside[:, None], np.column_stack([x, y, visibility]), 0)


def _sample_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    width, height = size
    return Camera(
        width=width,
        height=height,
        x=float(rng.uniform(-3, 3)),
        y=float(rng.uniform(1.9, 2.7)),
        yaw=float(rng.uniform(-0.13, 0.13)),
        horizon=float(rng.uniform(0.4, 0.5)) * height,
        focal=float(rng.uniform(1.12, 1.3)) * height,
    )


def _cast(rng: np.random.Generator, stage: Stage) -> list[Actor]:
    """Draw 2 to 6 things that do not stand in each other and whose middle is in the picture."""
    actors: list[Actor] = []
    for _ in range(int(rng.integers(2, 7))):
        kind = rng.choice((CAR, PERSON, SIGN), p=(0.42, 0.36, 0.22))
        for _ in range(12):
            actor = _SAMPLERS[kind](rng, stage.street)
            if _fits(actor, actors, stage.camera):
                actors.append(actor)
                break
    return actors


def _fits(actor: Actor, others: list[Actor], camera: Camera) -> bool:
    x, y = camera.project(point(actor.x, 0.6, actor.z))
    margin = 0.05 * camera.height
    if not (margin < x < camera.width - margin and y < camera.height - margin):
        return False
    return all(np.hypot(actor.x - other.x, actor.z - other.z) > actor.room + other.room for other in others)


def _sample_car(rng: np.random.Generator, street: Street) -> Car:
    tilt = float(rng.uniform(-0.06, 0.06))
    if street.crossing is not None and rng.random() < 0.45:
        x, to_right = float(rng.uniform(-7, 7)), bool(rng.random() < 0.5)
        lane = street.crossing + CROSSING_WIDTH * (0.25 if to_right else 0.75)
        return sample_car(rng, x, lane, (np.pi / 2 if to_right else -np.pi / 2) + tilt)
    z = float(np.exp(rng.uniform(np.log(7.0), np.log(24.0))))
    comes = bool(rng.random() < 0.5)
    return sample_car(
        rng, (-2.0 if comes else 2.0) + float(rng.uniform(-0.4, 0.4)), z, (np.pi if comes else 0.0) + tilt
    )


def _sample_person(rng: np.random.Generator, street: Street) -> Person:
    if street.zebra is not None and rng.random() < 0.45:
        x, z = float(rng.uniform(-4, 4)), street.zebra + float(rng.uniform(0.4, 1.8))
        return sample_person(rng, x, z, float(rng.choice((-1, 1)) * np.pi / 2 + rng.uniform(-0.2, 0.2)))
    x = float(rng.choice((-1, 1)) * rng.uniform(4.5, 6.1))
    heading = float(rng.choice((0.0, np.pi, np.pi, np.pi / 2, -np.pi / 2)) + rng.uniform(-0.5, 0.5))
    return sample_person(rng, x, float(rng.uniform(5.5, 11.5)), heading)


def _sample_sign(rng: np.random.Generator, street: Street) -> Sign:
    return sample_sign(rng, float(rng.choice((-1, 1)) * rng.uniform(4.35, 4.9)), float(rng.uniform(7.5, 14.0)))


_SAMPLERS = {CAR: _sample_car, PERSON: _sample_person, SIGN: _sample_sign}
