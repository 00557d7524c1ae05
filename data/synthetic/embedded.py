"""The embedded data set on the disk: images, boxes, masks, keypoints and a film, written on first use."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from data.synthetic.classes import PERSON
from data.synthetic.scene import Scene, render_scene
from data.synthetic.video import write_video
from utils.errors import DataError, RunError

GENERATOR, VERSION = "yolograph street scenes", 1
"""Written to the manifest; a set of another version is written anew."""
MANIFEST = "manifest.json"
FRAMES = 75
"""Of the film: three seconds."""

# Noise does not compress: Huffman coding alone is quicker than a search for repetitions, and its files are smaller.
_PNG = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY)
_SMALLEST, _LARGEST = 32, 4096
_FOLDERS = (("images", ".png"), ("labels", ".txt"), ("masks", ".png"), ("labels_pose", ".txt"))


def ensure_embedded(
    root: str | Path, train: int = 400, val: int = 80, size: Sequence[int] = (256, 192), seed: int = 0
) -> Path:
    """Make sure that the data set with these options lies at ``root``, and write it if it does not.

    ``images/{train,val}/000000.png``, ``labels`` (YOLO rows), ``masks`` (class indices) and ``labels_pose`` (rows of
    class 0 = person with 17 keypoints) have one file per image; ``street.mp4`` is a film of twice the size and
    ``manifest.json`` holds the options. The set is written beside ``root`` and renamed when it is complete, so any
    number of processes may ask for it at once and a stopped one leaves nothing half written at ``root``; what one that
    was killed leaves beside it, the next writer removes. Image i of a split is the same whatever the number of images.

    Args:
        root: folder of the set; it may be absent, empty, or hold an earlier set, which is replaced if it differs.
        train: number of images, at least 1.
        val: number of images, at least 1.
        size: width and height in pixels, 32 to 4096.
        seed: of everything, at least 0.

    Returns:
        ``root``.

    Raises:
        DataError: an option does not fit, or ``root`` holds something else.
        RunError: the folder or the film cannot be written.
    """
    root = Path(root)
    manifest = _check_options(root, train, val, size, seed)
    target = Path(os.path.realpath(root))
    if _is_complete(target, manifest):
        return root
    _refuse_foreign(target)
    temporary = _sibling(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        _write_set(temporary, manifest)
        _publish(temporary, target, manifest)
    except OSError as error:
        raise RunError(
            f"{root}: the embedded set cannot be written ({error.strerror}); free some space, or give `path` in the "
            "data YAML a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def write_scene(root: Path, split: str, name: str, scene: Scene) -> None:
    """Write the four files of one image below ``root``, whose folders must exist."""
    height, width = scene.mask.shape
    for folder, pixels in (("images", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)), ("masks", scene.mask)):
        _, data = cv2.imencode(".png", pixels, _PNG)
        (root / folder / split / f"{name}.png").write_bytes(data.tobytes())
    scale = np.array([width, height, width, height])
    corners = scene.boxes / scale
    boxes = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
    rows = [f"{index} " + _numbers(box) for index, box in zip(scene.classes, boxes, strict=True)]
    (root / "labels" / split / f"{name}.txt").write_bytes("".join(f"{row}\n" for row in rows).encode())
    poses = []
    for i in np.flatnonzero(scene.classes == PERSON):
        points = scene.keypoints[i] / (width, height, 1)
        poses.append(f"0 {_numbers(boxes[i])} " + " ".join(f"{x:.6f} {y:.6f} {v:.0f}" for x, y, v in points))
    (root / "labels_pose" / split / f"{name}.txt").write_bytes("".join(f"{row}\n" for row in poses).encode())


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)


def _check_options(root: Path, train: Any, val: Any, size: Any, seed: Any) -> dict[str, Any]:
    """Return the manifest of a set with these options."""
    for name, value, least in (("train", train, 1), ("val", val, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise DataError(f"{root}: the embedded set's `{name}` is {value!r}; give a whole number from {least} on")
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size]
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or not all(_SMALLEST <= side <= _LARGEST for side in sides):
        raise DataError(
            f"{root}: the embedded set's `size` is {size!r}; give [width, height] in pixels, "
            f"each a whole number from {_SMALLEST} to {_LARGEST}"
        )
    return {"generator": GENERATOR, "version": VERSION, "train": train, "val": val, "size": sides, "seed": seed}


def _read_manifest(target: Path) -> Any:
    try:
        return json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_complete(target: Path, manifest: dict[str, Any]) -> bool:
    """Return whether the set at ``target`` has these options and all its files, so that a torn one is mended."""
    if _read_manifest(target) != manifest or not (target / "street.mp4").is_file():
        return False
    for folder, suffix in _FOLDERS:
        for split in ("train", "val"):
            place = target / folder / split
            names = {f"{index:06d}{suffix}" for index in range(manifest[split])}
            if not place.is_dir() or not names <= set(os.listdir(place)):
                return False
    return True


def _refuse_foreign(target: Path) -> None:
    """Never replace what this program has not written."""
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: the embedded set needs a folder, but this is a file; give `path` another folder")
    manifest = _read_manifest(target)
    ours = isinstance(manifest, dict) and manifest.get("generator") == GENERATOR
    if not ours and any(target.iterdir()):
        raise DataError(
            f"{target}: the folder holds files that are not of the embedded set; give `path` a folder of its own"
        )


def _write_set(folder: Path, manifest: dict[str, Any]) -> None:
    (width, height), seed = manifest["size"], manifest["seed"]
    splits = ("train", "val")
    for name, _ in _FOLDERS:
        for split in splits:
            (folder / name / split).mkdir(parents=True)
    total = sum(manifest[split] for split in splits)
    with tqdm(total=total, desc="drawing the embedded set", unit="image", delay=1, leave=False) as bar:
        for number, split in enumerate(splits):
            for index in range(manifest[split]):
                scene = render_scene(np.random.default_rng([seed, number, index]), (width, height))
                write_scene(folder, split, f"{index:06d}", scene)
                bar.update()
    write_video(folder / "street.mp4", seed, FRAMES, size=(2 * width, 2 * height))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _publish(temporary: Path, target: Path, manifest: dict[str, Any]) -> None:
    """Rename the written set to ``target``; an older one steps aside, an equal one of another process stays."""
    for _ in range(10):
        try:
            os.rename(temporary, target)
            return
        except OSError:
            if not target.exists():
                raise
        if _is_complete(target, manifest):
            return
        _refuse_foreign(target)
        aside = _sibling(target)
        try:
            os.rename(target, aside)
        except FileNotFoundError:
            continue  # Another process has just moved it.
        shutil.rmtree(aside, ignore_errors=True)
    raise RunError(f"{target}: other processes keep writing sets with other options; let one of them finish")


def _sibling(target: Path) -> Path:
    return target.with_name(f"{_prefix(target)}{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _prefix(target: Path) -> str:
    # Process numbers mean something on one machine only, and a folder may be shared by several.
    return f".{target.name}.{socket.gethostname()}."


def _remove_abandoned(target: Path) -> None:
    """Remove the unfinished sets beside ``target`` whose writers on this machine no longer run."""
    pattern = re.compile(re.escape(_prefix(target)) + r"([0-9]+)-[0-9a-f]{8}\.tmp\Z")
    for name in os.listdir(target.parent):
        if (match := pattern.match(name)) and not _runs(int(match[1])):
            shutil.rmtree(target.parent / name, ignore_errors=True)


def _runs(process: int) -> bool:
    """Return whether a process of this number runs on this machine; true where that cannot be asked without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
