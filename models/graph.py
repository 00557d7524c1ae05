"""A model as a graph of rows: building it from YAML, checking it without memory, running only what is asked for.

``python -m models.graph yolov5s.yaml`` prints the table of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.keypoints import KeypointSpec
from data.transforms.letterbox import LetterboxRule
from models.heads.base import Head
from models.input_rule import BGR
from models.layers.per_head import selection_of
from models.recompute import run_with_recomputation
from models.registry import lookup, row_input
from models.row_building import build_rows, name_heads
from models.row_use import needed_rows
from models.spec import ModelSpec, load_spec
from models.tokens import Sizes, inside_areas, padded_sizes
from models.trace import RowTrace, input_stride, require_fitting_stride, trace_rows
from utils.errors import ModelError, did_you_mean


@dataclass(frozen=True)
class Step:
    """One step of a run: execute ``row``, then drop the outputs that no later step reads."""

    row: int
    release: tuple[int, ...]


class Graph(nn.Module):
    """The rows of a model YAML as a module.

    Args:
        spec: the checked YAML.

    Attributes:
        spec: as given.
        names: class names of every head.
        head_rows: row index of every head.
        trace: output shape, stride, parameters and operations of every row.
        stride: network inputs are multiples of it: the YAML's, else 32 or the largest of any row.
        selection: the head being run, where rows have a norm for every head; None where all norms are shared.
        norms_frozen: whether BatchNorms stay as they are in training, see ``freeze_norms``.
        is_deployed: whether blocks have been re-parameterised, see ``models.fusing.deploy_graph``.
        recompute: whether rows keep less for the backward pass and run again in it, see ``models.recompute``.

    Raises:
        ModelError: the YAML does not describe a model; the sentence names the row and the mend.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        with torch.device("meta"):
            blueprint = build_rows(spec)
        self.head_rows = name_heads(spec, blueprint)
        modules = [made.module for made in blueprint]
        self.trace: list[RowTrace] = trace_rows(spec, modules)
        require_fitting_stride(spec, modules, self.trace)
        self.stride = input_stride(spec, self.trace)
        self.model = self._allocate()
        self.names = {name: [str(i) for i in range(head.num_classes)] for name, head in self.heads.items()}
        self.selection = selection_of(self.model)
        self.norms_frozen = False
        self.is_deployed = False
        self.recompute = False
        self._plans: dict[tuple[str, ...], list[Step]] = {}
        for name in ("mean", "std"):
            numbers = getattr(spec.input, name)
            values = None if numbers is None else torch.tensor(numbers).view(1, -1, 1, 1)
            self.register_buffer(f"input_{name}", values, persistent=False)
        for row, module in zip(spec.rows, self.model, strict=True):
            if hasattr(module, "set_strides"):
                module.set_strides([self.trace[source].stride if source >= 0 else 1 for source in row.sources])

    def _allocate(self) -> nn.ModuleList:
        """Return every row's module with memory."""
        try:
            return nn.ModuleList(made.module for made in build_rows(self.spec))
        except (RuntimeError, MemoryError):
            count = sum(row.parameters for row in self.trace)
            raise ModelError(
                f"{self.spec.source}: there is no memory for its {count:,} parameters; "
                "lower width_multiple or the channels"
            ) from None

    @property
    def takes_sizes(self) -> bool:
        """Whether any row uses the valid areas of the pictures of a padded batch."""
        return any(getattr(module, "takes_sizes", False) for module in self.model)

    @property
    def heads(self) -> dict[str, Head]:
        """Every head by its output name, in row order."""
        return {name: self.model[index] for name, index in self.head_rows.items()}

    @property
    def normalisation(self) -> tuple[float, list[float] | None, list[float] | None]:
        """Divisor, mean and standard deviation that turn uint8 pixels into the network's input."""
        rule = self.spec.input
        mean, std = (None if numbers is None else list(numbers) for numbers in (rule.mean, rule.std))
        return rule.scale, mean, std

    @property
    def letterbox(self) -> LetterboxRule:
        """How pictures are placed within the network's input."""
        return self.spec.input.letterbox

    @property
    def keypoints(self) -> dict[str, KeypointSpec]:
        """What the keypoints are of every head that has some."""
        specs = {name: head.keypoints for name, head in self.heads.items()}
        return {name: spec for name, spec in specs.items() if spec is not None}

    def set_keypoints(self, name: str, keypoints: KeypointSpec) -> None:
        """Tell a head what its keypoints are.

        Args:
            name: of the head.
            keypoints: as many as the head gives.

        Raises:
            ModelError: the head gives no keypoints, or another number of them.
        """
        own = self.heads[name].keypoints
        if own is None or len(own) != len(keypoints):
            has = "no keypoints" if own is None else f"{len(own)} keypoints"
            raise ModelError(
                f"{self.spec.source}: the head '{name}' has {has}, but {len(keypoints)} are described; "
                "give the number of keypoints of the data in the head's row"
            )
        self.heads[name].keypoints = keypoints

    def plan(self, heads: Iterable[str]) -> list[Step]:
        """Return the steps that compute the given heads and nothing else, intermediates released after their last use.

        Raises:
            ModelError: the model has no such head.
        """
        asked = tuple(heads)
        if asked in self._plans:
            return self._plans[asked]
        for name in asked:
            if name not in self.head_rows:
                raise ModelError(
                    f"{self.spec.source}: there is no head '{name}', only {', '.join(self.head_rows)}."
                    f"{did_you_mean(name, self.head_rows)}"
                )
        order = sorted(needed_rows(self.spec, [self.head_rows[name] for name in asked]))
        last_use = {source: index for index in order for source in self.spec.rows[index].sources}
        steps = [Step(i, tuple(sorted(source for source, user in last_use.items() if user == i))) for i in order]
        self._plans[asked] = steps
        return steps

    def preprocess(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB (B, 3, H, W) into the network's input; floating-point images are taken as they are."""
        if images.dtype != torch.uint8:
            return images
        rule = self.spec.input
        x = (images.flip(1) if rule.channels == BGR else images).to(next(self.parameters()).dtype)
        if rule.scale != 1:
            x = x / rule.scale
        if self.input_mean is not None:
            x = x - self.input_mean.to(x.dtype)
        return x if self.input_std is None else x / self.input_std.to(x.dtype)

    def forward(
        self, images: Tensor, heads: Iterable[str] | None = None, sizes: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, Any]:
        """Run the rows that the asked heads depend on.

        Where shared rows have a norm for every head (``bn: per-task``), their outputs differ from head to head, so they
        run once for every asked head.

        Args:
            images: (B, 3, H, W) uint8 RGB, or floats already preprocessed; H and W multiples of ``stride``.
            heads: names of the heads to run; None runs all.
            sizes: of a padded batch, height and width in pixels of every picture, which lies at the top left of its
                input; what lies beyond becomes 0 behind the normalisation, and rows of tokens answer for each as if it
                were alone. None where every picture fills its input.

        Returns:
            Raw output of every asked head.

        Raises:
            ValueError: there is not one size for every picture, or one does not lie within the input.
        """
        x = self.preprocess(images)
        asked = tuple(self.head_rows if heads is None else heads)
        areas = padded_sizes(sizes, images)
        if areas is not None:
            x = x.masked_fill(~inside_areas(areas, tuple(x.shape[-2:]), x.device)[:, None], 0)
        if self.selection is None:
            return self._run(x, asked, areas)
        return {name: self._run(x, (name,), areas, name)[name] for name in asked}

    def _run(self, x: Tensor, heads: tuple[str, ...], sizes: Sizes | None, selected: str = "") -> dict[str, Any]:
        """Run the rows of ``heads`` on preprocessed images, with the norms of the head ``selected``."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return run_with_recomputation(self, x, heads, sizes, selected)
        kept: dict[int, Any] = {-1: x}
        names = {index: name for name, index in self.head_rows.items()}
        outputs: dict[str, Any] = {}
        for step in self.plan(heads):
            inputs = [kept[source] for source in self.spec.rows[step.row].sources]
            result = self._run_row(step.row, inputs, sizes, selected)
            if step.row in names:
                outputs[names[step.row]] = result
            else:
                kept[step.row] = result
            for source in step.release:
                del kept[source]
        return outputs

    def _run_row(self, index: int, inputs: list[Any], sizes: Sizes | None = None, selected: str = "") -> Any:
        """Run one row; whoever runs it again for a backward pass calls this, so that it finds the same norms."""
        if self.selection is not None:
            self.selection.name = selected
        module = self.model[index]
        given = row_input(module, inputs)
        return module(given, sizes) if getattr(module, "takes_sizes", False) else module(given)

    def freeze_norms(self) -> None:
        """Keep statistics, scales and shifts of every BatchNorm as they are from now on, in training too."""
        self.norms_frozen = True
        for module in self._batch_norms():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Graph:
        """Set training mode, of BatchNorms only while they are not frozen.

        Raises:
            ValueError: the graph is deployed and can only run.
        """
        if mode and self.is_deployed:
            raise ValueError("a deployed model is for running, not for training or saving; load the model again")
        super().train(mode)
        if self.norms_frozen:
            for module in self._batch_norms():
                module.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def load_graph(
    cfg: str | Path,
    classes: Mapping[str, int] | None = None,
    anchors: list[list[float]] | int | None = None,
    keypoints: Mapping[str, int] | None = None,
) -> Graph:
    """Build a model from a YAML.

    Args:
        cfg: path, or the name of a file below ``models/configs``.
        classes: number of classes per head name, where it should differ from the YAML's.
        anchors: anchors in place of the YAML's key ``anchors``.
        keypoints: number of keypoints per head name, where it should differ from the YAML's.
    """
    spec = load_spec(cfg)
    if anchors is not None:
        spec = spec.with_values(anchors=anchors)
    spec = with_classes(spec, classes) if classes else spec
    return Graph(with_keypoints(spec, keypoints) if keypoints else spec)


def with_classes(spec: ModelSpec, classes: Mapping[str, int]) -> ModelSpec:
    """Return the model with other numbers of classes, given per head name; other names are passed over.

    What a head's row says of its classes one by one (``Head.class_arguments``, ``RowBlock.class_options``), such as
    their ids, is left out where their number changes. Where it does not, the number is written into the row, because
    the symbol may change. The same holds for rows that serve a head and tell its classes too.
    """
    heads = _blank_heads(spec)
    changed = {name for name, (_, head) in heads.items() if classes.get(name, head.num_classes) != head.num_classes}
    if not changed:
        return _with_counts(spec, classes, _class_argument)
    for name, (index, head) in heads.items():
        args = spec.rows[index].args
        for position in (place for place in head.class_arguments if place < len(args) and args[place] is not None):
            own = (position, None) if name in changed else (0, head.num_classes)
            spec = spec.with_argument(index, *own)
        for row in (index, *_rows_telling_classes(spec, index)):
            spec = _without_class_options(spec, row, None if name in changed else head.num_classes)
    spec = _with_counts(spec, classes, _class_argument)
    for index, head in _blank_heads(spec).values():
        for row in _rows_telling_classes(spec, index):
            if spec.rows[row].args[:1] != [head.num_classes]:
                spec = spec.with_argument(row, 0, head.num_classes)
    return spec


def _class_argument(head: Head) -> tuple[int, int]:
    return 0, head.num_classes


def _rows_telling_classes(spec: ModelSpec, head_row: int) -> list[int]:
    """Return the rows that a head reads and that are told its number of classes, as their first argument."""
    sources = [source for source in spec.rows[head_row].sources if source >= 0]
    return [source for source in sources if getattr(lookup(spec.rows[source].module), "tells_classes", False)]


def _without_class_options(spec: ModelSpec, index: int, count: int | None) -> ModelSpec:
    """Leave out what a row's options say of classes one by one, or write down the number of classes if it is given."""
    args, block = spec.rows[index].args, lookup(spec.rows[index].module)
    given = args[-1] if args and isinstance(args[-1], Mapping) else {}
    for name in getattr(block, "class_options", ()):
        if given.get(name) is not None:
            spec = spec.with_option(index, name, None) if count is None else spec.with_argument(index, 0, count)
    return spec


def with_keypoints(spec: ModelSpec, keypoints: Mapping[str, int]) -> ModelSpec:
    """Return the model with other numbers of keypoints, given per head name; heads without any are passed over."""
    return _with_counts(spec, keypoints, _keypoint_argument)


def _keypoint_argument(head: Head) -> tuple[int, int] | None:
    if head.keypoints is None or head.keypoints_argument is None:
        return None
    return head.keypoints_argument, len(head.keypoints)


def _with_counts(
    spec: ModelSpec, counts: Mapping[str, int], argument: Callable[[Head], tuple[int, int] | None]
) -> ModelSpec:
    """Return the model with other numbers in the rows of heads.

    Args:
        spec: the model.
        counts: wanted number per head name.
        argument: tells the position in a head's row and the present number; None where a head has no such argument.
    """
    heads = {name: (index, argument(head)) for name, (index, head) in _blank_heads(spec).items()}
    wanted = {index: (found[0], counts[name]) for name, (index, found) in heads.items() if name in counts and found}
    for index, (position, count) in wanted.items():
        spec = spec.with_value_of(index, position, count)
    # Heads that share a symbol may still differ: those that another one overruled get their number into their row.
    for index, head in _blank_heads(spec).values():
        if index in wanted and argument(head) != wanted[index]:
            spec = spec.with_argument(index, *wanted[index])
    return spec


def _blank_heads(spec: ModelSpec) -> dict[str, tuple[int, Head]]:
    """Return row index and module of every head by name, without memory."""
    with torch.device("meta"):
        built = build_rows(spec)
    return {name: (index, built[index].module) for name, index in name_heads(spec, built).items()}


if __name__ == "__main__":
    from models.table import main
    from utils.errors import run_command

    run_command(main)
