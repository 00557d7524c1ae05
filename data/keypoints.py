"""What the keypoints of an object are: their names, mirror partners, tolerances and links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class KeypointSpec:
    """The K keypoints that every object of a data set has, in the order of its label files.

    Attributes:
        names: of the keypoints.
        flip: for each keypoint, the index of the one that takes its place in a mirrored picture; its own index where
            it stays (nose).
        sigmas: for each, how far annotators differ, as a share of the object's size, above 0 (COCO's per-keypoint
            constants of the object keypoint similarity).
        skeleton: pairs of indices that a line joins in pictures.

    Raises:
        ValueError: lengths differ, ``flip`` is not its own inverse, a sigma is not above 0, or an index or a name does
            not fit.
    """

    names: tuple[str, ...]
    flip: tuple[int, ...]
    sigmas: tuple[float, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0 or len(set(self.names)) != count:
            raise ValueError(f"the names of the keypoints are {self.names}; give at least one, each once")
        if not len(self.flip) == len(self.sigmas) == count:
            raise ValueError(
                f"there are {count} names of keypoints, {len(self.flip)} mirror partners and {len(self.sigmas)} "
                "sigmas; give as many of each"
            )
        for index, partner in enumerate(self.flip):
            if not 0 <= partner < count or self.flip[partner] != index:
                raise ValueError(f"keypoint {index} is mirrored to {partner}, which is not mirrored back to {index}")
        if not all(0 < sigma < float("inf") for sigma in self.sigmas):
            raise ValueError(f"the sigmas are {self.sigmas}; give finite numbers above 0")
        for link in self.skeleton:
            if len(link) != 2 or not all(0 <= end < count for end in link) or link[0] == link[1]:
                raise ValueError(f"the skeleton's link {link} does not join two of the keypoints 0..{count - 1}")

    def __len__(self) -> int:
        """Return K."""
        return len(self.names)

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of keypoints that trade places in a mirrored picture, each pair once."""
        return tuple((index, partner) for index, partner in enumerate(self.flip) if index < partner)

    def to_plain(self) -> dict[str, list]:
        """Return lists of texts and numbers, for JSON."""
        plain = {key: list(value) for key, value in asdict(self).items()}
        return {**plain, "skeleton": [list(link) for link in self.skeleton]}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> KeypointSpec:
        """Return what ``to_plain`` was given.

        Raises:
            ValueError: a key is missing or unknown, a value is of another kind, or the values do not fit each other.
        """
        try:
            return cls(
                names=tuple(str(name) for name in plain["names"]),
                flip=tuple(int(index) for index in plain["flip"]),
                sigmas=tuple(float(sigma) for sigma in plain["sigmas"]),
                skeleton=tuple((int(first), int(second)) for first, second in plain["skeleton"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the description of the keypoints is damaged ({error})") from None


def generic_keypoints(count: int) -> KeypointSpec:
    """Return keypoints of which nothing is known but their number: no mirror partners, no links, sigma 1 / count.

    Args:
        count: K, at least 1.
    """
    return KeypointSpec(
        names=tuple(str(index) for index in range(count)),
        flip=tuple(range(count)),
        sigmas=(1.0 / count,) * count,
    )


COCO_PERSON = KeypointSpec(
    names=(
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
        *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
        *("left_knee", "right_knee", "left_ankle", "right_ankle"),
    ),
    flip=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
        *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
    skeleton=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8)),
        *((7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
)
"""The seventeen keypoints of COCO's persons, with COCO's constants."""


def default_keypoints(count: int) -> KeypointSpec:
    """Return what a bare number of keypoints stands for: 17 is COCO's person, another number is generic."""
    return COCO_PERSON if count == len(COCO_PERSON) else generic_keypoints(count)
