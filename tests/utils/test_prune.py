"""utils.prune as a user runs it: the weakest weights are zero, others are kept, and the file is a model like any."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import test as test_command
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.checkpoint_info import checkpoint_facts
from models.graph import Graph
from models.spec import parse_spec
from models.weights import load_model
from tests.conftest import REPO, TINY_MODEL, write_tiny_set
from tests.square_finder import NAMES, write_square_finder, write_squares
from utils.errors import ModelError, UsageError
from utils.export.weights_file import deployed_checkpoint
from utils.prune import EPILOG, build_parser, main, parse_options
from utils.pruning.methods import prune_channels, prune_values
from utils.pruning.prunable import prunable_weights
from utils.pruning.sparsity import Sparsity
from utils.yaml_text import parse_yaml

KINDS = """
nc: 2
width_multiple: 0.25
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C3TR, [32], attended]
  - [-1, 1, nn.ConvTranspose2d, [8, 8, 2, 2]]
  - [-2, 1, Conv, [32, 3, 2]]
head:
  - [[2, 1, 3], 1, RTMDetHead, [nc]]
"""
"""Attention, a transposed convolution, and a head whose levels share their convolutions."""


def graph_of(text: str) -> Graph:
    torch.manual_seed(0)
    return Graph(parse_spec(parse_yaml(text, "tiny.yaml", ValueError), "tiny.yaml")).eval()


@pytest.fixture(scope="module")
def kinds() -> Graph:
    return graph_of(KINDS)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model of two heads, as a run leaves it that can go on."""
    graph = graph_of(TINY_MODEL)
    graph.names["detect"] = list(NAMES)
    path = tmp_path / "best.safetensors"
    tensors = {"model": graph.state_dict(), "ema": graph.state_dict(), "optimizer": {"step": torch.zeros(1)}}
    stored = {"progress": {"epochs_done": 3}, "hyp": {}, "options": {"cfg": "tiny.yaml"}, "ema_updates": 5}
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, graph.names, tensors, stored))
    return path


def pruned(graph: Graph, *, amount: float, scope: str = "", structured: bool = False) -> tuple[dict, dict, list]:
    """Prune a copy of a graph; return its tensors before and after, and what could be pruned."""
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    copied = Graph(graph.spec)
    copied.load_state_dict(before)
    weights = prunable_weights(copied)
    if structured:
        prune_channels(weights, amount)
    else:
        prune_values(weights, amount, scope)
    assert set(before) == set(copied.state_dict())
    return before, copied.state_dict(), weights


@settings(max_examples=8)
@given(st.floats(0.001, 0.999))
def test_every_layer_loses_its_smallest_values(kinds: Graph, amount: float) -> None:
    before, after, weights = pruned(kinds, amount=amount, scope="layer")
    names = {weight.name for weight in weights}
    for name, value in before.items():
        zeros = after[name] == 0
        if name not in names:
            assert torch.equal(after[name], value), name
            continue
        assert int(zeros.sum()) == min(round(amount * value.numel()), value.numel() - 1)
        assert torch.equal(after[name][~zeros], value[~zeros])
        if zeros.any():
            assert value[zeros].abs().max() <= value[~zeros].abs().min()


def test_the_model_loses_its_smallest_values_wherever_they_are(kinds: Graph) -> None:
    before, after, weights = pruned(kinds, amount=0.4, scope="model")
    values, left = (torch.cat([tensors[weight.name].flatten() for weight in weights]) for tensors in (before, after))
    assert int((left == 0).sum()) == round(0.4 * len(values))
    assert values[left == 0].abs().max() <= values[left != 0].abs().min()
    shares = {weight.name: (after[weight.name] == 0).float().mean().item() for weight in weights}
    assert max(shares.values()) - min(shares.values()) > 0.1


@settings(max_examples=6)
@given(st.floats(0.01, 0.99))
def test_every_layer_loses_its_weakest_channels_and_heads_keep_their_answers(kinds: Graph, amount: float) -> None:
    before, after, weights = pruned(kinds, amount=amount, structured=True)
    whole = {weight.name for weight in weights if weight.channels is None}
    values = {weight.name for weight in weights}
    assert all(torch.equal(after[name], value) for name, value in before.items() if name not in values)
    assert whole and all(name.startswith("model.4.") for name in whole)
    for weight in weights:
        if weight.channels is None:
            assert torch.equal(after[weight.name], before[weight.name])
            continue
        was, now = (tensors[weight.name].movedim(weight.channels, 0).flatten(1) for tensors in (before, after))
        empty = (now == 0).all(1)
        assert int(empty.sum()) == min(round(amount * len(was)), len(was) - 1)
        assert torch.equal(now[~empty], was[~empty])
        if empty.any():
            assert was[empty].norm(dim=1).max() <= was[~empty].norm(dim=1).min()


def test_an_empty_channel_gives_what_its_norm_adds() -> None:
    """As with its usual mean, and not what the norm makes of a channel that is far below it."""
    graph = graph_of(KINDS)
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, 1, 2)
            nn.init.normal_(module.bias)
    weights = {weight.name: weight for weight in prunable_weights(graph)}
    prune_channels(list(weights.values()), 0.5)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    stem = graph.model[0]
    with torch.no_grad():
        normed = stem.bn(stem.conv(graph.preprocess(images)))
    empty = (stem.conv.weight.flatten(1) == 0).all(1)
    assert int(empty.sum()) == len(empty) // 2
    torch.testing.assert_close(normed[:, empty], stem.bn.bias[empty].view(1, -1, 1, 1).expand_as(normed[:, empty]))
    assert (stem.bn.running_mean[~empty] >= 1).all()
    # Every level of the head has norms of its own behind the convolutions that they share.
    shared = next(weight for name, weight in weights.items() if name.startswith("model.4.") and weight.norms)
    assert len(shared.norms) == 3
    empty = (shared.value.flatten(1) == 0).all(1)
    assert all(((norm.running_mean == 0) == empty).all() for norm in shared.norms)


def test_what_can_be_pruned(kinds: Graph) -> None:
    found = {weight.name: weight for weight in prunable_weights(kinds)}
    state = kinds.state_dict()
    missing = {name for name, value in state.items() if value.dim() > 1 and name not in found}
    # RTMDet's levels share the convolutions of their towers, which stand in the state dict once.
    assert not missing and len({id(weight.value) for weight in found.values()}) == len(found)
    assert all(torch.equal(state[name], weight.value) for name, weight in found.items())
    attention = next(weight for name, weight in found.items() if name.endswith("in_proj_weight"))
    assert isinstance(attention.layer, nn.MultiheadAttention) and attention.row == 1
    # (in, out, rows, columns)
    assert found["model.2.weight"].channels == 1 and found["model.0.conv.weight"].channels == 0
    assert {weight.row for weight in prunable_weights(kinds, [0, 3])} == {0, 3}


def test_the_file_is_the_pruned_model_and_tells_so(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = weights.read_bytes()
    main(["--weights", str(weights), "--amount", "0.25", "--json", str(tmp_path / "pruned.json")])
    output, printed = tmp_path / "best_pruned.safetensors", capsys.readouterr().out
    assert weights.read_bytes() == content and f"wrote {output}" in printed
    before, after = load_model(weights), load_model(output)
    assert after.names == before.names
    found = json.loads((tmp_path / "pruned.json").read_text())
    total = found["sparsity"]
    values = [weight.value for weight in prunable_weights(after)]
    assert total["zeros"] == sum(row["zeros"] for row in total["rows"]) == sum(int((v == 0).sum()) for v in values)
    assert total["weights"] == sum(value.numel() for value in values)
    assert total["sparsity"] == pytest.approx(0.25, abs=0.01) and found["output"] == str(output)
    assert [row["row"] for row in total["rows"]] == [0, 1, 2, 3, 4, 5]
    last = next(line.split() for line in printed.splitlines() if line.startswith("all"))
    assert last[1:5] == [f"{total['weights']:,}", f"{total['zeros']:,}", "25.0", "%"]
    facts = checkpoint_facts(load_checkpoint(output))
    assert not facts["can_be_resumed"] and set(facts["tensors"]) == {"model"}
    assert facts["pruned"] == {
        "amount": 0.25,
        "method": "values by magnitude, the same share of every layer",
        "from": "best.safetensors",
    }
    assert facts["training"] == {"epochs_done": 3}


def test_rows_that_are_not_named_stay_as_they_are(weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "some.safetensors"
    main(["--weights", str(weights), "--amount", "0.5", "--rows", "1-2", "detect", "--output", str(output)])
    before, after = load_model(weights).state_dict(), load_model(output).state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name.split(".")[1] for name in changed} == {"1", "2", "5"}


def test_without_an_amount_zeros_are_counted_and_nothing_is_written(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--weights", str(weights)])
    assert " 0.0 %" in capsys.readouterr().out and list(weights.parent.iterdir()) == [weights]


def test_rows_of_zeros_alone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_of(TINY_MODEL)
    nn.init.constant_(graph.model[1].conv.weight, 1e-6)
    path = tmp_path / "uneven.safetensors"
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    main(["--weights", str(path), "--amount", "0.5", "--scope", "model"])
    assert "nothing but zeros is left in the rows 1\n" in capsys.readouterr().out


def squares_set(root: Path) -> Path:
    """Write one picture of three squares with its labels, and return the data YAML."""
    squares = [("green", (32, 16, 80, 64)), ("red", (128, 64, 176, 112)), ("blue", (96, 0, 144, 48))]
    for folder in ("images", "labels"):
        (root / folder / "val").mkdir(parents=True)
    write_squares(root / "images/val/0.png", (128, 192), squares)
    boxes = [(NAMES.index(name), *(np.array(box).reshape(2, 2) / (192, 128))) for name, box in squares]
    lines = [
        f"{kind} {' '.join(f'{share:.6f}' for share in (*(low + high) / 2, *(high - low)))}"
        for kind, low, high in boxes
    ]
    (root / "labels/val/0.txt").write_text("\n".join(lines))
    data = root / "squares.yaml"
    data.write_text(f"detect: {{train: images/val, val: images/val, names: {NAMES}}}\n".replace("'", ""))
    return data


def metrics_of_test_py(weights: Path, data: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of test.py."""
    options = ["--img-size", "96", "--workers", "0", "--noplots", "--device", "cpu", "--project", str(folder)]
    test_command.main(["--weights", str(weights), "--data", str(data), *options])
    heads = json.loads((folder / "exp" / "results.json").read_text())["heads"]
    return {name: head["metrics"] for name, head in heads.items()}


def test_metrics_before_and_after_are_those_of_test_py(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, data = write_square_finder(tmp_path / "squares.safetensors"), squares_set(tmp_path / "set")
    file, output = tmp_path / "found.json", tmp_path / "less.safetensors"
    # Of its eight channels five are empty anyway, so two of the three colours go.
    arguments = ["--weights", str(weights), "--amount", "0.875", "--structured", "--output", str(output)]
    measuring = ["--data", str(data), "--img-size", "96", "--workers", "0", "--device", "cpu", "--json", str(file)]
    main([*arguments, *measuring])
    metrics = json.loads(file.read_text())["metrics"]
    assert metrics["before"]["detect"]["AP"] > 0.99 and 0.3 < metrics["after"]["detect"]["AP"] < 0.4
    line = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("detect AP "))
    assert float(line[4]) == pytest.approx(
        metrics["after"]["detect"]["AP"] - metrics["before"]["detect"]["AP"], abs=1e-4
    )
    assert metrics["after"] == metrics_of_test_py(output, data, tmp_path / "runs")


def test_heads_that_label_pixels_are_measured_too(weights: Path, tmp_path: Path) -> None:
    data, file = write_tiny_set(tmp_path / "tiny", images=2), tmp_path / "found.json"
    arguments = ["--weights", str(weights), "--amount", "0.9", "--rows", "backbone", "--json", str(file)]
    main(
        [*arguments, "--data", str(data), "--heads", "segment", "--img-size", "96", "--workers", "0", "--device", "cpu"]
    )
    metrics = json.loads(file.read_text())["metrics"]
    assert list(metrics["before"]) == ["segment"]
    assert metrics["before"]["segment"]["mIoU"] != metrics["after"]["segment"]["mIoU"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--amount", "1"], "--amount must be above 0 and below 1, but is 1"),
        (["--amount", "nan"], "--amount must be above 0 and below 1, but is nan"),
        (["--structured"], "--structured is about pruning, and needs --amount"),
        (["--amount", "0.3", "--segdata", "masks"], "--segdata is about measuring, and needs --data"),
        (["--amount", "0.3", "--structured", "--scope", "model"], "leave it or --structured out"),
        (["--amount", "0.3", "--output", "pruned.pt"], "give it that ending"),
        (["--amount", "0.3", "--output", "best.safetensors"], "is the file of --weights"),
        (["--amount", "0.3", "--output", "none/best.safetensors"], "its folder does not exist"),
        (["--amount", "0.3", "--json", "."], "--json .: is a folder"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        parse_options(["--weights", "best.safetensors", *arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "9"], "--rows 9: the model has only 6 rows"),
        (["--rows", "detekt"], "--rows detekt: no row has that name. Did you mean 'detect'?"),
        (["--rows", "detect", "--structured"], "--rows detect: has no channels that may be missing"),
    ],
)
def test_rows_that_do_not_fit(arguments: list[str], said: str, weights: Path) -> None:
    with pytest.raises(UsageError) as error:
        main(["--weights", str(weights), "--amount", "0.3", *arguments])
    assert said in str(error.value) and list(weights.parent.iterdir()) == [weights]


def test_a_deployed_model_loses_values_and_keeps_its_channels(tmp_path: Path) -> None:
    path, output = tmp_path / "deployed.safetensors", tmp_path / "deployed_pruned.safetensors"
    save_checkpoint(path, deployed_checkpoint(graph_of(TINY_MODEL), halved=False))
    main(["--weights", str(path), "--amount", "0.5"])
    graph, written = load_model(output), load_checkpoint(output)
    assert graph.is_deployed and written.is_deployed and "exported" not in written.progress
    assert Sparsity.of(prunable_weights(graph)).share == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ModelError, match="holds a deployed model"):
        main(["--weights", str(path), "--amount", "0.5", "--structured"])


def test_weights_that_are_not_finite_are_refused(weights: Path) -> None:
    checkpoint = load_checkpoint(weights)
    # Written past the check that no file of ours fails.
    checkpoint.tensors["ema"]["model.0.conv.weight"][0] = float("nan")
    with safe_open(weights, framework="pt") as file:
        header = file.metadata()
    save_file({f"ema/{name}": value for name, value in checkpoint.tensors["ema"].items()}, weights, header)
    with pytest.raises(ModelError, match=r"best\.safetensors: .*model\.0\.conv\.weight is not finite"):
        main(["--weights", str(weights), "--amount", "0.3"])
    assert list(weights.parent.iterdir()) == [weights]


def test_every_option_has_its_line_in_the_help() -> None:
    assert all(action.help for action in build_parser()._actions)


def test_commands_of_the_docs_are_ones_that_the_parser_takes() -> None:
    page = (REPO / "docs" / "weights.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ *python -m utils\.prune (.+)$", page + EPILOG, flags=re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        parse_options(shlex.split(command, comments=True))
