"""The shared attention: recorded data, identities, and processors that are put back."""

import types
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from safetensors.torch import load_file
from torch.nn import functional

from consistory_svd import Model, Settings, Story
from consistory_svd.attention import AnchorCache, SharingState, sharing
from consistory_svd.attention.layers import Layer, attention_layers, mask_level
from consistory_svd.attention.processors import RecordingCrossAttention, SharedSelfAttention
from consistory_svd.attention.query_blending import QueryBlending
from consistory_svd.attention.svd_filter_log import AnchorFilter
from consistory_svd.sampling import encode_prompts, frame_generators, initial_latents, locate_concepts
from consistory_svd.settings import SVDFilter
from tests.tiny_models import denoise_together, walk

DATA = Path(__file__).parent / "data"
STEPS = 4


class GivenMasks:
    """The state that an extended layer reads, with masks and groups given by a test."""

    layout = types.SimpleNamespace(latent_size=(32, 32))
    halves, step = 2, 1
    first_pass = injects = False
    anchor_filter = AnchorFilter(SVDFilter(), SVDFilter())

    def __init__(self, frames: int, kept: list, groups: list, read_cache: AnchorCache | None = None) -> None:
        self.frames, self.read_cache = frames, read_cache
        self.masks = types.SimpleNamespace(anchor_tokens=lambda grid: kept if grid == (8, 8) else None)
        self.groups = lambda: groups
        self.write_cache = AnchorCache()
        self.queries = QueryBlending([1.0, 0.81836735])
        self.extends = True


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    """One real layer's inputs and outputs as the reference computed them."""
    return load_file(DATA / "unit_attention_ref.safetensors")


@pytest.fixture(scope="module")
def layer_of_reference() -> Attention:
    attention = Attention(query_dim=64, heads=4, dim_head=16, processor=AttnProcessor2_0())
    attention.load_state_dict(load_file(DATA / "unit_attention_weights.safetensors"))
    return attention.eval()


UP_LAYER = Layer("up_blocks.0.attentions.0.transformer_blocks.0.attn1.processor", "up", 2, "self")


def run_layer(layer: Attention, given: GivenMasks, tokens: torch.Tensor) -> torch.Tensor:
    layer.set_processor(SharedSelfAttention(given, UP_LAYER))
    with torch.no_grad():
        return layer(tokens)


def test_a_layer_equals_the_recorded_reference(recorded: dict, layer_of_reference: Attention) -> None:
    tokens = recorded["hidden_states"]
    kept = [recorded["mask"][i].nonzero().squeeze(-1) for i in range(2)]
    two = [(slice(0, 1), [1]), (slice(1, 2), [0]), (slice(2, 3), [0, 1])]
    one = [(slice(0, 1), []), (slice(1, 3), [0])]
    close = {"rtol": 0, "atol": 2e-6}
    given = GivenMasks(3, kept, two)
    torch.testing.assert_close(run_layer(layer_of_reference, given, tokens), recorded["y_ext_a2"], **close)
    lone = GivenMasks(3, kept[:1], one)
    torch.testing.assert_close(run_layer(layer_of_reference, lone, tokens), recorded["y_ext_a1"], **close)
    given.extends = False
    torch.testing.assert_close(
        run_layer(layer_of_reference, given, tokens), recorded["y_plain_step0"], **close
    )


def test_a_layer_with_blended_queries_equals_the_recorded_reference(
    recorded: dict, layer_of_reference: Attention
) -> None:
    kept = [recorded["mask"][i].nonzero().squeeze(-1) for i in range(2)]
    given = GivenMasks(3, kept, [(slice(0, 1), [1]), (slice(1, 2), [0]), (slice(2, 3), [0, 1])])
    given.queries.begin_step(1)
    with given.queries.record():
        given.queries.blend(
            UP_LAYER.name, layer_of_reference.to_q(recorded["hidden_states_for_query"]).detach()
        )
    output = run_layer(layer_of_reference, given, recorded["hidden_states"])
    torch.testing.assert_close(output, recorded["y_ext_a2_query_step1"], rtol=0, atol=2e-6)


def test_cached_anchors_and_an_extra_frame_equal_the_recorded_reference(
    recorded: dict, layer_of_reference: Attention
) -> None:
    kept = [recorded["mask"][i].nonzero().squeeze(-1) for i in range(2)]
    tokens = recorded["hidden_states"].view(2, 3, 64, 64)
    anchors = GivenMasks(2, kept, [(slice(0, 1), [1]), (slice(1, 2), [0])])
    output = run_layer(layer_of_reference, anchors, tokens[:, :2].flatten(0, 1))
    torch.testing.assert_close(output, recorded["y_anchor_pair"], rtol=0, atol=2e-6)
    torch.testing.assert_close(
        torch.cat(anchors.write_cache.get(UP_LAYER.name, 1, tokens), 1),
        recorded["cache_input_h"],
        rtol=0,
        atol=0,
    )
    extra = GivenMasks(1, [], [], read_cache=anchors.write_cache)
    extra.write_cache = None
    output = run_layer(layer_of_reference, extra, tokens[:, 2])
    torch.testing.assert_close(output, recorded["y_extra"], rtol=0, atol=2e-6)


def test_gathered_tokens_equal_a_dense_mask(recorded: dict, layer_of_reference: Attention) -> None:
    """Every frame against all tokens of all frames, with the hidden ones masked by minus infinity."""
    tokens = recorded["hidden_states"]
    masks = torch.rand(3, 64, generator=torch.Generator().manual_seed(1)) < 0.4
    masks[1] = False  # an anchor that shares nothing
    kept = [masks[i].nonzero().squeeze(-1) for i in range(3)]
    groups = [(slice(i, i + 1), [j for j in range(3) if j != i]) for i in range(3)]
    output = run_layer(layer_of_reference, GivenMasks(3, kept, groups), tokens)

    visible = masks.flatten().repeat(3, 1)  # [frame, all tokens of three frames]
    for frame in range(3):
        visible[frame, frame * 64 : (frame + 1) * 64] = True
    layer = layer_of_reference
    for half in (slice(0, 3), slice(3, 6)):
        query, key, value = (
            project(tokens[half]).view(3, 64, 4, 16).transpose(1, 2)
            for project in (layer.to_q, layer.to_k, layer.to_v)
        )
        key, value = (x.transpose(0, 1).flatten(1, 2).expand(3, -1, -1, -1) for x in (key, value))
        dense = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None])
        expected = layer.to_out[0](dense.transpose(1, 2).flatten(2))
        torch.testing.assert_close(output[half], expected, rtol=0, atol=2e-6)


def test_recording_without_sharing_is_the_stock_model(model: Model, story: Story) -> None:
    text = encode_prompts(model.pipe, story.prompts, "", 5.0)
    generators = frame_generators(story.frame_seeds)
    noise = initial_latents(model.pipe, generators, model.native_size)
    *_, stock = walk(model.pipe, noise, text, STEPS, 5.0, generators)
    recorded = denoise_together(model, story, Settings(steps=STEPS, sdsa=False))
    torch.testing.assert_close(recorded, stock.latents, rtol=0, atol=1e-4)


def test_one_anchor_alone_and_empty_masks_share_nothing(model: Model, story: Story) -> None:
    plain = denoise_together(model, story, Settings(steps=STEPS, sdsa=False))
    nothing_left = denoise_together(model, story, Settings(steps=STEPS, mask_dropout=1.0))
    torch.testing.assert_close(nothing_left, plain, rtol=0, atol=1e-4)
    one = denoise_together(model, story, Settings(steps=STEPS, anchors=1, mask_dropout=0.0))
    torch.testing.assert_close(one[0], plain[0], rtol=0, atol=1e-4)
    assert (one[1:] - plain[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        Settings(steps=STEPS, mask_dropout=0.0),
        Settings(steps=STEPS, mask_dropout=0.5),
        Settings(steps=STEPS, masking=False),
        Settings(steps=STEPS, guidance=1.0),
        Settings(steps=STEPS, anchors=3),
    ],
)
def test_anchors_do_not_depend_on_the_others(model: Model, story: Story, settings: Settings) -> None:
    shorter = Story(story.subject, story.scenes[:3], seed=story.seed)
    others = Story(story.subject, (*story.scenes[:3], "on the red beach"), seed=story.seed)
    together, apart = denoise_together(model, others, settings), denoise_together(model, shorter, settings)
    torch.testing.assert_close(together[:3], apart, rtol=0, atol=1e-4)
    different = denoise_together(
        model, Story(story.subject, ("in snow", *story.scenes[1:3]), seed=story.seed), settings
    )
    assert (different[2] - apart[2]).abs().max() > 1e-3, "frame 2 must see anchor 0"


def test_masks_and_dropout_make_a_difference(model: Model, story: Story) -> None:
    kinds = [
        Settings(steps=STEPS, sdsa=False),
        Settings(steps=STEPS, masking=False),
        Settings(steps=STEPS, mask_dropout=0.0),
        Settings(steps=STEPS, mask_dropout=0.5),
    ]
    results = [denoise_together(model, story, settings) for settings in kinds]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert (one - other).abs().max() > 1e-3


def test_processors_are_put_back_exactly(model: Model, story: Story) -> None:
    unet = model.pipe.unet
    before = dict(unet.attn_processors)
    state = SharingState(
        unet,
        (16, 16),
        locate_concepts(model.pipe, story.prompts, ("fox",)),
        Settings(),
        story.frame_seeds,
        anchors=2,
    )
    with sharing(unet, state):
        for name, processor in unet.attn_processors.items():
            extended = name.startswith("up_blocks") and "attn1" in name
            assert isinstance(processor, SharedSelfAttention) == extended
            assert extended or isinstance(processor, RecordingCrossAttention) or processor is before[name]
        assert any(
            isinstance(processor, RecordingCrossAttention) for processor in unet.attn_processors.values()
        )
    assert_same_processors(unet, before)
    with pytest.raises(ZeroDivisionError), sharing(unet, state):
        raise ZeroDivisionError
    assert_same_processors(unet, before)


def assert_same_processors(unet: UNet2DConditionModel, before: dict) -> None:
    after = unet.attn_processors
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_levels_are_read_from_names(model: Model) -> None:
    unet = model.pipe.unet
    layers = attention_layers(unet)
    assert len(layers) == len(unet.attn_processors)
    # 32 x 32 latents of three levels have 8 tokens a side at a quarter: too few, so the finest.
    assert mask_level(layers, unet.config.sample_size) == (len(unet.config.block_out_channels) == 3)
    for layer in layers:
        channels = unet.get_submodule(layer.name.removesuffix(".processor")).to_q.in_features
        assert channels == unet.config.block_out_channels[layer.level]
        assert layer.grid((32, 48)) == (32 // 2**layer.level, 48 // 2**layer.level)


@pytest.mark.parametrize(
    ("levels", "sample_size", "expected"),
    [
        ((1, 2), 128, 2),
        ((1, 2), 64, 2),
        ((1, 2), 32, 1),
        ((1, 2), (128, 32), 1),
        ((0, 1), 16, 0),
        ((1,), 128, 1),
        ((0, 1, 2, 3), 64, 2),
    ],
)
def test_masks_are_read_at_a_quarter_or_at_the_finest_grid(
    levels: tuple[int, ...], sample_size: int | tuple[int, int], expected: int
) -> None:
    layers = [Layer(f"down_blocks.{level}", "down", level, "cross") for level in levels]
    assert mask_level(layers, sample_size) == expected
    with pytest.raises(ValueError, match=r"^model must be "):
        mask_level([Layer("down_blocks.0", "down", 0, "self")], sample_size)
