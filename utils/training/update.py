"""What happens to the weights at the end of a step: clip, optimizer, average; without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import SGD, Optimizer

from utils.ema import ModelEma
from utils.training.loss_scale import LossScale

CLIP_EPSILON = 1e-6


class Update:
    """Applies accumulated gradients to the weights and the average, or leaves both alone where they are not finite.

    Whether they are finite is found out on the device and acted upon there: the fused optimizers of PyTorch read a
    flag, and so does the average. Nobody waits for the answer, so that the next step can be queued behind this one.

    Args:
        optimizer: a fused one over all that learns.
        ema: average of the model.
        clip_norm: largest norm of a step's gradient; 0 does not clip.
        loss_scale: for float16: what ``scaled`` multiplies losses with.

    Attributes:
        left_out: 0-dim float32 tensor, 1 where the last step changed nothing; a new tensor for every step.
        bad: the same, but 0 for steps that float16 lost to its search for the loss scale; a new tensor for every step.

    Raises:
        ValueError: the optimizer is not fused.
    """

    def __init__(
        self, optimizer: Optimizer, ema: ModelEma, clip_norm: float, loss_scale: LossScale | None = None
    ) -> None:
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            raise ValueError(f"{type(optimizer).__name__} was built without fused=True and cannot leave out a step")
        self.optimizer, self.ema, self.clip_norm, self.loss_scale = optimizer, ema, clip_norm, loss_scale
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        device = self._parameters[0].device if self._parameters else torch.device("cpu")
        self.left_out = torch.zeros((), device=device)
        self.bad = torch.zeros((), device=device)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return what the backward pass has to begin at: the loss, in float16 times the loss scale."""
        return loss if self.loss_scale is None else loss * self.loss_scale.scale

    @torch.no_grad()
    def apply(self) -> Tensor:
        """Take one step with the gradients that the parameters hold; they are not to be used any more afterwards.

        Returns:
            ``left_out``.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.left_out = self._clip(gradients)
        # A smaller loss scale may yet mend it, unless there is none.
        self.bad = self.left_out if self.loss_scale is None else self.left_out * self.loss_scale.is_least
        self._prepare_momentum()
        self.optimizer.found_inf = self.left_out
        try:
            self.optimizer.step()
        finally:
            # Somebody else's call of step() would otherwise be held to this flag.
            del self.optimizer.found_inf
        self.ema.update(self.left_out)
        if self.loss_scale is not None:
            self.loss_scale.update(self.left_out)
        return self.left_out

    def _clip(self, gradients: list[Tensor]) -> Tensor:
        """Bring gradients down to the loss's own scale and the largest norm; return 1 where they are not finite."""
        if not gradients:
            return torch.zeros_like(self.left_out)
        norm = get_total_norm(gradients)
        factor = None
        if self.loss_scale is not None:
            factor = 1 / self.loss_scale.scale
            norm = norm * factor
        if self.clip_norm:
            clip = (self.clip_norm / (norm + CLIP_EPSILON)).clamp(max=1.0)
            factor = clip if factor is None else clip * factor
        if factor is not None:
            torch._foreach_mul_(gradients, factor)
        return 1 - torch.isfinite(norm).float()

    def _prepare_momentum(self) -> None:
        """Give parameters that meet their first gradient a momentum of zero.

        SGD would take a buffer without values in it and write it in its first step only, which may be left out. It also
        takes it that all parameters of a group have their first step together, but the rows of heads do not.
        """
        if not isinstance(self.optimizer, SGD):
            return
        for group in self.optimizer.param_groups:
            if not group["momentum"]:
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.optimizer.state[parameter]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(parameter)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps beside the optimizer's and the average's own state."""
        scale = {} if self.loss_scale is None else self.loss_scale.state()
        return {f"loss_scale/{name}": value for name, value in scale.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned; what is missing stays as it is."""
        if self.loss_scale is not None:
            prefix = "loss_scale/"
            self.loss_scale.load({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
