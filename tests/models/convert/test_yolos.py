"""Files of YOLOS, official ones and Hugging Face's: they compute the same, or one sentence says why not."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import Checkpoint, save_checkpoint
from models.checkpoint_info import describe_checkpoint
from models.convert.__main__ import main as convert
from models.convert.label_classes import COCO_IDS, classes_of, coco_names
from models.convert.official import read_official
from models.convert.pieces import our_state
from models.convert.yolos_names import HUGGING_FACE, OFFICIAL, SCHEMES, pieces, published_state
from models.convert.yolos_spec import Facts, measure, spec_of_sizes
from models.graph import Graph
from models.spec import load_spec, parse_spec
from models.weights import build_model, load_weights
from tests.models.convert.published_yolos import filled_graph, hugging_face_folder, official_file, small_spec
from utils.errors import ModelError, UsageError

SHIPPED = ("yolos-ti", "yolos-s", "yolos-s-dwr", "yolos-b", "yolos-s-pe")


def assert_same_model(ours: Graph, original: Graph) -> None:
    images = torch.randint(0, 256, (2, 3, 48, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (found,), (expected,) = (list(graph(images).values()) for graph in (ours, original))
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.boxes, expected.boxes)


@pytest.mark.parametrize(("cfg", "zipped"), [("yolos-s", True), ("yolos-ti", False)], ids=["zip", "row of pickles"])
def test_an_official_file_computes_the_same(cfg: str, zipped: bool, tmp_path: Path) -> None:
    graph = filled_graph(small_spec(cfg))
    path = tmp_path / "checkpoint.pth"
    torch.save(official_file(graph), path, _use_new_zipfile_serialization=zipped)
    checkpoint = load_weights(path)
    assert_same_model(build_model(checkpoint), graph)
    assert checkpoint.names == {"detect": ["0", "1", "2"]}
    about = checkpoint.progress["converted"]
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["family"] == "YOLOS (the official YOLOS)" and about["tensors"].startswith("all ")
    assert "3 classes" in describe_checkpoint(checkpoint)


@pytest.mark.parametrize(("cfg", "name"), [("yolos-s", "model.safetensors"), ("yolos-ti", "pytorch_model.bin")])
def test_a_folder_of_hugging_face_computes_the_same(cfg: str, name: str, tmp_path: Path) -> None:
    graph = filled_graph(small_spec(cfg, width=48, heads=6))
    labels = {"0": "cat", "1": "dog", "2": "cow"}
    folder = hugging_face_folder(graph, tmp_path / "mine", name, num_attention_heads=6, id2label=labels)
    for path in (folder, folder / name):
        checkpoint = load_weights(path)
        assert_same_model(build_model(checkpoint), graph)
        assert checkpoint.names == {"detect": ["cat", "dog", "cow"]}
    assert checkpoint.progress["converted"]["family"] == "YOLOS (Hugging Face)"


def test_a_file_of_hugging_face_by_itself(tmp_path: Path) -> None:
    graph = filled_graph(small_spec(pe_size=[800, 1344], nc=2))
    folder = hugging_face_folder(graph, tmp_path / "a")
    (folder / "config.json").unlink()
    assert_same_model(build_model(load_weights(folder / "model.safetensors")), graph)
    with pytest.raises(ModelError, match=r"^\S+a: is a folder; give the checkpoint in it"):
        load_weights(folder)


def test_weights_of_a_model_in_memory(tmp_path: Path) -> None:
    graph = filled_graph(small_spec(pe_size=[512, 864]))
    state = published_state(graph, HUGGING_FACE)
    state["vit.encoder.interpolation.mid_position_embeddings"] = state.pop(HUGGING_FACE.tables)
    torch.save(state, tmp_path / "mine.pt")
    assert_same_model(build_model(load_weights(tmp_path / "mine.pt")), graph)


def test_half_precision_and_wrappers(tmp_path: Path) -> None:
    graph = copy.deepcopy(filled_graph(small_spec()))
    for value in graph.parameters():
        value.data = value.data.half().float()
    saved = official_file(graph)
    saved["model"] = {f"module.{name}": value.half() for name, value in saved["model"].items()}
    torch.save(saved, tmp_path / "x.pth")
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


@pytest.mark.parametrize("cfg", SHIPPED)
def test_every_published_size_is_found_from_tensors_alone(cfg: str) -> None:
    shipped = load_spec(cfg)
    with torch.device("meta"):
        graph = Graph(shipped.with_values(nc=91))
    for scheme in SCHEMES:
        found = pieces(graph, scheme)
        sizes = measure("x.pth", {piece.name: piece.shape for piece in found}, scheme)
        spec = spec_of_sizes("x.pth", sizes, Facts(), classes_of(sizes.labels))
        assert spec.source == f"{cfg}.yaml" and sizes.labels == 91
        assert [row.args for row in spec.rows[:-1]] == [row.args for row in shipped.rows[:-1]]
        assert spec.rows[-1].args == [80, list(COCO_IDS)]
        assert all(spec.values[key] == shipped.values[key] for key in ("input", "recipe"))


def test_tensors_are_cut_and_joined_as_published() -> None:
    graph = filled_graph(small_spec())
    state = graph.state_dict()
    theirs, official = published_state(graph, HUGGING_FACE), published_state(graph, OFFICIAL)
    block = "encoder.layer.1.attention.attention"
    parts = [theirs[f"vit.{block}.{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(torch.cat(parts), official["backbone.blocks.1.attn.qkv.weight"])
    assert torch.equal(official["backbone.blocks.1.attn.qkv.weight"], state["model.1.1.qkv.weight"])
    assert torch.equal(theirs["vit.encoder.layer.2.output.dense.bias"], state["model.2.fc2.bias"])
    tables = torch.stack([state[f"model.1.{i}.pos_embed"] for i in range(2)])
    assert torch.equal(official["backbone.mid_pos_embed"], tables) and tables.shape[:2] == (2, 1)
    for scheme, published in ((HUGGING_FACE, theirs), (OFFICIAL, official)):
        again = our_state(pieces(graph, scheme), published.__getitem__)
        assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)


def test_published_weights_answer_in_the_classes_of_coco(tmp_path: Path) -> None:
    graph = filled_graph(small_spec(nc=91))
    torch.save(official_file(graph), tmp_path / "x.pth")
    loaded = build_model(load_weights(tmp_path / "x.pth"))
    assert loaded.names["detect"] == coco_names() and loaded.names["detect"][79] == "toothbrush"
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        raw = loaded(images)["detect"]
        found = loaded.heads["detect"].predict(raw, (64, 96))
    assert raw.logits.shape[-1] == 92
    assert torch.equal(found.scores, raw.logits.softmax(-1)[..., list(COCO_IDS)])


COCO_LABELS = ["N/A"] * 91
for label, text in zip(COCO_IDS, coco_names(), strict=True):
    COCO_LABELS[label] = text


@pytest.mark.parametrize(
    ("labels", "written", "count", "ids"),
    [
        (91, None, 80, list(COCO_IDS)),
        (91, COCO_LABELS, 80, list(COCO_IDS)),
        (91, [name.replace("N/A", "hat") for name in COCO_LABELS], 80, list(COCO_IDS)),
        (91, [f"LABEL_{i}" for i in range(91)], 80, list(COCO_IDS)),
        (91, [f"plant {i}" for i in range(91)], 91, None),
        (80, None, 80, None),
        (4, ["N/A", "balloon", "N/A", "kite"], 2, [1, 3]),
        (3, ["cat", "dog", "N/A"], 3, None),
        (4, ["cat", "N/A", "dog", "N/A"], 3, [0, 2, 3]),
        (2, ["cat"], 2, None),
    ],
)
def test_what_labels_stand_for(labels: int, written: list[str] | None, count: int, ids: list[int] | None) -> None:
    found = classes_of(labels, written)
    assert (len(found.names), found.ids) == (count, ids)
    if count == 80:
        assert found.names == coco_names()


def test_another_table_between_blocks_and_an_odd_size(tmp_path: Path) -> None:
    spec = small_spec("yolos-s")
    rows = [[*row[:3], [*row[3][:-1], [48, 64]]] if row[2] == "ViTBlockPE" else row for row in spec.values["backbone"]]
    graph = filled_graph(spec.with_values(backbone=rows, pe_size=[70, 100]))
    torch.save(official_file(graph, init_pe_size=[70, 100], mid_pe_size=[48, 64]), tmp_path / "x.pth")
    loaded = build_model(load_weights(tmp_path / "x.pth"))
    assert_same_model(loaded, graph)
    assert loaded.spec.values["pe_size"] == [70, 100] and loaded.spec.values["mid_pe_size"] == [48, 64]


def test_a_portrait_table_stays_one(tmp_path: Path) -> None:
    graph = filled_graph(small_spec(pe_size=[96, 64]))
    torch.save(official_file(graph, init_pe_size=[96, 64], mid_pe_size=[96, 64]), tmp_path / "x.pth")
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


def test_another_ratio_of_inner_channels(tmp_path: Path) -> None:
    spec = small_spec("yolos-ti")
    rows = [[*row[:3], [*row[3][:2], 2.7]] if row[2] == "ViTBlock" else row for row in spec.values["backbone"]]
    graph = filled_graph(spec.with_values(backbone=rows))
    torch.save(official_file(graph), tmp_path / "x.pth")
    assert_same_model(build_model(load_weights(tmp_path / "x.pth")), graph)


def test_a_model_of_ones_own_is_named_with_cfg(tmp_path: Path) -> None:
    graph = filled_graph(small_spec(width=48, heads=3))
    (tmp_path / "mine.yaml").write_text(graph.spec.text)
    torch.save(published_state(graph, OFFICIAL), tmp_path / "x.pth")
    assert_same_model(build_model(read_official(tmp_path / "x.pth", tmp_path / "mine.yaml")), graph)
    for cfg, sentence in (("yolox_s", "not laid out as a YOLOS"), ("yolos-ti", r"blocks\.3\.norm1\.weight is missing")):
        with pytest.raises(ModelError, match=rf"x\.pth.*{sentence}"):
            read_official(tmp_path / "x.pth", cfg)


def test_rows_that_only_look_like_a_yolos_are_refused() -> None:
    values = small_spec().values
    rows = values["backbone"]
    for backbone, sentence in (
        ([rows[0], rows[2], rows[1], rows[3]], "behind all blocks but the last"),
        ([rows[0], rows[1], rows[2], rows[3], rows[3]], "no chain"),
        ([rows[0], rows[1], [-2, *rows[2][1:]], rows[3]], "its row 2 does not read the row before it"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pieces(Graph(parse_spec({**values, "backbone": backbone}, "x")), OFFICIAL)


def remove(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda saved: saved["model"].pop(name)


def replace_by(name: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    return lambda saved: saved["model"].update({name: torch.zeros(shape)})


def options(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda saved: vars(saved["args"]).update(values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove("backbone.blocks.1.attn.proj.bias"), r"backbone\.blocks\.1\.attn\.proj\.bias is missing$"),
        (remove("backbone.pos_embed"), r"backbone\.pos_embed, which tells its size, is missing"),
        (remove("backbone.det_token"), r"backbone\.det_token, which tells its size, is missing"),
        (remove("class_embed.layers.2.weight"), r"class_embed\.layers\.2\.weight, which tells its size, is missing"),
        (remove("backbone.mid_pos_embed"), r"never"),
        (replace_by("backbone.extra", 3), r"backbone\.extra has no place in it$"),
        (replace_by("backbone.norm.bias", 5), r"backbone\.norm\.bias has another shape \(5 there, 64 here\)$"),
        (replace_by("backbone.mid_pos_embed", 3, 1, 30, 64), r"another shape \(3x1x30x64 there, 2x1x30x64 here\)$"),
        (replace_by("backbone.patch_embed.proj.weight", 64, 3), r"proj\.weight.*has not 4 axes"),
        (replace_by("backbone.patch_embed.proj.weight", 0, 3, 16, 16), r"proj\.weight.*has not 4 axes"),
        (options(init_pe_size=[64, 64]), r"has 24 patches, but it is said to be made for pictures of 64x64 pixels"),
        (options(init_pe_size=None), r"has 24 patches, and nothing says of how many rows and columns"),
    ],
)
def test_what_cannot_be_rebuilt(change: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path) -> None:
    saved = official_file(filled_graph(small_spec()))
    change(saved)
    torch.save(saved, tmp_path / "broken.pth")
    if sentence == "never":
        # Without tables between blocks it is another network, but a whole one.
        assert build_model(load_weights(tmp_path / "broken.pth")).spec.rows[1].module == "ViTBlock"
        return
    with pytest.raises(ModelError, match=rf"(?s)^\S+broken\.pth.*{sentence}") as caught:
        load_weights(tmp_path / "broken.pth")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_heads_that_nothing_tells(tmp_path: Path) -> None:
    torch.save(official_file(filled_graph(small_spec(width=48, heads=3))), tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"x\.pth: its tokens have 48 channels, which do not tell how many .* --cfg"):
        load_weights(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "detr"}, r"config\.json: belongs to a model of the type 'detr', not yolos"),
        ({"hidden_act": "relu"}, r"config\.json: 'hidden_act' is 'relu', and only 'gelu' is computed here"),
        ({"layer_norm_eps": 0.1}, r"config\.json: 'layer_norm_eps' is 0\.1"),
        ({"num_attention_heads": "six"}, r"config\.json: 'num_attention_heads' is no number"),
        ({"num_attention_heads": 7}, "7 attention heads do not divide the width 64"),
        ({"image_size": [512, 864]}, r"model\.safetensors: its position table has 24 patches, but it is said"),
    ],
)
def test_a_configuration_that_does_not_fit(config: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = hugging_face_folder(filled_graph(small_spec()), tmp_path / "a", **config)
    with pytest.raises(ModelError, match=sentence):
        load_weights(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"a": "' + "x" * 2**22 + '"}'])
def test_a_damaged_configuration(text: str, tmp_path: Path) -> None:
    folder = hugging_face_folder(filled_graph(small_spec("yolos-ti", 1)), tmp_path / "a")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: is no configuration of a model"):
        load_weights(folder)


def test_folders_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has a config\.json, but neither model\.safetensors nor pytorch_model\.bin"):
        load_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="cut into several files"):
        load_weights(tmp_path)
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00002-of-00010.safetensors")
    with pytest.raises(ModelError, match="holds a part of a model, whose weights are cut into several files"):
        load_weights(tmp_path / "model-00002-of-00010.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00001-of-00001.safetensors")
    with pytest.raises(ModelError, match="holds 1 tensors but not the model"):
        load_weights(tmp_path / "model-00001-of-00001.safetensors")


def test_a_safetensors_file_of_nobody(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"x\.safetensors: holds 1 tensors but not the model they belong to"):
        load_weights(tmp_path / "x.safetensors")
    save_file({"a": torch.zeros(2).to(torch.float8_e5m2)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"the tensor a is of type F8_E5M2, which is not read here"):
        load_weights(tmp_path / "x.safetensors")


def test_the_way_to_hugging_face_and_back_is_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = filled_graph(small_spec(nc=91))
    torch.save(official_file(graph), tmp_path / "official.pth")
    convert([str(tmp_path / "official.pth"), str(tmp_path / "ours.safetensors")])
    convert([str(tmp_path / "ours.safetensors"), str(tmp_path / "theirs"), "--to", "huggingface"])
    convert([str(tmp_path / "theirs"), str(tmp_path / "again.safetensors")])
    assert f"wrote {tmp_path / 'theirs'}" in capsys.readouterr().out
    first, second = (load_weights(tmp_path / f"{name}.safetensors") for name in ("ours", "again"))
    assert (first.graph_yaml, first.names, first.source) == (second.graph_yaml, second.names, second.source)
    for name, value in first.weights.items():
        assert value.numpy().tobytes() == second.weights[name].numpy().tobytes()
    again = published_state(build_model(second), OFFICIAL)
    assert all(torch.equal(value, again[name]) for name, value in official_file(graph)["model"].items())
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_hidden_layers"], config["use_mid_position_embeddings"]) == (
        *(1, 3),
        True,
    )
    assert config["id2label"]["90"] == "toothbrush" and config["id2label"]["12"] == "N/A"
    assert len(config["id2label"]) == 91 and config["label2id"]["person"] == 1
    rule = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert rule["size"] == {"shortest_edge": 512, "longest_edge": 853}
    assert rule["image_mean"] == [0.485, 0.456, 0.406] and rule["rescale_factor"] == 1 / 255


def test_a_trained_model_goes_to_hugging_face_with_its_size_and_classes(tmp_path: Path) -> None:
    graph = filled_graph(small_spec("yolos-ti", nc=2, pe_size=[70, 100]))
    names = {"detect": ["cat", "dog"]}
    run = {"options": {"img_size": [320, 448]}}
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, Checkpoint("mine.yaml", graph.spec.text, names, {"ema": graph.state_dict()}, run))
    convert([str(path), str(tmp_path / "theirs"), "--to", "huggingface"])
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["id2label"] == {"0": "cat", "1": "dog"} and config["image_size"] == [70, 100]
    rule = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert rule["size"]["shortest_edge"] == 448
    assert_same_model(build_model(load_weights(tmp_path / "theirs")), graph)
    convert([str(path), str(tmp_path / "theirs"), "--to", "huggingface", "--img-size", "256"])
    rule = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert rule["size"] == {"shortest_edge": 256, "longest_edge": 426}


def test_what_hugging_face_has_no_model_for(tmp_path: Path) -> None:
    spec = small_spec()
    rows = [[*row[:3], [*row[3][:-1], [48, 64]]] if row[2] == "ViTBlockPE" else row for row in spec.values["backbone"]]
    for number, (other, sentence) in enumerate(
        (
            (spec.with_values(backbone=rows), "several grids"),
            (load_spec("yolov3-tiny").with_values(width_multiple=0.0625), "no chain"),
            (spec.with_values(input={**spec.values["input"], "channels": "BGR"}), "other channels"),
        )
    ):
        graph = Graph(other)
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(path, Checkpoint("x.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
        with pytest.raises(ModelError, match=rf"x\.yaml cannot be written for Hugging Face.*{sentence}"):
            convert([str(path), str(tmp_path / "theirs"), "--to", "huggingface"])
        assert not (tmp_path / "theirs").exists()


def test_wrong_calls_of_the_converter(tmp_path: Path) -> None:
    torch.save(official_file(filled_graph(small_spec())), tmp_path / "x.pth")
    (tmp_path / "file").touch()
    for arguments, sentence in (
        ([tmp_path / "x.pth", tmp_path / "file", "--to", "huggingface"], "is a file; name the folder"),
        ([tmp_path / "x.pth", tmp_path / "a" / "b", "--to", "huggingface"], "there is no folder"),
        ([tmp_path / "x.pth", tmp_path / "a", "--to", "huggingface", "--raw"], "--raw is for files of mmengine"),
        ([tmp_path / "x.pth", tmp_path / "a", "--to", "huggingface", "--img-size", "0"], "above 0"),
        ([tmp_path / "x.pth", tmp_path / "a.safetensors", "--img-size", "64"], "belongs to --to huggingface"),
        ([tmp_path / "none.pth", tmp_path / "a", "--to", "huggingface"], "there is no such file"),
    ):
        with pytest.raises(UsageError, match=sentence):
            convert(list(map(str, arguments)))
