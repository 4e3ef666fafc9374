"""What anchors lend to frames that are told after them."""

from torch import Tensor


class AnchorBank:
    """For every extended layer and step, the anchors' lent tokens: [halves, tokens, channels].

    Kept are the layer's inputs, after its norm and before the projections, at the pixels that the masks with
    their dropout let through, all anchors in a row (spec section 6): half of what keys and values would take.
    `halves` is 2 with classifier-free guidance, unconditional first, else 1.
    """

    def __init__(self) -> None:
        self._lent: dict[tuple[str, int], Tensor] = {}

    def keep(self, layer: str, step: int, tokens: Tensor) -> None:
        """Keep what the anchors lend at a layer and a step."""
        self._lent[layer, step] = tokens

    def lent(self, layer: str, step: int) -> Tensor:
        """What the anchors lend at a layer and a step. KeyError when nothing was kept there."""
        return self._lent[layer, step]

    @property
    def size(self) -> int:
        """Bytes that the bank holds."""
        return sum(tokens.nbytes for tokens in self._lent.values())
