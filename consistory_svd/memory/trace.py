"""What a call of a network allocates and computes, found by running its shapes on the meta device."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Kernels that never hold the attention's probabilities have a limit to a head's size; above it they do.
WIDEST_FUSED_HEAD = 256


class Tracer(TorchDispatchMode):
    """Bytes that tensors made while it is entered hold at once (`peak`), and floating point operations."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.operations = 0
        self._known: set[int] = set()

    def begin(self) -> None:
        """Count from here: the peak above what lives now, and the operations."""
        self._floor = self.peak = self.live
        self.operations = 0

    @property
    def bytes(self) -> int:
        """The peak above what lived at `begin`."""
        return self.peak - self._floor

    def hold(self, tensor: Tensor) -> None:
        """Take notice of a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.hold(tensor)
        count: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=made)
        return made


class FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels of a GPU do it: without its probabilities in memory."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = (
            args + tuple(kwargs[name] for name in ("query", "key", "value") if name in kwargs)
        )[:3]
        pairs = query.shape[:-1].numel() * key.shape[-2]
        self._tracer.operations += 2 * pairs * (query.shape[-1] + value.shape[-1])
        if query.shape[-1] > WIDEST_FUSED_HEAD:
            torch.empty((*query.shape[:-1], key.shape[-2]), dtype=query.dtype, device=query.device)
        return query.new_empty((*query.shape[:-1], value.shape[-1]))
