"""The names a model YAML may use, and how each of them is built from a row.

A class joins with one decorator; nothing that is not registered can be reached from a YAML::

    @register
    class MyBlock(RowBlock):
        def __init__(self, c_in: int, c_out: int, kernel: int = 3) -> None: ...
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from torch import nn

from models.row_kinds import Kind
from utils.errors import ModelError, did_you_mean


@dataclass(frozen=True)
class Scale:
    """A model's compound scaling.

    Attributes:
        depth: multiplier of the repeats of a row.
        width: multiplier of channels.
        divisor: scaled channels are rounded up to a multiple of this; None cuts them to whole channels.
    """

    depth: float = 1.0
    width: float = 1.0
    divisor: int | None = 8

    def channels(self, count: int) -> int:
        """Return ``count`` channels, scaled and made a whole number by the model's rule."""
        if self.divisor is None:
            return int(count * self.width)
        return math.ceil(count * self.width / self.divisor) * self.divisor

    def repeats(self, number: int) -> int:
        """Return ``number`` repeats, scaled with half-to-even rounding; a single block stays single."""
        return max(round(number * self.depth), 1) if number > 1 else number


@dataclass(frozen=True)
class Built:
    """A module made from a row, and how many channels it gives."""

    module: nn.Module
    out_channels: int


class RowBlock(nn.Module):
    """A module that a YAML row can name.

    Keyword-only arguments of the constructor are the block's options: a row writes them as a mapping behind its other
    arguments, ``[-1, 1, MyBlock, [64, {mode: fast}]]``, and ``construct`` passes them by name.

    Class attributes:
        repeats_inside: True when the block takes ``number`` as its argument after the output channels; False when
            ``number`` > 1 stacks that many blocks one after another.
        same_size_inputs: True when all source rows must have the same height and width.
        reads: what its source rows give: one kind for all of them, or one for each in order.
        takes_list: True when its ``forward`` takes a list also where ``from`` names a single row, as heads do.
        takes_sizes: True when its ``forward`` takes the valid area of every picture behind what it reads, see
            ``Graph.forward``.
        class_options: names of options that describe classes one by one, such as their ids; they are left out where the
            number of classes changes.
        tells_classes: True when its first argument is the number of classes of the heads that read it.
    """

    repeats_inside: ClassVar[bool] = False
    same_size_inputs: ClassVar[bool] = False
    reads: ClassVar[tuple[Kind, ...]] = (Kind.MAP,)
    takes_list: ClassVar[bool] = False
    takes_sizes: ClassVar[bool] = False
    class_options: ClassVar[tuple[str, ...]] = ()
    tells_classes: ClassVar[bool] = False

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build the block of one row: the first argument is the output channels before scaling.

        Args:
            in_channels: channels of every source row, in order.
            number: repeats after scaling.
            args: the row's arguments, symbols replaced.
            scale: the model's compound scaling.

        Raises:
            ValueError: the arguments do not fit the block; the sentence says how.
        """
        c_in = single_input(cls, in_channels)
        if not args:
            raise ValueError(f"the first argument, the output channels, is missing; {usage(cls)}")
        if isinstance(args[0], bool) or not isinstance(args[0], int) or args[0] < 1:
            raise ValueError(
                f"the first argument is the output channels, a whole number above 0, but it is {args[0]!r}"
            )
        c_out = scale.channels(args[0])
        if cls.repeats_inside:
            return Built(construct(cls, c_in, c_out, number, *args[1:]), c_out)
        blocks = [construct(cls, c_in, c_out, *args[1:])]
        blocks += [construct(cls, c_out, c_out, *args[1:]) for _ in range(number - 1)]
        return Built(blocks[0] if number == 1 else nn.Sequential(*blocks), c_out)


class ChannelKeepingBlock(RowBlock):
    """A block with as many output channels as its only source row has; a row's arguments follow after ``c_in``."""

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row; the channels stay.

        Raises:
            ValueError: see ``RowBlock.from_row``.
        """
        c_in = single_input(cls, in_channels)
        blocks = [construct(cls, c_in, *args) for _ in range(number)]
        return Built(blocks[0] if number == 1 else nn.Sequential(*blocks), c_in)


def row_input(module: nn.Module, inputs: list[Any]) -> Any:
    """Return what a row's module is called with: the list of its sources' outputs, or the only one of them."""
    listed = any(getattr(module, name, False) for name in ("takes_list", "same_size_inputs"))
    return inputs if listed or len(inputs) > 1 else inputs[0]


RowBuilder = Callable[[list[int], int, list[Any], Scale], Built]
_Block = TypeVar("_Block", bound=type)
_BLOCKS: dict[str, type] = {}


def register(block: _Block) -> _Block:
    """Class decorator: let YAML rows name the class. It must offer ``from_row``.

    Raises:
        ModelError: another class already has the name.
    """
    return register_as(block.__name__)(block)


def register_as(name: str) -> Callable[[_Block], _Block]:
    """Class decorator like ``register`` under a name of its own choice, such as ``nn.Upsample``."""

    def add(block: _Block) -> _Block:
        if name in _BLOCKS and _BLOCKS[name] is not block:
            raise ModelError(
                f"two modules are registered as '{name}': {_BLOCKS[name].__module__} and {block.__module__}"
            )
        _BLOCKS[name] = block
        return block

    return add


def registered() -> list[str]:
    """Return every name that a YAML row may use, sorted."""
    return sorted(_BLOCKS)


def lookup(name: str) -> type:
    """Return the class registered as ``name``.

    Raises:
        ValueError: nothing has that name; the sentence offers the nearest one.
    """
    for candidate in (name, name.removeprefix("torch."), f"nn.{name}"):
        if candidate in _BLOCKS:
            return _BLOCKS[candidate]
    near = did_you_mean(name, _BLOCKS)
    mend = f".{near}" if near else f"; there are {', '.join(registered())}"
    raise ValueError(f"there is no module named '{name}'{mend}")


def single_input(block: type, in_channels: list[int]) -> int:
    """Return the channels of the only source row.

    Raises:
        ValueError: the row reads several rows.
    """
    if len(in_channels) != 1:
        raise ValueError(
            f"{block.__name__} reads one row, but 'from' lists {len(in_channels)}; put a Concat row before it"
        )
    return in_channels[0]


def usage(block: type) -> str:
    """Return how a row's arguments are written for ``block``, for an error message."""
    parameters = inspect.signature(block.__init__).parameters.values()
    # What the row does not write: the channels come from its sources, the repeats from its second item.
    hidden = {"self", "c_in", "in_channels"} | ({"number"} if getattr(block, "repeats_inside", False) else set())
    hidden |= set(option_names(block))
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters if p.name not in hidden]
    options = [f"{{{', '.join(option_names(block))}}}"] if option_names(block) else []
    return f"{block.__name__} takes [{', '.join(shown + options)}]"


def option_names(block: type) -> tuple[str, ...]:
    """Return the names of a block's options, which a row gives in a mapping behind its other arguments."""
    parameters = inspect.signature(block.__init__).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def construct(block: type, *args: Any) -> nn.Module:
    """Call ``block(*args)`` after holding the arguments against its signature; a mapping at the end gives options.

    Raises:
        ValueError: too few or too many arguments, or one of the wrong type; the sentence says which.
    """
    signature = inspect.signature(block.__init__)
    args, options = (args[:-1], args[-1]) if args and isinstance(args[-1], Mapping) else (args, {})
    try:
        bound = signature.bind(None, *args, **options)
    except TypeError:
        raise ValueError(f"the number of arguments does not fit; {usage(block)}") from None
    hints = typing.get_type_hints(block.__init__)
    for name, value in bound.arguments.items():
        hint = hints.get(name)
        if hint is not None and not _fits(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint)
            raise ValueError(f"argument '{name}' should be {wanted}, but it is {value!r}; {usage(block)}")
    return block(*args, **options)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a YAML value fits a type hint, as far as YAML values go."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin in (list, tuple):
        inner = [option for option in typing.get_args(hint) if option is not Ellipsis]
        return isinstance(value, list | tuple) and all(any(_fits(v, option) for option in inner) for v in value)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    return True
