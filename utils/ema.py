"""Exponential moving average of a model's weights and statistics, always in float32."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from utils.flat_tensors import flat, spread
from utils.schedules import ema_decay


class ModelEma:
    """Keeps an averaged copy of a model.

    Args:
        model: the model being trained, where it is going to be trained.
        decay: weight of the past in the long run; 0 keeps no average: the copy is the model itself, byte for byte, and
            is only renewed when somebody asks for it.
        tau: updates after which the weight of the past has risen to 63 % of ``decay``.
        copy_first: whether the first update copies the model, as in MMEngine; its later weights are the same as here:
            its momentum m is 1 - ``decay``, and its step t, counted from 0, is update t + 1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0, copy_first: bool = False) -> None:
        self._module = copy.deepcopy(model).float().eval().requires_grad_(False)
        self.decay, self.tau, self.copy_first = decay, tau, copy_first
        once = _names_once(self._module)
        averaged = {name: tensor for name, tensor in self._module.state_dict().items() if name in once}
        live = model.state_dict()
        weights = {name for name, _ in self._module.named_parameters() if name in averaged}
        floating = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        # Weights first: they alone are sure to be finite after a step that was left out.
        floating.sort(key=lambda name: name not in weights)
        self._weights = sum(name in weights for name in floating)
        self._averaged = [averaged[name] for name in floating]
        self._live = [live[name] for name in floating]
        self._copied = [averaged[name] for name in averaged if name not in set(floating)]
        self._source = [live[name] for name in averaged if name not in set(floating)]
        device = next(iter(averaged.values()), torch.empty(0)).device
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._behind = False

    @property
    def module(self) -> nn.Module:
        """The averaged model, for use."""
        if self._behind:
            self._catch_up()
        return self._module

    @torch.no_grad()
    def _catch_up(self) -> None:
        """Copy the model's state, which is what an average without a past is."""
        if self._averaged:
            torch._foreach_copy_(self._averaged, self._live)
        if self._copied:
            torch._foreach_copy_(self._copied, self._source)
        self._behind = False

    @property
    def updates(self) -> int:
        """How often the average was updated; reading it waits for the device."""
        return int(self._count)

    @torch.no_grad()
    def update(self, skip: Tensor | None = None) -> None:
        """Move the average towards the model's present state.

        Args:
            skip: 0-dim tensor on the model's device, 1 for a step that was left out: then nothing changes at all, also
                where the model's statistics are not finite. None is the same as 0.
        """
        if not self.decay:
            self._behind = True
            self._count += 1 if skip is None else (skip == 0).to(self._count)
            return
        if self._count.device.type != "cpu":
            self._update_on_device(torch.zeros((), device=self._count.device) if skip is None else skip)
            return
        # On the CPU there is nothing to wait for, so that the flag and the count can be read.
        if skip is not None and bool(skip):
            return
        self._count += 1
        updates = int(self._count)
        weight = 1.0 if self.copy_first and updates == 1 else 1.0 - ema_decay(updates, self.decay, self.tau)
        torch._foreach_lerp_(self._averaged, [tensor.float() for tensor in self._live], weight)
        if self._copied:
            torch._foreach_copy_(self._copied, self._source)

    def _update_on_device(self, skip: Tensor) -> None:
        """Do the same in few kernels and without a look at the flag and the count."""
        left_out = skip > 0
        self._count += ~left_out
        # The same as 1 - ema_decay(...), written so that float32 loses nothing.
        weight = (1 - self.decay) + self.decay * torch.exp(self._count.float() / -self.tau)
        if self.copy_first:
            weight = torch.where(self._count == 1, 1.0, weight)
        weight = torch.where(left_out, 0.0, weight)
        averaged, live = self._averaged[: self._weights], self._live[: self._weights]
        if averaged:
            change = torch._foreach_sub([tensor.float() for tensor in live], averaged)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(averaged, change)
        averaged, live = self._averaged[self._weights :], self._live[self._weights :]
        if averaged:
            old, new = flat(averaged), flat(live).float()
            spread(torch.where(left_out, old, old + (new - old) * weight), averaged)
        for dtype in {tensor.dtype for tensor in self._copied}:
            averaged = [tensor for tensor in self._copied if tensor.dtype == dtype]
            live = [tensor for tensor in self._source if tensor.dtype == dtype]
            spread(torch.where(left_out, flat(averaged), flat(live)), averaged)

    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Restore an average that was saved after ``updates`` updates."""
        self._behind = False
        self._module.load_state_dict(dict(state))
        self._count.fill_(updates)


def _names_once(module: nn.Module) -> set[str]:
    """Return a name for every parameter and buffer, the first where several modules share one."""
    return {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
