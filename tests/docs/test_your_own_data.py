"""docs/your_own_data.md: its commands run one after the other on small sets, with its own data YAMLs."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.annotations import AnnotatedPicture, ClassList, make_objects
from data.formats.registry import PICTURE_FORMATS, SPLIT_FORMATS
from tests.conftest import REPO, TINY_MODEL
from utils.recipe import RECIPE_FOLDER

PAGE = (REPO / "docs" / "your_own_data.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]
YAMLS = {f"{name}.yaml": text for text, name in re.findall(r"```yaml\n(path: (\w+)\n.*?)```", PAGE, flags=re.DOTALL)}
QUICK = ["--img-size", "64", "--workers", "0", "--device", "cpu"]
SHORT = {
    "train.py": ["--epochs", "1", "--batch-size", "4", "--noplots", "--dtype", "float32", *QUICK],
    "test.py": QUICK,
    "detect.py": QUICK[:2] + QUICK[4:],
    "utils.plots batches": [*QUICK[:4], "--batch-size", "4", "--count", "1"],
}
"""What makes commands of the page short; the last value of an option counts."""
NAMES = ("car", "person")


def draw_picture(path: Path, seed: int) -> AnnotatedPicture:
    """Write a picture with a car in red and a person in blue; the outline of the car is known."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 130, (64, 96, 3), dtype=np.uint8)
    corners = rng.integers(2, 30, (2, 2))
    boxes = np.hstack([corners, corners + rng.integers(14, 30, (2, 2))]).astype(np.float64)
    for (x1, y1, x2, y2), colour in zip(boxes.astype(int), ((220, 30, 30), (30, 30, 220)), strict=True):
        image[y1:y2, x1:x2] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    x1, y1, x2, y2 = boxes[0]
    outline = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    return AnnotatedPicture(path, path.name, (64, 96), make_objects(list(NAMES), boxes, [[outline], []]))


def write_sets(folder: Path) -> None:
    """Lay out ``photos``, ``voc``, ``coco``, ``yolo`` and ``areas`` as the page describes them."""
    classes = ClassList(list(NAMES))

    def labels(form: str, picture: AnnotatedPicture, images: Path, place: Path) -> None:
        file = PICTURE_FORMATS[form].label_file(picture.image, images, place)
        file.parent.mkdir(parents=True, exist_ok=True)
        PICTURE_FORMATS[form].write(file, picture, classes)

    for i in range(10):
        labels("labelme", draw_picture(folder / f"photos/{i}.png", i), folder / "photos", folder / "photos")
        split = "train" if i < 6 else "val"
        voc = draw_picture(folder / f"voc/JPEGImages/{i}.png", i)
        labels("voc", voc, folder / "voc/JPEGImages", folder / "voc/Annotations")
        with open(folder / f"voc/{split}.txt", "a", encoding="utf-8") as file:
            file.write(f"JPEGImages/{i}.png\n")
        yolo = draw_picture(folder / f"yolo/images/{split}/{i}.png", i)
        labels("yolo", yolo, folder / f"yolo/images/{split}", folder / f"yolo/labels/{split}")
        area = draw_picture(folder / f"areas/images/{split}/{i}.png", i)
        mask = np.zeros((64, 96), np.uint8)
        for index, (x1, y1, x2, y2) in enumerate(area.objects.boxes.astype(int), start=1):
            mask[y1:y2, x1:x2] = index
        (folder / f"areas/masks/{split}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"areas/masks/{split}/{i}.png"), mask)
    for split, numbers in (("train", range(6)), ("val", range(6, 10))):
        pictures = [draw_picture(folder / f"coco/{split}/{i}.png", i) for i in numbers]
        SPLIT_FORMATS["coco"].write(folder / f"coco/{split}.json", pictures, classes)


def run_command_of_page(words: list[str]) -> str:
    """Run one command within this process and return what it printed; a doctor may find faults of little sets."""
    python, *words = words
    assert python == "python"
    module, words = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    name = f"{module} {words[0]}" if module == "utils.plots" else module
    words += SHORT.get(name, [])
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            if module.endswith(".py"):
                # The top-level test.py shares its name with a module of the standard library.
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(sys, "argv", [module, *words])
                    runpy.run_path(str(REPO / module), run_name="__main__")
            else:
                is_package = bool(find_spec(module).submodule_search_locations)
                import_module(f"{module}.__main__" if is_package else module).main(words)
    except SystemExit as end:
        assert end.code in ((0, 1, None) if module == "data.doctor" else (0, None)), out.getvalue()[-2000:]
    return out.getvalue()


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which all commands of the page were run in their order, and what each printed."""
    folder = tmp_path_factory.mktemp("own")
    write_sets(folder)
    for name, text in YAMLS.items():
        (folder / name).write_text(text, encoding="utf-8")
    # Of the models' names, with a thousandth of their weights.
    (folder / "yolov5n_multitask.yaml").write_text(TINY_MODEL)
    (folder / "yolov5n.yaml").write_text(re.sub(r".*SegMaskBase.*\n", "", TINY_MODEL))
    printed = {}
    with contextlib.chdir(folder):
        for words in COMMANDS:
            printed[shlex.join(words)] = run_command_of_page(words)
    return folder, printed


def said(walked: tuple[Path, dict[str, str]], part: str) -> str:
    return next(text for command, text in walked[1].items() if part in command)


def test_the_page_has_a_yaml_for_every_set() -> None:
    assert set(YAMLS) == {"voc.yaml", "coco.yaml", "yolo.yaml", "areas.yaml"} and len(COMMANDS) == 12


def test_labelme_becomes_boxes_and_areas(walked: tuple[Path, dict[str, str]]) -> None:
    folder = walked[0]
    assert "drew 2 of 10 pictures for val" in said(walked, "data.prepare labelme")
    assert (folder / "datasets/mine/mine.yaml").is_file()
    assert len(list((folder / "datasets/mine/masks/train").glob("*.png"))) == 8
    labels = said(walked, "utils.plots labels")
    assert "detect: 8 pictures" in labels and "segment: 8 masks" in labels
    assert (folder / "runs/doctor/exp/report.html").is_file()
    assert len(list((folder / "runs/plots/exp2").glob("train_batch0_*.jpg"))) == 2


def test_every_set_trains_and_gives_results(walked: tuple[Path, dict[str, str]]) -> None:
    folder = walked[0]
    for run in ("mine", "voc", "coco"):
        assert (folder / f"runs/train/{run}/weights/best.safetensors").is_file()
    # The same pictures and boxes, read from XML and from JSON.
    voc, coco = ((folder / f"runs/train/{run}/results.csv").read_text().splitlines() for run in ("voc", "coco"))
    column = voc[0].split(",").index("train/detect_box")
    assert voc[0] == coco[0] and voc[1].split(",")[column] == coco[1].split(",")[column] != "0"
    assert said(walked, "utils.plots results").split()[:5] == ["last", "value", "of", "voc", "coco"]
    assert "mIoU" in said(walked, "test.py")
    assert list((folder / "runs/detect").rglob("*.json"))


def test_conversions_have_their_yaml(walked: tuple[Path, dict[str, str]]) -> None:
    for name in ("voc_as_coco", "areas_as_labelme"):
        assert list((walked[0] / "datasets" / name).glob("*.yaml")), name


def test_recipes_and_models_of_the_table_exist() -> None:
    table = PAGE.split("| your data | model | recipe |")[1].split("\n\n")[0]
    recipes = [name for row in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", row.split("|")[3])]
    assert len(recipes) >= 5 and all((RECIPE_FOLDER / f"{name}.yaml").is_file() for name in recipes)
    models = re.findall(r"--cfg ([\w.]+)`", table)
    assert len(models) == 3 and all(list((REPO / "models/configs").rglob(name)) for name in models)
