"""The tokenizer and the two text encoders of the storybook model."""

from __future__ import annotations

import json
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch

from training.captions import caption
from training.world.vocabulary import ACTIONS, SCENES, STYLES, SUBJECTS, draw_identity

cure_torchvision()

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer  # noqa: E402

MAX_TOKENS = 48
START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own way of cutting text into words (Radford et al. 2021).
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def random_truth(rng: np.random.Generator, pairs: float = 0.0) -> dict:
    """The attributes of a picture that is not drawn; a share `pairs` of them has two figures."""
    truth = draw_identity(str(rng.choice(SUBJECTS)), rng).attributes()
    truth |= {
        "scene": str(rng.choice(SCENES)),
        "action": str(rng.choice(ACTIONS)),
        "style": str(rng.choice(STYLES)),
    }
    if rng.random() < pairs:
        truth["partner"] = draw_identity(str(rng.choice(SUBJECTS)), rng).attributes()
    return truth


def train_tokenizer(folder: Path, seed: int = 0) -> CLIPTokenizer:
    """A byte-pair encoding trained on captions, in CLIP's format: known words are one token, others fall to
    pieces."""
    rng = np.random.default_rng(seed)
    texts = [caption(random_truth(rng, pairs=0.2), rng) for _ in range(4000)]
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=2,
    )
    core.train_from_iterator(texts, trainer)
    model = json.loads(core.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    # A last letter is a token of its own kind ("a</w>"); all of them must be there for words never seen.
    symbols = sorted(alphabet) + [f"{letter}</w>" for letter in sorted(alphabet)]
    symbols += [a + b for a, b in merges if a + b not in set(symbols)]
    vocab = {symbol: k for k, symbol in enumerate(dict.fromkeys([*symbols, START, END]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return open_tokenizer(folder)


def open_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `train_tokenizer` wrote to `folder`."""
    vocab, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    return CLIPTokenizer(vocab, merges, model_max_length=MAX_TOKENS, pad_token=END, unk_token=END)


def build_text_encoder(tokenizer: CLIPTokenizer, width: int, projected: bool):
    """A small CLIP text tower; `projected` adds the projection that SDXL's second encoder has."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 4,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=width,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(n, MAX_TOKENS) token ids, padded as StableDiffusionXLPipeline pads."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
