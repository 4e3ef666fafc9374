"""Attention processors that share the subject: self-attention extended by the anchors' tokens, and
cross-attention that records the concepts' maps.

Both follow the contract of diffusers' AttnProcessor2_0 and equal it where nothing is shared.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional

from consistory_svd.attention.layers import Layer, feature_block
from consistory_svd.attention.state import SharingState
from consistory_svd.attention.subject_masks import concept_maps

KeysAndValues = tuple[Tensor, Tensor]  # projected, not split into heads: [..., tokens, inner_dim]


class SharedSelfAttention:
    """Self-attention of one layer that is extended, has features injected, or both.

    Extended, a frame attends to all its own tokens and, of every anchor, to the tokens inside the anchor's
    mask. Each half of classifier-free guidance is extended within itself, with the same masks.
    Source: Tewel et al. 2024, sections 3.2 to 3.4; docs/method.md, sections 2, 4 and 5.
    """

    def __init__(
        self, state: SharingState, layer: Layer, extended: bool = True, injected: bool = False
    ) -> None:
        self._state = state
        self._layer = layer
        self._extended, self._injected = extended, injected

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        state = self._state
        tokens = _normed_tokens(attn, hidden_states, attention_mask, temb)
        query = attn.to_q(tokens)
        if self._extended:
            query = state.queries.blend(self._layer.name, query)
        key, value = attn.to_k(tokens), attn.to_v(tokens)
        if self._extended and state.extends:
            output = self._attend_to_anchors(attn, tokens, query, key, value)
        else:
            output = _attention(attn, query, key, value)
        output = attn.to_out[1](attn.to_out[0](output))
        if self._injected and state.injects:
            state.inject(self._layer.name, output)
        return _restored_shape(attn, output, hidden_states)

    def _attend_to_anchors(
        self, attn: Attention, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        state, by_half = self._state, (self._state.halves, self._state.frames)
        query, key, value = (x.unflatten(0, by_half) for x in (query, key, value))
        if state.read_cache is None:
            groups = state.groups()
            attended = {anchor for _, anchors in groups for anchor in anchors}
            anchors = self._anchors_in_batch(tokens.unflatten(0, by_half), key, value, attended)
        else:
            cached = state.read_cache.get(self._layer.name, state.step, tokens, state.first_pass)
            anchors = {i: (attn.to_k(inputs), attn.to_v(inputs)) for i, inputs in enumerate(cached)}
            groups = [(slice(None), list(anchors))]
        if anchors and state.anchor_filter.acts:
            anchors = state.anchor_filter(self._layer.name, state.step, anchors)
        output = torch.empty_like(query)
        for frames, names in groups:
            keys = _join(key[:, frames], [anchors[name][0] for name in names])
            values = _join(value[:, frames], [anchors[name][1] for name in names])
            part = _attention(attn, query[:, frames].flatten(0, 1), keys, values)
            output[:, frames] = part.unflatten(0, (by_half[0], -1))
        return output.flatten(0, 1)

    def _anchors_in_batch(
        self, tokens: Tensor, key: Tensor, value: Tensor, attended: set[int]
    ) -> dict[int, KeysAndValues]:
        """Keys and values of the attended anchors, [halves, kept tokens, inner_dim], by number.

        All tensors are [halves, frames, tokens, channels]; the anchors' inputs go to the cache.
        """
        state = self._state
        kept = state.masks.anchor_tokens(self._layer.grid(state.layout.latent_size))
        if state.write_cache is not None:
            inputs = [_take(tokens[:, i], indices) for i, indices in enumerate(kept)]
            state.write_cache.put(self._layer.name, state.step, inputs, state.first_pass)
        return {
            i: (_take(key[:, i], indices), _take(value[:, i], indices))
            for i, indices in enumerate(kept)
            if i in attended
        }


class RecordingCrossAttention:
    """Cross-attention that also records the concepts' maps, of the conditional half only.

    Source: docs/method.md, section 3.1.
    """

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
        state = self._state
        tokens = _normed_tokens(attn, hidden_states, attention_mask, temb)
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        query, key = attn.to_q(tokens), attn.to_k(encoder_hidden_states)
        if not state.queries.recording:
            heads = _heads(attn, query[-state.frames :], attn.norm_q)
            text = _heads(attn, key[-state.frames :], attn.norm_k)
            state.masks.record(concept_maps(heads, text, heads.shape[-1] ** -0.5, state.masks.spans))
        output = _attention(attn, query, key, attn.to_v(encoder_hidden_states))
        return _restored_shape(attn, attn.to_out[1](attn.to_out[0](output)), hidden_states)


def make_processors(state: SharingState) -> dict[str, SharedSelfAttention | RecordingCrossAttention]:
    """The processors that a batch needs, by the names of their layers; all other layers keep theirs."""
    layout = state.layout
    injected = layout.injected if state.schedule.injected else []
    shared = {layer.name: layer for layer in (*layout.extended, *injected)}
    return {
        **{layer.name: RecordingCrossAttention(state) for layer in layout.recording},
        **{
            name: SharedSelfAttention(state, layer, layer in layout.extended, layer in injected)
            for name, layer in shared.items()
        },
    }


@contextmanager
def sharing(unet: UNet2DConditionModel, state: SharingState) -> Iterator[SharingState]:
    """Install the processors of `state`; restore exactly the former ones on exit, whatever happens."""
    found = dict(unet.attn_processors)
    hook = None
    try:
        # set_attn_processor empties the dict it is given.
        unet.set_attn_processor({**found, **make_processors(state)})
        if state.schedule.injected:
            # The features are kept as they are, not copied: with FreeU the next block scales half of their
            # channels in place, and the method's features are the scaled ones (docs/method.md, section 5.1).
            hook = feature_block(unet).register_forward_hook(
                lambda block, inputs, features: state.capture_features(features)
            )
        yield state
    finally:
        if hook is not None:
            hook.remove()
        unet.set_attn_processor(dict(found))


def _normed_tokens(
    attn: Attention, hidden_states: Tensor, attention_mask: Tensor | None, temb: Tensor | None
) -> Tensor:
    """A layer's tokens after its norm: [items, tokens, channels]."""
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


def _restored_shape(attn: Attention, output: Tensor, hidden_states: Tensor) -> Tensor:
    """The output in the shape of the layer's input, with residual and scale."""
    if hidden_states.ndim == 4:
        output = output.transpose(1, 2).unflatten(2, hidden_states.shape[-2:])
    if attn.residual_connection:
        output = output + hidden_states
    return output / attn.rescale_output_factor


def _heads(attn: Attention, projected: Tensor, norm: torch.nn.Module | None = None) -> Tensor:
    """[items, tokens, heads * d] -> [items, heads, tokens, d]."""
    split = projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    return split if norm is None else norm(split)


def _attention(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over heads: [items, tokens, inner_dim] each, key and value of as many tokens as they have."""
    output = functional.scaled_dot_product_attention(
        _heads(attn, query, attn.norm_q), _heads(attn, key, attn.norm_k), _heads(attn, value)
    )
    return output.transpose(1, 2).flatten(2)


def _take(values: Tensor, kept: Tensor | None) -> Tensor:
    """The kept tokens, indices into the last dimension but one; None: all of them."""
    return values if kept is None else values.index_select(-2, kept)


def _join(frames: Tensor, anchors: list[Tensor]) -> Tensor:
    """Frames' own tokens followed by the anchors' tokens: [halves * frames, all tokens, inner_dim].

    frames: [halves, frames, tokens, inner_dim]; anchors: [halves, kept tokens, inner_dim] each.
    """
    count = frames.shape[1]
    shared = [anchor[:, None].expand(-1, count, -1, -1) for anchor in anchors]
    return torch.cat([frames, *shared], dim=-2).flatten(0, 1)
