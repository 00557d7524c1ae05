"""The generated street scenes: labels that agree with each other, bytes that repeat, a set that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.synthetic.embedded as embedded
from data.formats.mask_png import read_mask
from data.formats.yolo_txt import read_labels
from data.synthetic import (
    DETECT_NAMES,
    KEYPOINT_NAMES,
    SEGMENT_NAMES,
    Scene,
    ensure_embedded,
    render_scene,
    render_video_frames,
    write_video,
)
from data.synthetic.camera import Camera, is_facing, patch, to_world
from data.synthetic.canvas import FIRST_INSTANCE, Canvas, class_of_owner
from data.synthetic.cars import sample_car
from data.synthetic.light import sample_light
from data.synthetic.people import sample_person
from data.synthetic.scene import draw_actors, label, look, set_stage
from data.synthetic.street import sample_street
from utils.errors import DataError, RunError

SMALL = (64, 48)
PERSON = DETECT_NAMES.index("person")
seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([(256, 192), (160, 120), (97, 131), (200, 80)])


@pytest.fixture(autouse=True, scope="module")
def _short_films() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "FRAMES", 2)
        yield


def draw(seed: int, size: tuple[int, int]) -> Scene:
    return render_scene(np.random.default_rng(seed), size)


def digest(scene: Scene) -> str:
    arrays = (scene.image, scene.boxes, scene.classes, scene.keypoints, scene.mask, scene.instances)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def hash_tree(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".mp4"
    }


@settings(max_examples=15, deadline=None)
@given(seed=seeds, size=sizes)
def test_every_box_is_tight_around_the_pixels_of_its_object(seed: int, size: tuple[int, int]) -> None:
    scene = draw(seed, size)
    width, height = size
    assert scene.image.shape == (height, width, 3) and scene.image.dtype == np.uint8
    assert scene.boxes.shape == (len(scene.classes), 4) and scene.boxes.dtype == np.float32
    assert scene.instances.max(initial=0) <= len(scene.boxes)
    for number, (box, index) in enumerate(zip(scene.boxes, scene.classes, strict=True), 1):
        rows, columns = np.nonzero(scene.instances == number)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
        assert min(box[2] - box[0], box[3] - box[1]) >= 8 * height / 192
        assert set(scene.mask[rows, columns]) == {SEGMENT_NAMES.index(DETECT_NAMES[index])}


@settings(max_examples=15, deadline=None)
@given(seed=seeds, size=sizes)
def test_the_mask_names_every_pixel_and_shows_no_object_without_a_box(seed: int, size: tuple[int, int]) -> None:
    scene = draw(seed, size)
    assert scene.mask.shape == scene.image.shape[:2] and scene.mask.dtype == np.uint8
    assert scene.mask.max() < len(SEGMENT_NAMES)
    things = np.isin(scene.mask, [SEGMENT_NAMES.index(name) for name in DETECT_NAMES])
    assert np.array_equal(things, scene.instances > 0)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, size=sizes)
def test_visible_keypoints_lie_on_their_person_and_others_have_none(seed: int, size: tuple[int, int]) -> None:
    scene = draw(seed, size)
    assert scene.keypoints.shape == (len(scene.boxes), len(KEYPOINT_NAMES), 3)
    assert not scene.keypoints[scene.classes != PERSON].any()
    for i in np.flatnonzero(scene.classes == PERSON):
        (x1, y1, x2, y2), points = scene.boxes[i], scene.keypoints[i]
        assert np.isin(points[:, 2], (0, 1, 2)).all()
        assert not points[points[:, 2] == 0].any()
        assert ((points[:, :2] >= 0) & (points[:, :2] <= size)).all()
        x, y = points[points[:, 2] == 2, :2].T
        assert ((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)).all()
        assert (
            scene.instances[np.minimum(y, size[1] - 1).astype(int), np.minimum(x, size[0] - 1).astype(int)] > 0
        ).all()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(seed: int) -> None:
    first = draw(seed, (96, 72))
    assert digest(first) == digest(draw(seed, (96, 72)))
    assert digest(first) != digest(draw(seed + 1, (96, 72)))


def test_scenes_are_varied_and_large_enough_to_learn_from() -> None:
    scenes = [render_scene(np.random.default_rng([7, i])) for i in range(40)]
    counts = np.array([len(scene.boxes) for scene in scenes])
    assert ((counts >= 2) & (counts <= 6)).mean() > 0.9 and len(set(counts)) >= 4
    classes = np.concatenate([scene.classes for scene in scenes])
    assert (np.bincount(classes, minlength=3) / len(classes) > 0.12).all()
    sides = np.concatenate([(scene.boxes[:, 2:] - scene.boxes[:, :2]).min(axis=1) for scene in scenes])
    assert sides.min() >= 8 and (sides >= 14).mean() > 0.8 and sides.max() > 3 * sides.min()
    shares = np.bincount(np.concatenate([scene.mask.ravel() for scene in scenes]), minlength=7) / (40 * 256 * 192)
    assert (shares > 0.004).all()
    seen = np.concatenate([scene.keypoints[scene.classes == PERSON, :, 2].ravel() for scene in scenes])
    assert (seen == 2).mean() > 0.7 and (seen == 1).any()


def test_left_and_right_keypoints_follow_the_way_a_person_faces() -> None:
    camera = Camera(256, 192, x=0, y=1.5, yaw=0, horizon=80, focal=220)
    left, right = KEYPOINT_NAMES.index("left_shoulder"), KEYPOINT_NAMES.index("right_shoulder")
    nose = KEYPOINT_NAMES.index("nose")
    comes = sample_person(np.random.default_rng(0), 0.0, 8.0, np.pi).keypoints(camera)
    goes = sample_person(np.random.default_rng(0), 0.0, 8.0, 0.0).keypoints(camera)
    assert comes[left, 0] > comes[right, 0] and comes[nose, 2] == 2
    assert goes[left, 0] < goes[right, 0] and goes[nose, 2] == 1


def test_a_camera_projects_by_similar_triangles() -> None:
    camera = Camera(200, 100, x=1, y=2, yaw=0, horizon=40, focal=100)
    points = np.array([(1.0, 2.0, 10.0), (3.0, 0.0, 10.0), (1.0, 0.0, 5.0)])
    assert np.allclose(camera.project(points), [(100, 40), (120, 60), (100, 80)])
    turned = Camera(200, 100, x=0, y=2, yaw=np.pi / 2, horizon=40, focal=100)
    assert np.allclose(turned.project(np.array([4.0, 2.0, 0.0])), (100, 40))


def test_a_heading_turns_to_the_right_of_the_street() -> None:
    ahead_left = np.array([(1.0, 0.0, 0.0), (0.0, 1.0, 0.5)])
    assert np.allclose(to_world(ahead_left, 5, 7, 0.0), [(5, 0, 8), (4, 0.5, 7)])
    assert np.allclose(to_world(ahead_left, 5, 7, np.pi / 2), [(6, 0, 7), (5, 0.5, 8)])


def test_a_face_is_seen_from_its_outside_only() -> None:
    quad = np.array([(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)])
    assert is_facing(quad) and not is_facing(quad[::-1])
    assert patch(quad, 0.5, 0, 1, 0.5).tolist() == [[1, 0], [2, 0], [2, 0.5], [1, 0.5]]


def test_a_canvas_keeps_owners_and_extents_in_step_with_the_colours() -> None:
    canvas = Canvas(20, 10)
    canvas.fill([np.array([(-5.0, 2.0), (5.0, 2.0), (5.0, 8.0), (-5.0, 8.0)])], (200, 10, 10), FIRST_INSTANCE)
    canvas.disc(np.array((12.0, 5.0)), 3.0, (0, 90, 0), None)
    owners = canvas.picture_owners()
    assert (owners[3:7, :4] == FIRST_INSTANCE).all() and not owners[:, 6:].any()
    assert canvas.picture()[5, 2].tolist() == [200, 10, 10] and canvas.picture()[5, 12].tolist() == [0, 90, 0]
    assert canvas.inside_share(FIRST_INSTANCE) == pytest.approx(0.5)
    assert class_of_owner([4])[owners].max() == 4


def test_what_is_mostly_hidden_or_mostly_outside_is_not_labelled() -> None:
    rng = np.random.default_rng(0)
    camera = Camera(256, 192, x=0, y=2, yaw=0, horizon=80, focal=220)
    stage = set_stage(camera, sample_light(rng), sample_street(rng, None, None))
    car = sample_car(rng, 0.0, 8.0, 0.0)
    behind, beside, outside = (sample_person(rng, x, z, 0.0) for x, z in ((0.0, 12.5), (3.0, 12.5), (6.02, 10.0)))
    view = look(*draw_actors(stage, [car, behind, beside, outside]))
    assert view.seen.tolist() == [True, False, True, False]
    scene = label(stage, [car, behind, beside, outside], view, rng)
    assert scene.classes.tolist() == [DETECT_NAMES.index("car"), PERSON]
    assert scene.boxes[1].tolist() == view.boxes[2].tolist()


def test_a_video_moves_steadily_and_repeats() -> None:
    frames = list(render_video_frames(3, 4, (160, 120)))
    again = list(render_video_frames(3, 4, (160, 120)))
    assert [digest(frame) for frame in frames] == [digest(frame) for frame in again]
    assert len({digest(frame) for frame in frames}) == 4
    change = [np.abs(a.image.astype(int) - b.image).mean() for a, b in pairwise(frames)]
    assert 0 < max(change) < 12
    moves = [
        np.abs(box - after.boxes[after.classes == index]).max(axis=1).min(initial=np.inf)
        for before, after in pairwise(frames)
        for box, index in zip(before.boxes, before.classes, strict=True)
    ]
    assert len(moves) >= 12 and np.median(moves) <= 2 and np.max(moves) > 0


def test_a_video_file_can_be_read_back(tmp_path: Path) -> None:
    path = write_video(tmp_path / "street.mp4", seed=1, frames=6, size=(128, 96))
    film = cv2.VideoCapture(str(path))
    assert film.get(cv2.CAP_PROP_FPS) == 25
    pictures = [picture for ok, picture in iter(film.read, (False, None)) if ok]
    film.release()
    assert len(pictures) == 6 and pictures[0].shape == (96, 128, 3)
    expected = next(iter(render_video_frames(1, 1, (128, 96)))).image
    assert np.abs(pictures[0][..., ::-1].astype(int) - expected).mean() < 12
    assert os.listdir(tmp_path) == ["street.mp4"]


def test_a_video_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"street\.mp4: the video cannot be opened") as caught:
        write_video(tmp_path / "absent" / "street.mp4", frames=1, size=SMALL)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_embedded(tmp_path_factory.mktemp("embedded") / "set", train=3, val=2, size=(128, 96), seed=5)


def test_the_set_has_all_files_and_they_say_what_the_scenes_say(written: Path) -> None:
    assert sorted(os.listdir(written)) == ["images", "labels", "labels_pose", "manifest.json", "masks", "street.mp4"]
    people = 0
    for number, (split, count) in enumerate((("train", 3), ("val", 2))):
        assert sorted(os.listdir(written / "images" / split)) == [f"{i:06d}.png" for i in range(count)]
        for i in range(count):
            scene = render_scene(np.random.default_rng([5, number, i]), (128, 96))
            name = f"{split}/{i:06d}"
            image = cv2.imread(str(written / f"images/{name}.png"), cv2.IMREAD_COLOR)[..., ::-1]
            assert np.array_equal(image, scene.image)
            assert np.array_equal(read_mask(written / f"masks/{name}.png"), scene.mask)
            labels = read_labels(written / f"labels/{name}.txt", len(DETECT_NAMES))
            assert labels.classes.tolist() == scene.classes.tolist()
            assert np.abs(labels.boxes * (128, 96, 128, 96) - scene.boxes).max(initial=0) < 1e-3
            poses = read_labels(written / f"labels_pose/{name}.txt", 1, len(KEYPOINT_NAMES))
            wanted = scene.keypoints[scene.classes == PERSON]
            assert np.abs(poses.keypoints * (128, 96, 1) - wanted).max(initial=0) < 1e-3
            people += len(wanted)
    assert people > 0


def test_label_rows_have_six_decimals(written: Path) -> None:
    rows = [row for path in written.glob("labels/*/*.txt") for row in path.read_text().splitlines()]
    assert rows
    for row in rows:
        index, *numbers = row.split(" ")
        assert index in ("0", "1", "2") and len(numbers) == 4 and all(len(n.split(".")[1]) == 6 for n in numbers)


def test_the_same_options_give_the_same_bytes_and_a_longer_set_begins_with_them(written: Path, tmp_path: Path) -> None:
    again = ensure_embedded(tmp_path / "again", train=3, val=2, size=[128, 96], seed=5)
    assert hash_tree(again) == hash_tree(written)
    longer = hash_tree(ensure_embedded(tmp_path / "longer", train=4, val=2, size=(128, 96), seed=5))
    shorter = hash_tree(written)
    assert {name: longer[name] for name in shorter if name != "manifest.json"} == {
        name: value for name, value in shorter.items() if name != "manifest.json"
    }
    other = hash_tree(ensure_embedded(tmp_path / "other", train=3, val=2, size=(128, 96), seed=6))
    assert other["images/train/000000.png"] != shorter["images/train/000000.png"]


def test_a_set_is_written_once_and_anew_when_options_version_or_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    ensure_embedded(root, train=2, val=1, size=SMALL)
    stamp = (root / "manifest.json").stat().st_mtime_ns
    (root / "labels.cache").write_text("kept while the set stays")
    ensure_embedded(root, train=2, val=1, size=SMALL)
    assert (root / "manifest.json").stat().st_mtime_ns == stamp and (root / "labels.cache").exists()
    ensure_embedded(root, train=1, val=1, size=SMALL)
    assert os.listdir(root / "images/train") == ["000000.png"] and not (root / "labels.cache").exists()
    (root / "masks/val/000000.png").unlink()
    ensure_embedded(root, train=1, val=1, size=SMALL)
    assert (root / "masks/val/000000.png").exists()
    monkeypatch.setattr(embedded, "VERSION", embedded.VERSION + 1)
    ensure_embedded(root, train=1, val=1, size=SMALL)
    assert json.loads((root / "manifest.json").read_text())["version"] == embedded.VERSION
    assert os.listdir(tmp_path) == ["set"]


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **options: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "write_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_embedded(tmp_path / "set", train=1, val=1, size=SMALL)
    assert os.listdir(tmp_path) == []


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom data.synthetic import embedded\n"
        "embedded.write_video = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "embedded.ensure_embedded(sys.argv[1], train=1, val=1, size=(64, 48))\n"
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "set"], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = os.listdir(tmp_path)
    dead, here = re.search(r"\.([0-9]+)-[0-9a-f]+\.tmp$", leftover)[1], f".{os.getpid()}-"
    at_work, elsewhere, other = (
        leftover.replace(f".{dead}-", here),
        leftover.replace(f".{dead}-", f".elsewhere.{dead}-"),
        leftover.replace(".set.", ".set2."),
    )
    for name in (at_work, elsewhere, other):
        (tmp_path / name).mkdir()
    ensure_embedded(tmp_path / "set", train=1, val=1, size=SMALL)
    assert set(os.listdir(tmp_path)) == {"set", at_work, elsewhere, other}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"set: the embedded set cannot be written .*give `path`"):
        ensure_embedded(tmp_path / "file" / "set", train=1, val=1, size=SMALL)


def test_a_failed_rebuild_leaves_the_earlier_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ensure_embedded(tmp_path / "set", train=1, val=1, size=SMALL)
    before = hash_tree(root)

    def failing(*args: object, **options: object) -> Path:
        raise RunError("no encoder")

    monkeypatch.setattr(embedded, "write_video", failing)
    with pytest.raises(RunError):
        ensure_embedded(root, train=2, val=1, size=SMALL)
    assert hash_tree(root) == before and os.listdir(tmp_path) == ["set"]


def test_several_may_ask_for_the_set_at_once(tmp_path: Path) -> None:
    options = {"train": 2, "val": 1, "size": SMALL, "seed": 9}
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ensure_embedded, tmp_path / "set", **options) for _ in range(3)]
    assert [answer.result() for answer in asked] == [tmp_path / "set"] * 3
    assert os.listdir(tmp_path) == ["set"]
    assert hash_tree(tmp_path / "set") == hash_tree(ensure_embedded(tmp_path / "alone", **options))


def test_writers_with_different_options_leave_one_whole_set(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        options = [{"train": count, "val": 1, "size": SMALL} for count in (1, 2)]
        asked = [pool.submit(ensure_embedded, tmp_path / "set", **given) for given in options]
    assert [answer.result() for answer in asked] == [tmp_path / "set"] * 2
    count = json.loads((tmp_path / "set/manifest.json").read_text())["train"]
    assert len(os.listdir(tmp_path / "set/images/train")) == count and os.listdir(tmp_path) == ["set"]


def test_a_set_that_another_process_finished_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    write_set = embedded._write_set

    def overtaken(folder: Path, manifest: dict) -> None:
        write_set(folder, manifest)
        write_set(root, manifest)
        (root / "theirs").touch()

    monkeypatch.setattr(embedded, "_write_set", overtaken)
    ensure_embedded(root, train=1, val=1, size=SMALL)
    assert (root / "theirs").exists() and os.listdir(tmp_path) == ["set"]


def test_files_of_somebody_else_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "manifest.json").write_text('{"mine": 1}')
    with pytest.raises(DataError, match=r"photos: the folder holds files that are not of the embedded set"):
        ensure_embedded(tmp_path / "photos", train=1, val=1, size=SMALL)
    (tmp_path / "note").write_text("a file")
    with pytest.raises(DataError, match=r"note: the embedded set needs a folder, but this is a file"):
        ensure_embedded(tmp_path / "note", train=1, val=1, size=SMALL)
    assert sorted(os.listdir(tmp_path)) == ["note", "photos"]
    (tmp_path / "empty").mkdir()
    assert (ensure_embedded(tmp_path / "empty", train=1, val=1, size=SMALL) / "images/val/000000.png").is_file()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"train": 0}, r"`train` is 0; give a whole number from 1 on"),
        ({"val": "many"}, r"`val` is 'many'"),
        ({"seed": -1}, r"`seed` is -1; give a whole number from 0 on"),
        ({"seed": True}, r"`seed` is True"),
        ({"size": 256}, r"`size` is 256; give \[width, height\]"),
        ({"size": [256]}, r"`size` is \[256\]"),
        ({"size": [256, 8]}, r"`size` is \[256, 8\].* from 32 to 4096"),
        ({"size": "256x192"}, r"`size` is '256x192'"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, options: dict, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        ensure_embedded(tmp_path / "set", **options)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []
