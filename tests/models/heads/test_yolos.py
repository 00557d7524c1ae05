"""The head of YOLOS: names and shapes, decoding, category ids, several rows, results without suppression, mistakes."""

from __future__ import annotations

import inspect
import logging

import pytest
import torch
import yaml
from torch import Tensor

from data.samples import Batch, Placement
from models.graph import Graph, with_classes
from models.heads.yolos import YOLOSDetect
from models.inference import Inference
from models.predictions import Detections, PostprocessOptions
from models.registry import Scale, lookup
from models.set_outputs import SetOutputs
from models.spec import load_spec, parse_spec
from models.tokens import Tokens, TokenWidth
from models.views import AUGMENTED, SIX_VIEWS
from utils.errors import ModelError

QUERIES, WIDTH, CLASSES = 5, 16, 3


def head_of(classes: int = CLASSES, ids: list[int] | None = None, sources: int = 1) -> YOLOSDetect:
    """Return a small head in eval mode."""
    torch.manual_seed(0)
    width = TokenWidth(WIDTH, 16, 1, QUERIES)
    return lookup("YOLOSDetect").from_row([width] * sources, 1, [classes, ids], Scale()).module.eval()


def tokens(seed: int = 0, count: int = 2, sizes: tuple[tuple[int, int], ...] | None = None) -> Tokens:
    """Return the tokens of pictures of 32 x 48 pixels."""
    values = torch.randn(count, 1 + 6 + QUERIES, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Tokens(values, (2, 3), 1, QUERIES, None, sizes)


def graph_of(ids: list[int] | None = None) -> Graph:
    """Return a small model in eval mode."""
    torch.manual_seed(0)
    embed, block = [-1, 1, "ViTEmbed", [16, 16, QUERIES, [32, 48]]], [-1, 1, "ViTBlock", [16, 2, 2.0]]
    head = [-1, 1, "YOLOSDetect", ["nc", ids]]
    values = {"nc": CLASSES, "input": {"stride": 16}, "backbone": [embed, block], "head": [head]}
    return Graph(parse_spec(values, "tiny.yaml")).eval()


def test_only_detection_tokens_are_read_each_for_itself() -> None:
    head, x = head_of(), tokens()
    raw = head([x])
    assert raw.logits.shape == (2, QUERIES, CLASSES + 1) and raw.boxes.shape == (2, QUERIES, 4)
    assert raw.sizes is None and raw.earlier == () and raw.boxes.min() > 0 and raw.boxes.max() < 1
    changed = x.values.clone()
    changed[:, :-QUERIES] += 1
    changed[1, -1] += 1
    found = head([x._replace(values=changed)])
    same = torch.isclose(found.logits, raw.logits).all(-1) & torch.isclose(found.boxes, raw.boxes).all(-1)
    assert (~same).nonzero().tolist() == [[1, QUERIES - 1]]


def test_networks_have_three_layers_under_the_agreed_names() -> None:
    state = {name: tuple(value.shape) for name, value in head_of(ids=[1, 4, 6]).state_dict().items()}
    square, bias = (WIDTH, WIDTH), (WIDTH,)
    shapes = {"class_mlp": (8, WIDTH), "box_mlp": (4, WIDTH)}
    assert state == {
        f"{part}.{layer}.{name}": shape
        for part, last in shapes.items()
        for layer, pair in enumerate(((square, bias), (square, bias), (last, last[:1])))
        for name, shape in zip(("weight", "bias"), pair, strict=True)
    }


def decode_slowly(logits: Tensor, box: Tensor, labels: list[int], size: tuple[int, int]) -> tuple[list, list]:
    """Return the scores and corners of one query."""
    powers = logits.detach().double().exp()
    x, y, w, h = box.tolist()
    height, width = size
    corners = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    return [float(powers[label] / powers.sum()) for label in labels], corners


@pytest.mark.parametrize("ids", [None, [1, 4, 6]])
@pytest.mark.parametrize("sizes", [None, ((32, 48), (16, 32))])
def test_decoding_by_the_formula(ids: list[int] | None, sizes: tuple[tuple[int, int], ...] | None) -> None:
    """Also where labels are category ids, and where each picture has its own size within a padded batch."""
    head = head_of(ids=ids)
    raw = head([tokens(sizes=sizes)])
    assert raw.sizes == sizes and raw.logits.shape[-1] == (CLASSES if ids is None else 7) + 1
    found = head.predict(raw, (32, 48))
    assert found.distinct and found.objectness is None
    for i in range(2):
        for q in range(QUERIES):
            size = (32, 48) if sizes is None else sizes[i]
            scores, corners = decode_slowly(raw.logits[i, q], raw.boxes[i, q], ids or [0, 1, 2], size)
            assert found.scores[i, q].tolist() == pytest.approx(scores, abs=1e-6)
            assert found.boxes[i, q].tolist() == pytest.approx(corners, abs=1e-4)


def test_results_are_all_tokens_with_their_likeliest_class() -> None:
    """Boxes on top of each other stay, and a token counts once, also where tests let boxes answer for more."""
    head = head_of()
    boxes = torch.tensor([[[8.0, 8.0, 24.0, 24.0]] * 3 + [[-4.0, 0.0, 16.0, 16.0]]])
    scores = torch.tensor([[[0.3, 0.5, 0.1], [0.0, 0.9, 0.1], [1e-5, 0.0, 0.0], [0.2, 0.1, 0.6]]])
    place = [Placement(height=64, width=96, scale_x=0.5, scale_y=0.5)]
    options = PostprocessOptions(conf=head.test_confidence, multi_label=True)
    (result,) = head.postprocess(Detections(boxes, scores, distinct=True), options, place)
    assert result.classes.tolist() == [1, 2, 1, 0]
    assert result.scores.tolist() == pytest.approx([0.9, 0.6, 0.5, 1e-5])
    assert result.boxes[0].tolist() == [16, 16, 48, 48] and result.boxes[1].tolist() == [0, 0, 32, 32]
    (result,) = head.postprocess(
        Detections(boxes, scores, distinct=True), PostprocessOptions(conf=0.4, max_det=2), place
    )
    assert result.classes.tolist() == [1, 2]


def test_earlier_rows_answer_in_training_alone_with_the_same_weights() -> None:
    head, rows = head_of(sources=3), [tokens(seed) for seed in range(3)]
    alone = [head_of()([row]) for row in rows]
    raw = head.train()(rows)
    assert torch.equal(raw.logits, alone[2].logits) and len(raw.earlier) == 2
    for layer, own in zip(raw.earlier, alone, strict=False):
        assert torch.equal(layer.logits, own.logits) and torch.equal(layer.boxes, own.boxes)
    assert head.eval()(rows).earlier == ()


def test_rows_that_do_not_learn_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "yolograph"):
        head_of(sources=2).criterion({"set_earlier": 1.0})
        head_of().criterion({})
        assert not caplog.records
        head_of(sources=2).criterion({})
    assert "reads 2 rows, but the recipe's set_earlier and o2m are 0" in caplog.text


def test_rows_as_in_the_reference_learn_from_several_blocks() -> None:
    shown = inspect.getdoc(YOLOSDetect).partition("behind a norm::")[2].partition("Args:")[0]
    spec = load_spec("yolos-nano")
    values = {**spec.values, "width": 32, "backbone": spec.values["backbone"][:1], "head": yaml.safe_load(shown)}
    graph = Graph(parse_spec(values, "split.yaml")).train()
    criterion = graph.heads["detect"].criterion({"o2m": 1})
    assert criterion.many is not None and len(graph.heads["detect"].loss_names) == 6
    raw = graph(torch.zeros(1, 3, 32, 48, dtype=torch.uint8))["detect"]
    assert len(raw.earlier) == 1 and not torch.equal(raw.earlier[0].logits, raw.logits)


def test_one_to_many_supervision_is_for_several_rows(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError, match="o2m is 1, but YOLOSDetect reads one row"):
        head_of().criterion({"o2m": 1})
    head, rows = head_of(sources=3).train(), [tokens(seed) for seed in range(3)]
    names = tuple(f"o2m_{part}_{row}" for row in range(2) for part in ("cls", "box", "giou"))
    assert head.loss_names == ("cls", "box", "giou", *names) and head.loss_groups == {"o2m": names}
    assert head_of().loss_names == ("cls", "box", "giou") and not head_of().loss_groups
    with caplog.at_level(logging.WARNING, "yolograph"):
        criterion = head.criterion({"o2m": 1})
    assert not caplog.records
    boxes = torch.tensor([[[2.0, 2.0, 20.0, 20.0]], [[10.0, 4.0, 40.0, 30.0]]])
    images = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
    batch = Batch(images, boxes, torch.tensor([[0], [2]]), torch.ones(2, 1, dtype=torch.bool), ids=["a", "b"])
    parts = criterion(head(rows), criterion.prepare(batch))
    assert tuple(parts) == head.loss_names and all(float(parts[name].detach()) > 0 for name in names)


def test_a_model_answers_alone_as_in_a_padded_batch() -> None:
    graph = graph_of(ids=[0, 2, 5])
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    with torch.inference_mode():
        both = Inference([graph])(images, ("detect",), sizes=[(32, 48), (32, 32)])["detect"]
        alone = Inference([graph])(images[1:, :, :, :32], ("detect",))["detect"]
    torch.testing.assert_close(both.boxes[1:], alone.boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(both.scores[1:], alone.scores, rtol=1e-4, atol=1e-5)


def test_a_padded_batch_teaches_what_its_pictures_teach_one_by_one() -> None:
    """Four sizes, portrait and landscape, one picture without objects: the same losses and the same gradients."""
    graph = graph_of(ids=[0, 2, 5]).train()
    draw = torch.Generator().manual_seed(0)
    sizes = [(32, 48), (48, 32), (16, 48), (48, 48)]
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8, generator=draw)
    corner = torch.rand(4, 3, 2, generator=draw) * 8
    boxes = torch.cat((corner, corner + 2 + torch.rand(4, 3, 2, generator=draw) * 6), -1)
    valid = torch.tensor([[True, True, True], [True, False, True], [False] * 3, [True, False, False]])
    classes = torch.randint(0, CLASSES, (4, 3), generator=draw)
    batch = Batch(images, boxes, classes, valid, ids=list("abcd"), sizes=sizes)
    criterion = graph.heads["detect"].criterion({})
    micro = [(part, criterion.prepare(part)) for part in batch.cut(4)]
    assert [tuple(part.images.shape[-2:]) for part, _ in micro] == sizes
    totals = sum(targets.normalizers for _, targets in micro)
    found = []
    for parts in ([(batch, criterion.prepare(batch))], micro):
        graph.zero_grad()
        loss = torch.zeros(())
        for part, targets in parts:
            raw = graph(part.images, sizes=part.sizes)["detect"]
            loss = loss + sum(criterion(raw, targets, totals).values())
        loss.backward()
        found.append([loss.detach()] + [p.grad.clone() for p in graph.parameters()])
    for whole, single in zip(*found, strict=True):
        torch.testing.assert_close(whole, single, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("passes", [AUGMENTED, SIX_VIEWS])
def test_several_passes_find_objects_again_so_they_are_suppressed(passes: tuple) -> None:
    """One pass gives every token its say; of several, those that say the same of one place leave one."""
    graph = graph_of()
    images = torch.full((1, 3, 64, 96), 114, dtype=torch.uint8)
    with torch.inference_mode():
        single = Inference([graph])(images, ("detect",))["detect"]
        found = Inference([graph], passes)(images, ("detect",))["detect"]
    assert single.distinct and not found.distinct and found.boxes.shape[1] == QUERIES * len(passes)
    head, options = graph.heads["detect"], PostprocessOptions(conf=0.0, iou=0.0)
    place = [Placement(height=64, width=96)]
    assert len(head.postprocess(single, options, place)[0].boxes) == QUERIES
    (result,) = head.postprocess(found, options, place)
    assert 0 < len(result.boxes) < QUERIES


def test_an_ensemble_is_suppressed_by_class() -> None:
    graph = graph_of()
    head, images = graph.heads["detect"], torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        both = Inference([graph, graph])(images, ("detect",))["detect"]
    # The tokens of a model lie side by side, those of the other one in the same places.
    left = torch.arange(QUERIES) * 8.0
    boxes = torch.stack((left, torch.zeros(QUERIES), left + 6, torch.full((QUERIES,), 20.0)), 1)
    both.boxes[0] = boxes.repeat(2, 1)
    place, options = [Placement(height=32, width=48)], PostprocessOptions()
    for second, expected in ((1, [0] * QUERIES + [1] * QUERIES), (0, [0] * QUERIES)):
        both.scores.zero_()
        both.scores[:, :QUERIES, 0], both.scores[:, QUERIES:, second] = 0.9, 0.8
        (result,) = head.postprocess(both, options, place)
        assert result.classes.tolist() == expected


def test_another_number_of_classes_leaves_the_ids_out() -> None:
    spec = graph_of(ids=[0, 2, 5]).spec
    same, other = Graph(with_classes(spec, {"detect": 3})), Graph(with_classes(spec, {"detect": 2}))
    assert same.heads["detect"].labels == 6 and same.heads["detect"].category_ids == [0, 2, 5]
    assert other.heads["detect"].labels == 2 and other.heads["detect"].category_ids is None


@pytest.mark.parametrize(
    ("classes", "ids", "said"),
    [
        (3, [0, 1], "category_ids has 2 ids, but there are 3 classes"),
        (2, [3, 3], "each above the one before"),
        (2, [4, 3], "each above the one before"),
        (1, [-1], "whole numbers of 0 or more"),
        (0, None, "above 0"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes: int, ids: list[int] | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        head_of(classes, ids)


def test_rows_that_do_not_fit_are_refused() -> None:
    widths = [TokenWidth(16, 16, 1, 5), TokenWidth(16, 16, 1, 4)]
    with pytest.raises(ValueError, match=r"5 \[DET\] tokens of 16 and 4 \[DET\] tokens of 16"):
        YOLOSDetect(widths, 2)
    with pytest.raises(ValueError, match="its source row has none; give ViTEmbed a number of det_tokens"):
        YOLOSDetect([TokenWidth(16, 16, 1, 0)], 2)
    with pytest.raises(ModelError, match="it reads tokens"):
        rows = {"backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[-1, 1, "YOLOSDetect", ["nc"]]]}
        Graph(parse_spec({"nc": 2, **rows}, "a.yaml"))


def test_reduced_formats_end_with_the_networks() -> None:
    head = head_of()
    with torch.autocast("cpu", torch.bfloat16):
        raw = head([tokens()])
        found = head.predict(SetOutputs(raw.logits.bfloat16(), raw.boxes.bfloat16()), (32, 48))
    assert raw.logits.dtype == raw.boxes.dtype == found.boxes.dtype == found.scores.dtype == torch.float32
