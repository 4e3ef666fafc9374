"""The embedded model as it is shipped: a real, small SDXL that knows its words, and its reader."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from consistory_svd import Settings, Story, generate, load_model
from consistory_svd.attention.layers import attention_layers
from consistory_svd.events import FrameDone
from consistory_svd.metrics.attribute_reader import load_reader
from consistory_svd.metrics.vocabulary import attributes_in, vocabulary
from consistory_svd.models.model import EMBEDDED
from consistory_svd.sampling import frame_generators, initial_latents
from training.world import render_random

STORY = Story(subject="a cat", scenes=("in the forest", "on the beach", "in the snow"), seed=5)
FEW = Settings(steps=4, sdsa=False)


@pytest.fixture(scope="module")
def model():
    return load_model(device="cpu")


def latents_of(model, settings, story=STORY):
    frames = [event for event in generate(model, story, settings) if isinstance(event, FrameDone)]
    return torch.stack([frame.latents for frame in frames])


def test_everything_together_is_small_and_safe():
    files = [path for path in EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}
    assert {"unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"} <= {
        path.name for path in EMBEDDED.iterdir()
    }


def test_it_has_attention_fine_enough_for_masks(model):
    unet = model.pipe.unet
    grids = [unet.config.sample_size // 2**layer.level for layer in attention_layers(unet)]
    assert max(grids) >= 16
    assert model.native_size == (256, 256)
    assert unet.config.addition_embed_type == "text_time"


@pytest.mark.parametrize("negative", ["", "a dog"])
def test_without_sharing_it_draws_what_stock_diffusers_draws(model, negative):
    story = dataclasses.replace(STORY, negative=negative)
    stock = StableDiffusionXLPipeline.from_pretrained(EMBEDDED, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    noise = initial_latents(model.pipe, frame_generators(story.frame_seeds), model.native_size)
    expected = stock(
        list(story.prompts),
        negative_prompt=[negative] * 3 if negative else None,
        num_inference_steps=FEW.steps,
        guidance_scale=FEW.guidance,
        latents=noise,
        output_type="latent",
    ).images
    assert (latents_of(model, FEW, story) - expected).abs().max() <= 1e-4


def test_sharing_changes_the_pictures_and_leaves_the_model_as_it_was(model):
    before = latents_of(model, FEW)
    shared = latents_of(model, dataclasses.replace(FEW, sdsa=True))
    assert (shared - before).abs().max() > 0.05
    assert torch.equal(latents_of(model, FEW), before)


def test_every_word_that_it_knows_is_one_token(model):
    for kind, words in model.vocabulary.items():
        for words_of_one in words:
            for word in words_of_one.split():
                assert len(model.pipe.tokenizer.tokenize(word)) == 1, (kind, word)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a photo of a cat", {"style": "photo", "subject": "cat"}),
        (
            "A watercolor of a striped red bunny with a blue hat jumping in the woods",
            {
                "style": "watercolor",
                "subject": "rabbit",
                "pattern": "striped",
                "color": "red",
                "accessory": "hat",
                "accessory_color": "blue",
                "action": "jumping",
                "scene": "forest",
            },
        ),
        (
            "a gift box wearing glasses under the night sky",
            {"subject": "gift box", "accessory": "glasses", "scene": "night sky"},
        ),
        ("a mouse with a red bow", {"subject": "mouse", "accessory": "bow", "accessory_color": "red"}),
        ("an elephant", {}),
        ("a catfish in rainbow colours", {}),
    ],
)
def test_what_a_prompt_names_is_found(prompt, named):
    assert attributes_in(prompt) == named


def test_the_vocabulary_is_that_of_the_world():
    assert {"cat", "bus", "teapot"} <= set(vocabulary()["subject"])


def test_the_reader_reads_fresh_renders():
    # Its true accuracies stand in the model's card; this guards against weights that do not fit the code. It
    # reads pictures of one figure only.
    generator, reader = np.random.default_rng(987), load_reader()
    pictures = [render_random(generator, pairs=0) for _ in range(120)]
    answers = reader.read([Image.fromarray(picture.image) for picture in pictures])
    right = {
        key: np.mean(
            [
                answer[key] == picture.attributes[key]
                for answer, picture in zip(answers, pictures, strict=True)
            ]
        )
        for key in ("subject", "scene", "color", "style")
    }
    assert right["scene"] > 0.95
    assert right["style"] > 0.95
    assert right["color"] > 0.8
    assert right["subject"] > 0.6
