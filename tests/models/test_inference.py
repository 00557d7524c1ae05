"""What answers for a picture: single graphs, test-time augmentation, ensembles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from data.transforms.letterbox import CENTERED, LetterboxRule
from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.heads.base import Head
from models.heads.detect import Detect
from models.inference import Inference, as_inference, load_inference
from models.predictions import Detections, Masks
from models.spec import parse_spec
from models.views import AUGMENTED, SINGLE, SIX_VIEWS, Pass
from utils.errors import UsageError

ROWS = """
nc: 3
n_segcls: 4
width_multiple: 0.125
anchors: [[8, 8, 16, 16], [24, 24, 40, 40], [60, 60, 90, 90]]
backbone:
  - [-1, 1, Conv, [64, 6, 4, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
head:
  - [[1], 1, SegMaskBase, [n_segcls, 1, 64]]
  - [[1, 2, 3], 1, Detect, [nc, anchors]]
"""
HEADS = ("segment", "detect")


def graph_of(seed: int = 0, text: str = ROWS) -> Graph:
    """Return a graph in eval mode whose outputs depend on its input, as a trained one's do."""
    torch.manual_seed(seed)
    graph = Graph(parse_spec(yaml.safe_load(text), "tiny.yaml")).eval()
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.02, 0.1)
    return graph


def random_images(size: tuple[int, int] = (96, 64)) -> Tensor:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)


@torch.inference_mode()
def answer(model: Inference, images: Tensor) -> dict[str, Any]:
    return model(images, HEADS)


def assert_equal(found: Any, expected: Any, **tolerance: float) -> None:
    assert type(found) is type(expected)
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, **tolerance)


@torch.inference_mode()
def plain(graph: Graph, images: Tensor) -> dict[str, Any]:
    raw = graph(images, heads=HEADS)
    return {name: graph.heads[name].predict(raw[name], tuple(images.shape[-2:])) for name in HEADS}


def test_a_single_graph_answers_as_it_is() -> None:
    graph, images = graph_of(), random_images()
    model = as_inference(graph)
    assert as_inference(model) is model
    assert (model.stride, model.names, list(model.heads)) == (graph.stride, graph.names, list(HEADS))
    found, expected = answer(model, images), plain(graph, images)
    assert list(found) == list(HEADS)
    for name in HEADS:
        assert_equal(found[name], expected[name], rtol=0, atol=0)


@torch.inference_mode()
def augmented_by_hand(graph: Graph, images: Tensor, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, objectness and class probabilities of pixels as the published procedure describes them."""
    height, width = images.shape[-2:]
    head: Detect = graph.heads["detect"]
    pixels = graph.preprocess(images)
    boxes, objectness, masks = [], [], []
    for number, (scale, mirrored) in enumerate(((1, False), (0.83, True), (0.67, False))):
        rows, columns = int(height * scale), int(width * scale)
        seen = pixels.flip(3) if mirrored else pixels
        seen = F.interpolate(seen, (rows, columns), mode="bilinear", align_corners=False)
        below, right = -rows % 32, -columns % 32
        seen = torch.stack([F.pad(seen[:, c], (0, right, 0, below), value=float(grey[c])) for c in range(3)], 1)
        size = rows + below, columns + right
        raw = graph(seen, heads=HEADS)
        found = head.predict(raw["detect"], size)
        counts = [output[0, ..., 0].numel() for output in raw["detect"]]
        keep = slice(0, sum(counts[:2])) if number == 0 else slice(counts[0], None) if number == 2 else slice(None)
        x1, y1, x2, y2 = found.boxes[:, keep].unbind(-1)
        x1, x2 = x1 * width / columns, x2 * width / columns
        if mirrored:
            x1, x2 = width - x2, width - x1
        boxes.append(torch.stack((x1, y1 * height / rows, x2, y2 * height / rows), -1))
        objectness.append(found.objectness[:, keep])
        logits = graph.heads["segment"].predict(raw["segment"], size).logits[..., :rows, :columns]
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        masks.append((logits.flip(3) if mirrored else logits).softmax(1))
    return torch.cat(boxes, 1), torch.cat(objectness, 1), torch.stack(masks).mean(0)


@pytest.mark.parametrize("normalisation", [None, {"scale": 255, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}])
def test_augmentation_follows_the_published_procedure(normalisation: dict[str, Any] | None) -> None:
    text = ROWS if normalisation is None else f"{ROWS}\ninput: {normalisation}\n"
    graph, images = graph_of(1, text), random_images()
    grey = torch.full((3,), 114 / 255)
    if normalisation:
        grey = (grey - torch.tensor(normalisation["mean"])) / torch.tensor(normalisation["std"])
    boxes, objectness, masks = augmented_by_hand(graph, images, grey)
    found = answer(Inference([graph], AUGMENTED), images)
    # Per cell three levels of two anchors: 96 x 64 without 1/32, 96 x 64 padded from 79 x 53, 64 x 64 without 1/8.
    assert boxes.shape[1] == 2 * (96 + 24) + 2 * (96 + 24 + 6) + 2 * (16 + 4)
    torch.testing.assert_close(found["detect"].boxes, boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found["detect"].objectness, objectness, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["segment"].logits.softmax(1), masks, rtol=1e-3, atol=1e-5)


class BrightSpot(Head):
    """Finds the box around all bright pixels, and calls what is bright class 1."""

    num_classes = 2

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0]

    def predict(self, raw: Tensor, image_size: tuple[int, int]) -> Detections:
        bright = raw > 0.6
        boxes = []
        for image in bright:
            rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
            boxes.append([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
        return Detections(torch.tensor(boxes).float(), torch.ones(len(raw), 1, 2))


class BrightArea(BrightSpot):
    def predict(self, raw: Tensor, image_size: tuple[int, int]) -> Masks:
        return Masks(torch.stack((0.6 - raw, raw - 0.6), 1) * 100)


class OracleGraph(Graph):
    """Two heads that see the pixels themselves; whether they are right is plain to see."""

    letterbox = CENTERED

    def __init__(self, stride: int = 32) -> None:
        nn.Module.__init__(self)
        self.oracles = nn.ModuleDict({"spot": BrightSpot(), "area": BrightArea()})
        self.stride = stride
        self.names = {"spot": ["dark", "bright"], "area": ["dark", "bright"]}
        self.sizes: list[tuple[int, ...]] = []

    @property
    def heads(self) -> dict[str, Head]:
        return dict(self.oracles.items())

    def preprocess(self, images: Tensor) -> Tensor:
        return images.float() / 255 if images.dtype == torch.uint8 else images

    def forward(self, images: Tensor, heads: tuple[str, ...]) -> dict[str, Any]:
        self.sizes.append(tuple(images.shape[-2:]))
        pixels = self.preprocess(images)
        return {name: self.oracles[name](pixels) for name in heads}


def test_every_pass_finds_an_object_where_it_is() -> None:
    images = torch.full((2, 3, 160, 192), 20, dtype=torch.uint8)
    images[0, :, 30:90, 12:52] = 250
    images[1, :, 100:150, 120:180] = 250
    graph = OracleGraph()
    found = Inference([graph], AUGMENTED)(images, ("spot", "area"))
    assert graph.sizes == [(160, 192), (160, 160), (128, 128)]
    expected = torch.tensor([[12.0, 30, 52, 90], [120, 100, 180, 150]])
    assert found["spot"].boxes.shape == (2, 3, 4)
    assert (found["spot"].boxes - expected[:, None]).abs().max() < 1.6
    area = found["area"].logits.argmax(1)
    for image, (x1, y1, x2, y2) in zip(area, expected.int().tolist(), strict=True):
        assert image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
        assert image.sum() <= (y2 - y1 + 2) * (x2 - x1 + 2)


def test_six_views_find_an_object_where_it_is_and_choose_before_they_meet() -> None:
    images = torch.full((2, 3, 160, 192), 20, dtype=torch.uint8)
    images[0, :, 30:90, 12:52] = 250
    images[1, :, 100:150, 120:180] = 250
    graph = OracleGraph()
    found = Inference([graph], SIX_VIEWS)(images, ("spot", "area"))
    assert graph.sizes == [(160, 192)] * 2 + [(96, 96)] * 2 + [(256, 288)] * 2
    expected = torch.tensor([[12.0, 30, 52, 90], [120, 100, 180, 150]])
    assert found["spot"].boxes.shape == (2, 6, 4) and found["spot"].views.tolist() == [0, 1, 2, 3, 4, 5]
    assert (found["spot"].boxes - expected[:, None]).abs().max() < 2.1
    area = found["area"].logits.argmax(1)
    for image, (x1, y1, x2, y2) in zip(area, expected.int().tolist(), strict=True):
        assert image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
        assert image.sum() <= (y2 - y1 + 2) * (x2 - x1 + 2)
    both = Inference([graph, graph], SIX_VIEWS)(images, ("spot",))["spot"]
    assert both.views.tolist() == list(range(12)), "every member's every view chooses by itself"
    assert Inference([graph], AUGMENTED)(images, ("spot",))["spot"].views is None


@pytest.mark.parametrize("pad", [0, 250])
def test_smaller_passes_are_padded_with_the_models_grey(pad: int) -> None:
    graph = OracleGraph()
    graph.letterbox = LetterboxRule("top-left", square=True, pad=pad)
    images = torch.full((1, 3, 64, 64), 20, dtype=torch.uint8)
    images[0, :, 10:20, 10:20] = 250
    found = Inference([graph], (Pass(0.8),))(images, ("spot",))["spot"].boxes[0, 0] * 0.8
    # Scaled to 51 pixels; bright padding below and behind it is an object of its own, whose box begins at every side.
    assert found.tolist() == pytest.approx([8, 8, 16, 16] if pad == 0 else [0, 0, 64, 64], abs=0.9)


def test_members_pad_to_their_own_strides() -> None:
    fine, coarse = OracleGraph(32), OracleGraph(64)
    model = Inference([fine, coarse], (Pass(0.83),))
    assert model.stride == 64
    images = torch.full((1, 3, 128, 192), 250, dtype=torch.uint8)
    model(images, ("spot",))
    assert (fine.sizes, coarse.sizes) == ([(128, 160)], [(128, 192)])


def test_an_ensemble_combines_what_its_members_say() -> None:
    first, second, images = graph_of(1), graph_of(2), random_images()
    one, two = plain(first, images), plain(second, images)
    found = answer(Inference([first, second]), images)
    assert_equal(found["detect"], Detections.combine([one["detect"], two["detect"]]), rtol=0, atol=0)
    assert_equal(found["segment"], Masks.combine([one["segment"], two["segment"]]), rtol=0, atol=0)
    all_passes = answer(Inference([first, second], AUGMENTED), images)
    expected = [answer(Inference([graph], AUGMENTED), images)["detect"] for graph in (first, second)]
    assert_equal(all_passes["detect"], Detections.combine(expected), rtol=0, atol=0)


def test_every_member_normalises_for_itself() -> None:
    other = graph_of(2, f"{ROWS}\ninput: {{scale: 1, mean: [10, 20, 30], std: [50, 60, 70]}}\n")
    images = random_images()
    for passes in (SINGLE, AUGMENTED):
        together = answer(Inference([graph_of(1), other], passes), images)["detect"]
        alone = answer(Inference([other], passes), images)["detect"]
        assert torch.equal(together.boxes[:, -alone.boxes.shape[1] :], alone.boxes)


def test_reduced_formats_end_before_the_predictions() -> None:
    graph, images = graph_of(), random_images()
    with torch.inference_mode():
        found = Inference([graph], AUGMENTED)(images, HEADS, torch.bfloat16)
        full = Inference([graph], AUGMENTED)(images, HEADS)
    assert found["detect"].boxes.dtype == found["segment"].logits.dtype == torch.float32
    assert not torch.equal(found["detect"].scores, full["detect"].scores)
    torch.testing.assert_close(found["detect"].scores, full["detect"].scores, rtol=0, atol=0.05)


@pytest.mark.parametrize(("level", "left"), [("coarsest", [0, 1]), ("finest", [1, 2])])
@pytest.mark.parametrize("coarse_first", [False, True])
def test_a_detection_head_leaves_out_one_level(level: str, left: list[int], coarse_first: bool) -> None:
    head = Detect([4, 4, 4], 2, [[8, 8], [16, 16], [32, 32]])
    strides = [8, 16, 32]
    raw = [torch.randn(1, 1, 64 // stride, 64 // stride, 7) for stride in strides]
    if coarse_first:
        strides, raw, left = strides[::-1], raw[::-1], [2 - i for i in reversed(left)]
    head.set_strides(strides)
    counts = [(64 // stride) ** 2 for stride in strides]
    whole = head.predict(raw, (64, 64)).boxes.split(counts, 1)
    assert torch.equal(head.predict_without(level, raw, (64, 64)).boxes, torch.cat([whole[i] for i in left], 1))


def test_a_head_of_one_level_leaves_nothing_out() -> None:
    head = Detect([4], 2, [[8, 8]])
    head.set_strides([8])
    raw = [torch.randn(1, 1, 8, 8, 7)]
    for level in ("coarsest", "finest"):
        assert_equal(head.predict_without(level, raw, (64, 64)), head.predict(raw, (64, 64)))


def save(path: Path, text: str = ROWS, **names: list[str]) -> Path:
    graph = graph_of(0, text)
    names = {"detect": ["car", "bus", "dog"], "segment": ["road", "sky", "tree", "wall"]} | names
    names = {name: names[name] for name in graph.heads}
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, names, {"ema": graph.state_dict()}))
    return path


def test_loaded_models_are_folded_and_answer_together(tmp_path: Path) -> None:
    paths = [save(tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    model = load_inference(paths, passes=AUGMENTED)
    assert not any(isinstance(m, nn.BatchNorm2d) for graph in model.graphs for m in graph.modules())
    assert model.names["detect"] == ["car", "bus", "dog"]
    images = random_images()
    expected = Detections.combine([plain(graph_of(0), images)["detect"]] * 2)
    assert_equal(answer(Inference(model.graphs), images)["detect"], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        (ROWS.replace("  - [[1], 1, SegMaskBase, [n_segcls, 1, 64]]\n", ""), {}, "has 'detect' (detect)"),
        (ROWS.replace("[nc, anchors]]", "[nc, anchors], cars]"), {"cars": ["a", "b", "c"]}, "'cars' (detect)"),
        (ROWS.replace("nc: 3", "nc: 2"), {"detect": ["car", "bus"]}, "has 3 classes, but that of"),
        (ROWS, {"detect": ["car", "bus", "cat"]}, "has the name 'dog' for class 2, but that of"),
        (ROWS, {"segment": ["sky", "road", "tree", "wall"]}, "has the name 'road' for class 0, but that of"),
    ],
)
def test_models_that_answer_other_questions_are_refused(
    tmp_path: Path, text: str, names: dict[str, list[str]], words: str
) -> None:
    first, second = save(tmp_path / "first.safetensors"), save(tmp_path / "second.safetensors", text, **names)
    with pytest.raises(UsageError) as refused:
        load_inference([first, second])
    said = str(refused.value)
    assert words in said and str(first) in said and str(second) in said and "\n" not in said


def test_models_that_want_pictures_elsewhere_are_refused(tmp_path: Path) -> None:
    corner = f"{ROWS}\ninput: {{letterbox: top-left, square: true}}\n"
    first, second = save(tmp_path / "first.safetensors"), save(tmp_path / "second.safetensors", corner)
    with pytest.raises(UsageError, match=r"letterbox of .*first.safetensors is center.*second.safetensors is top-left"):
        load_inference([first, second])
    assert load_inference([second, second]).letterbox == LetterboxRule("top-left", square=True)


def test_a_model_for_other_than_colour_pictures_is_refused(tmp_path: Path) -> None:
    deep = save(tmp_path / "deep.safetensors", ROWS.replace("nc: 3", "nc: 3\nch: 4"))
    with pytest.raises(UsageError, match=r"deep.safetensors: takes 4 channels, but pictures have 3"):
        load_inference([deep])


def test_six_views_see_squares_where_pictures_share_rectangles() -> None:
    """The published test-time augmentation switches the common rectangles off; other letterboxes stay."""
    shared = parse_spec({**yaml.safe_load(ROWS), "input": {"margin": 0.5, "group": 32, "shrink": "area"}}, "a.yaml")
    graph, plain = Graph(shared).eval(), Graph(parse_spec(yaml.safe_load(ROWS), "b.yaml")).eval()
    assert Inference([graph]).letterbox == graph.letterbox == LetterboxRule(margin=0.5, group=32, shrink="area")
    assert Inference([graph], SIX_VIEWS).letterbox == LetterboxRule(square=True, shrink="area")
    assert Inference([graph], AUGMENTED).letterbox == graph.letterbox
    assert Inference([plain], SIX_VIEWS).letterbox == CENTERED
