"""The data YAML beside a converted set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from data.annotations import ClassList
from data.convert.layout import Layout
from data.keypoints import COCO_PERSON, KeypointSpec

_SIDES = ("left", "right")


def object_block(
    format: str, layouts: Mapping[str, Layout], one_file: bool, classes: ClassList, spec: KeypointSpec | None
) -> dict[str, Any]:
    """Return the block of a set of objects, which is for pose where the classes have keypoints.

    Args:
        format: of the labels.
        layouts: where each split lies.
        one_file: a split has one label file.
        classes: of the set.
        spec: what its keypoints are, where more is known than their names and links.
    """
    block: dict[str, Any] = {split: layout.images for split, layout in layouts.items()}
    labels = {split: layout.labels for split, layout in layouts.items()}
    if one_file:
        block = {"format": format, **block, "annotations": labels}
    elif format != "yolo":
        block = {"format": format, **block, "labels": labels}
    keypoints = keypoint_keys(classes, spec) if classes.keypoints else {}
    return {"pose" if keypoints else "detect": {**block, **keypoints, "names": list(classes.names)}}


def mask_block(
    format: str,
    layouts: Mapping[str, Layout],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> dict[str, Any]:
    """Return the block of a set of masks.

    Args:
        format: of the masks.
        layouts: where each split lies.
        names: of the classes.
        colours: of the classes, for formats that need them.
    """
    block: dict[str, Any] = {} if format == "mask_png" else {"format": format}
    block |= {split: layout.images for split, layout in layouts.items()}
    block |= {"masks": {split: layout.labels for split, layout in layouts.items()}, "names": list(names)}
    if format == "mask_colour":
        block["colours"] = {name: list(colour) for name, colour in zip(names, colours, strict=True)}
    return {"segment": block}


def keypoint_keys(classes: ClassList, spec: KeypointSpec | None) -> dict[str, Any]:
    """Return the keys that say what the keypoints are."""
    if spec is None and classes.keypoints == COCO_PERSON.names:
        spec = COCO_PERSON
    if spec == COCO_PERSON:
        return {"keypoints": len(COCO_PERSON)}
    if spec is not None:
        plain = spec.to_plain()
        return {"kpt": {**plain, "flip": [list(pair) for pair in spec.flip_pairs]}}
    flip = [[name, twin] for name in classes.keypoints if (twin := name.replace(*_SIDES)) in classes.keypoints]
    known: dict[str, Any] = {
        "names": list(classes.keypoints),
        "flip": [pair for pair in flip if pair[0] != pair[1]],
    }
    return {"kpt": {**known, "skeleton": [list(link) for link in classes.skeleton]} if classes.skeleton else known}


def set_yaml(blocks: Mapping[str, Any], made_by: str) -> str:
    """Return the text of a data YAML that lies in the folder of its set."""
    return f"# Made by `{made_by}`.\n" + yaml.safe_dump(
        {"path": ".", **blocks}, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
    )
