"""One exchange of all gradients per step: laid side by side in one flat tensor, summed over the processes at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

ALIGNMENT = 64
"""Every gradient begins at a multiple of so many bytes, which lets devices read several values at once."""


@dataclass
class _Layout:
    """Where the gradients of one choice of parameters lie.

    Attributes:
        starts: of every gradient and behind them of the extras, in values.
        length: of the whole, in values.
        buffer: the flat tensor; None until it is first needed.
        lent: the gradients that were last handed out.
    """

    starts: list[int]
    length: int
    buffer: Tensor | None = None
    lent: list[weakref.ref[Tensor]] = field(default_factory=list)

    def free_buffer(self, like: Tensor) -> Tensor:
        """Return a flat tensor that nobody else looks at."""
        # Gradients that are kept while others are computed, as gradient surgery does, must not be written over.
        if self.buffer is None or any(view() is not None for view in self.lent):
            # Zeros, because the gaps are summed too and must not overflow.
            self.buffer = torch.zeros(self.length, dtype=like.dtype, device=like.device)
        return self.buffer


class GradientExchange:
    """Sums gradients over processes and leaves the sums in the parameters; its memory is used again and again."""

    def __init__(self) -> None:
        self._layouts: dict[tuple, _Layout] = {}

    @torch.no_grad()
    def reduce(
        self,
        parameters: Sequence[Tensor],
        expected: Sequence[bool],
        extras: Sequence[Tensor],
        all_reduce: Callable[[Tensor], None],
    ) -> list[Tensor]:
        """Sum the gradients of the expected parameters, and small tensors along with them.

        Args:
            parameters: of one number format on one device, in the same order in every process.
            expected: for each whether its gradient takes part: the same in every process. One that is absent here
                counts as zero.
            extras: small tensors of any shape, as many and as large in every process.
            all_reduce: sums a flat tensor over the processes, in place.

        Returns:
            The sums of the extras. The gradients of the parameters become parts of the flat tensor, each with the
            strides of its parameter.

        Raises:
            ValueError: a parameter that is not expected has a gradient.
        """
        chosen = [p for p, wanted in zip(parameters, expected, strict=True) if wanted]
        stray = sum(p.grad is not None for p, wanted in zip(parameters, expected, strict=True) if not wanted)
        if stray:
            raise ValueError(f"{stray} parameters have gradients although no head of this step uses them")
        if not chosen:
            return _sum_alone(extras, all_reduce)
        layout = self._layout(chosen, tuple(expected), extras)
        buffer = layout.free_buffer(chosen[0])
        views = [
            buffer.as_strided(p.shape, _strides(p), start) for p, start in zip(chosen, layout.starts, strict=False)
        ]
        given = [(view, p.grad) for view, p in zip(views, chosen, strict=True) if p.grad is not None]
        absent = [view for view, p in zip(views, chosen, strict=True) if p.grad is None]
        if given:
            torch._foreach_copy_([view for view, _ in given], [gradient for _, gradient in given])
        if absent:
            torch._foreach_zero_(absent)
        places = [
            buffer[start : start + extra.numel()].view(extra.shape)
            for start, extra in zip(layout.starts[len(chosen) :], extras, strict=True)
        ]
        for place, extra in zip(places, extras, strict=True):
            place.copy_(extra)
        all_reduce(buffer)
        for parameter, view in zip(chosen, views, strict=True):
            parameter.grad = view
        layout.lent = [weakref.ref(view) for view in views]
        # Copies, because the flat tensor is written over in the next step.
        return [place.to(extra.dtype, copy=True) for place, extra in zip(places, extras, strict=True)]

    def _layout(self, chosen: list[Tensor], expected: tuple[bool, ...], extras: Sequence[Tensor]) -> _Layout:
        sizes = [tensor.numel() for tensor in (*chosen, *extras)]
        key = (expected, tuple(sizes[len(chosen) :]))
        if key not in self._layouts:
            step = max(ALIGNMENT // chosen[0].element_size(), 1)
            starts, position = [], 0
            for size in sizes:
                starts.append(position)
                position += -(-size // step) * step
            self._layouts[key] = _Layout(starts, position)
        return self._layouts[key]


def _sum_alone(extras: Sequence[Tensor], all_reduce: Callable[[Tensor], None]) -> list[Tensor]:
    if not extras:
        return []
    flat = torch.cat([extra.reshape(-1) for extra in extras])
    all_reduce(flat)
    parts = flat.split([extra.numel() for extra in extras])
    return [part.view(extra.shape).clone() for part, extra in zip(parts, extras, strict=True)]


def _strides(parameter: Tensor) -> tuple[int, ...]:
    """Return the parameter's own strides where it fills its memory without gaps, else those of its shape."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
    if reach == parameter.numel():
        return parameter.stride()
    return torch.empty(parameter.shape, device="meta").stride()
