"""Which recipe a run has, and what options put in place of its values."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import load_graph
from models.spec import CONFIG_ROOT, load_spec
from tests.conftest import TINY_MODEL
from utils.errors import ModelError
from utils.recipe import load_recipe
from utils.training import chosen_recipe as module
from utils.training.chosen_recipe import chosen_recipe
from utils.training.options import parse_train_options


def options_of(*arguments: str) -> Namespace:
    return parse_train_options(["--data", "any.yaml", *arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model YAML that names a recipe."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"recipe: hyp.small\n{TINY_MODEL}")
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said while a recipe is chosen."""
    lines: list[str] = []
    monkeypatch.setattr(module.LOGGER, "info", lambda text, *values: lines.append(text % values))
    return lines


def test_a_model_names_its_recipe_and_hyp_overrules_it(model: Path, tmp_path: Path, told: list[str]) -> None:
    assert chosen_recipe(options_of("--cfg", str(model))) == load_recipe("hyp.small")
    assert told == ["recipe hyp.small, named by mine.yaml; --hyp chooses another one"]
    assert chosen_recipe(options_of("--cfg", str(model), "--hyp", "hyp.finetune")) == load_recipe("hyp.finetune")
    plain = tmp_path / "plain.yaml"
    plain.write_text(TINY_MODEL)
    assert chosen_recipe(options_of("--cfg", str(plain))) == load_recipe("hyp.scratch")
    assert len(told) == 1


def test_weights_without_a_yaml_name_the_recipe_of_their_model(model: Path, tmp_path: Path) -> None:
    graph = load_graph(model)
    names = {name: [str(i) for i in range(head.num_classes)] for name, head in graph.heads.items()}
    weights = tmp_path / "weights.safetensors"
    save_checkpoint(weights, Checkpoint("mine.yaml", graph.spec.text, names, {"ema": graph.state_dict()}))
    assert chosen_recipe(options_of("--weights", str(weights))) == load_recipe("hyp.small")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("hyp.smal", "mine.yaml: its recipe cannot be used (hyp.smal: there is no such recipe"),
        ("[1]", "'recipe' is the name of a recipe, such as hyp.scratch, not [1]"),
    ],
)
def test_a_recipe_that_a_model_names_wrongly_is_explained(named: str, words: str, model: Path) -> None:
    model.write_text(model.read_text().replace("hyp.small", named, 1))
    with pytest.raises(ModelError) as caught:
        chosen_recipe(options_of("--cfg", str(model)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_options_take_the_place_of_the_recipes_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{lr0: 0.02, label_smoothing: 0.05}\n")
    given = ("--cfg", "any.yaml", "--hyp", str(path))
    assert chosen_recipe(options_of(*given)) == load_recipe(path)
    options = options_of(*given, "--label-smoothing", "0", "--linear-lr", "--optimizer", "AdamW", "--close-mosaic", "7")
    changed = {"label_smoothing": 0.0, "schedule": "linear", "optimizer": "AdamW", "close_mosaic": 7}
    assert chosen_recipe(options) == load_recipe(path) | changed


def test_the_tail_of_a_short_run_leaves_it_half_its_epochs_unless_it_is_asked_for(told: list[str]) -> None:
    def tail(*arguments: str) -> int:
        return chosen_recipe(options_of("--cfg", "any.yaml", "--hyp", "yolox", *arguments))["close_mosaic"]

    assert [tail("--epochs", epochs) for epochs in ("300", "30")] == [15, 15]
    assert not told
    assert [tail("--epochs", epochs) for epochs in ("10", "1")] == [5, 0]
    assert "in a run of 10 it is the last 5" in told[0]
    assert tail("--epochs", "10", "--close-mosaic", "9") == 9
    assert tail("--epochs", "300", "--close-mosaic", "0") == 0


@pytest.mark.parametrize("config", sorted(CONFIG_ROOT.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_the_zoo_names_exists(config: Path) -> None:
    named = load_spec(config).values.get("recipe")
    if config.parent.name.startswith("yolox"):
        assert named is not None
    if named is not None:
        pipelines = {"yolox": "yolox", "yoloms": "rtmdet", "yolos": "detr", "ms": "detr"}
        family = config.parent.name.split("_")[0]
        # Small models are trained by recipes for short runs, which are not the published ones.
        assert named == "yolos_small" or load_recipe(named)["augment"] == pipelines.get(family, "yolov5")
