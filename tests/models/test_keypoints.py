"""Keypoints of a model: their number follows the data, their description travels in checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data.keypoints import COCO_PERSON, KeypointSpec, generic_keypoints
from models.checkpoint import HEADER_KEY, Checkpoint, load_checkpoint, save_checkpoint
from models.checkpoint_info import checkpoint_facts, describe_checkpoint
from models.graph import Graph, load_graph, with_keypoints
from models.spec import load_spec, parse_spec
from models.transfer import transfer_weights
from models.weights import graph_for_data, load_model
from utils.errors import ModelError

VALUES: dict[str, Any] = {
    "nc": 1,
    "nkpt": 17,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
    "head": [[[0], 1, "YOLOXPose", ["nc", 8, "nkpt"]]],
}
ANIMAL = KeypointSpec(("nose", "left_ear", "right_ear"), (0, 2, 1), (0.02, 0.03, 0.03), ((0, 1), (0, 2)))


def graph_of(**changes: Any) -> Graph:
    torch.manual_seed(0)
    return Graph(parse_spec({**VALUES, **changes}, "pose.yaml"))


def checkpoint_of(graph: Graph) -> Checkpoint:
    return Checkpoint(
        graph.spec.source, graph.spec.text, graph.names, {"model": graph.state_dict()}, keypoints=graph.keypoints
    )


def test_the_number_of_the_data_takes_the_place_of_the_files() -> None:
    with torch.device("meta"):
        graph = load_graph("yolox_pose_tiny", {"pose": 2}, keypoints={"pose": 3, "segment": 9})
    head = graph.heads["pose"]
    assert head.num_classes == 2 and len(head.keypoints) == 3 and head.keypoints == generic_keypoints(3)
    assert head.offset_preds[0].out_channels == 6 and head.vis_preds[2].out_channels == 3
    assert graph.spec.values["nkpt"] == 3 and parse_spec(graph.spec.values, "again").rows[-1].args == [2, 256, 3]


def test_a_number_in_the_row_itself() -> None:
    spec = graph_of(head=[[[0], 1, "YOLOXPose", [1, 8, 17]]]).spec
    assert with_keypoints(spec, {"pose": 4}).rows[-1].args == [1, 8, 4]


def test_heads_that_share_the_symbol_may_differ() -> None:
    rows = [[[0], 1, "YOLOXPose", ["nc", 8, "nkpt"], name] for name in ("people", "dogs")]
    changed = with_keypoints(graph_of(head=rows).spec, {"people": 17, "dogs": 20})
    assert {name: len(spec) for name, spec in Graph(changed).keypoints.items()} == {"people": 17, "dogs": 20}


def test_heads_without_keypoints_have_none() -> None:
    with torch.device("meta"):
        graph = load_graph("yolox_s_base", keypoints={"detect": 17})
    assert graph.keypoints == {} and graph.heads["detect"].keypoints is None
    with pytest.raises(ModelError, match="the head 'detect' has no keypoints, but 3 are described"):
        graph.set_keypoints("detect", ANIMAL)


def test_a_description_of_another_number_is_refused() -> None:
    graph = graph_of()
    assert graph.keypoints == {"pose": COCO_PERSON}
    with pytest.raises(ModelError, match="the head 'pose' has 17 keypoints, but 3 are described"):
        graph.set_keypoints("pose", ANIMAL)


def test_descriptions_travel_in_checkpoints(tmp_path: Path) -> None:
    graph = graph_of(nkpt=3)
    assert graph.keypoints == {"pose": generic_keypoints(3)}
    graph.set_keypoints("pose", ANIMAL)
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, checkpoint_of(graph))
    assert load_checkpoint(path).keypoints == {"pose": ANIMAL}
    assert load_model(path).heads["pose"].keypoints == ANIMAL


def test_they_are_told_with_a_checkpoint() -> None:
    graph = graph_of(nkpt=3)
    graph.set_keypoints("pose", ANIMAL)
    assert checkpoint_facts(checkpoint_of(graph))["heads"]["pose"]["keypoints"] == list(ANIMAL.names)
    assert "3 keypoints: nose, left_ear, right_ear" in describe_checkpoint(checkpoint_of(graph))


def test_files_without_descriptions_have_the_usual_ones(tmp_path: Path) -> None:
    graph, path = graph_of(), tmp_path / "best.safetensors"
    save_checkpoint(path, Checkpoint("pose.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    with safe_open(path, framework="pt") as file:
        assert "keypoints" not in json.loads(file.metadata()[HEADER_KEY])
    assert load_model(path).keypoints == {"pose": COCO_PERSON}


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ([], "'keypoints' of its header is damaged"),
        ({"pose": None}, "'keypoints' of its header is damaged"),
        ({"pose": {"names": ["a"]}}, "'keypoints' of its header is damaged"),
        ({"pose": {**ANIMAL.to_plain(), "flip": [0, 1, 9]}}, "'keypoints' of its header is damaged"),
        ({"pose": {**ANIMAL.to_plain(), "flip": [0, 1, float("inf")]}}, "'keypoints' of its header is damaged"),
        ({"pose": {**ANIMAL.to_plain(), "sigmas": [0.1, 0.1, 10**400]}}, "'keypoints' of its header is damaged"),
        ({"pose": {**ANIMAL.to_plain(), "names": ["x" * 9999] * 3}}, "'keypoints' of its header is damaged"),
        ({"pose": ANIMAL.to_plain()}, "the head 'pose' has 17 keypoints, but 3 are described"),
        ({"people": ANIMAL.to_plain()}, "describes keypoints of a head 'people' that the model has not"),
    ],
)
def test_damaged_descriptions_get_one_sentence(tmp_path: Path, described: Any, words: str) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, checkpoint_of(graph_of()))
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER_KEY])
    header["keypoints"] = described
    save_file(load_file(path), path, {HEADER_KEY: json.dumps(header)})
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_weights_with_another_number_keep_all_but_those_layers() -> None:
    start = checkpoint_of(graph_of())
    graph = graph_for_data(start, {"pose": 1}, {"pose": 3})
    transfer = transfer_weights(graph, start)
    layers = {name.split(".")[2] for name, _, _ in transfer.other_shape}
    assert layers == {"offset_preds", "vis_preds"} and transfer.fresh == transfer.unused == []
    assert torch.equal(
        graph.heads["pose"].pose_convs[0][0].conv.weight, start.weights["model.1.pose_convs.0.0.conv.weight"]
    )


def test_a_pose_model_starts_from_a_detector() -> None:
    """Towers for boxes and classes go over; the layer of the classes has another shape, those of the poses are new."""
    torch.manual_seed(1)
    detector = Graph(parse_spec({**VALUES, "nc": 80, "head": [[[0], 1, "YOLOXDetect", ["nc", 8]]]}, "detect.yaml"))
    start, graph = checkpoint_of(detector), graph_of()
    transfer = transfer_weights(graph, start)
    assert {name.split(".")[2] for name, _, _ in transfer.other_shape} == {"cls_preds"}
    assert {name.split(".")[2] for name in transfer.fresh} == {"pose_convs", "offset_preds", "vis_preds"}
    assert transfer.unused == []
    theirs, ours = detector.heads["detect"], graph.heads["pose"]
    assert torch.equal(ours.cls_convs[0][1].conv.weight, theirs.cls_convs[0][1].conv.weight)


def test_a_detector_starts_from_a_pose_model() -> None:
    start, graph = checkpoint_of(graph_of()), graph_of(head=[[[0], 1, "YOLOXDetect", ["nc", 8]]])
    transfer = transfer_weights(graph, start)
    assert transfer.fresh == [] and transfer.other_shape == []
    assert {name.split(".")[2] for name in transfer.unused} == {"pose_convs", "offset_preds", "vis_preds"}
    for name, value in graph.state_dict().items():
        assert torch.equal(value, start.weights[name])


def test_two_heads_that_could_give_their_weights_give_none() -> None:
    rows = [[[0], 1, "YOLOXPose", ["nc", 8, "nkpt"], name] for name in ("people", "dogs")]
    start, graph = checkpoint_of(graph_of(head=rows)), graph_of(head=[[[0], 1, "YOLOXDetect", ["nc", 8]]])
    transfer = transfer_weights(graph, start)
    assert {name.split(".")[1] for name in transfer.fresh} == {"1"} and len(transfer.unused) > len(transfer.fresh)


def test_a_pose_head_prefers_the_weights_of_a_pose_head() -> None:
    rows = [[[0], 1, "YOLOXDetect", ["nc", 8]], [[0], 1, "YOLOXPose", ["nc", 8, "nkpt"]]]
    both, graph = graph_of(head=rows), graph_of()
    transfer = transfer_weights(graph, checkpoint_of(both))
    assert not transfer.fresh and all(name.startswith("model.1.") for name in transfer.unused)
    assert torch.equal(graph.heads["pose"].stems[0].conv.weight, both.heads["pose"].stems[0].conv.weight)


def test_the_zoo_builds_with_any_number() -> None:
    with torch.device("meta"):
        graph = Graph(with_keypoints(load_spec("yolox_pose_s_base"), {"pose": 2}))
    assert {name: len(spec) for name, spec in graph.keypoints.items()} == {"pose": 2}
