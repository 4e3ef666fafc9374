"""Query blending: layout queries of a call without sharing, blended into the shared call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


class QueryBlending:
    """Records the queries of a step's unshared call and blends them into its shared call.

    Source: Tewel et al. 2024, section 3.3; docs/method.md, section 4.

    Args:
        weights: weight of the recorded queries, one per step; empty: queries are not blended.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.recording = False
        self._weights = weights
        self._weight = 0.0
        self._queries: dict[str, Tensor] = {}

    def begin_step(self, step: int) -> bool:
        """Forget the last step's queries. Returns whether this step's queries are blended."""
        self._queries.clear()
        blended = step < len(self._weights)
        self._weight = self._weights[step] if blended else 0.0
        return blended

    @contextmanager
    def record(self) -> Iterator[None]:
        """While entered, attention is the model's own and its queries are recorded."""
        self.recording = True
        try:
            yield
        finally:
            self.recording = False

    def blend(self, layer: str, query: Tensor) -> Tensor:
        """The layer's query, any shape: recorded, blended with the recorded one, or unchanged."""
        if self.recording:
            self._queries[layer] = query
        elif layer in self._queries:
            return self._weight * self._queries.pop(layer) + (1 - self._weight) * query
        return query
