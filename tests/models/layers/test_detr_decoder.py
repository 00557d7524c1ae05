"""A layer of a deformable decoder: order of its parts, what one-to-many supervision reads, attention among queries."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.detr_decoder import ORDERS, SUPERVISIONS, DecoderLayer, QueryAttention, per_level
from models.memory import Memory

WIDTH, HEADS, QUERIES = 16, 4, 5
SHAPES = ((4, 6), (2, 3))


def layer(variant: str, order: str | None = None, aux_ffn: bool = False, dropout: float = 0.0) -> DecoderLayer:
    """Return a layer in training mode, none of whose parts is idle."""
    torch.manual_seed(0)
    kind = SUPERVISIONS[variant]
    made = DecoderLayer(WIDTH, HEADS, 2, 3, 24, dropout, order or kind.order, kind.place, aux_ffn)
    for name, parameter in made.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.3)
    return made


def inputs(padded: bool = False) -> tuple[Tensor, Tensor, Tensor, Memory]:
    generator = torch.Generator().manual_seed(1)
    content, position = torch.randn(2, 2, QUERIES, WIDTH, generator=generator)
    references = torch.rand(2, QUERIES, 4, generator=generator) * 0.6 + 0.2
    mask, ratios = None, None
    if padded:
        mask, ratios = torch.rand(2, 30, generator=generator) > 0.3, torch.rand(2, 2, 2, generator=generator)
    return content, position, per_level(references, ratios), Memory(torch.randn(2, 30, WIDTH), SHAPES, mask, ratios)


def test_queries_attend_to_each_other_as_in_torch() -> None:
    torch.manual_seed(0)
    own, known = QueryAttention(WIDTH, HEADS, 0.0), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    nn.init.normal_(own.in_proj_bias)
    nn.init.normal_(own.out_proj.bias)
    known.load_state_dict(own.state_dict())
    content, position, *_ = inputs()
    asking = content + position
    expected, _ = known(asking, asking, content)
    assert torch.allclose(own(content, position), expected, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("variant", "order", "steps", "read"),
    [
        ("a", None, "sco", "o"),
        ("b", None, "cso", "o"),
        ("c", None, "cso", "c"),
        ("d", None, "sco", "s"),
        ("none", None, "sco", ""),
        ("c", "self_first", "sco", "c"),
        ("d", "cross_first", "cso", "s"),
        ("none", "cross_first", "cso", ""),
    ],
)
def test_parts_run_in_the_order_of_the_variant(
    variant: str, order: str | None, steps: str, read: str, padded: bool
) -> None:
    for aux_ffn in (False, True) if read in ("c", "s") else (False,):
        compare_with_parts(layer(variant, order, aux_ffn), steps, read, padded)


def compare_with_parts(made: DecoderLayer, steps: str, read: str, padded: bool) -> None:
    """Compare a layer with its parts called one by one; a state is read behind c(ross), s(elf) or at the end (o)."""
    x, position, references, memory = inputs(padded)
    found, aside = made(x, position, references, memory, True)
    states = {}
    for step in steps:
        if step == "c":
            looked = made.cross_attn(x + position, references, memory.values, SHAPES, memory.mask)
            x = F.layer_norm(x + looked, (WIDTH,), made.norm1.weight, made.norm1.bias)
        elif step == "s":
            x = F.layer_norm(x + made.self_attn(x, position), (WIDTH,), made.norm2.weight, made.norm2.bias)
        else:
            x = F.layer_norm(x + made.linear2(made.linear1(x).relu()), (WIDTH,), made.norm3.weight, made.norm3.bias)
        states[step] = x
    assert torch.allclose(found, x, atol=1e-5)
    if not read:
        assert aside is None
        return
    expected = states[read]
    if made.aux_ffn:
        expected = made.norm4(expected + made.linear4(made.linear3(expected).relu()))
    assert torch.allclose(aside, expected, atol=1e-5)


@pytest.mark.parametrize(("variant", "aux_ffn"), [("a", False), ("c", True), ("d", False)])
def test_running_leaves_the_branch_out_and_can_forget_it(variant: str, aux_ffn: bool) -> None:
    made, given = layer(variant, aux_ffn=aux_ffn), inputs()
    expected, aside = made(*given, True)
    assert aside is not None
    found, aside = made(*given, False)
    assert aside is None and torch.equal(found, expected)
    made.drop_branch()
    made.drop_branch()
    assert torch.equal(made(*given, True)[0], expected)
    assert not any(name.startswith(("linear3", "linear4", "norm4")) for name in made.state_dict())


def test_dropout_is_for_training_alone() -> None:
    made, given = layer("c", aux_ffn=True, dropout=0.5), (*inputs(), True)
    one, other = made(*given), made(*given)
    assert not torch.allclose(one[0], other[0]) and not torch.allclose(one[1], other[1])
    made.eval()
    assert torch.equal(made(*given)[0], made(*given)[0])


@pytest.mark.parametrize(
    ("part", "times"), [("cross_attn.output_proj", 1), ("linear2", 1), ("linear4", 1), ("linear1", 1), ("linear3", 1)]
)
def test_what_each_part_says_is_dropped(part: str, times: int) -> None:
    """Behind the attention to the memory, and behind both linear layers of both networks."""
    made, given, seen = layer("c", aux_ffn=True, dropout=0.5), (*inputs(), True), []
    told = made.get_submodule(part)
    told.register_forward_hook(lambda _, __, out: torch.ones_like(out))
    made.drop.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    made(*given)
    assert sum(bool((before == 1).all() and (after == 0).any()) for before, after in seen) == times


def test_links_between_queries_are_dropped() -> None:
    made, (content, position, *_) = layer("c", dropout=0.5), inputs()
    assert not torch.allclose(made.self_attn(content, position), made.self_attn(content, position))


def test_matrices_begin_as_published() -> None:
    torch.manual_seed(0)
    made = DecoderLayer(WIDTH, HEADS, 2, 3, 24, 0.0, "cross_first", "cross", True)
    for name in ("linear1", "linear2", "linear3", "linear4"):
        weight = made.get_submodule(name).weight
        bound = math.sqrt(6 / sum(weight.shape))
        assert bound * 0.9 < float(weight.detach().abs().max()) <= bound, name


@pytest.mark.parametrize("numbers", [2, 4])
def test_references_are_fractions_of_each_level_with_its_padding(numbers: int) -> None:
    references, ratios = torch.rand(2, QUERIES, numbers), torch.rand(2, 3, 2)
    found = per_level(references, ratios)
    for image in range(2):
        for level in range(3):
            x, y = ratios[image, level]
            expected = references[image] * torch.tensor([x, y, x, y][:numbers])
            assert torch.allclose(found[image, :, level], expected)
    assert torch.equal(per_level(references, None)[:, :, 0], references)


def test_names_of_tensors_are_the_published_ones() -> None:
    attention = {
        f"cross_attn.{part}" for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    }
    parts = attention | {"norm1", "norm2", "norm3", "linear1", "linear2", "self_attn.out_proj"}
    names = {f"{part}.{leaf}" for part in parts for leaf in ("weight", "bias")}
    names |= {"self_attn.in_proj_weight", "self_attn.in_proj_bias"}
    extra = {f"{part}.{leaf}" for part in ("linear3", "linear4", "norm4") for leaf in ("weight", "bias")}
    assert set(layer("c").state_dict()) == names and set(layer("c", aux_ffn=True).state_dict()) == names | extra
    assert set(ORDERS) == {"cross_first", "self_first"}
