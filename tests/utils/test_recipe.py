"""Recipes: defaults, files of the zoo, and mistakes that are explained."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from utils import recipe
from utils.errors import ModelError
from utils.recipe import DEFAULTS, RECIPE_FOLDER, chosen_recipe, load_recipe


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
        ("schedule: linaer", "'schedule' must be cosine or linear"),
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


def test_options_take_the_place_of_the_recipes_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{lr0: 0.02, label_smoothing: 0.05}\n")
    options = Namespace(hyp=str(path), label_smoothing=None, linear_lr=False, optimizer=None)
    assert chosen_recipe(options) == load_recipe(path)
    options = Namespace(hyp=str(path), label_smoothing=0.0, linear_lr=True, optimizer="AdamW")
    changed = {"label_smoothing": 0.0, "schedule": "linear", "optimizer": "AdamW"}
    assert chosen_recipe(options) == load_recipe(path) | changed
