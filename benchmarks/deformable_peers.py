"""Deformable attention twice with the same seeded weights: ours, and that of transformers, to be installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from data.samples import Batch
from models.graph import Graph, load_graph
from models.layers.deformable_attention import BAG, FORMS, MSDeformAttn
from models.layers.deformable_encoder import EncoderLayer
from models.layers.sine_positions import places_of
from models.memory import Shapes
from models.weights import build_model, load_weights
from utils.errors import RunError

WIDTH, HEADS, POINTS, FFN, QUERIES, OBJECTS = 256, 8, 4, 2048, 300, 7
LEARNING_RATE, CLIP = 2e-4, 0.1
THEIRS = "transformers"
LAYER_NAMES = {
    "self_attn_layer_norm": "norm1",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "final_layer_norm": "norm2",
}
"""Modules of an encoder layer of theirs that ours calls otherwise."""

Way = Callable[[], list[Tensor]]


class Inputs(NamedTuple):
    """What an attention reads; ``references`` are (1, Q, L, 2 or 4)."""

    query: Tensor
    references: Tensor
    source: Tensor
    positions: Tensor
    shapes: Shapes


def transformers_detr() -> Any:
    """Return the module of transformers with Deformable-DETR.

    Raises:
        RunError: it is not installed.
    """
    try:
        from transformers.models.deformable_detr import modeling_deformable_detr
        from transformers.utils import logging
    except ImportError as error:
        raise RunError(
            f"benchmarks.deformable_attention compares with transformers, which is not installed ({error}); "
            "pip install transformers"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return modeling_deformable_detr


def config_of(**changes: Any) -> Any:
    """Return a configuration of theirs with the sizes of the published networks and without dropout."""
    from transformers import DeformableDetrConfig, ResNetConfig

    backbone = ResNetConfig(out_features=["stage2", "stage3", "stage4"])
    return DeformableDetrConfig(
        backbone_config=backbone,
        encoder_ffn_dim=FFN,
        decoder_ffn_dim=FFN,
        dropout=0.0,
        num_queries=QUERIES,
        two_stage=True,
        with_box_refine=True,
        two_stage_num_proposals=QUERIES,
        auxiliary_loss=True,
        num_labels=91,
        **changes,
    )


def level_shapes(height: int, width: int) -> Shapes:
    """Return rows and columns of the four levels of a picture, strides 8 to 64."""
    return tuple((-(-height // stride), -(-width // stride)) for stride in (8, 16, 32, 64))


def made_up_inputs(shapes: Shapes, queries: str, device: torch.device) -> Inputs:
    """Return what a layer of the encoder (queries are all tokens) or of the decoder (300 boxes) reads."""
    draw = torch.Generator().manual_seed(1)
    places = places_of(shapes, WIDTH, None, torch.device("cpu"))
    tokens = places.centres.shape[1]
    source = torch.randn(1, tokens, WIDTH, generator=draw)
    references, positions = places.centres, places.positions
    query = source
    if queries == "decoder":
        query = torch.randn(1, QUERIES, WIDTH, generator=draw)
        positions = torch.randn(1, QUERIES, WIDTH, generator=draw)
        references = torch.rand(1, QUERIES, 4, generator=draw) * torch.tensor([1, 1, 0.5, 0.5])
    references = references[:, :, None].expand(-1, -1, len(shapes), -1)
    return Inputs(*(part.contiguous().to(device) for part in (query, references, source, positions)), shapes)


def lively(module: nn.Module) -> nn.Module:
    """Let places and weights differ from query to query: points lie some cells around their reference."""
    for layer in module.modules():
        if hasattr(layer, "sampling_offsets"):
            nn.init.normal_(layer.sampling_offsets.weight, std=0.1)
            nn.init.normal_(layer.attention_weights.weight, std=0.05)
    return module


def pass_of(call: Callable[[], Tensor], leaves: list[Tensor], learns: bool) -> Way:
    """Return a pass forwards, or forwards and backwards, that answers with its result and the gradients of leaves."""

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [call()]

    def both() -> list[Tensor]:
        made = call()
        # No constant: a normalisation at the end would have no gradient.
        pull = torch.linspace(-1, 1, 97, device=made.device).repeat(-(-made.numel() // 97))[: made.numel()]
        return [made.detach(), *torch.autograd.grad(made, leaves, pull.view_as(made))]

    return both if learns else forward


def sum_ways(given: Inputs, learns: bool) -> dict[str, Way]:
    """Return the weighted sums alone, in every form of ours and in theirs."""
    attention = lively(_attention(given)).to(given.query.device)
    with torch.no_grad():
        locations = attention._locations(given.query + given.positions, given.references, given.shapes)
        weights = attention.attention_weights(given.query).unflatten(-1, (HEADS, -1)).softmax(-1)
        weights = weights.unflatten(-1, (len(given.shapes), POINTS))
    leaves = [given.source.unflatten(-1, (HEADS, -1)), locations, weights]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    theirs = transformers_detr().MultiScaleDeformableAttention()
    sides = torch.tensor(given.shapes, device=given.query.device)

    def call_theirs() -> Tensor:
        return theirs(leaves[0], sides, list(given.shapes), None, leaves[1], leaves[2], 64)

    ways = {
        form: pass_of(lambda function=function: function(leaves[0], given.shapes, *leaves[1:]), leaves, learns)
        for form, function in FORMS.items()
    }
    return {**ways, THEIRS: pass_of(call_theirs, leaves, learns)}


def attention_ways(given: Inputs, learns: bool) -> dict[str, Way]:
    """Return the attention with its linear layers."""
    ours = lively(_attention(given)).to(given.query.device)
    module = transformers_detr().DeformableDetrMultiscaleDeformableAttention(config_of(), HEADS, POINTS)
    theirs = _with_weights(module, ours.state_dict()).to(given.query.device)
    query, source = (part.clone().requires_grad_() for part in (given.query, given.source))
    arguments = _their_arguments(given)

    def call_theirs() -> Tensor:
        return theirs(query, encoder_hidden_states=source, position_embeddings=given.positions, **arguments)[0]

    def call_ours() -> Tensor:
        return ours(query + given.positions, given.references, source, given.shapes)

    return {
        BAG: pass_of(call_ours, [query, source, *ours.parameters()], learns),
        THEIRS: pass_of(call_theirs, [query, source, *_in_order(ours, theirs)], learns),
    }


def layer_ways(given: Inputs, learns: bool) -> dict[str, Way]:
    """Return a whole layer of the encoder."""
    ours = lively(EncoderLayer(WIDTH, HEADS, len(given.shapes), POINTS, FFN, 0.0)).to(given.query.device)
    module = transformers_detr().DeformableDetrEncoderLayer(config_of())
    names = {own: name for name, own in LAYER_NAMES.items()}
    state = {_renamed(name, names): tensor for name, tensor in ours.state_dict().items()}
    theirs = _with_weights(module, state).to(given.query.device)
    source = given.source.clone().requires_grad_()
    inside = torch.ones(source.shape[:2], dtype=torch.bool, device=source.device)
    arguments = _their_arguments(given)

    def call_theirs() -> Tensor:
        made = theirs(source, inside, spatial_position_embeddings=given.positions, **arguments)
        return made[0] if isinstance(made, tuple) else made

    def call_ours() -> Tensor:
        return ours(source, given.positions, given.references, given.shapes, None)

    return {
        BAG: pass_of(call_ours, [source, ours.linear1.weight, ours.norm1.weight], learns),
        THEIRS: pass_of(call_theirs, [source, theirs.mlp.fc1.weight, theirs.self_attn_layer_norm.weight], learns),
    }


def step_ways(height: int, width: int, device: torch.device) -> dict[str, Way]:
    """Return training steps of whole networks on one picture, which answer with their loss.

    ``deformable-detr`` has the very weights of theirs, but all of the loss of ours: theirs leaves proposals out where
    its own version says so. ``ms-detr`` does more: the extra network and one-to-many supervision of every layer.
    """
    torch.manual_seed(0)
    theirs = lively(transformers_detr().DeformableDetrForObjectDetection(config_of())).to(device).train()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        same = build_model(load_weights(folder)).to(device).train()
    more = lively(load_graph("ms-detr-r50-pp-300")).to(device).train()
    draw = torch.Generator().manual_seed(2)
    images = torch.randn(1, 3, height, width, generator=draw).to(device)
    centres, sides = torch.rand(OBJECTS, 2, generator=draw) * 0.6 + 0.2, torch.rand(OBJECTS, 2, generator=draw) * 0.3
    boxes, classes = torch.cat((centres, sides + 0.05), 1), torch.arange(OBJECTS)
    labels = [{"class_labels": classes.to(device), "boxes": boxes.to(device)}]

    def their_loss() -> Tensor:
        return theirs(images, labels=labels).loss

    return {
        "ms-detr": _step(more, _loss_of(more, images, boxes, classes, {"o2m": 1})),
        "deformable-detr": _step(same, _loss_of(same, images, boxes, classes, {})),
        THEIRS: _step(theirs, their_loss),
    }


def _loss_of(
    graph: Graph, images: Tensor, boxes: Tensor, classes: Tensor, hyp: dict[str, float]
) -> Callable[[], Tensor]:
    """Return what runs a graph on one picture and gives the loss of its objects (centre x, centre y, width, height)."""
    height, width = images.shape[-2:]
    corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    corners = corners * torch.tensor([width, height, width, height])
    batch = Batch(images, corners[None], classes[None], torch.ones(1, len(classes), dtype=torch.bool))
    criterion = graph.heads["detect"].criterion(hyp)
    targets = criterion.prepare(batch).to(images.device)

    def loss() -> Tensor:
        parts = criterion(graph(images)["detect"], targets, targets.normalizers)
        return torch.stack(list(parts.values())).sum()

    return loss


def _step(module: nn.Module, loss: Callable[[], Tensor]) -> Way:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=1e-4)

    def step() -> list[Tensor]:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return [value.detach()]

    return step


def _attention(given: Inputs) -> MSDeformAttn:
    torch.manual_seed(0)
    return MSDeformAttn(WIDTH, HEADS, len(given.shapes), POINTS)


def _their_arguments(given: Inputs) -> dict[str, Any]:
    sides = torch.tensor(given.shapes, device=given.query.device)
    return {
        "reference_points": given.references,
        "spatial_shapes": sides,
        "spatial_shapes_list": list(given.shapes),
        "level_start_index": torch.cat((sides.new_zeros(1), sides.prod(1).cumsum(0)[:-1])),
    }


def _with_weights(module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """Return a module of theirs with these tensors.

    Raises:
        RunError: it has others.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(f"this version of transformers has other tensors than ours: {error}") from None
    return module


def _renamed(name: str, names: dict[str, str]) -> str:
    module, _, kind = name.rpartition(".")
    return f"{names.get(module, module)}.{kind}"


def _in_order(ours: nn.Module, theirs: nn.Module) -> list[Tensor]:
    named = dict(theirs.named_parameters())
    return [named[name] for name, _ in ours.named_parameters()]
