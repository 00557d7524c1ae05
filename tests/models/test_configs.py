"""Every config of the zoo: published sizes, and one round through build, forward, backward and its state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from data.samples import Batch
from models.graph import Graph, load_graph
from models.layers.conv import Conv
from models.spec import CONFIG_ROOT, load_spec
from models.table import tabulate_model

CONFIGS = {path.stem: path for path in sorted(CONFIG_ROOT.rglob("*.yaml"))}
PARAMETERS = {
    "yolov5s_v5": 7_276_605,
    "yolov5m_v5": 21_375_645,
    "yolov5l_v5": 47_056_765,
    "yolov5x_v5": 87_775_965,
    "yolov5n": 1_872_157,
    "yolov5s": 7_235_389,
    "yolov5m": 21_190_557,
    "yolov5l": 46_563_709,
    "yolov5x": 86_749_405,
    "yolov5s_city_seg_base": 7_697_479,
    "yolov5s_city_seg_bise": 8_842_112,
    "yolov5s_city_seg_lab": 8_213_274,
    "yolov5s_city_seg_psp": 7_760_090,
    "yolov5m_city_seg_base": 22_782_183,
    "yolov5m_city_seg_bise": 23_305_504,
    "yolov5m_city_seg_lab": 23_435_834,
    "yolov5m_city_seg_psp": 22_601_914,
}
FUSED_PARAMETERS = {
    "yolov5s_v5": 7_266_973,
    "yolov5m_v5": 21_356_877,
    "yolov5l_v5": 47_025_981,
    "yolov5x_v5": 87_730_285,
    "yolov5n": 1_867_405,
    "yolov5s": 7_225_885,
    "yolov5m": 21_172_173,
    "yolov5l": 46_533_693,
    "yolov5x": 86_705_005,
}
"""With every BatchNorm of a Conv folded into a bias, as the later releases print them."""
GFLOPS_640 = {
    "yolov5s_v5": 17.16,
    "yolov5m_v5": 51.62,
    "yolov5l_v5": 115.92,
    "yolov5x_v5": 219.49,
    "yolov5n": 4.5,
    "yolov5s": 16.5,
    "yolov5m": 49.0,
    "yolov5l": 109.1,
    "yolov5x": 205.7,
}
GFLOPS_512_1024 = {
    "yolov5s_city_seg_base": 31.5,
    "yolov5s_city_seg_bise": 33.5,
    "yolov5s_city_seg_lab": 30.5,
    "yolov5s_city_seg_psp": 30.3,
    "yolov5m_city_seg_base": 92.9,
    "yolov5m_city_seg_bise": 78.5,
    "yolov5m_city_seg_lab": 81.1,
    "yolov5m_city_seg_psp": 85.0,
}
HYP = {"box": 0.05, "obj": 1.0, "cls": 0.5}


def test_the_zoo_is_complete() -> None:
    plain = {f"yolov5{size}{layout}" for size in "nsmlx" for layout in ("", "_v5")}
    heads = {f"yolov5{size}_city_seg_{head}" for size in "sm" for head in ("base", "bise", "lab", "psp")}
    assert plain | heads | {"yolov5n_multitask"} <= set(CONFIGS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    rows = tabulate_model(load_spec(name), (64, 64))
    assert sum(row.params for row in rows) == PARAMETERS[name]


@pytest.mark.parametrize("name", FUSED_PARAMETERS)
def test_fused_parameters_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name))
    count = sum(p.numel() for p in graph.parameters())
    folded = sum(module.bn.num_features for module in graph.modules() if isinstance(module, Conv))
    assert count - folded == FUSED_PARAMETERS[name]


@pytest.mark.parametrize("name", [*GFLOPS_640, *GFLOPS_512_1024])
def test_operations_are_the_published_ones(name: str) -> None:
    size = (640, 640) if name in GFLOPS_640 else (512, 1024)
    published = {**GFLOPS_640, **GFLOPS_512_1024}[name]
    ours = sum(row.flops for row in tabulate_model(load_spec(name), size)) / 1e9
    # Figures with one decimal are themselves rounded by up to 0.05.
    rounding = 0.05 if round(published, 1) == published else 0.005
    assert abs(ours - published) <= 0.01 * published + rounding


def test_the_quick_start_model_is_small() -> None:
    rows = tabulate_model(load_spec("yolov5n_multitask"), (64, 64))
    assert 1_900_000 < sum(row.params for row in rows) < 2_200_000


def test_segmentation_heads_differ_in_one_row_only() -> None:
    for size in "sm":
        files = [
            yaml.safe_load(CONFIGS[f"yolov5{size}_city_seg_{h}"].read_text()) for h in ("base", "bise", "lab", "psp")
        ]
        for values in files:
            assert values["head"].pop(-2)[2].startswith("SegMask")
        assert all(values == files[0] for values in files)


def labels(classes: int, size: int) -> Batch:
    """Return two random images, one with two objects and one without, half of the mask ignored."""
    masks = torch.zeros(2, size, size, dtype=torch.uint8)
    masks[:, : size // 2] = 255
    boxes = torch.tensor([[[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 60.0]], [[0.0] * 4, [0.0] * 4]])
    valid = torch.tensor([[True, True], [False, False]])
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    return Batch(images, boxes, torch.tensor([[0, classes - 1], [0, 0]]), valid, masks=masks)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name[6] in "nsm"])
def test_forward_backward_and_state(name: str) -> None:
    torch.manual_seed(0)
    graph = load_graph(name).train()
    batch = labels(graph.heads["detect"].num_classes, 64)
    loss = torch.zeros(())
    for head_name, raw in graph(batch.images).items():
        criterion = graph.heads[head_name].criterion(HYP, 64)
        parts = criterion(raw, criterion.prepare(batch))
        assert set(parts) == set(graph.heads[head_name].loss_names)
        loss = loss + sum(parts.values())
    loss.backward()
    assert torch.isfinite(loss)
    without = [n for n, p in graph.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    other = Graph(graph.spec)
    other.load_state_dict(graph.state_dict(), strict=True)
    with torch.no_grad():
        ours, theirs = graph.eval()(batch.images), other.eval()(batch.images)
        for head_name, head in graph.heads.items():
            assert_same(
                head.predict(ours[head_name], (64, 64)), other.heads[head_name].predict(theirs[head_name], (64, 64))
            )


def assert_same(ours: object, theirs: object) -> None:
    """Compare every tensor of two predictions bit by bit."""
    for key, value in vars(ours).items():
        assert torch.equal(value, getattr(theirs, key))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name[6] in "lx"])
def test_large_configs_build(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name))
    assert graph.stride == 32 and graph.heads["detect"].strides == [8, 16, 32]


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
