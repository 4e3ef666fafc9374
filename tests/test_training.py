"""The training scripts at tiny size: they go on where they stopped and write what stock libraries load."""

import json

from consistory_svd.compat import cure_torchvision

import numpy as np
import pytest
import torch

from consistory_svd.metrics.attribute_reader import ReaderNetwork, load_reader, save_reader
from training.assemble import assemble, scaling_factor
from training.checkpoint import Average, learning_rate, load, save
from training.dataset import load_truth, render_shard
from training.latents import Latents
from training.reader import CLASSES, spoil
from training.run import Preset, train
from training.text import MAX_TOKENS, open_tokenizer, tokenize, train_tokenizer
from training.unet import TextToNoise, build_scheduler, velocity_loss
from training.vae import Components, build_vae, closed_form_encoder, start_linear, to_tensor
from training.world import render_random

cure_torchvision()

from diffusers import StableDiffusionXLPipeline  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_known_words_are_one_token_and_unknown_ones_several(tokenizer):
    assert tokenizer.tokenize("a leopard in the forest") == [
        "a</w>",
        "leopard</w>",
        "in</w>",
        "the</w>",
        "forest</w>",
    ]
    pieces = tokenizer.tokenize("xylophone")
    assert len(pieces) > 1
    assert "".join(pieces) == "xylophone</w>"
    assert tokenizer.unk_token_id not in tokenizer.convert_tokens_to_ids(tokenizer.tokenize("é, ß & 漢!"))


def test_the_tokenizer_is_the_same_when_opened_again(tokenizer, tmp_path):
    again = train_tokenizer(tmp_path)
    text = "a photo of a striped gift box, zebra"
    assert again(text).input_ids == tokenizer(text).input_ids == open_tokenizer(tmp_path)(text).input_ids


def test_captions_are_padded_as_the_pipeline_pads(tokenizer):
    ids = tokenize(tokenizer, ["a cat"])
    assert ids.shape == (1, MAX_TOKENS)
    assert ids[0, 0] == tokenizer.bos_token_id
    assert (ids[0, 3:] == tokenizer.eos_token_id).all()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return to_tensor(np.stack([render_random(rng).image for _ in range(12)]))


def test_the_encoder_computes_the_principal_components(pictures):
    components, vae = Components.of(pictures), build_vae()
    closed_form_encoder(vae, components)
    latents = components(pictures)
    assert latents.shape == (12, 6, 32, 32)
    with torch.no_grad():
        encoded = vae.encode(pictures).latent_dist
    assert (encoded.mean - latents).abs().max() < 5e-3 * latents.std()
    assert encoded.std.max() < 0.01 * latents.std()


def test_the_components_are_those_of_whole_patches(pictures):
    # The encoder halves three times and drops components on the way; it must lose hardly anything by that.
    components = Components.of(pictures)
    patches = pictures.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 192).double()
    centred = patches - patches.mean(0)
    best = torch.linalg.eigvalsh(centred.T @ centred / len(centred)).flip(0)[:6].sum()
    assert components(pictures).double().var((0, 2, 3)).sum() == pytest.approx(best.item(), rel=0.01)


def test_the_decoder_starts_with_signals_of_usual_strength(pictures):
    torch.manual_seed(0)
    vae = build_vae()
    start_linear(vae.decoder)
    with torch.no_grad():
        assert 0.1 < vae.decode(Components.of(pictures)(pictures[:1])).sample.std() < 10


def test_what_stories_ask_for_is_drawn_more_often(tmp_path):
    render_shard(tmp_path, 0, 8)
    np.save(tmp_path / "latents-0000.npy", np.zeros((8, 6, 32, 32), np.float16))
    truth = [
        {**t, "action": "standing", "pattern": "plain", "accessory": "hat"} for t in load_truth(tmp_path, 0)
    ]
    truth[0] |= {"action": "sleeping", "pattern": "striped"}
    (tmp_path / "truth-0000.json").write_text(json.dumps(truth))
    texts = Latents(tmp_path, tmp_path, 1.0, seed=0)
    assert np.diff(texts.often, prepend=0).tolist() == [1] + [4] * 7
    assert texts.batch(16)[0].shape == (16, 6, 32, 32)


def test_a_checkpoint_goes_on_where_it_stopped(tmp_path):
    def run(steps, path, model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        average = Average(model.parameters())
        first = load(path, model, optimizer, average)
        for step in range(first, steps):
            optimizer.zero_grad()
            (model(torch.full((1, 2), step + 1.0)) ** 2).sum().backward()
            optimizer.step()
            average.update(step)
        save(path, steps, model, optimizer, average)
        return [*model.parameters(), *average.values]

    def fresh():
        torch.manual_seed(1)
        return torch.nn.Linear(2, 2)

    through = run(6, tmp_path / "one.safetensors", fresh())
    run(3, tmp_path / "two.safetensors", fresh())
    resumed = run(6, tmp_path / "two.safetensors", fresh())
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 1000, 1.0, warm_up=100) for step in range(1000)]
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] < 0.02


def test_the_velocity_loss_knows_the_right_answer():
    # A model that answers with the true velocity has no loss; one that answers zero has.
    scheduler, latents = (
        build_scheduler(),
        torch.randn(4, 6, 32, 32, generator=torch.Generator().manual_seed(2)),
    )
    cover, ids = torch.zeros(4, 1, 16, 16), torch.zeros(4, MAX_TOKENS, dtype=torch.long)

    def knows(noisy, steps, ids, keep):
        alphas = scheduler.alphas_cumprod[steps].view(-1, 1, 1, 1)
        noise = (noisy - alphas.sqrt() * latents) / (1 - alphas).sqrt().clamp(min=1e-6)
        return scheduler.get_velocity(latents, noise, steps)

    def zero(noisy, steps, ids, keep):
        return torch.zeros_like(noisy)

    generator = torch.Generator().manual_seed(3)
    assert velocity_loss(knows, scheduler, latents, cover, ids, generator) < 1e-4
    assert velocity_loss(zero, scheduler, latents, cover, ids, generator) > 0.1


def test_an_assembled_model_is_loaded_by_stock_diffusers(tokenizer, tmp_path):
    torch.manual_seed(4)
    assemble(build_vae(), TextToNoise(tokenizer), tokenizer, 0.5, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    pipe = StableDiffusionXLPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert pipe.vae.config.scaling_factor == 0.5
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    words = json.loads((tmp_path / "words.json").read_text())
    assert {"subject", "color", "pattern", "accessory", "scene", "action", "style"} == set(words)
    # No configuration may remember where it was made.
    assert all(str(tmp_path) not in path.read_text() for path in tmp_path.rglob("*.json"))
    generator = torch.Generator().manual_seed(5)
    picture = pipe("a photo of a cat in the forest", num_inference_steps=2, generator=generator).images[0]
    assert picture.size == (256, 256)


def test_the_scaling_factor_makes_latents_as_large_as_noise(tmp_path):
    latents = np.random.default_rng(6).normal(scale=4, size=(50, 6, 32, 32)).astype(np.float16)
    np.save(tmp_path / "latents-0000.npy", latents)
    assert (latents.astype(np.float32) * scaling_factor(tmp_path)).std() == pytest.approx(1, abs=0.01)


def test_corrupted_training_images_are_valid_images():
    images = to_tensor(np.stack([render_random(np.random.default_rng(k)).image[::2, ::2] for k in range(6)]))
    corrupted = spoil(images, np.random.default_rng(7))
    assert corrupted.shape == images.shape
    assert -1 <= corrupted.min() < corrupted.max() <= 1
    assert not torch.equal(corrupted, images)


def test_a_saved_reader_reads_the_same(tmp_path):
    torch.manual_seed(8)
    network = ReaderNetwork(CLASSES, (8, 8, 8, 8, 8)).eval()
    save_reader(tmp_path, network, CLASSES, (8, 8, 8, 8, 8))
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        before, after = network(x), load_reader(tmp_path).network(x)
    assert all(torch.allclose(before[key], after[key], atol=0.05) for key in CLASSES)


def test_the_whole_training_runs_and_goes_on_from_its_files(tmp_path):
    tiny = Preset(
        device="cpu",
        shards=1,
        shard=6,
        text_steps=2,
        crops=(2, None, 2),
        whole=(3, None, 1),
        unet=(2, None, 2),
        reader=(2, None, 4),
        clip=(2, None, 4),
    )
    build, assets = tmp_path / "build", tmp_path / "assets"
    train(tiny, build, assets)
    pipe = StableDiffusionXLPipeline.from_pretrained(assets, local_files_only=True)
    assert pipe("a cat", num_inference_steps=1).images[0].size == (256, 256)
    assert set(load_reader(assets / "reader").classes) == set(CLASSES)
    assert (assets / "clip" / "model.safetensors").is_file()
    # Started again it finds everything done: the shards and the autoencoder are not touched.
    made = {path: path.stat().st_mtime_ns for path in (build / "pictures").iterdir()}
    train(tiny, build, assets)
    assert made == {path: path.stat().st_mtime_ns for path in (build / "pictures").iterdir()}
