"""People: a skeleton of seventeen keypoints in three dimensions, dressed with limbs, clothes and hair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.synthetic.camera import Camera, point, to_world
from data.synthetic.canvas import Canvas, Colour
from data.synthetic.classes import KEYPOINT_NAMES, PERSON
from data.synthetic.light import Light

Dye = Callable[..., Colour]
"""Gives a colour the light of the place where somebody stands."""
THINNEST = 2.6
"""Pixels; no limb is drawn thinner."""

_AT = {name: i for i, name in enumerate(KEYPOINT_NAMES)}
_SKINS = ((246, 208, 176), (224, 176, 138), (178, 124, 86), (120, 78, 54))
_HAIRS = ((38, 30, 26), (92, 60, 36), (196, 152, 84), (150, 146, 142), (24, 24, 28))
_TOPS = ((214, 52, 62), (240, 184, 52), (60, 126, 202), (242, 240, 234), (80, 158, 98), (132, 72, 158), (236, 122, 66))
_TROUSERS = ((44, 58, 104), (48, 48, 54), (118, 98, 76), (86, 92, 100), (28, 78, 82))
_SHOES = (44, 36, 34)


@dataclass(frozen=True)
class Clothes:
    """What somebody wears and looks like; all RGB.

    Attributes:
        skin: face, hands.
        hair: on the head.
        top: shirt, jacket or dress.
        trousers: legs.
        skirted: whether the top reaches down to the knees.
        bag: RGB of a backpack, or None.
    """

    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    skirted: bool
    bag: Colour | None


@dataclass(frozen=True)
class Person:
    """Somebody who stands or walks.

    Attributes:
        x: metres to the right of the middle of the road.
        z: metres along the street.
        heading: radians from the street's direction to the right; pi walks towards the camera.
        height: in metres.
        phase: of the step in radians.
        stride: how far the legs swing, in radians; 0 stands.
        raised: how far the right arm is lifted, in radians: 0 swings along, about 2.5 waves.
        clothes: what they wear.
    """

    x: float
    z: float
    heading: float
    height: float
    phase: float
    stride: float
    raised: float
    clothes: Clothes

    kind = PERSON
    room = 0.7
    """Metres around them in which nothing else stands."""

    def skeleton(self) -> np.ndarray:
        """Return the joints, (17, 3) points of the world in the order of ``KEYPOINT_NAMES``."""
        joints = np.zeros((17, 3))
        joints[_AT["nose"]] = (0.085, 0, 0.93)
        joints[[_AT["left_eye"], _AT["right_eye"]]] = [(0.07, 0.028, 0.95), (0.07, -0.028, 0.95)]
        joints[[_AT["left_ear"], _AT["right_ear"]]] = [(0, 0.068, 0.935), (0, -0.068, 0.935)]
        for side, name in ((1, "left"), (-1, "right")):
            swing = side * np.sin(self.phase) * self.stride
            self._bend_leg(joints, name, side, swing)
            self._bend_arm(joints, name, side, -0.8 * swing)
        ankles = joints[[_AT["left_ankle"], _AT["right_ankle"]], 2]
        joints[:, 2] += 0.035 - ankles.min()
        return to_world(joints * self.height, self.x, self.z, self.heading)

    def keypoints(self, camera: Camera) -> np.ndarray:
        """Return where the joints appear, (17, 3): x, y in pixels and 1 where the own head hides them, else 2."""
        joints = self.skeleton()
        depth = camera.depth(joints)
        ears = [_AT["left_ear"], _AT["right_ear"]]
        seen = np.full((17, 1), 2.0)
        seen[:5, 0] = np.where(depth[:5] > depth[ears].mean() + 0.25 * 0.068 * self.height, 1, 2)
        return np.hstack([camera.project(joints), seen])

    def draw(self, canvas: Canvas, camera: Camera, light: Light, owner: int) -> None:
        """Draw shadow, limbs, torso and head, the far ones first."""
        joints = self.skeleton()
        pixels, depths = camera.project(joints), camera.depth(joints)
        per_metre = camera.pixels(1.0, point(self.x, 0, self.z))
        away = float(depths.mean())
        self._draw_shadow(canvas, camera, light, away)

        def dye(colour: Colour, brightness: float = 1.0) -> Colour:
            return light.on(colour, brightness, away)

        def limb(first: str, second: str, width: float, colour: Colour) -> None:
            thickness = max(THINNEST, width * self.height * per_metre)
            canvas.stroke(pixels[_AT[first]], pixels[_AT[second]], thickness, colour, owner)

        def leg(side: str, brightness: float) -> None:
            trousers = self.clothes.skin if self.clothes.skirted else self.clothes.trousers
            limb(f"{side}_hip", f"{side}_knee", 0.098, dye(trousers, brightness))
            limb(f"{side}_knee", f"{side}_ankle", 0.078, dye(trousers, brightness))
            limb(f"{side}_ankle", f"{side}_ankle", 0.09, dye(_SHOES))

        def arm(side: str, brightness: float) -> None:
            limb(f"{side}_shoulder", f"{side}_elbow", 0.068, dye(self.clothes.top, brightness))
            limb(f"{side}_elbow", f"{side}_wrist", 0.058, dye(self.clothes.top, brightness))
            limb(f"{side}_wrist", f"{side}_wrist", 0.06, dye(self.clothes.skin))

        sides = sorted(("left", "right"), key=lambda side: -depths[_AT[f"{side}_hip"]])
        arm(sides[0], 0.78)
        leg(sides[0], 0.8)
        leg(sides[1], 1.0)
        turned_away = depths[_AT["nose"]] > depths[[3, 4]].mean()
        if not turned_away:
            self._draw_bag(canvas, pixels, per_metre, dye, owner)
        self._draw_torso(canvas, pixels, per_metre, dye(self.clothes.top), owner)
        if turned_away:
            self._draw_bag(canvas, pixels, per_metre, dye, owner)
        arm(sides[1], 0.9)
        self._draw_head(canvas, pixels, per_metre, dye, turned_away, owner)

    def _bend_leg(self, joints: np.ndarray, name: str, side: int, swing: float) -> None:
        bend = self.stride * max(0.0, -np.cos(self.phase) * side) * 1.1 + 0.08
        hip = np.array((0, side * 0.062, 0.53))
        knee = hip + 0.25 * np.array((np.sin(swing), 0, -np.cos(swing)))
        ankle = knee + 0.245 * np.array((np.sin(swing - bend), 0, -np.cos(swing - bend)))
        joints[[_AT[f"{name}_hip"], _AT[f"{name}_knee"], _AT[f"{name}_ankle"]]] = hip, knee, ankle

    def _bend_arm(self, joints: np.ndarray, name: str, side: int, swing: float) -> None:
        shoulder = np.array((0, side * 0.118, 0.81))
        lifted = self.raised if side < 0 else 0.0
        out = 0.14 + 0.9 * lifted
        elbow = shoulder + 0.17 * np.array((np.sin(swing), side * np.sin(out), -np.cos(out)))
        bend, out = swing + 0.35, 0.08 + 1.15 * lifted
        wrist = elbow + 0.15 * np.array((np.sin(bend), side * np.sin(out), -np.cos(out)))
        joints[[_AT[f"{name}_shoulder"], _AT[f"{name}_elbow"], _AT[f"{name}_wrist"]]] = shoulder, elbow, wrist

    def _draw_shadow(self, canvas: Canvas, camera: Camera, light: Light, away: float) -> None:
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        spot = np.stack([np.cos(angles) * 0.38 - light.sun * 0.18, np.zeros(16), np.sin(angles) * 0.3], axis=1)
        canvas.fill([camera.project(spot + point(self.x, 0, self.z))], light.on((70, 72, 76), 0.9, away), None)

    def _draw_torso(self, canvas: Canvas, pixels: np.ndarray, per_metre: float, colour: Colour, owner: int) -> None:
        unit = self.height * per_metre
        shoulders = pixels[[_AT["left_shoulder"], _AT["right_shoulder"]]]
        hips = pixels[[_AT["left_hip"], _AT["right_hip"]]]
        if shoulders[0, 0] > shoulders[1, 0]:
            shoulders, hips = shoulders[::-1], hips[::-1]
        outwards = np.array([(-1.0, 0.0), (1.0, 0.0)]) * unit
        upper = shoulders + 0.042 * outwards
        lower = hips + 0.048 * outwards
        neck = shoulders.mean(axis=0)
        canvas.stroke(neck - (0, 0.07 * unit), neck, max(THINNEST, 0.07 * unit), colour, owner)
        canvas.stroke(shoulders[0], shoulders[1], max(THINNEST, 0.075 * unit), colour, owner)
        canvas.fill([np.concatenate([upper, lower[::-1]])], colour, owner)
        if self.clothes.skirted:
            hem = hips + 0.085 * outwards + (0, 0.17 * unit)
            canvas.fill([np.concatenate([lower, hem[::-1]])], colour, owner)

    def _draw_bag(self, canvas: Canvas, pixels: np.ndarray, per_metre: float, dye: Dye, owner: int) -> None:
        if self.clothes.bag is None:
            return
        unit = self.height * per_metre
        middle = pixels[5:7].mean(axis=0) * 0.55 + pixels[11:13].mean(axis=0) * 0.45
        facing = pixels[0, 0] - pixels[3:5, 0].mean()
        back = middle - (np.clip(facing * 1.2, -0.1 * unit, 0.1 * unit), 0)
        half = np.array((0.085, 0.11)) * unit
        corners = np.array([(-1, -0.8), (-0.7, -1), (0.7, -1), (1, -0.8), (1, 1), (-1, 1)])
        canvas.fill([back + corners * half], dye(self.clothes.bag), owner)

    def _draw_head(
        self, canvas: Canvas, pixels: np.ndarray, per_metre: float, dye: Dye, turned_away: bool, owner: int
    ) -> None:
        radius = 0.082 * self.height * per_metre
        head = pixels[[_AT["left_ear"], _AT["right_ear"]]].mean(axis=0)
        forward = np.clip(pixels[_AT["nose"], 0] - head[0], -radius, radius)
        canvas.disc(head, radius, dye(self.clothes.skin), owner)
        if turned_away:
            canvas.disc(head - (forward * 0.1, radius * 0.12), radius * 0.98, dye(self.clothes.hair), owner)
            return
        canvas.disc(head - (forward * 0.25, radius * 0.22), radius, dye(self.clothes.hair), owner)
        canvas.disc(head + np.array((forward * 0.22, radius * 0.2)), radius * 0.8, dye(self.clothes.skin), owner)


def sample_person(rng: np.random.Generator, x: float, z: float, heading: float) -> Person:
    """Draw looks and pose of somebody at a given place."""
    walks = rng.random() < 0.75
    clothes = Clothes(
        skin=_SKINS[rng.integers(len(_SKINS))],
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        top=_TOPS[rng.integers(len(_TOPS))],
        trousers=_TROUSERS[rng.integers(len(_TROUSERS))],
        skirted=bool(rng.random() < 0.2),
        bag=_TOPS[rng.integers(len(_TOPS))] if rng.random() < 0.3 else None,
    )
    return Person(
        x=x,
        z=z,
        heading=heading,
        height=float(rng.uniform(1.58, 1.9)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        stride=float(rng.uniform(0.4, 0.6)) if walks else 0.06,
        raised=float(rng.uniform(2.2, 2.6)) if not walks and rng.random() < 0.4 else 0.0,
        clothes=clothes,
    )
