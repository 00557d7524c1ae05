"""Every config of the zoo goes one round: build, forward, backward, save, load, table. A new file joins by existing."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from data.samples import Batch
from models.blank_rows import BlankRows
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.graph import Graph, load_graph
from models.heads.detect import Detect
from models.spec import CONFIG_ROOT, ModelSpec, load_spec, parse_spec
from models.table import format_table, tabulate_model
from models.weights import build_model
from utils.recipe import fill_recipe

CONFIGS = {path.stem: path for path in sorted(CONFIG_ROOT.rglob("*.yaml"))}
spec_of = functools.cache(load_spec)
"""Reads every file once, because even collecting these tests reads them all."""
STRIDES = {
    "yolov5-p2": [4, 8, 16, 32],
    "yolov5-p34": [8, 16],
    "yolov5-p6": [8, 16, 32, 64],
    "yolov5-p7": [8, 16, 32, 64, 128],
    "yolov5-p7_v5": [8, 16, 32, 64, 128],
    "yolov5-fpn": [8, 16, 32],
    "yolov5-fpn_v5": [8, 16, 32],
    "yolov5x6": [8, 16, 32, 64],
    "yolov5x6_v5": [8, 16, 32, 64],
    "yolov5x": [8, 16, 32],
    "yolov3": [8, 16, 32],
    "yolov3-spp": [8, 16, 32],
    "yolov3-tiny": [16, 32],
    "yolox_nano": [8, 16, 32],
    "yolox_darknet53": [8, 16, 32],
    "yolox_pose_tiny": [8, 16, 32],
    "yoloms_xs": [8, 16, 32],
    "yolov6_t_ms": [8, 16, 32],
    "yolov8_n": [8, 16, 32],
}
WITHIN_OTHERS = {"ms-detr-r50-300", "ms-detr-r50-pp-300"}
"""Large models without anything that ms-detr-r50-pp-900 has not; docs/models.md, which is tested, has them all."""
SMALL_WIDTH, SMALL_DEPTH = 0.25, 0.33
RECIPE = fill_recipe({}, "defaults")
MIXED = fill_recipe({"o2m": 1}, "one to many")
"""Of models with parts that only such supervision teaches."""


def test_the_zoo_is_complete() -> None:
    plain = {f"yolov5{size}{layout}" for size in "nsmlx" for layout in ("", "_v5", "6")}
    larger = {f"yolov5{size}6_v5" for size in "smlx"}
    shapes = {f"yolov5-{shape}" for shape in ("p2", "p34", "p6", "p7", "fpn", "panet", "bifpn")}
    older = {"yolov5-p7_v5", "yolov5-fpn_v5", "yolov5-panet_v5", "yolov5s-transformer_v5"}
    changed = {"yolov5s-transformer", "yolov5s-ghost", "yolov5s-LeakyReLU"}
    version3 = {"yolov3", "yolov3-spp", "yolov3-tiny"}
    heads = {f"yolov5{size}_city_seg_{head}" for size in "sm" for head in ("base", "bise", "lab", "psp")}
    yolox = {f"yolox_{size}" for size in ("nano", "tiny", "s", "m", "l", "x", "darknet53", "s_base", "s_psp")}
    pose = {f"yolox_pose_{size}" for size in ("tiny", "s", "m", "l", "s_base")}
    v6 = {f"yolov6_{size}" for size in ("n", "t", "s", "t_ms")}
    v8 = {f"yolov8_{size}" for size in (*"nsmlx", "n_ms")}
    found = plain | larger | shapes | older | changed | version3 | heads | yolox | pose | {"yolov5n_multitask"}
    ms = {"yoloms_xs", "yoloms_s", "yoloms", "yoloms_xs_psp", "yolov5n-ms", "yolox_tiny_ms"}
    ms |= {f"yoloms{size}_se" for size in ("_xs", "_s", "")}
    yolos = {f"yolos-{size}" for size in ("nano", "ti", "s", "s-dwr", "s-pe", "b", "ti_seg")}
    detr = {f"ms-detr-{size}" for size in ("r50-300", "r50-pp-300", "r50-pp-900", "r50-a-300", "r18-nano")}
    assert found | v6 | v8 | ms | yolos | detr | {"deformable-detr-r50"} <= set(CONFIGS)


def test_sizes_of_ms_detr_differ_in_keys_and_options_alone() -> None:
    """Rows have the numbers that converters know, and what a family changes is said by its options."""
    first, plain = load_spec("ms-detr-r50-300"), load_spec("deformable-detr-r50")
    for name in ("ms-detr-r50-pp-300", "ms-detr-r50-pp-900", "ms-detr-r50-a-300"):
        spec = load_spec(name)
        assert [(r.sources, r.module) for r in spec.rows] == [(r.sources, r.module) for r in first.rows]
        assert spec.rows[:5] == first.rows[:5] and spec.input == first.input and spec.input.stride == 1
    assert plain.rows[:-1] == first.rows[:-1] and plain.rows[-1].args[:-1] == first.rows[-1].args[:-1]
    assert plain.rows[-1].args[-1] == {"supervision": None, "order": "self_first"}


def test_every_name_is_there_once() -> None:
    assert len(CONFIGS) == len(list(CONFIG_ROOT.rglob("*.yaml")))


def test_segmentation_heads_differ_in_one_row_only() -> None:
    for size in "sm":
        files = [
            yaml.safe_load(CONFIGS[f"yolov5{size}_city_seg_{h}"].read_text()) for h in ("base", "bise", "lab", "psp")
        ]
        for values in files:
            assert values["head"].pop(-2)[2].startswith("SegMask")
        assert all(values == files[0] for values in files)


def test_sizes_of_a_layout_differ_in_their_multiples_only() -> None:
    for pattern, sizes in (
        ("yolov5{}", "nsmlx"),
        ("yolov5{}_v5", "nsmlx"),
        ("yolov5{}6", "nsmlx"),
        ("yolov5{}6_v5", "smlx"),
        ("yolox_{}", ("tiny", *"smlx")),
        ("yolox_pose_{}", ("tiny", *"sml")),
        ("yolov6_{}", "nts"),
        ("yolov8_{}", "ns"),
        ("yolov8_{}", "lx"),
    ):
        files = [yaml.safe_load(CONFIGS[pattern.format(size)].read_text()) for size in sizes]
        assert all(isinstance(values.pop("recipe", ""), str) for values in files)
        scales = [(values.pop("depth_multiple"), values.pop("width_multiple")) for values in files]
        assert all(values == files[0] for values in files)
        assert scales == sorted(scales) and len(set(scales)) == len(sizes)


def test_sizes_of_yolov8_differ_in_their_last_stage_too() -> None:
    """The last number of channels is that of rows 7, 8, 9 and 21, and nothing else differs."""
    large = load_spec("yolov8_n").rows
    for size, channels in (("m", 768), ("l", 512)):
        differing = {}
        for row, other in zip(load_spec(f"yolov8_{size}").rows, large, strict=True):
            if row != other:
                assert [channels, *row.args[1:]] == row.args and other.args[1:] == row.args[1:]
                differing[row.index] = other.args[0]
        assert differing == dict.fromkeys((7, 8, 9, 21), 1024)


def test_models_that_are_others_with_a_change() -> None:
    values = {name: yaml.safe_load(path.read_text()) for name, path in CONFIGS.items()}
    assert values["yolov5-panet"] == values["yolov5l"]
    assert values["yolov5-p6"] == {**values["yolov5l6"], "anchors": 3}
    assert values["yolov5s-LeakyReLU"] == {**values["yolov5s"], "activation": "nn.LeakyReLU(0.1)"}
    pairs = [("yolov5s-transformer", "yolov5s"), ("yolov5s-transformer_v5", "yolov5s_v5"), ("yolov5-bifpn", "yolov5l")]
    for name, origin in pairs:
        rows, others = (load_spec(n).rows for n in (name, origin))
        assert sum(row != other for row, other in zip(rows, others, strict=True)) == 1


def test_yolox_has_the_rows_of_v5_up_to_its_head() -> None:
    """Weights of other projects find their rows by number, so the numbers are the same in every size and task."""
    v5 = [(row.sources, row.number, row.module, row.args) for row in load_spec("yolov5s_v5").rows[:-1]]
    for name in ("yolox_s", "yolox_pose_s"):
        assert [(row.sources, row.number, row.module, row.args) for row in load_spec(name).rows[:-1]] == v5
    for row, (sources, number, module, args) in zip(load_spec("yolox_nano").rows, v5, strict=False):
        strided = module == "Conv" and args[-1] == 2
        wanted = "C3DW" if module == "C3" else "DWConvPair" if strided else module
        assert (row.sources, row.number, row.module, row.args) == (sources, number, wanted, args)
    assert load_spec("yolox_nano").rows[-1].args == [80, 256, True]


def test_joint_models_have_one_row_more() -> None:
    pairs = [("yolox_s_base", "yolox_s"), ("yolox_s_psp", "yolox_s"), ("yolox_pose_s_base", "yolox_pose_s")]
    for name, origin in pairs:
        values, other = (yaml.safe_load(CONFIGS[n].read_text()) for n in (name, origin))
        assert values["head"].pop(-2)[2].startswith("SegMask") and values.pop("n_segcls") == 19
        assert values == other


@pytest.mark.parametrize("name", STRIDES)
def test_levels_of_the_detection_head(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name))
    (head,) = graph.heads.values()
    assert head.strides == STRIDES[name]
    assert graph.stride == max(32, *STRIDES[name])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in WITHIN_OTHERS])
def test_built_at_its_own_size(name: str) -> None:
    """Without memory: the text of the model gives the same model, and the table has every row."""
    spec = spec_of(name)
    assert parse_spec(yaml.safe_load(spec.text), spec.source) == spec
    # Tracing takes nearly all of the time, and the table traces every row. 128 fits the largest stride, that of P7.
    model = BlankRows(spec)
    rows = tabulate_model(spec, (128, 256))
    lines = format_table(rows, (128, 256)).splitlines()
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert lines[len(spec.rows) + 1].startswith(f"{len(spec.rows)} rows, {count:,} parameters")
    assert model.heads and {row.name for row in rows} >= set(model.heads)


def small(spec: ModelSpec) -> ModelSpec:
    """Return the model at a size that trains in moments, its placeholder anchors replaced."""
    values = spec.values
    if spec.scale.width > SMALL_WIDTH and "width_multiple" in values:
        spec = spec.with_values(width_multiple=SMALL_WIDTH, depth_multiple=min(spec.scale.depth, SMALL_DEPTH))
    if "det_tokens" in values:
        spec = spec.with_values(width=32, heads=2, det_tokens=5, pe_size=[64, 96])
    if "ffn" in values:
        spec = spec.with_values(width_multiple=0.125, queries=12, dim=32, ffn=32)
        for row in (row for row in spec.rows if row.module in ("DeformEncoder", "MSDETRDecoder")):
            spec = spec.with_argument(row.index, 1 if row.module == "DeformEncoder" else 2, 2)
    if isinstance(values.get("anchors"), int):
        levels = next(len(row.sources) for row in spec.rows if row.module == "Detect")
        spec = spec.with_values(anchors=[[8 << i, 12 << i, 10 << i, 10 << i] for i in range(levels)])
    return spec


def labels(classes: int, size: int, keypoints: int = 0) -> Batch:
    """Return two random images, one with two objects and one without, half of the mask ignored.

    Every object has all of its keypoints but the first, within its box.
    """
    masks = torch.zeros(2, size, size, dtype=torch.uint8)
    masks[:, : size // 2] = 255
    boxes = torch.tensor([[[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 60.0]], [[0.0] * 4, [0.0] * 4]])
    valid = torch.tensor([[True, True], [False, False]])
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    points = None
    if keypoints:
        places = boxes[..., None, :2] + torch.rand(2, 2, keypoints, 2) * (boxes[..., None, 2:] - boxes[..., None, :2])
        seen = torch.full((2, 2, keypoints, 1), 2.0)
        seen[:, :, 0] = 0
        points = torch.cat((places, seen), -1)
    return Batch(images, boxes, torch.tensor([[0, classes - 1], [0, 0]]), valid, points, masks)


def of_different_rows(names: list[str]) -> list[str]:
    """Return one name of all that are the same model when they are small, such as the sizes of a layout."""
    kept: dict[str, str] = {}
    for name in names:
        values = small(spec_of(name)).values
        kept.setdefault(repr({key: value for key, value in values.items() if key not in ("input", "recipe")}), name)
    return list(kept.values())


@pytest.mark.parametrize("name", of_different_rows([name for name in CONFIGS if name not in WITHIN_OTHERS]))
def test_forward_backward_save_and_load(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = Graph(small(load_spec(name))).train()
    side = max(graph.stride, 64)
    classes = min(head.num_classes for head in graph.heads.values())
    batch = labels(classes, side, max((len(points) for points in graph.keypoints.values()), default=0))
    loss = torch.zeros(())
    for head_name, raw in graph(batch.images).items():
        criterion = graph.heads[head_name].criterion(MIXED if "ffn" in graph.spec.values else RECIPE, side)
        parts = criterion(raw, criterion.prepare(batch))
        assert set(parts) == set(graph.heads[head_name].loss_names)
        loss = loss + sum(parts.values())
    loss.backward()
    assert torch.isfinite(loss)
    learning = {name: p.grad for name, p in graph.named_parameters() if p.requires_grad}
    without = [name for name, grad in learning.items() if grad is None or not torch.isfinite(grad).all()]
    assert without == []

    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(graph.spec.source, graph.spec.text, graph.names, {"model": graph.state_dict()}))
    other = build_model(load_checkpoint(path), path)
    with torch.no_grad():
        ours, theirs = graph.eval()(batch.images), other(batch.images)
        for head_name, head in graph.heads.items():
            predictions = head.predict(ours[head_name], (side, side))
            assert_same(predictions, other.heads[head_name].predict(theirs[head_name], (side, side)))


def assert_same(ours: object, theirs: object) -> None:
    """Compare every tensor of two predictions bit by bit, and whatever else they have."""
    for key, value in vars(ours).items():
        other = getattr(theirs, key)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


@pytest.mark.parametrize("name", [name for name in CONFIGS if isinstance(spec_of(name).values.get("anchors"), int)])
def test_models_without_anchors_take_them_from_outside(name: str) -> None:
    levels = next(row for row in load_spec(name).rows if row.module == "Detect").sources
    with torch.device("meta"):
        graph = load_graph(name, anchors=[[8, 8, 16, 16]] * len(levels))
    head = graph.heads["detect"]
    assert isinstance(head, Detect) and head.anchors.shape == (len(levels), 2, 2)


def test_a_user_file_of_v5_loads_unchanged(tmp_path: Path) -> None:
    """Text as users have it: parameters section, comments, quoted symbols, nn.Upsample with None in words."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        """
# parameters
nc: 3  # number of classes
depth_multiple: 0.33
width_multiple: 0.25

anchors:
  - [10,13, 16,30, 33,23]
  - [30,61, 62,45, 59,119]

backbone:
  [[-1, 1, Focus, [64, 3]],
   [-1, 1, Conv, [128, 3, 2]],
   [-1, 3, C3, [128]],
   [-1, 1, Conv, [256, 3, 2]],
   [-1, 9, BottleneckCSP, [256]],
   [-1, 1, Conv, [512, 3, 2]],
   [-1, 1, SPP, [512, [5, 9, 13]]],
  ]

head:
  [[-1, 1, Conv, [256, 1, 1]],
   [-1, 1, nn.Upsample, [None, 2, 'nearest']],
   [[-1, 4], 1, Concat, [1]],
   [-1, 3, C3, [256, False]],
   [[10, 6], 1, Detect, [nc, anchors]],
  ]
""",
        encoding="utf-8",
    )
    graph = load_graph(path)
    assert graph.heads["detect"].strides == [8, 16]
    assert [tuple(level.shape) for level in graph(torch.zeros(1, 3, 64, 64))["detect"]] == [
        (1, 3, 8, 8, 8),
        (1, 3, 4, 4, 8),
    ]
    assert isinstance(graph.model[4].act, nn.LeakyReLU)
