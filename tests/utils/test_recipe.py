"""Recipes: defaults, files of the zoo, and mistakes that are explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.spec import load_spec
from utils import recipe
from utils.errors import ModelError
from utils.recipe import DEFAULTS, RECIPE_FOLDER, load_recipe
from utils.recipe_keys import ENGINE, composed, heads_of_the_house


@pytest.mark.parametrize("path", sorted(RECIPE_FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_of_the_zoo_loads(path: Path) -> None:
    assert load_recipe(path).keys() == DEFAULTS.keys()
    assert load_recipe(path.stem) == load_recipe(path)


def test_missing_keys_take_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lr0: 0.5\n")
    assert load_recipe(path) == {**DEFAULTS, "lr0": 0.5}


def test_keys_without_effect_are_read_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(recipe.LOGGER, "warning", lambda text, *values: told.append(text % values))
    path = tmp_path / "published.yaml"
    path.write_text("{iou_t: 0.2, copy_paste: 0.1}\n")
    assert load_recipe(path)["copy_paste"] == 0.1
    (line,) = told
    assert "copy_paste has no effect" in line and "published.yaml" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("momentun: 0.1", "no recipe key 'momentun'. Did you mean 'momentum'?"),
        ("lr0: fast", "'lr0' must be a number"),
        ("lr0: 1e-3", "YAML reads as a word; write 0.001"),
        ("momentum: 1", "'momentum' must be a number from 0 to below 1"),
        ("seg_aux: null", "'seg_aux' must be a list"),
        ("lr0: 0", "'lr0' must be a number above 0"),
        ("lr0: -1", "'lr0' must be a number"),
        ("mosaic: true", "'mosaic' must be a number"),
        ("autobalance: 1", "'autobalance' must be true or false"),
        ("schedule: linaer", "'schedule' must be cosine, linear, yolox, flat_cosine or step"),
        ("warmup: squared", "'warmup' must be linear or quadratic"),
        ("loss_reduction: max", "'loss_reduction' must be sum or mean"),
        ("schedule_every: step", "'schedule_every' must be round, epoch or late_epoch, but it is 'step'"),
        ("decay: head", "'decay' must be weights, heads or all, but it is 'head'. Did you mean 'heads'?"),
        ("resize_sides: [256, 608]", "'resize_sides' must be three whole numbers above 0"),
        ("crop_sides: []", "'crop_sides' must be a list of whole numbers above 0"),
        ("crop_sides: [400, 0]", "'crop_sides' must be a list of whole numbers above 0"),
        ("crop_range: 384", "'crop_range' must be two whole numbers above 0"),
        ("resize_base: 0", "'resize_base' must be a number above 0"),
        ("step_epochs: 0", "'step_epochs' must be a number above 0"),
        ("drop_path: 1", "'drop_path' must be a number from 0 to below 1"),
        ("o2m: 2", "'o2m' must be 0 or 1"),
        ("o2m_k: 2.5", "'o2m_k' must be a whole number of 0 or more"),
        ("o2m_threshold: 1.5", "'o2m_threshold' must be a number from 0 to 1"),
        ("flat_share: 1.0", "'flat_share' must be a number from 0 to below 1"),
        ("warmup_steps: 0.5", "'warmup_steps' must be a whole number of 0 or more"),
        ("loss_images: -8", "'loss_images' must be a whole number of 0 or more"),
        ("ema_copy_first: 1", "'ema_copy_first' must be true or false, but it is 1"),
        ("augment: [yolox]", "'augment' must be yolov5, yolox, rtmdet or detr"),
        ("close_mosaic: 1.5", "'close_mosaic' must be a whole number"),
        ("multi_scale_interval: -1", "'multi_scale_interval' must be a whole number"),
        ("multi_scale_range: 5", "'multi_scale_range' must be two whole numbers"),
        ("multi_scale_range: [5, 5.5]", "'multi_scale_range' must be two whole numbers"),
        ("mosaic_scale: [2.0, 0.1]", "'mosaic_scale' must be two numbers above 0, the lower one first"),
        ("mosaic_scale: [0, 1]", "'mosaic_scale' must be two numbers above 0"),
        ("mixup_scale: [0.5, 1.0, 1.5]", "'mixup_scale' must be two numbers above 0"),
        ("hsv_shift: [5, 30]", "'hsv_shift' must be three numbers"),
        ("hsv_shift: [5, 30, .inf]", "'hsv_shift' must be three numbers"),
        ("lr0: .nan", "'lr0' must be a number above 0"),
        ("gains: {detect: much}", "'gains' must be a mapping"),
        ("turns: in turn", "'turns' must be alternate or proportional, but it is 'in turn'"),
        ("turns: proportionally", "Did you mean 'proportional'?"),
        ("balance: gradnrom", "must be fixed, uncertainty, gradnorm or pcgrad, but it is 'gradnrom'. Did you mean"),
        ("balance: true", "'balance' must be fixed, uncertainty, gradnorm or pcgrad, but it is True"),
        ("balance_lr: 0", "'balance_lr' must be a number above 0"),
        ("balance_alpha: -1", "'balance_alpha' must be a number of 0 or more"),
        ("bn: per_task", "'bn' must be shared, per-task or frozen, but it is 'per_task'. Did you mean 'per-task'?"),
        ("bn: [frozen]", "'bn' must be shared, per-task or frozen"),
        ("lr_factors: 0.5", "'lr_factors' must be a mapping"),
        ("lr_factors: {segment: -1}", "'lr_factors' must be a mapping"),
        ("lr_names: {backbone: -1}", "'lr_names' must be a mapping of names of rows or parameters to numbers"),
        ("seg_jitter: 0.4", "'seg_jitter' must be a list"),
        ("- lr0", "a recipe is a list of keys and values"),
        ("lr0: [1", "line 1: is not valid YAML"),
        ("lr0: 0.1\nlr0: 0.2", "line 2: the key 'lr0' is there already in line 1"),
    ],
)
def test_mistakes(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        load_recipe(path)
    assert words in str(caught.value)
    assert "wrong.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


PUBLISHED = {
    "hyp.scratch-low": {"lrf": 0.01, "cls": 0.5, "obj": 1.0, "scale": 0.5, "mixup": 0.0},
    "hyp.scratch-med": {"lrf": 0.1, "cls": 0.3, "obj": 0.7, "scale": 0.9, "mixup": 0.1},
    "hyp.scratch-high": {"lrf": 0.1, "cls": 0.3, "obj": 0.7, "scale": 0.9, "mixup": 0.1},
}
"""What differs between the recipes that YOLOv5 6.1 and later has under these names."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_that_yolov5_users_know_have_the_published_values(name: str) -> None:
    found = load_recipe(name)
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]
    assert found["schedule"] == "linear"
    same = {"lr0": 0.01, "momentum": 0.937, "weight_decay": 0.0005, "warmup_epochs": 3.0, "box": 0.05, "mosaic": 1.0}
    assert {key: found[key] for key in same} == same


def test_heads_declare_the_keys_of_their_family_and_agree_on_them() -> None:
    heads = heads_of_the_house()
    declared = composed(*(head.recipe for head in heads))
    assert {"box", "anchor_t", "seg_loss", "yolox_box", "simota", "pose_oks"} <= declared.keys() <= DEFAULTS.keys()
    assert not declared.keys() & ENGINE.keys()


def test_two_defaults_of_one_key_are_refused() -> None:
    assert composed({"a": 1, "b": [1, 2]}, {"b": [1, 2], "c": None}) == {"a": 1, "b": [1, 2], "c": None}
    with pytest.raises(ValueError, match="'b' has the defaults 1 and 2"):
        composed({"a": 1, "b": 1}, {"b": 2})


YOLOX = {"schedule": "yolox", "warmup": "quadratic", "loss_reduction": "mean", "augment": "yolox", "lrf": 0.05}
PUBLISHED_OF_YOLOX = {
    "yolox": {"lr0": 0.01, "nominal_batch": 64, "close_mosaic": 15, "mixup": 1.0, "mosaic_scale": [0.1, 2.0]},
    "yolox_tiny": {"lr0": 0.01, "mixup": 0.0, "mosaic": 1.0, "mosaic_scale": [0.5, 1.5], "multi_scale_range": [3, 7]},
    "yolox_nano": {"lr0": 0.01, "mixup": 0.0, "mosaic": 0.5, "mosaic_scale": [0.5, 1.5], "multi_scale_range": [3, 7]},
    "yolox_rtmdet": {
        **{"optimizer": "AdamW", "lr0": 0.004, "weight_decay": 0.05, "nominal_batch": 256, "close_mosaic": 20},
        **{"multi_scale_interval": 1, "ema_decay": 0.9998, "simota": "mm", "mixup_scale": [0.8, 1.6]},
    },
    "yolox_pose": {"optimizer": "AdamW", "mosaic_scale": [0.75, 1.0], "mixup": 1.0, "mixup_pad": 114},
    "yolox_pose_tiny": {"optimizer": "AdamW", "mosaic_scale": [0.75, 1.0], "mixup": 0.0, "close_mosaic": 20},
    "yolox_finetune": {},
    "yolox_pose_overfit": {"mosaic": 0.0, "mixup": 0.0, "fliplr": 0.0, "bn": "shared"},
}
"""What differs between the recipes of YOLOX."""


@pytest.mark.parametrize("name", PUBLISHED_OF_YOLOX)
def test_recipes_of_yolox_have_the_published_values(name: str) -> None:
    found = load_recipe(name)
    wanted = YOLOX | PUBLISHED_OF_YOLOX[name]
    assert {key: found[key] for key in wanted} == wanted
    # The learning rate alone is special in this warm-up.
    assert found["warmup_momentum"] == found["momentum"] == 0.9
    assert found["clip_norm"] == found["warmup_bias_lr"] == found["warmup_min"] == 0


MMYOLO = {"warmup_bias_lr": 0.1, "warmup_momentum": 0.8, "momentum": 0.937, "warmup_epochs": 3, "warmup_steps": 1000}
OF_YOLOV8 = {
    **{"optimizer": "SGD", "lr0": 0.01, "lrf": 0.01, "schedule": "linear", "nominal_batch": 128, "weight_decay": 0.001},
    **{"clip_norm": 10, "ema_decay": 0.9999, "close_mosaic": 10, "loss_reduction": "sum", "max_aspect": 100},
    **{"yolov8_box": 7.5, "yolov8_cls": 0.5, "yolov8_dfl": 1.5, "clahe": 0.01, "augment": "yolov5", **MMYOLO},
}
OF_YOLOV6 = {
    **{"optimizer": "SGD", "lr0": 0.01, "lrf": 0.01, "schedule": "cosine", "nominal_batch": 256, "weight_decay": 0.002},
    **{"clip_norm": 0, "ema_decay": 0.9999, "close_mosaic": 15, "loss_images": 32, "max_aspect": 20},
    **{"yolov6_box": 2.5, "yolov6_cls": 1.0, "yolov6_atss_epochs": 4, "clahe": 0, "augment": "yolov5", **MMYOLO},
}
OF_YOLOMS = {
    **{"optimizer": "AdamW", "lr0": 0.001, "momentum": 0.9, "weight_decay": 0.05, "schedule": "flat_cosine"},
    **{"flat_share": 0.5, "warmup_epochs": 0, "warmup_start": 1e-5, "nominal_batch": 64, "clip_norm": 0},
    **{"loss_reduction": "mean", "loss_images": 0, "ema_decay": 0.9998, "close_mosaic": 20, "augment": "rtmdet"},
    **{"mosaic_cache": 40, "mixup": 1.0, "mixup_cache": 20, "mixup_beta": 32, "hsv_shift": [5, 30, 30]},
    **{"rtmdet_box": 2.0, "rtmdet_cls": 1.0, "rtmdet_box_loss": "diou", "drop_empty": True, "drop_smaller": 32},
}
PUBLISHED_OF_YOLOMS = {
    "yoloms_xs": {**OF_YOLOMS, "resize_range": [0.5, 2.0]},
    "yoloms": {**OF_YOLOMS, "resize_range": [0.1, 2.0]},
    "yolov6": {**OF_YOLOV6, "yolov6_box_loss": "siou"},
    "yolov6_ms": {**OF_YOLOV6, "yolov6_box_loss": "giou"},
    "yolov8": {**OF_YOLOV8, "scale": 0.5, "mixup": 0},
    "yolov8_m": {**OF_YOLOV8, "scale": 0.9, "mixup": 0.1},
    "yolov8_l": {**OF_YOLOV8, "scale": 0.9, "mixup": 0.15},
}


@pytest.mark.parametrize("name", PUBLISHED_OF_YOLOMS)
def test_recipes_of_yoloms_yolov6_and_yolov8_have_the_published_values(name: str) -> None:
    found, wanted = load_recipe(name), PUBLISHED_OF_YOLOMS[name]
    assert {key: found[key] for key in wanted} == wanted
    # A floor is an absolute rate, and so is the rate at which biases begin.
    floor = 0.05 * 0.004 if name.startswith("yoloms") else 0.01 * 0.01
    assert found["lr0"] * found["lrf"] == pytest.approx(floor)
    if name.startswith("yoloms"):
        assert found["warmup_bias_lr"] == pytest.approx(found["lr0"] * found["warmup_start"])
    assert found["ema_copy_first"] is True and found["ema_tau"] == 2000


OF_YOLOS = {
    **{"optimizer": "AdamW", "momentum": 0.9, "weight_decay": 1e-4, "decay": "heads", "schedule": "cosine"},
    **{"schedule_every": "late_epoch", "warmup_epochs": 0, "loss_reduction": "mean", "clip_norm": 0.1, "ema_decay": 0},
    **{"drop_path": 0, "augment": "detr", "fliplr": 0.5, "crop_sides": [400, 500, 600], "crop_range": [384, 600]},
    **{"crop_chance": 0.5, "set_class": 1, "set_box": 5, "set_giou": 2, "set_no_object": 0.1, "close_mosaic": 0},
    **{"set_cost_class": 1, "set_cost_box": 5, "set_cost_giou": 2, "set_earlier": 0, "drop_empty": False},
}
PUBLISHED_OF_YOLOS = {
    "yolos_ti": {**OF_YOLOS, "lr0": 5e-5, "nominal_batch": 16, "resize_sides": [256, 608, 16], "resize_base": 512},
    "yolos": {**OF_YOLOS, "lr0": 2.5e-5, "nominal_batch": 8, "resize_sides": [480, 800, 16], "resize_base": 800},
}


@pytest.mark.parametrize("name", PUBLISHED_OF_YOLOS)
def test_recipes_of_yolos_have_the_published_values(name: str) -> None:
    found, wanted = load_recipe(name), PUBLISHED_OF_YOLOS[name]
    assert {key: found[key] for key in wanted} == wanted
    assert found["lr0"] * found["lrf"] == pytest.approx(1e-7)


def test_every_model_names_a_recipe_that_loads_and_is_of_its_family() -> None:
    configs = RECIPE_FOLDER.parents[1] / "models" / "configs"
    named = {path.stem: load_spec(path).values.get("recipe") for path in configs.rglob("*.yaml")}
    for name, recipe_name in named.items():
        family = name.split("_")[0]
        if family in ("yoloms", "yolov6", "yolov8", "yolos") or family.startswith("yolos-"):
            assert recipe_name.split("_")[0] == family.split("-")[0], name
        if recipe_name is not None:
            load_recipe(recipe_name)
