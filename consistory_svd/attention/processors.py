"""Attention that shares the subject: self-attention that also sees the anchors, cross-attention that
records maps.

Both follow the contract of diffusers' AttnProcessor2_0 and are equal to it where nothing is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional

from consistory_svd.attention.layers import Layer
from consistory_svd.attention.subject_masks import concept_maps

if TYPE_CHECKING:
    from consistory_svd.attention.state import SharingState


class SharedSelfAttention:
    """Self-attention of one layer that is extended, has features injected, or both (spec 4.1, 4.2, 5).

    Extended, a frame's queries see all its own tokens and, of every lender, the tokens that the lender's mask
    lets through. Each half of classifier-free guidance is extended within itself, with the same masks.
    """

    def __init__(
        self, state: SharingState, layer: Layer, extended: bool = True, injected: bool = False
    ) -> None:
        self._state = state
        self._layer = layer
        self._grid = layer.grid(state.latent_size)
        self._is_extended, self._is_injected = extended, injected

    @property
    def injected(self) -> bool:
        """Whether features are injected into the layer."""
        return self._is_injected

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        tokens = _enter(attn, hidden_states, attention_mask, temb)
        projected = attn.to_q(tokens)
        if self._is_extended:
            projected = self._state.blended(self._layer.name, projected)
        query = _heads(attn, projected, attn.norm_q)
        key, value = _keys_and_values(attn, tokens)
        if self._is_extended and self._state.extends:
            output = self._extended(attn, tokens, query, key, value)
        else:
            output = functional.scaled_dot_product_attention(query, key, value)
        output = _project(attn, output)
        if self._is_injected and self._state.injects():
            self._state.inject(self._layer.name, output)
        return _leave(attn, output, hidden_states)

    def _extended(self, attn: Attention, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        state = self._state
        by_half = (state.halves, state.frames)
        query, key, value = (x.unflatten(0, by_half) for x in (query, key, value))
        groups = state.groups()
        asked = {anchor for _, anchors in groups for anchor in anchors}
        # Gathered and filtered once a lender, for all frames that look at it: [halves, heads, tokens, d].
        shared = {anchor: (_take(key[:, anchor], kept), _take(value[:, anchor], kept))
                for anchor, kept in state.kept_tokens(self._grid).items() if anchor in asked}  # fmt: skip
        if state.write_cache is not None:
            by_frame = tokens.unflatten(0, by_half)
            kept_inputs = [_take(by_frame[:, i], kept) for i, kept in state.kept_tokens(self._grid).items()]
            state.write_cache.keep(self._layer.name, state.step, kept_inputs, state.first_pass)
        if state.read_cache is not None:
            cached = state.read_cache.shared(self._layer.name, state.step, tokens, state.first_pass)
            # Lenders that are not in the batch are numbered down from BANK.
            shared = {state.CACHE - i: _keys_and_values(attn, inputs) for i, inputs in enumerate(cached)}
            groups = [(frames, list(shared)) for frames, _ in groups]
        if shared and state.anchor_filter.acts:
            shared = state.anchor_filter(self._layer.name, state.step, shared)
        output = torch.empty_like(query)
        for frames, anchors in groups:
            output[:, frames] = _attend(
                query[:, frames], key[:, frames], value[:, frames], [shared[anchor] for anchor in anchors]
            )
        return output.flatten(0, 1)


class RecordingCrossAttention:
    """Cross-attention that also records the concepts' maps, of the conditional half only (spec 4.3)."""

    def __init__(self, state: SharingState) -> None:
        self._state = state

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        tokens = _enter(attn, hidden_states, attention_mask, temb)
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        query = _heads(attn, attn.to_q(tokens), attn.norm_q)
        key, value = _keys_and_values(attn, encoder_hidden_states)
        if not self._state.keeping:
            conditional = slice(-self._state.frames, None)
            scale = query.shape[-1] ** -0.5
            self._state.record(concept_maps(query[conditional], key[conditional], scale, self._state.spans))
        output = functional.scaled_dot_product_attention(query, key, value)
        return _leave(attn, _project(attn, output), hidden_states)


def _enter(
    attn: Attention, hidden_states: Tensor, attention_mask: Tensor | None, temb: Tensor | None
) -> Tensor:
    """A layer's tokens, normed: [items, tokens, channels]."""
    if attention_mask is not None:
        raise ValueError("attention_mask: is not supported while the subject is shared; give None")
    tokens = hidden_states
    if attn.spatial_norm is not None:
        tokens = attn.spatial_norm(tokens, temb)
    if tokens.ndim == 4:
        tokens = tokens.flatten(2).transpose(1, 2)
    if attn.group_norm is not None:
        tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
    return tokens


def _project(attn: Attention, output: Tensor) -> Tensor:
    """From heads back to channels: [items, heads, tokens, d] -> [items, tokens, channels]."""
    return attn.to_out[1](attn.to_out[0](output.transpose(1, 2).flatten(2)))


def _leave(attn: Attention, output: Tensor, hidden_states: Tensor) -> Tensor:
    """Back to the layer's input shape: residual, scale."""
    if hidden_states.ndim == 4:
        output = output.transpose(1, 2).unflatten(2, hidden_states.shape[-2:])
    if attn.residual_connection:
        output = output + hidden_states
    return output / attn.rescale_output_factor


def _heads(attn: Attention, projected: Tensor, norm: torch.nn.Module | None) -> Tensor:
    """[items, tokens, heads * d] -> [items, heads, tokens, d]."""
    split = projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    return split if norm is None else norm(split)


def _keys_and_values(attn: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return _heads(attn, attn.to_k(tokens), attn.norm_k), _heads(attn, attn.to_v(tokens), None)


def _take(values: Tensor, kept: Tensor | None) -> Tensor:
    """The kept tokens, an index of the last dimension but one; None: all of them."""
    return values if kept is None else values.index_select(-2, kept)


def _attend(query: Tensor, key: Tensor, value: Tensor, shared: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attention of frames that share lenders: query, key, value [halves, frames, heads, tokens, d]."""
    halves, frames = query.shape[:2]
    shared_keys = [keys[:, None].expand(-1, frames, -1, -1, -1) for keys, _ in shared]
    shared_values = [values[:, None].expand(-1, frames, -1, -1, -1) for _, values in shared]
    output = functional.scaled_dot_product_attention(
        query.flatten(0, 1),
        torch.cat([key, *shared_keys], dim=-2).flatten(0, 1),
        torch.cat([value, *shared_values], dim=-2).flatten(0, 1),
    )
    return output.unflatten(0, (halves, frames))
