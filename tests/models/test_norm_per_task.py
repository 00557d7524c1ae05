"""BatchNorm for every head: each head answers as a model of its own would, in every way in which models are used."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from models.checkpoint import Checkpoint, save_checkpoint
from models.checkpoint_info import checkpoint_facts
from models.fusing import fuse_graph
from models.graph import Graph, load_graph
from models.inference import Inference, load_inference
from models.layers.per_head import PerHead
from models.spec import load_spec, parse_spec
from models.table import tabulate_model
from models.transfer import transfer_weights
from models.views import AUGMENTED
from models.weights import load_model
from tests.tiny_detector import BOTH, TWO_DETECTORS
from utils.ema import ModelEma
from utils.errors import ModelError
from utils.export.exported_graph import ExportedGraph


def read(text: str, **keys: object) -> Graph:
    return Graph(parse_spec({**yaml.safe_load(text), **keys}, "model.yaml"))


def vary_norms(graph: Graph, seed: int = 1) -> Graph:
    """Give every BatchNorm statistics, scales and shifts of its own."""
    generator = torch.Generator().manual_seed(seed)
    for norm in graph.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.2, 1.5, generator=generator)
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(norm.bias, 0, 0.2, generator=generator)
    return graph


def make(text: str = BOTH) -> Graph:
    torch.manual_seed(0)
    return vary_norms(read(text, bn="per-task"))


def checkpoint_of(graph: Graph) -> Checkpoint:
    return Checkpoint(graph.spec.source, graph.spec.text, graph.names, {"ema": graph.state_dict()}, {})


def alone(graph: Graph, head: str) -> Graph:
    """Return a plain model with one of the heads and that head's weights."""
    values = {key: value for key, value in graph.spec.values.items() if key != "bn"}
    row = graph.head_rows[head] - len(values["backbone"])
    single = Graph(parse_spec({**values, "head": [values["head"][row]]}, "alone.yaml"))
    assert transfer_weights(single, checkpoint_of(graph)).fresh == []
    return single


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 0.0) -> bool:
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", ["segment", "detect"])
def test_a_head_answers_as_a_model_of_its_own(head: str, training: bool) -> None:
    graph = make()
    single = alone(graph, head).train(training)
    graph.train(training)
    x = images()
    torch.manual_seed(0)
    expected = single(x)[head]
    torch.manual_seed(0)
    assert same(graph(x, [head])[head], expected)
    if training:
        # The statistics of the head that ran have moved exactly as its own model's have.
        moved = alone(graph, head).state_dict()
        assert all(torch.equal(value, moved[name]) for name, value in single.state_dict().items())


def test_all_heads_together_are_each_of_them_by_itself() -> None:
    graph, x = make().eval(), images()
    whole = graph(x)
    assert list(whole) == ["segment", "detect"]
    for name in reversed(list(whole)):
        assert same(graph(x, [name])[name], whole[name])
    swapped = make()
    for block in swapped.modules():
        if isinstance(block, PerHead):
            first, second = block.of("segment"), block.of("detect")
            block.for_segment, block.for_detect = second, first
    assert not same(swapped.eval()(x)["detect"], whole["detect"], 1e-3)


def test_only_the_norms_of_the_head_that_runs_move_or_learn() -> None:
    graph = make().train()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    sum(level.square().mean() for level in graph(images(), ["detect"])["detect"]).backward()
    moved = {name for name, value in graph.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all("for_detect" in n or n.startswith(("model.3.bn.", "model.5.")) for n in moved)
    learning = {name for name, parameter in graph.named_parameters() if parameter.grad is not None}
    assert not any("for_segment" in name for name in learning)
    assert {n for n, _ in graph.named_parameters() if "for_detect" in n} <= learning


def test_rows_of_one_head_and_unlisted_norms_are_not_split() -> None:
    graph = make()
    split = {name for name, module in graph.named_modules() if isinstance(module, PerHead)}
    assert split == {"model.0.bn", "model.1.bn", "model.2.bn"}
    assert all(block.heads == ("segment", "detect") for block in graph.modules() if isinstance(block, PerHead))
    assert read(BOTH).selection is None and read(BOTH, bn="shared").selection is None
    assert read(TWO_DETECTORS, bn="per-task").model[3].bn.heads == ("cars", "signs")


def test_a_norm_that_is_a_row_and_heads_named_like_methods() -> None:
    rows = [[-1, 1, "nn.Conv2d", [8, 3, 2, 1]], [-1, 1, "nn.BatchNorm2d", []]]
    heads = [[[1], 1, "Detect", ["nc", "anchors"], "train"], [[1], 1, "Detect", ["nc", "anchors"], "forward"]]
    values = {"nc": 2, "anchors": [[8, 8]], "backbone": rows, "head": heads, "bn": "per-task"}
    graph = vary_norms(Graph(parse_spec(values, "rows.yaml"))).eval()
    assert isinstance(graph.model[1], PerHead) and graph.model[1].heads == ("train", "forward")
    before = graph(images())
    after = fuse_graph(graph)(images())
    assert all(same(before[name], after[name], 1e-4) for name in before)


def test_counts_and_table_tell_it() -> None:
    plain, split = load_spec("yolov5n_multitask"), load_spec("yolov5n_multitask").with_values(bn="per-task")
    before, after = tabulate_model(plain, (64, 64)), tabulate_model(split, (64, 64))
    graph = Graph(split)
    assert sum(row.params for row in after) == sum(p.numel() for p in graph.parameters())
    extra = sum(p.numel() for n, p in graph.named_parameters() if "for_detect" in n)
    assert sum(row.params for row in after) - sum(row.params for row in before) == extra > 0
    assert [a.flops / b.flops for a, b in zip(after, before, strict=True) if b.flops and a.index < 10] == [2.0] * 10
    assert after[-1].flops == before[-1].flops
    assert checkpoint_facts(checkpoint_of(graph))["parameters"] == sum(row.params for row in after)


@pytest.mark.parametrize("value", ["per_task", "frozen", 3, ["per-task"]])
def test_mistakes_in_the_key(value: object) -> None:
    with pytest.raises(ModelError, match=r"model\.yaml: 'bn' must be shared or per-task") as caught:
        read(BOTH, bn=value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ModelError, match="Did you mean 'bn'"):
        read(BOTH, bnn="per-task")


def test_checkpoints_go_round(tmp_path: Path) -> None:
    graph = make().eval()
    save_checkpoint(tmp_path / "a.safetensors", checkpoint_of(graph))
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.spec.values["bn"] == "per-task"
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in graph.state_dict().items())
    assert all(same(graph(images())[name], loaded(images())[name], 1e-5) for name in graph.heads)


def test_plain_weights_go_to_every_head() -> None:
    torch.manual_seed(0)
    plain, split = vary_norms(read(BOTH)).eval(), make().eval()
    transfer = transfer_weights(split, checkpoint_of(plain))
    assert transfer.fresh == transfer.unused == transfer.other_shape == []
    assert same(split(images())["detect"], plain(images())["detect"], 1e-5)
    assert same(split(images())["segment"], plain(images())["segment"], 1e-5)


def test_a_plain_model_takes_the_norms_of_the_first_head() -> None:
    split, plain = make(), read(BOTH)
    transfer = transfer_weights(plain, checkpoint_of(split))
    assert transfer.fresh == [] and transfer.unused == [n for n in split.state_dict() if "for_detect" in n]
    assert torch.equal(plain.model[1].bn.running_var, split.model[1].bn.of("segment").running_var)


def test_a_new_head_begins_with_the_norms_of_another_one() -> None:
    split, other = make(TWO_DETECTORS), read(TWO_DETECTORS.replace("signs", "people"), bn="per-task")
    transfer = transfer_weights(other, checkpoint_of(split))
    assert torch.equal(other.model[0].bn.for_people.running_mean, split.model[0].bn.for_cars.running_mean)
    assert torch.equal(other.model[0].bn.for_cars.running_mean, split.model[0].bn.for_cars.running_mean)
    assert {name.split(".")[1] for name in transfer.fresh} == {"5"}
    assert all("for_signs" in name or name.startswith("model.5.") for name in transfer.unused)


@pytest.mark.parametrize("config", ["yolov5n_multitask", "yolov5s_city_seg_bise", "yolov5s-transformer_v5"])
def test_folding_keeps_every_head_s_answer(config: str) -> None:
    torch.manual_seed(0)
    spec = load_spec(config).with_values(bn="per-task", width_multiple=0.125, depth_multiple=0.33)
    graph = vary_norms(Graph(spec)).eval()
    with torch.inference_mode():
        before = graph(images())
        assert fuse_graph(graph) is graph
        after = graph(images())
        for name in before:
            scale = max(level.abs().max().item() for level in before[name])
            assert same([level / scale for level in before[name]], [level / scale for level in after[name]], 1e-4)
    names = [name for name, module in graph.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any("for_" in name for name in names if name.endswith("bn"))
    state = {name: value.clone() for name, value in graph.state_dict().items()}
    assert all(torch.equal(value, state[name]) for name, value in fuse_graph(graph).state_dict().items())


def test_a_norm_that_cannot_be_folded_stays_one_for_each_head() -> None:
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "BottleneckCSP", [16]]]
    heads = [[[1], 1, "Detect", ["nc", "anchors"], name] for name in ("cars", "signs")]
    values = {"nc": 2, "anchors": [[8, 8]], "backbone": rows, "head": heads, "bn": "per-task"}
    graph = vary_norms(Graph(parse_spec(values, "rows.yaml"))).eval()
    before = graph(images())
    after = fuse_graph(graph)(images())
    assert all(same(before[name], after[name], 1e-4) for name in before)
    norms = [name for name, module in graph.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == ["model.1.bn.for_cars", "model.1.bn.for_signs"]


def test_averages_and_copies_run_by_themselves() -> None:
    graph = make()
    ema = ModelEma(graph)
    assert ema.module.selection is not graph.selection
    assert all(m.selection is ema.module.selection for m in ema.module.modules() if isinstance(m, PerHead))
    expected = {name: graph.eval()(images(), [name])[name] for name in graph.heads}
    graph.selection.name = "segment"
    assert same(ema.module(images(), ["detect"])["detect"], expected["detect"], 1e-5)
    assert graph.selection.name == "segment"
    graph.train()(images(), ["detect"])
    ema.update()
    assert not torch.equal(
        ema.module.model[0].bn.for_detect.running_mean, copy.deepcopy(graph).model[0].bn.for_detect.running_mean
    )


def test_use_with_test_time_augmentation_and_folded(tmp_path: Path) -> None:
    graph = make().eval()
    save_checkpoint(tmp_path / "a.safetensors", checkpoint_of(graph))
    with torch.inference_mode():
        for passes in (AUGMENTED[:1], AUGMENTED):
            folded = load_inference([tmp_path / "a.safetensors"], passes=passes)(images(), graph.heads)
            for name in graph.heads:
                expected = Inference([alone(graph, name).eval()], passes)(images(), (name,))[name]
                for field in ("boxes", "scores") if name == "detect" else ("probabilities",):
                    if hasattr(expected, field):
                        assert torch.allclose(
                            getattr(folded[name], field), getattr(expected, field), rtol=1e-3, atol=1e-3
                        )


@pytest.mark.parametrize("folded", [False, True])
def test_a_traced_export_keeps_the_heads_apart(folded: bool) -> None:
    graph = make().eval()
    exported = ExportedGraph(fuse_graph(graph) if folded else graph, graph.heads)
    with torch.no_grad():
        expected = exported(images())
        traced = torch.jit.trace(exported, images(1), strict=False, check_trace=False)
        graph.selection.name = "segment"
        found = traced(images())
        program = torch.export.export(exported, (images(),), strict=False).module()(images())
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-4), name
        assert torch.allclose(program[name], value, rtol=1e-4, atol=1e-4), name


def test_compiled_graphs_switch_heads() -> None:
    graph = make().eval()
    with torch.no_grad():
        expected = {name: graph(images(), [name])[name] for name in graph.heads}
        compiled = torch.compile(graph, backend="eager")
        for name in (*graph.heads, *graph.heads):
            assert same(compiled(images(), [name])[name], expected[name], 1e-5)


@pytest.mark.parametrize("norms", ["shared", "per-task"])
def test_recomputed_rows_find_the_norms_of_their_head(norms: str) -> None:
    """Both heads run forward before either runs backward, so the second run of a row must choose its head again."""
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        graph = vary_norms(read(BOTH, bn=norms)).train()
        graph.recompute = recompute
        torch.manual_seed(1)
        outputs = graph(images())
        sum(level.square().mean() for levels in outputs.values() for level in levels).backward()
        found.append(({n: p.grad for n, p in graph.named_parameters()}, graph.state_dict()))
    for plain, again in zip(*found, strict=True):
        assert all(torch.allclose(plain[name], again[name], rtol=1e-5, atol=1e-6) for name in plain)


def test_synchronised_norms_stay_apart() -> None:
    graph = nn.SyncBatchNorm.convert_sync_batchnorm(make()).eval()
    assert isinstance(graph.model[0].bn.of("detect"), nn.SyncBatchNorm)
    assert same(graph(images(), ["detect"])["detect"], make().eval()(images(), ["detect"])["detect"])


@pytest.mark.parametrize("norms", ["shared", "per-task"])
def test_frozen_norms_stay_as_they_are(norms: str) -> None:
    torch.manual_seed(0)
    graph = vary_norms(read(BOTH, bn=norms))
    graph.freeze_norms()
    graph.train()
    frozen = {n for n, module in graph.named_modules() if isinstance(module, nn.BatchNorm2d)}
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    outputs = graph(images())
    sum(level.square().mean() for levels in outputs.values() for level in levels).backward()
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    for name, parameter in graph.named_parameters():
        is_norm = name.rpartition(".")[0] in frozen
        assert parameter.requires_grad == (not is_norm) and (parameter.grad is None) == is_norm, name
    assert graph.training and graph.model[3].conv.training and not graph.model[3].bn.training
    assert same(graph.eval()(images())["detect"], outputs["detect"], 1e-5)
    assert not copy.deepcopy(graph).train().model[3].bn.training
    assert load_graph("yolov5n").train().model[0].bn.training
