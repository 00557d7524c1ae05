"""detect.py's labelme files, masks of objects, class filters and ways to look, as a user asks for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import nn

from data.formats.mask_png import read_mask
from models.graph import Graph
from tests import tiny_poses
from tests.detect_runs import files_below, read_labels, write_video
from tests.stand_in_segment_anything import install, write_sam_weights
from tests.tiny_detector import BOTH, NAMES, TWO_DETECTORS, write_picture, write_weights
from utils.plots.palette import class_colour, mask_palette


def read_rgb(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def test_labelme_files_and_label_text_agree(run_detect, tmp_path):
    write_picture(tmp_path / "in" / "a.png", (50, 90))
    write_picture(tmp_path / "in" / "b" / "a.png", (40, 40), seed=1)
    code, _, err = run_detect(tmp_path / "in" / "**" / "*.png", "--save-labelme", "--save-txt", "--nosave")
    folder = tmp_path / "runs" / "exp"
    assert code == 0, err
    assert files_below(folder) == ["labelme/a.json", "labelme/a_2.json", "labels/a.txt", "labels/a_2.txt"]
    for stem in ("a", "a_2"):
        document = json.loads((folder / "labelme" / f"{stem}.json").read_text())
        picture = cv2.imread(str(folder / "labelme" / document["imagePath"]))
        size = picture.shape[:2]
        assert (document["imageHeight"], document["imageWidth"]) == size
        labels = read_labels(folder / "labels" / f"{stem}.txt")
        assert len(labels) == len(document["shapes"]) == 5
        for row, shape in zip(labels, document["shapes"], strict=True):
            (x1, y1), (x2, y2) = shape["points"]
            assert shape["label"] == NAMES["detect"][int(row[0])] and shape["shape_type"] == "rectangle"
            box = np.array([(x1 + x2) / 2 / size[1], (y1 + y2) / 2 / size[0], (x2 - x1) / size[1], (y2 - y1) / size[0]])
            np.testing.assert_allclose(box, row[1:], atol=1e-4)


def test_the_frames_of_a_video_lie_beside_their_files(run_detect, tmp_path):
    code, _, err = run_detect(write_video(tmp_path / "in" / "clip.avi"), "--save-labelme")
    folder = tmp_path / "runs" / "exp"
    assert code == 0, err
    frames = [f"labelme/clip_{i}.{kind}" for i in (1, 2, 3) for kind in ("jpg", "json")]
    assert files_below(folder) == ["clip.mp4", *frames]
    for i in (1, 2, 3):
        document = json.loads((folder / "labelme" / f"clip_{i}.json").read_text())
        assert document["imagePath"] == f"clip_{i}.jpg"
        assert read_rgb(folder / "labelme" / f"clip_{i}.jpg").shape == (48, 64, 3)


def test_keypoints_are_points_in_the_group_of_their_object(run_detect, tmp_path):
    model = tiny_poses.write_weights(tmp_path / "poses.safetensors")
    code, _, err = run_detect(
        write_picture(tmp_path / "a.png", (64, 64)), "--save-labelme", "--kpt-conf", "0.01", model=model
    )
    assert code == 0, err
    shapes = json.loads((tmp_path / "runs" / "exp" / "labelme" / "a.json").read_text())["shapes"]
    boxes, points = ([s for s in shapes if s["shape_type"] == kind] for kind in ("rectangle", "point"))
    assert len(boxes) == 5 and len(points) > 5
    assert {shape["label"] for shape in points} <= set(tiny_poses.CRANE.names)
    assert {shape["group_id"] for shape in points} <= {shape["group_id"] for shape in boxes}


def test_masks_of_objects_are_drawn_and_written(run_detect, tmp_path, monkeypatch):
    predictors = install(monkeypatch)
    sam = write_sam_weights(tmp_path / "sam.pth")
    for seed in (0, 1):
        write_picture(tmp_path / "in" / f"{seed}.png", (60, 80), seed)
    more = ["--heads", "detect", "--sam", sam, "--save-mask", "--save-labelme", "--save-txt", "--mask-alpha", "1"]
    code, out, err = run_detect(tmp_path / "in", *more, "--hide-labels", "--line-thickness", "1", "--batch-size", "2")
    folder = tmp_path / "runs" / "exp"
    assert code == 0, err
    assert "masks " in out.splitlines()[-3]
    [predictor] = predictors.made
    assert len(predictor.images) == 2 and predictor.batches == [5, 5]
    for seed in (0, 1):
        np.testing.assert_array_equal(predictor.images[seed], read_rgb(tmp_path / "in" / f"{seed}.png"))
        class_map = read_mask(folder / "masks" / f"{seed}.png")
        labels = read_labels(folder / "labels" / f"{seed}.txt")
        assert set(np.unique(class_map)) <= {*labels[:, 0].astype(int), 255} and (class_map == 255).any()
        colours = read_rgb(folder / "masks" / f"{seed}_colour.png")
        np.testing.assert_array_equal(colours, mask_palette(NAMES["detect"])[class_map])
        # Away from the boxes' own lines, what is drawn is the colour of the class, or the picture.
        drawn, picture = read_rgb(folder / f"{seed}.png"), read_rgb(tmp_path / "in" / f"{seed}.png")
        expected = np.where((class_map == 255)[..., None], picture, colours)
        assert (drawn == expected).all(-1).mean() > 0.7
        smallest = labels[(labels[:, 3] * labels[:, 4]).argmin()]
        x, y = (smallest[1:3] * (80, 60)).astype(int)
        assert class_map[y, x] == smallest[0] and tuple(colours[y, x]) == class_colour(int(smallest[0]))
        document = json.loads((folder / "labelme" / f"{seed}.json").read_text())
        assert {shape["shape_type"] for shape in document["shapes"]} == {"polygon"}


def test_masks_of_areas_and_of_objects_get_folders_of_their_own(run_detect, tmp_path, monkeypatch):
    install(monkeypatch)
    sam = write_sam_weights(tmp_path / "sam.pth")
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--sam", sam, "--save-mask", "--nosave")
    assert code == 0, err
    assert files_below(tmp_path / "runs" / "exp") == [
        f"masks_{head}/a{kind}.png" for head in ("detect", "segment") for kind in ("", "_colour")
    ]


def test_nothing_found_needs_no_masks(run_detect, tmp_path, monkeypatch):
    predictors = install(monkeypatch)
    sam = write_sam_weights(tmp_path / "sam.pth")
    more = ["--sam", sam, "--conf-thres", "1", "--save-labelme", "--save-mask", "--heads", "detect"]
    code, out, err = run_detect(write_picture(tmp_path / "a.png"), *more)
    assert code == 0 and "no objects" in out, err
    assert predictors.made[0].images == []
    folder = tmp_path / "runs" / "exp"
    assert (read_mask(folder / "masks" / "a.png") == 255).all()
    assert json.loads((folder / "labelme" / "a.json").read_text())["shapes"] == []


def test_the_frames_of_a_video_get_masks_from_one_model(run_detect, tmp_path, monkeypatch):
    predictors = install(monkeypatch)
    sam = write_sam_weights(tmp_path / "sam.pth")
    code, _, err = run_detect(write_video(tmp_path / "clip.avi"), "--sam", sam, "--heads", "detect", "--save-mask")
    assert code == 0, err
    [predictor] = predictors.made
    assert len(predictor.images) == 3
    assert "masks/clip_3.png" in files_below(tmp_path / "runs" / "exp")


def test_names_filter_pictures_files_and_counts_alike(run_detect, tmp_path):
    source = write_picture(tmp_path / "a.png", (64, 64))
    more = ["--save-txt", "--save-labelme", "--heads", "detect", "--hide-labels", "--max-det", "200"]
    lines = {}
    for name, chosen in {
        "index": ["--classes", "0", "2"],
        "name": ["--class-names", "dog", "car"],
        "both": ["--classes", "2", "--class-names", "car"],
    }.items():
        code, out, err = run_detect(source, *more, *chosen, "--name", name)
        assert code == 0, err
        lines[name] = next(line for line in out.splitlines() if line.startswith("image 1/1")).rpartition(",")[0]
        folder = tmp_path / "runs" / name
        assert set(read_labels(folder / "labels" / "a.txt")[:, 0]) == {0, 2}
        shapes = json.loads((folder / "labelme" / "a.json").read_text())["shapes"]
        assert {shape["label"] for shape in shapes} == {"car", "dog"} and len(shapes) > 5
        assert "person" not in out and f"{len([s for s in shapes if s['label'] == 'dog'])} dog" in out
        drawn = read_rgb(folder / "a.png")
        assert (drawn == class_colour(0)).all(-1).any() and not (drawn == class_colour(1)).all(-1).any()
    assert len(set(lines.values())) == 1
    pictures = [(tmp_path / "runs" / name / "a.png").read_bytes() for name in lines]
    assert pictures[0] == pictures[1] == pictures[2]


def test_a_name_counts_in_every_head_that_has_it(run_detect, tmp_path):
    names = {"cars": ["car", "van", "bus"], "signs": ["van", "stop", "give way"]}
    model = write_weights(tmp_path / "two.safetensors", TWO_DETECTORS, names)
    source = write_picture(tmp_path / "a.png")
    more = ["--save-txt", "--nosave", "--max-det", "200", "--class-names", "van", "give way"]
    code, _, err = run_detect(source, *more, model=model)
    assert code == 0, err
    folder = tmp_path / "runs" / "exp"
    assert set(read_labels(folder / "labels_cars" / "a.txt")[:, 0]) == {1}
    assert set(read_labels(folder / "labels_signs" / "a.txt")[:, 0]) == {0, 2}


def test_six_views_are_six_passes_whose_results_are_plausible(run_detect, tmp_path, monkeypatch):
    shapes = []
    forward = Graph.forward
    monkeypatch.setattr(
        Graph,
        "forward",
        lambda self, images, heads=None: shapes.append(tuple(images.shape[-2:])) or forward(self, images, heads),
    )
    source = write_picture(tmp_path / "a.png", (64, 64))
    code, _, err = run_detect(source, "--tta", "--save-txt", "--save-conf", "--save-mask", "--max-det", "40")
    assert code == 0, err
    assert shapes == [(64, 64)] * 2 + [(32, 32)] * 2 + [(96, 96)] * 2
    labels = read_labels(tmp_path / "runs" / "exp" / "labels" / "a.txt")
    assert (np.diff(labels[:, 5]) <= 0).all() and len(labels) > 5
    run_detect(source, "--save-txt", "--save-conf", "--save-mask", "--name", "once", "--max-det", "40")
    once = read_labels(tmp_path / "runs" / "once" / "labels" / "a.txt")
    assert once.shape != labels.shape or not np.array_equal(once, labels)


def test_the_form_for_deployment_answers_the_same_with_fewer_branches(run_detect, tmp_path, monkeypatch):
    model = write_weights(tmp_path / "rep.safetensors", BOTH.replace("Conv, [128, 3, 2]", "RepVGG, [128, 2]"))
    source = write_picture(tmp_path / "a.png")
    counts = []
    forward = Graph.forward
    monkeypatch.setattr(
        Graph,
        "forward",
        lambda self, images, heads=None: (
            counts.append(sum(isinstance(part, nn.Conv2d) for part in self.modules())) or forward(self, images, heads)
        ),
    )
    for name, more in {"plain": [], "deployed": ["--deploy"]}.items():
        code, _, err = run_detect(source, "--save-txt", "--save-conf", "--nosave", "--name", name, *more, model=model)
        assert code == 0, err
    assert counts[1] == counts[0] - 2, "each of the two blocks has a branch less"
    plain, deployed = (read_labels(tmp_path / "runs" / name / "labels" / "a.txt") for name in ("plain", "deployed"))
    np.testing.assert_allclose(deployed, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--augment", "--tta"], 2, "give one"),
        (["--class-names", "persn"], 2, "Did you mean 'person'? It finds car, person, dog"),
        (["--class-names", "road"], 2, "'road': the model finds no such objects"),
        (["--heads", "segment", "--class-names", "car"], 2, "--class-names needs a head for boxes"),
        (["--heads", "segment", "--save-labelme"], 2, "--save-labelme needs a head for boxes"),
        (["--heads", "segment", "--sam", "x.pth"], 2, "--sam needs a head for boxes"),
        (["--sam-size", "vit_b"], 2, "--sam-size says which model"),
        (["--sam", "gone.pth"], 4, "--sam gone.pth: there is no such file"),
    ],
)
def test_mistakes_are_one_sentence(run_detect, tmp_path, arguments, code, words):
    returned, _, err = run_detect(write_picture(tmp_path / "a.png"), *arguments)
    assert returned == code, err
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert not (tmp_path / "runs").exists()


def test_without_the_package_the_command_names_the_pip_line(run_detect, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--sam", write_sam_weights(tmp_path / "sam.pth"))
    assert code == 2
    assert err == (
        "error: --sam needs the package segment_anything, which is not installed; run: pip install segment_anything\n"
    )


def test_more_classes_than_a_class_map_holds_are_refused(run_detect, tmp_path):
    names = {"detect": [f"c{i}" for i in range(300)], "segment": NAMES["segment"]}
    model = write_weights(tmp_path / "many.safetensors", BOTH.replace("nc: 3", "nc: 300"), names)
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--sam", "sam.pth", "--save-mask", model=model)
    assert code == 2 and "--save-mask writes classes 0 to 254, but the model has 300; take --save-labelme" in err


def test_masks_that_nobody_would_see_are_refused(run_detect, tmp_path):
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--sam", tmp_path / "sam.pth", "--nosave")
    assert code == 2 and "--sam outlines objects, but --nosave" in err
