"""The training scripts at tiny size: they go on where they stopped and write what stock libraries load."""

import json
import time

from consistory_svd.compat import cure_torchvision

import numpy as np
import pytest
import torch

from consistory_svd.metrics.attribute_reader import ReaderNetwork, load_reader, save_reader
from training.assemble import scaling_factor
from training.captions import full_caption
from training.checkpoint import Average, Checkpoint, learning_rate
from training.dataset import load_truth, part_shares, render_shard
from training.decoder import Samples, reconstruction_loss
from training.denoised import Denoiser
from training.latents import Latents, encode_shard
from training.model import build_scheduler
from training.muon import Muon, orthogonalised
from training.precision import faster_in_bfloat16
from training.reader import CLASSES, Pictures, corrupt
from training.run import PRESETS, STAGES, Training
from training.sheet import contact_sheet, sheet_truth
from training.text import MAX_TOKENS, open_tokenizer, tokenize, train_tokenizer
from training.unet import losses
from training.vae import (
    FACTOR,
    LATENT_CHANNELS,
    LATENT_SIDE,
    Components,
    build_vae,
    closed_form_encoder,
    fit_components,
    start_linear,
    to_tensor,
)
from training.world import render_random
from training.world.brush import PARTS

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
    assert latents.shape == (12, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    with torch.no_grad():
        encoded = vae.encode(pictures).latent_dist
    assert (encoded.mean - latents).abs().max() < 5e-3 * latents.std()
    assert encoded.std.max() < 0.01 * latents.std()


def test_the_components_are_those_of_whole_patches(pictures):
    # The encoder halves four times and drops components on the way; it must lose hardly anything by that.
    kernel = Components.of(pictures).matrix().flatten(1).double()
    patches = pictures.unfold(2, FACTOR, FACTOR).unfold(3, FACTOR, FACTOR).permute(0, 2, 3, 1, 4, 5)
    patches = patches.reshape(-1, 3 * FACTOR**2).double()
    centred = patches - patches.mean(0)
    spread = centred.T @ centred / len(centred)
    best = torch.linalg.eigvalsh(spread).flip(0)[:LATENT_CHANNELS].sum()
    rows = torch.linalg.qr(kernel.T).Q.T
    assert (rows @ spread @ rows.T).trace().item() == pytest.approx(best.item(), rel=0.01)


def test_detail_is_weaker_than_layout_but_not_as_weak_as_in_nature(pictures):
    strength = Components.of(pictures)(pictures).std((0, 2, 3))
    assert (strength.diff() < 0.02 * strength[0]).all()
    assert 3 < strength[0] / strength[-1] < 40


def test_components_are_read_as_they_were_written(tmp_path, pictures):
    render_shard(tmp_path, 0, 3)
    first = fit_components(tmp_path, tmp_path / "components.safetensors")
    render_shard(tmp_path, 1, 3)
    again = fit_components(tmp_path, tmp_path / "components.safetensors")
    assert torch.equal(first(pictures), again(pictures))


def test_the_decoder_starts_with_signals_of_usual_strength(pictures):
    torch.manual_seed(0)
    vae = build_vae()
    start_linear(vae.decoder)
    with torch.no_grad():
        assert 0.1 < vae.decode(Components.of(pictures)(pictures[:1])).sample.std() < 10


@pytest.fixture(scope="module")
def shard(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("shard")
    render_shard(folder, 0, 8)
    encode_shard(Components.of(pictures), folder, folder, 0)
    return folder


def test_part_shares_count_what_each_part_covers():
    parts = np.zeros((1, 128, 128), np.uint8)
    parts[0, :4, :8] = PARTS.index("eye")
    shares = part_shares(parts, 16)
    assert shares[0, PARTS.index("eye"), 0, 0] == 127
    assert shares[0, PARTS.index("scene"), 0, 0] == 127
    assert shares[0, PARTS.index("scene"), 5, 5] == 255


def test_mirrored_latents_are_those_of_the_mirrored_picture(shard, pictures):
    both = np.load(shard / "latents-0000.npy").astype(np.float32)
    images = to_tensor(np.load(shard / "images-0000.npy"))
    assert np.abs(both[:, 1] - Components.of(pictures)(images.flip(3)).numpy()).max() < 0.02
    assert np.abs(both[:, 0] - both[:, 1]).mean() > 0.02


def test_batches_mirror_latents_and_parts_together_but_no_sleepers(shard):
    data = Latents(shard, shard, 1.0, seed=0)
    for one in data.truth:
        one["action"] = "sleeping"
    latents, parts, texts = data.batch(32)
    assert latents.shape == (32, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    assert parts.shape == (32, len(PARTS), LATENT_SIDE, LATENT_SIDE)
    assert len(texts) == 32
    originals = torch.from_numpy(np.load(shard / "latents-0000.npy")[:, 0]).float()
    assert all((one == originals).flatten(1).all(1).any() for one in latents)
    for one in data.truth:
        one["action"] = "standing"
    latents, parts, _ = data.batch(32)
    unmirrored = [(one == originals).flatten(1).all(1) for one in latents]
    assert 0 < sum(bool(found.any()) for found in unmirrored) < 32
    shares = torch.from_numpy(np.load(shard / "shares-0000.npy")).float() / 255
    for found, one in zip(unmirrored, parts, strict=True):
        if found.any():
            assert torch.equal(one, shares[found][0])


def test_a_shard_that_comes_later_is_taken_in(shard, tmp_path, pictures):
    for path in shard.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = Latents(tmp_path, tmp_path, 1.0, seed=0)
    render_shard(tmp_path, 1, 3)
    data.look()
    assert len(data.latents) == 8
    encode_shard(Components.of(pictures), tmp_path, tmp_path, 1)
    data.look()
    assert len(data.latents) == len(data.truth) == len(data.shares) == 11


def test_held_out_pictures_are_not_trained_on(shard, tmp_path, pictures):
    for path in shard.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    render_shard(tmp_path, 1, 3)
    encode_shard(Components.of(pictures), tmp_path, tmp_path, 1)
    assert Latents(tmp_path, tmp_path, 1.0, seed=0).truth == load_truth(tmp_path, 1)
    assert Latents(tmp_path, tmp_path, 1.0, seed=0, held_out=True).truth == load_truth(tmp_path, 0)


def test_a_checkpoint_goes_on_where_it_stopped(tmp_path):
    def run(steps, path):
        torch.manual_seed(1)
        model = torch.nn.Linear(2, 2)
        optimizers = [Muon([model.weight], lr=0.1), torch.optim.AdamW([model.bias], lr=0.1)]
        average = Average(model.parameters(), every=2)
        checkpoint = Checkpoint(path, model, optimizers, [average])
        for step in range(checkpoint.load(), steps):
            model.zero_grad()
            (model(torch.full((1, 2), step + 1.0)) ** 2).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
            average.update(step)
        checkpoint.save(steps)
        return [*model.parameters(), *average.values]

    through = run(6, tmp_path / "one.pt")
    run(3, tmp_path / "two.pt")
    resumed = run(6, tmp_path / "two.pt")
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))


@pytest.mark.parametrize(("full", "reduced"), [(0.002, 0.03), (0.03, 0.002)])
def test_the_faster_number_format_is_taken(monkeypatch, full, reduced):
    monkeypatch.setattr("training.precision.MUCH_SLOWER", float("inf"))
    chosen = faster_in_bfloat16(lambda in_bfloat16: time.sleep(reduced if in_bfloat16 else full))
    assert chosen == (reduced < full)


def test_no_whole_step_is_tried_where_bfloat16_is_emulated(monkeypatch):
    monkeypatch.setattr("training.precision.MUCH_SLOWER", 0.0)
    tried = []
    assert not faster_in_bfloat16(tried.append)
    assert not tried


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(9)) * torch.linspace(0.3, 3, shape[1])
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert 0.5 < values.min() < values.max() < 1.4


def test_muon_turns_a_convolution_towards_its_target():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    target, optimizer = torch.randn(8, 4, 3, 3), Muon([weight], lr=0.1, weight_decay=0.0)
    before = (weight - target).norm().item()
    for _ in range(80):
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
    assert (weight - target).norm() < 0.3 * before


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    rates = [learning_rate(step / 1000, step, 1.0, warm_up=100) for step in range(1001)]
    assert rates[0] < 0.02
    assert rates[150] == rates[500] == 1
    assert rates[-1] == 0


def test_the_losses_know_the_right_answer():
    # A model that answers with the true velocity and the true parts has no loss; one that answers zero has.
    scheduler, generator = build_scheduler(), torch.Generator().manual_seed(2)
    latents = torch.randn(4, LATENT_CHANNELS, 16, 16, generator=generator)
    parts = torch.nn.functional.one_hot(torch.randint(8, (4, 16, 16), generator=generator), 8)
    parts = parts.permute(0, 3, 1, 2).float()
    ids = torch.zeros(4, MAX_TOKENS, dtype=torch.long)

    def knows(noisy, steps, ids, keep):
        alphas = scheduler.alphas_cumprod[steps].view(-1, 1, 1, 1)
        noise = (noisy - alphas.sqrt() * latents) / (1 - alphas).sqrt().clamp(min=1e-6)
        return scheduler.get_velocity(latents, noise, steps), 50 * parts

    def zero(noisy, steps, ids, keep):
        return torch.zeros_like(noisy), torch.zeros_like(parts)

    known = losses(knows, scheduler, latents, parts, ids, torch.Generator().manual_seed(3), False)
    assert known.velocity < 1e-4
    assert known.parts < 1e-4
    unknown = losses(zero, scheduler, latents, parts, ids, torch.Generator().manual_seed(3), False)
    assert unknown.velocity > 0.1
    assert unknown.parts > 0.5


def test_errors_on_heavier_pixels_cost_more():
    target = torch.zeros(1, 3, 32, 32)
    weights = torch.ones(1, 1, 32, 32)
    weights[..., :16] = 4
    heavy, light = target.clone(), target.clone()
    heavy[..., 4:8, 4:8], light[..., 4:8, 20:24] = 0.5, 0.5
    assert reconstruction_loss(target, target, weights) == 0
    assert reconstruction_loss(heavy, target, weights) > 1.5 * reconstruction_loss(light, target, weights)


def test_decoder_samples_are_crops_that_belong_together(shard, pictures, tmp_path):
    samples = Samples(shard, shard, tmp_path, seed=1)
    latents, target, weights = samples.batch(3, 6)
    assert target.shape == (3, 3, 6 * FACTOR, 6 * FACTOR)
    assert weights.shape == (3, 1, 6 * FACTOR, 6 * FACTOR)
    expected = Components.of(pictures)(target)
    assert (latents - expected).abs().mean() < 0.2 * expected.std()


def test_a_denoiser_that_knows_the_picture_gives_it_back(tokenizer):
    generator, scheduler = torch.Generator().manual_seed(4), build_scheduler()
    latents = torch.randn(2, LATENT_CHANNELS, 16, 16, generator=generator)

    class Knows(torch.nn.Linear):
        def forward(self, noisy, steps, ids, keep):
            alphas = scheduler.alphas_cumprod[steps].view(-1, 1, 1, 1)
            noise = (noisy - alphas.sqrt() * latents * 0.5) / (1 - alphas).sqrt()
            return scheduler.get_velocity(latents * 0.5, noise, steps), None

    denoiser = Denoiser(Knows(1, 1), tokenizer, 0.5)
    for guidance in (1.0, 4.0):
        found = denoiser(latents, ["a cat", "a dog"], 300, guidance, generator)
        assert (found - latents).abs().max() < 1e-3


def test_the_scaling_factor_makes_latents_as_large_as_noise(tmp_path):
    latents = np.random.default_rng(6).normal(scale=4, size=(50, 2, 48, 16, 16)).astype(np.float16)
    np.save(tmp_path / "latents-0000.npy", latents)
    assert (latents.astype(np.float32) * scaling_factor(tmp_path)).std() == pytest.approx(1, abs=0.01)


def test_corrupted_training_images_are_valid_images():
    images = to_tensor(np.stack([render_random(np.random.default_rng(k)).image[::2, ::2] for k in range(6)]))
    corrupted = corrupt(images, np.random.default_rng(7))
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


def test_the_reader_learns_from_single_figures_only(tmp_path):
    render_shard(tmp_path, 0, 6)
    truth = load_truth(tmp_path, 0)
    for one in truth[:4]:
        one["partner"] = {"subject": "cat"}
    for one in truth[4:]:
        one.pop("partner", None)
    (tmp_path / "truth-0000.json").write_text(json.dumps(truth))
    assert len(Pictures([tmp_path], seed=0).images) == 2


def test_the_sheet_shows_every_subject_scene_style_and_action():
    truths = [sheet_truth(seed).attributes for seed in range(48)]
    for key, names in CLASSES.items():
        if key in ("subject", "scene", "style", "action"):
            assert {one[key] for one in truths} == set(names)
    assert truths[0]["color"] in full_caption(truths[0])


def test_the_smoke_preset_ends_in_a_model_that_stock_diffusers_loads(tmp_path):
    build, assets = tmp_path / "build", tmp_path / "assets"
    training = Training(PRESETS["smoke"], build, assets)
    for stage in STAGES:
        getattr(training, stage)()
    assert not list(assets.rglob("*.bin"))
    # No configuration may remember where it was made.
    assert all(str(tmp_path) not in path.read_text() for path in assets.rglob("*.json"))
    pipe = StableDiffusionXLPipeline.from_pretrained(assets, local_files_only=True)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    words = json.loads((assets / "words.json").read_text())
    assert {"subject", "color", "pattern", "accessory", "scene", "action", "style"} == set(words)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a cat", num_inference_steps=1).images[0].size == (256, 256)
    assert contact_sheet(pipe, count=2, steps=1).size == (4 * 128 + 8, 128)
    assert set(load_reader(assets / "reader").classes) == set(CLASSES)
    assert (assets / "clip" / "model.safetensors").is_file()
    # Started again it finds the pictures and latents done and the training at its end.
    made = {path: path.stat().st_mtime_ns for path in (build / "latents").iterdir()}
    again = Training(PRESETS["smoke"], build, assets)
    for stage in ("render", "encode", "unet"):
        getattr(again, stage)()
    assert made == {path: path.stat().st_mtime_ns for path in (build / "latents").iterdir()}
