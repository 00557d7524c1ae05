"""A device that exists nowhere: its tensors lie in main memory, but whatever waits for it is counted.

Tensors on it say that they are on ``meta``. What runs within ``PretendDevice`` computes on their real values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")
_ATEN = torch.ops.aten
_SIZE_DEPENDS_ON_VALUES = (
    _ATEN.is_nonzero.default,
    _ATEN.nonzero.default,
    _ATEN.masked_select.default,
    _ATEN._unique2.default,
    _ATEN.bincount.default,
    _ATEN.repeat_interleave.Tensor,
)


class Remote(Tensor):
    """A tensor on the device.

    Args:
        here: its values.
    """

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Remote:
        return Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )

    def __init__(self, here: Tensor) -> None:
        self.here = here.detach()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} runs outside of the device's context")


class PretendDevice(TorchDispatchMode):
    """Lets tensors be computed with that lie on the device.

    Attributes:
        copies: names of operations that brought values to the host, in order.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The compiler takes seconds to import, and nothing is compiled here.
        return False

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wrapped: dict[int, Remote] = {}

        def take(value: Any) -> Any:
            if isinstance(value, Remote):
                wrapped[id(value.here)] = value
                return value.here
            return torch.device("cpu") if isinstance(value, torch.device) and value == DEVICE else value

        asked = (kwargs or {}).get("device")
        real_args, real_kwargs = tree_map(take, args), tree_map(take, kwargs or {})
        result = func(*real_args, **real_kwargs)
        leaves = asked is not None and asked != DEVICE
        if wrapped and (leaves or self._waits(func, args)):
            self.copies.append(str(func))
        if (wrapped and not leaves) or asked == DEVICE:
            return tree_map(self._keep(wrapped), result)
        return result

    @staticmethod
    def _waits(func: Any, args: tuple) -> bool:
        if func in (_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default):
            return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
        return func == _ATEN._local_scalar_dense.default or func in _SIZE_DEPENDS_ON_VALUES

    @staticmethod
    def _keep(wrapped: dict[int, Remote]) -> Callable[[Any], Any]:
        """Return what lets results stay on the device; those of operations in place are what they were."""

        def keep(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return wrapped[id(value)] if id(value) in wrapped else Remote(value)

        return keep
