"""The deformable encoder: padding that nobody sees, references, gradients, kept memory and what a row says wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.layers import deformable_encoder as module
from models.layers.deformable_encoder import DeformEncoder
from models.memory import MemoryWidth
from models.registry import Scale

WIDTH = 16
SHAPES = ((6, 8), (3, 4))


def encoder(layers: int = 2, dropout: float = 0.0) -> DeformEncoder:
    torch.manual_seed(0)
    made = DeformEncoder([WIDTH, WIDTH], WIDTH, layers, 4, 2, 24, dropout)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    made.set_strides([8, 16])
    return made


def maps(shapes: tuple[tuple[int, int], ...] = SHAPES, images: int = 1, seed: int = 1) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(images, WIDTH, *shape, generator=draw) for shape in shapes]


def test_memory_knows_its_levels() -> None:
    memory = encoder()(maps(images=2))
    assert memory.values.shape == (2, 60, WIDTH)
    assert memory.shapes == SHAPES
    assert (memory.mask, memory.ratios, memory.sizes) == (None, None, None)
    assert memory.layout == "2 levels, 6x8 to 3x4: 60 tokens of 16"


def test_matrices_and_vectors_begin_as_published() -> None:
    torch.manual_seed(0)
    made = DeformEncoder([64, 64], 64, 1, 4, 2, 96)
    for linear in (made.layers[0].linear1, made.layers[0].linear2):
        bound = math.sqrt(6 / sum(linear.weight.shape))
        assert bound * 0.95 < float(linear.weight.detach().abs().max()) <= bound
    assert float(made.level_embed.detach().std()) == pytest.approx(1.0, abs=0.2)


def test_maps_from_coarse_to_fine_are_refused() -> None:
    with pytest.raises(ValueError, match="from fine to coarse, but one of 3x4 is before one of 6x8"):
        encoder()(maps(SHAPES[::-1]))


def test_tokens_stand_level_after_level_and_row_by_row() -> None:
    given = maps()
    made = encoder(0 + 1)
    for layer in made.layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        nn.init.ones_(layer.norm1.weight)
        nn.init.ones_(layer.norm2.weight)
    values = made(given).values[0]
    for token, level, row, column in ((8, 0, 1, 0), (47, 0, 5, 7), (48 + 5, 1, 1, 1)):
        own = given[level][0, :, row, column]
        assert torch.allclose(values[token], (own - own.mean()) / own.std(correction=0), atol=1e-3)


def test_every_token_looks_around_its_own_place_in_all_levels() -> None:
    made, seen = encoder(1), []
    made.layers[0].self_attn.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    made(maps())
    places = seen[0].expand(-1, -1, 2, -1)[0]
    assert torch.allclose(places[9], torch.tensor([1.5 / 8, 1.5 / 6]).expand(2, 2))
    assert torch.allclose(places[48], torch.tensor([0.5 / 4, 0.5 / 3]).expand(2, 2))


@pytest.mark.parametrize("training", [False, True])
def test_a_padded_picture_is_as_alone(training: bool) -> None:
    """Its maps stop where it does, so that only the encoder could see the padding."""
    made = encoder().train(training)
    alone = maps(((4, 6), (2, 3)))
    wide = [F.clone() for F in maps(images=2, seed=2)]
    for level, own in zip(wide, alone, strict=True):
        level[1, :, : own.shape[2], : own.shape[3]] = own[0]
    memory = made(wide, ((48, 64), (32, 48)))
    expected = made(alone)
    assert memory.mask[0].all()
    assert torch.allclose(memory.values[1][memory.mask[1]], expected.values[0], atol=1e-4)
    assert torch.allclose(memory.ratios[1], torch.tensor([[6 / 8, 4 / 6], [3 / 4, 2 / 3]]))
    assert memory.sizes == ((48, 64), (32, 48))


def test_a_canvas_wider_than_all_pictures_is_told_by_the_finest_map() -> None:
    memory = encoder()(maps(), ((30, 64),))
    assert int(memory.mask[0, :48].view(6, 8)[:, 0].sum()) == 4
    bare = encoder()
    bare.strides = None
    assert bare(maps(), ((48, 64),)).mask.all()


def test_all_parameters_learn_through_float64_differences() -> None:
    made = encoder(1).double()
    given = [level[..., :2, :3].double().requires_grad_() for level in maps()]

    def run(fine: Tensor, coarse: Tensor, vectors: Tensor) -> Tensor:
        return torch.func.functional_call(made, {"level_embed": vectors}, ([fine, coarse],)).values

    assert torch.autograd.gradcheck(run, (*given, made.level_embed), fast_mode=True)
    made(given).values.sin().sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_running_layers_again_changes_no_gradient() -> None:
    answers = []
    for again in (False, True):
        made = encoder(dropout=0.2).train()
        made.layers_run_again = again
        torch.manual_seed(3)
        made(maps(), ((40, 64),)).values.square().sum().backward()
        answers.append([parameter.grad for parameter in made.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


def test_pieces_of_the_second_branch_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    made = encoder().eval()
    learning = made(maps(images=2)).values
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 7)
    with torch.no_grad():
        assert torch.allclose(made(maps(images=2)).values, learning, atol=1e-5)


def test_dropout_is_for_training_alone() -> None:
    made = encoder(dropout=0.5)
    torch.manual_seed(1)
    assert not torch.equal(made(maps()).values, made(maps()).values)
    assert torch.equal(made.eval()(maps()).values, made(maps()).values)


def test_names_are_the_published_ones() -> None:
    names = set(encoder(1).state_dict())
    attention = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    layers = [f"layers.0.self_attn.{part}" for part in attention]
    layers += [f"layers.0.{part}" for part in ("norm1", "linear1", "linear2", "norm2")]
    assert names == {"level_embed", *(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))}


def test_a_row_hands_on_width_and_levels() -> None:
    built = DeformEncoder.from_row([WIDTH, WIDTH], 1, [WIDTH, 1, 4, 2, 24], Scale(width=0.5))
    assert built.out_channels == WIDTH
    assert isinstance(built.out_channels, MemoryWidth)
    assert built.out_channels.levels == 2


@pytest.mark.parametrize(
    ("channels", "number", "args", "sentence"),
    [
        ([16, 24], 1, [16, 1, 4, 2, 24], "have 16, 24 channels; put a ConvGN row of 16 channels between"),
        ([16], 2, [16, 1, 4, 2, 24], "says itself how many layers it has, but the number is 2; write 1"),
        ([18], 1, [18, 1, 3, 2, 24], "a multiple of 4 and of the 3 heads, but it is 18"),
        ([16], 1, [16, 1, 3, 2, 24], "a multiple of 4 and of the 3 heads, but it is 16"),
        ([16], 1, [16, 0, 4, 2, 24], "'layers' is at least 1"),
        ([16], 1, [16, 101, 4, 2, 24], "at most 100"),
        ([16], 1, [16, 1, 4, 2, 24, 1.0], "the dropout is from 0 to below 1, but it is 1.0"),
        ([16], 1, [16, 1, 4], "the number of arguments does not fit"),
    ],
)
def test_rows_that_do_not_fit_are_refused(channels: list[int], number: int, args: list, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DeformEncoder.from_row(channels, number, args, Scale())
