"""Files of deformable DETRs, official ones and Hugging Face's: they compute the same, or one sentence says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.blank_rows import BlankRows, Rows
from models.checkpoint import Checkpoint, save_checkpoint
from models.convert.label_classes import COCO_IDS, classes_of, coco_names
from models.convert.ms_detr_facts import DetrFacts
from models.convert.ms_detr_names import HUGGING_FACE, HUGGING_FACE_RESNET, OFFICIAL, pieces, published_state
from models.convert.ms_detr_spec import SHIPPED, measure, spec_of_sizes
from models.convert.official import read_official
from models.graph import Graph
from models.spec import load_spec
from models.weights import build_model, load_weights, spec_of
from tests.models.convert.published_detr import LABELS, filled_rows, hugging_face_folder, official_file
from tests.models.convert.published_detr import small_spec as small
from utils.errors import ModelError

SINGLE = {"queries_row": ["LearnedQueries", ["queries"]]}
NO_REFINE = {**SINGLE, "options": {"box_refine": False}}
DEFORMABLE = "deformable-detr-r50"
MODELS = {
    "c": (small("ms-detr-r50-300"), {"use_ms_detr": True}),
    "pp": (small("ms-detr-r50-pp-300"), {"dropout": 0.0, "topk_eval": 100}),
    "c without its network": (small("ms-detr-r50-300", options={"aux_ffn": None}), {"use_ms_detr": True}),
    "a": (small("ms-detr-r50-a-300"), {}),
    "deformable": (small(DEFORMABLE), {}),
    "single stage": (small(DEFORMABLE, **SINGLE), {}),
    "without refinement": (small(DEFORMABLE, **NO_REFINE), {"with_box_refine": False}),
}


def answers(graph: Graph) -> Any:
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (found,) = graph(images, sizes=[(64, 96), (48, 64)]).values()
    return found


def assert_same_model(checkpoint: Checkpoint, original: Rows) -> None:
    state = original.state_dict()
    assert checkpoint.weights.keys() == state.keys()
    assert all(torch.equal(value, checkpoint.weights[name]) for name, value in state.items())
    wanted, here = (
        [(row.module, row.sources, row.args) for row in s.rows] for s in (original.spec, spec_of(checkpoint))
    )
    assert here == wanted


@pytest.mark.parametrize("name", MODELS)
def test_an_official_file_computes_the_same_and_goes_back(name: str, tmp_path: Path) -> None:
    spec, options = MODELS[name]
    graph = filled_rows(spec)
    path = tmp_path / "checkpoint.pth"
    saved = official_file(graph, **options)
    torch.save(saved, path)
    checkpoint = load_weights(path)
    assert_same_model(checkpoint, graph)
    about = checkpoint.progress["converted"]
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["tensors"] == f"all {len(pieces(graph, OFFICIAL))}"


def test_options_are_read_from_a_mapping_too(tmp_path: Path) -> None:
    graph = filled_rows(MODELS["a"][0])
    saved = official_file(graph, nms_iou_threshold=0, **MODELS["a"][1])
    saved["args"] = vars(saved["args"])
    torch.save(saved, tmp_path / "checkpoint.pth")
    assert_same_model(load_weights(tmp_path / "checkpoint.pth"), graph)


def test_a_converted_file_computes_the_same_and_goes_back_to_all_its_names(tmp_path: Path) -> None:
    graph = Graph(MODELS["a"][0]).eval()
    graph.load_state_dict(filled_rows(MODELS["a"][0]).state_dict())
    saved = official_file(graph)
    torch.save(saved, tmp_path / "x.pth")
    save_checkpoint(tmp_path / "x.safetensors", load_weights(tmp_path / "x.pth"))
    built = build_model(load_weights(tmp_path / "x.safetensors"))
    found, expected = answers(built), answers(graph)
    assert expected.logits.std() > 0.01
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.boxes, expected.boxes)
    again = published_state(built, OFFICIAL)
    assert again.keys() == saved["model"].keys()
    assert all(torch.equal(value, saved["model"][key]) for key, value in again.items())


@pytest.mark.parametrize("name", ["deformable", "single stage", "without refinement"])
@pytest.mark.parametrize("scheme", [HUGGING_FACE, HUGGING_FACE_RESNET], ids=["timm", "resnet"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_hugging_face_computes_the_same(name: str, scheme: Any, file: str, tmp_path: Path) -> None:
    graph = filled_rows(MODELS[name][0])
    config = {"two_stage": graph.heads["detect"].proposes, "with_box_refine": graph.heads["detect"].box_refine}
    labels = {"0": "cat", "1": "dog", "2": "cow"}
    folder = hugging_face_folder(graph, tmp_path / "mine", scheme, file, num_queries=12, id2label=labels, **config)
    checkpoint = load_weights(folder)
    assert_same_model(checkpoint, graph)
    assert checkpoint.names == {"detect": ["cat", "dog", "cow"]}


def bare(graph: Graph) -> dict[str, torch.Tensor]:
    """Return an official state dict in which every tensor is written once."""
    state = published_state(graph, OFFICIAL)
    return {piece.name: state[piece.name].clone() for piece in pieces(graph, OFFICIAL)}


def test_files_without_second_names_and_of_parallel_runs_are_read(tmp_path: Path) -> None:
    graph = filled_rows(MODELS["a"][0])
    state = {f"module.{name}": value for name, value in bare(graph).items()}
    state |= {"module.total_params": torch.zeros(1), "module.backbone.0.body.bn1.num_batches_tracked": torch.tensor(1)}
    torch.save({"model": state}, tmp_path / "x.pth")
    checkpoint = load_weights(tmp_path / "x.pth")
    assert checkpoint.weights.keys() == graph.state_dict().keys()
    assert all(torch.equal(value, checkpoint.weights[name]) for name, value in graph.state_dict().items())
    left_out = checkpoint.progress["converted"]["left out"]
    assert "total_params" in left_out and "num_batches_tracked" in left_out


def test_names_of_newer_transformers_are_read(tmp_path: Path) -> None:
    graph = filled_rows(MODELS["deformable"][0])
    state = {}
    for name, value in published_state(graph, HUGGING_FACE).items():
        name = name.replace("backbone.conv_encoder.", "backbone.").replace("self_attn.out_proj", "self_attn.o_proj")
        state[name.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")] = value.clone()
    save_file(state, tmp_path / "x.safetensors")
    checkpoint = load_weights(tmp_path / "x.safetensors")
    assert all(torch.equal(value, checkpoint.weights[name]) for name, value in graph.state_dict().items())


def test_options_of_a_file_become_those_of_the_model(tmp_path: Path) -> None:
    graph = filled_rows(MODELS["c"][0])
    options = {"num_queries": 30, "dropout": 0.2, "topk_eval": 50, "nms_iou_threshold": 0.7, "look_forward_twice": True}
    torch.save(official_file(graph, **options), tmp_path / "x.pth")
    built = BlankRows(spec_of(load_weights(tmp_path / "x.pth")))
    head = built.heads["detect"]
    assert (head.queries, head.top_k, head.nms, head.look_forward_twice) == (30, 50, 0.7, True)
    assert head.dropout == 0.2


def test_published_labels_are_ids_of_coco(tmp_path: Path) -> None:
    graph = filled_rows(small(nc=91))
    torch.save(official_file(graph), tmp_path / "x.pth")
    checkpoint = load_weights(tmp_path / "x.pth")
    built = BlankRows(spec_of(checkpoint))
    assert checkpoint.names == {"detect": coco_names()}
    assert tuple(built.heads["detect"].category_ids) == COCO_IDS == tuple(built.model[10].category_ids)
    assert all(torch.equal(value, checkpoint.weights[name]) for name, value in graph.state_dict().items())


@pytest.mark.parametrize("name", SHIPPED)
def test_tensors_of_shipped_models_lead_back_to_them(name: str) -> None:
    graph = BlankRows(load_spec(name))
    shapes = {piece.name: piece.shape for piece in pieces(graph, OFFICIAL)}
    sizes = measure("x.pth", shapes, OFFICIAL, box_refine=True)
    assert spec_of_sizes("x.pth", sizes, DetrFacts(), classes_of(sizes.labels)).source == f"{name}.yaml"
    assert len(published_state(graph, OFFICIAL)) == {"ms-detr-r50-300": 666, "ms-detr-r50-a-300": 678}.get(
        name, 630 if name == DEFORMABLE else 667
    )


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a missing tensor": (
        lambda state: state.pop("transformer.encoder.layers.1.norm1.weight"),
        r"transformer\.encoder\.layers\.1\.norm1\.weight is missing",
    ),
    "one too many": (
        lambda state: state.update({"transformer.decoder.norm.weight": torch.zeros(4)}),
        r"transformer\.decoder\.norm\.weight has no place",
    ),
    "another shape": (
        lambda state: state.update({"input_proj.1.0.bias": torch.zeros(4)}),
        r"input_proj\.1\.0\.bias has another shape \(4 there, 32 here\)",
    ),
    "copies that differ": (
        lambda state: state.update({"transformer.decoder.class_embed.1.bias": torch.ones(LABELS)}),
        r"class_embed\.1\.bias are one tensor of the network, but differ",
    ),
    "no heads": (
        lambda state: [state.pop(name) for name in list(state) if "class_embed.0." in name],
        r"class_embed\.0\.weight, which tells its size, is missing",
    ),
    "no backbone": (
        lambda state: [state.pop(name) for name in list(state) if "layer1." in name],
        r"layer1\.0\.conv2\.weight, which tells its size, is missing",
    ),
    "a width that no heads divide": (
        lambda state: state.update(
            {"transformer.encoder.layers.0.self_attn.attention_weights.weight": torch.zeros(33, 32)}
        ),
        r"its attention has no 8 heads.* --cfg MODEL\.yaml",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    state = dict(published_state(filled_rows(MODELS["c"][0]), OFFICIAL))
    change(state)
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=message):
        load_weights(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "detr"}, "belongs to a model of the type 'detr', not deformable_detr"),
        ({"dilation": True}, "'dilation' is 'True', and only False is computed here"),
        ({"activation_function": "gelu"}, "'activation_function' is 'gelu'"),
        ({"decoder_attention_heads": 4}, "one number of attention heads here, not 8 and 4"),
        ({"encoder_attention_heads": 5, "decoder_attention_heads": 5}, "its attention has no 5 heads"),
    ],
)
def test_a_config_that_is_not_computed_here_is_refused(config: Any, message: str, tmp_path: Path) -> None:
    folder = hugging_face_folder(filled_rows(MODELS["deformable"][0]), tmp_path / "x", **config)
    with pytest.raises(ModelError, match=message):
        load_weights(folder)


def test_dilated_files_are_refused(tmp_path: Path) -> None:
    torch.save(official_file(filled_rows(MODELS["c"][0]), dilation=True), tmp_path / "x.pth")
    with pytest.raises(ModelError, match="--dilation"):
        load_weights(tmp_path / "x.pth")


def test_a_yaml_may_be_named_and_must_fit(tmp_path: Path) -> None:
    spec = MODELS["deformable"][0]
    graph = filled_rows(spec)
    torch.save({"model": bare(graph)}, tmp_path / "x.pth")
    (tmp_path / "mine.yaml").write_text(spec.text)
    checkpoint = read_official(tmp_path / "x.pth", tmp_path / "mine.yaml")
    assert checkpoint.progress["converted"]["family"] == "Deformable-DETR (the official programs)"
    assert_same_model(checkpoint, graph)
    with pytest.raises(ModelError, match="is not laid out as a deformable DETR of the official programs: "):
        read_official(tmp_path / "x.pth", "yolos-ti")
    (tmp_path / "other.yaml").write_text(small(DEFORMABLE, ffn=64).text)
    with pytest.raises(ModelError, match=r"linear1\.weight has another shape"):
        read_official(tmp_path / "x.pth", tmp_path / "other.yaml")
