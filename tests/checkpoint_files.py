"""Tiny checkpoints in the original layout of SDXL, in one file, as fine-tunes are shared: diffusers' names,
written back to what they are converted from."""

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from consistory_svd import Model
from tests.tiny_models import make_pipeline

RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)
TOP = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
)
CLIP = (
    ("encoder.layers.", "transformer.resblocks."),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("final_layer_norm", "ln_final"),
    ("embeddings.token_embedding", "token_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
)


def two_sized_pipeline() -> StableDiffusionXLPipeline:
    """A tiny SDXL whose text encoders differ in width, as SDXL's do: that tells them apart in one file."""
    pipe = make_pipeline("sdxl")
    config = {**pipe.text_encoder_2.config.to_dict(), "hidden_size": 16, "num_attention_heads": 2}
    first = {**pipe.text_encoder.config.to_dict(), "hidden_size": 24, "num_attention_heads": 2}
    torch.manual_seed(1)
    pipe.text_encoder = type(pipe.text_encoder)(CLIPTextConfig(**first)).eval()
    pipe.text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**config)).eval()
    unet = {**dict(pipe.unet.config), "cross_attention_dim": 40}
    pipe.unet = type(pipe.unet).from_config(unet).eval()
    return pipe


def original_weights(pipe: StableDiffusionXLPipeline) -> dict[str, Tensor]:
    """All weights by their original names."""
    return {
        **{f"model.diffusion_model.{name}": w for name, w in _unet(pipe).items()},
        **{f"first_stage_model.{name}": w for name, w in _vae(pipe).items()},
        **{
            f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}": w
            for name, w in pipe.text_encoder.state_dict().items()
        },
        **{f"conditioner.embedders.1.model.{name}": w for name, w in _open_clip(pipe).items()},
    }


def write_original(pipe: StableDiffusionXLPipeline, path: Path, **more: Tensor) -> Path:
    """One file with all weights, and `more` beside them."""
    weights = {name: w.detach().clone().contiguous() for name, w in original_weights(pipe).items()}
    save_file(weights | more, path)
    return path


def same_weights(one: Model, other: StableDiffusionXLPipeline) -> bool:
    """Whether all weights of two pipelines are the same."""
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        theirs = getattr(other, part).state_dict()
        ours = getattr(one.pipe, part).state_dict()
        if set(ours) != set(theirs) or not all(torch.equal(ours[n], theirs[n].to(ours[n])) for n in ours):
            return False
    return True


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for theirs, original in pairs:
        name = name.replace(theirs, original)
    return name


def _unet(pipe: StableDiffusionXLPipeline) -> dict[str, Tensor]:
    config = pipe.unet.config
    per_down, per_up = config.layers_per_block + 1, config.layers_per_block + 1
    places = list(TOP)
    for block, kind in enumerate(config.down_block_types):
        for layer in range(config.layers_per_block):
            at = per_down * block + layer + 1
            places.append((f"down_blocks.{block}.resnets.{layer}", f"input_blocks.{at}.0"))
            places.append((f"down_blocks.{block}.attentions.{layer}", f"input_blocks.{at}.1"))
        places.append(
            (f"down_blocks.{block}.downsamplers.0.conv", f"input_blocks.{per_down * (block + 1)}.0.op")
        )
        kind = config.up_block_types[block]
        for layer in range(per_up):
            at = per_up * block + layer
            places.append((f"up_blocks.{block}.resnets.{layer}", f"output_blocks.{at}.0"))
            places.append((f"up_blocks.{block}.attentions.{layer}", f"output_blocks.{at}.1"))
        last, slot = per_up * (block + 1) - 1, 2 if "Attn" in kind else 1
        places.append((f"up_blocks.{block}.upsamplers.0.conv", f"output_blocks.{last}.{slot}.conv"))
    found = {}
    for name, weight in pipe.unet.state_dict().items():
        theirs, original = next(pair for pair in places if name.startswith(pair[0] + "."))
        rest = name.removeprefix(theirs)
        found[original + (_replaced(rest, RESNET) if "resnets" in theirs else rest)] = weight
    return found


def _vae(pipe: StableDiffusionXLPipeline) -> dict[str, Tensor]:
    blocks = len(pipe.vae.config.block_out_channels)
    pairs = [("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut")]
    for block in range(blocks):
        pairs.append((f"encoder.down_blocks.{block}.resnets.", f"encoder.down.{block}.block."))
        pairs.append((f"encoder.down_blocks.{block}.downsamplers.0", f"encoder.down.{block}.downsample"))
        pairs.append((f"decoder.up_blocks.{block}.resnets.", f"decoder.up.{blocks - 1 - block}.block."))
        pairs.append((f"decoder.up_blocks.{block}.upsamplers.0", f"decoder.up.{blocks - 1 - block}.upsample"))
    attention = (
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
        ("group_norm", "norm"),
    )
    found = {}
    for name, weight in pipe.vae.state_dict().items():
        name = _replaced(name, tuple(pairs))
        for number in (1, 0):
            name = name.replace(f"mid_block.resnets.{number}", f"mid.block_{number + 1}")
        if "mid_block.attentions.0" in name:
            name = _replaced(name.replace("mid_block.attentions.0", "mid.attn_1"), attention)
            if weight.ndim == 2:
                weight = weight[:, :, None, None]
        found[name] = weight
    return found


def _open_clip(pipe: StableDiffusionXLPipeline) -> dict[str, Tensor]:
    state = {n.removeprefix("text_model."): w for n, w in pipe.text_encoder_2.state_dict().items()}
    found = {"text_projection": state.pop("text_projection.weight").T}
    for name, weight in state.items():
        if ".self_attn.q_proj" in name:
            parts = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            kind = name.rpartition(".")[2]
            layer = name.partition(".self_attn")[0].replace("encoder.layers.", "transformer.resblocks.")
            found[f"{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
        elif ".self_attn.k_proj" not in name and ".self_attn.v_proj" not in name:
            found[_replaced(name, CLIP)] = weight
    return found
