"""Tiny SDXL models with random weights, built from configs: real classes, real files, milliseconds a step."""

import threading
from collections.abc import Iterator, Sequence

import torch

from consistory_svd import Model, Settings, Story  # before transformers and diffusers: it cures torchvision

# isort: split
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from consistory_svd.attention import Schedule, SharingState, sharing
from consistory_svd.sampling import (
    Step,
    TextEmbeddings,
    Trajectory,
    denoise,
    encode_prompts,
    frame_generators,
    free_u,
    initial_latents,
    locate_concepts,
    prepare_scheduler,
)

# Words that are one token; all others fall to letters.
WORDS = (
    "a",
    "photo",
    "of",
    "cat",
    "fox",
    "hat",
    "in",
    "on",
    "the",
    "forest",
    "desert",
    "beach",
    "snow",
    "with",
    "red",
)
LAYOUTS = {
    # As SDXL: no attention at the finest level, masks at a quarter of the latent's sides.
    "sdxl": {
        "unet": {
            "sample_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (16, 32, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 1, 2),
            "attention_head_dim": (2, 2, 4),
        },
        "scheduler": {"prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1},
        "force_zeros": True,
    },
    # As a small model whose finest attention is the latent's own grid, with many latent channels.
    "small": {
        "unet": {
            "sample_size": 16,
            "in_channels": 8,
            "out_channels": 8,
            "block_out_channels": (16, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "transformer_layers_per_block": (1, 1),
            "attention_head_dim": (2, 4),
        },
        "scheduler": {
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "rescale_betas_zero_snr": True,
        },
        "force_zeros": False,
    },
}


def make_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows letters and `WORDS`."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.-'"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        left = word[0]
        for position, letter in enumerate(word[1:], start=1):
            right = letter if position < len(word) - 1 else f"{letter}</w>"
            merges.append((left, right))
            left += right
            tokens.append(left)
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=77)


def make_pipeline(layout: str) -> StableDiffusionXLPipeline:
    """A random SDXL of a layout; its attention is sharpened, so that masks and sharing make a difference."""
    torch.manual_seed(0)  # weights are drawn by torch's own initialisers
    parts = LAYOUTS[layout]
    tokenizer = make_tokenizer()
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    unet = UNet2DConditionModel(
        **parts["unet"],
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 16,
        use_linear_projection=True,
    )
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if ".attn" in name and ("to_q" in name or "to_k" in name):
                weight.mul_(4)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=parts["unet"]["in_channels"],
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=32,
        force_upcast=False,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        **parts["scheduler"],
    )
    return StableDiffusionXLPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**text)).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=parts["force_zeros"],
        add_watermarker=False,
    )


def walk(
    pipe: StableDiffusionXLPipeline,
    noise: torch.Tensor,
    text: TextEmbeddings,
    steps: int,
    guidance: float,
    generators: Sequence[torch.Generator],
    state: SharingState | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Step]:
    """All steps of a batch from noise of unit variance."""
    return denoise(pipe, Trajectory.begin(pipe, noise, steps, generators), text, guidance, state, stop)


def denoise_together(model: Model, story: Story, settings: Settings) -> torch.Tensor:
    """The final latents of a story whose frames are all in one batch, its anchors first, in both passes."""
    pipe = model.pipe
    size = model.native_size
    timesteps = prepare_scheduler(pipe, settings.steps).timesteps.tolist()
    schedule = Schedule.of(timesteps, settings)
    state = SharingState(
        pipe.unet,
        tuple(side // pipe.vae_scale_factor for side in size),
        locate_concepts(pipe, story.prompts, story.concept_words),
        settings,
        story.frame_seeds,
        anchors=settings.anchors,
        schedule=schedule,
        story_seed=story.seed,
    )
    text = encode_prompts(pipe, story.prompts, story.negative, settings.guidance)
    generators = frame_generators(story.frame_seeds)
    noise = initial_latents(pipe, generators, size)

    def begin() -> Trajectory:
        return Trajectory.begin(pipe, noise, settings.steps, generators)

    with sharing(pipe.unet, state), free_u(pipe.unet, settings.freeu):
        fresh = state.save_snapshot()
        *_, last = denoise(pipe, begin(), text, settings.guidance, state)
        if schedule.injected:
            # From the start again, as the spec has it: a story starts where the two passes first differ.
            state.find_matches()
            state.restore_snapshot(fresh)
            *_, last = denoise(pipe, begin(), text, settings.guidance, state)
    return last.latents
