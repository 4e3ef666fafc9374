"""Checkpoints of every kind are loaded; unusable ones are refused with a reason. Tiny, real files."""

import json
import shutil
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from consistory_svd import FrameDone, Settings, Story, generate, load_model
from consistory_svd.downloads import unreachable_reason
from consistory_svd.errors import FieldError
from consistory_svd.models import model as models
from consistory_svd.models.diffusers_folder import choose_variant
from consistory_svd.models.request import ModelRequest
from consistory_svd.models.single_file import SDXL_CONFIG
from tests.checkpoint_files import same_weights, two_sized_pipeline, write_original
from tests.tiny_models import make_pipeline


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny SDXL that single files are made of."""
    folder = tmp_path_factory.mktemp("config") / "two-sized"
    two_sized_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_original(two_sized_pipeline(), tmp_path_factory.mktemp("single") / "tuned.safetensors")


def test_a_single_file_is_the_folder_it_was_made_of(single: Path, config: Path) -> None:
    model = load_model(str(single), "cpu", config=config)
    assert same_weights(model, two_sized_pipeline())
    assert model.name == "tuned"
    story = Story("a fox", ("in the forest", "on the beach"))
    settings = Settings(steps=2)
    ours, theirs = (
        [event.latents for event in generate(one, story, settings) if isinstance(event, FrameDone)]
        for one in (model, load_model(str(config), "cpu"))
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_playgrounds_file_brings_its_own_scheduler_and_scale(
    single: Path, config: Path, tmp_path: Path
) -> None:
    mean, deviation = torch.tensor([-1.6, 2.3, -0.3, 1.7]), torch.tensor([5.5, 8.4, 6.9, 5.7])
    path = tmp_path / "playground.safetensors"
    save_file(
        load_file(single) | {"edm_mean": mean.view(1, 4, 1, 1), "edm_std": deviation.view(1, 4, 1, 1)}, path
    )
    model = load_model(str(path), "cpu", config=config)
    assert isinstance(model.pipe.scheduler, EDMDPMSolverMultistepScheduler)
    assert model.pipe.vae.config.latents_mean == pytest.approx(mean.tolist())
    assert model.pipe.vae.config.latents_std == pytest.approx(deviation.tolist())
    assert model.pipe.vae.config.scaling_factor == 0.5
    story = Story("a fox", ("in the forest", "on the beach"))
    made = [e for e in generate(model, story, Settings(steps=4, preview_every=1)) if isinstance(e, FrameDone)]
    assert len(made) == 2
    assert all(torch.isfinite(frame.latents).all() for frame in made)


def test_a_file_that_predicts_velocity_says_so(single: Path, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "velocity.safetensors"
    save_file(load_file(single) | {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, path)
    scheduler = load_model(str(path), "cpu", config=config).pipe.scheduler.config
    assert scheduler.prediction_type == "v_prediction"
    assert scheduler.rescale_betas_zero_snr
    assert scheduler.timestep_spacing == "trailing"


def test_sdxls_own_configuration_needs_no_network() -> None:
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        tokenizer = CLIPTokenizer.from_pretrained(SDXL_CONFIG / name)
        assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
        assert (tokenizer.pad_token, tokenizer.model_max_length) == (pad, 77)
    scheduler = EulerDiscreteScheduler.from_pretrained(SDXL_CONFIG / "scheduler")
    assert (scheduler.config.timestep_spacing, scheduler.config.steps_offset) == ("leading", 1)


def test_a_file_of_another_size_than_sdxl_asks_for_its_configuration(single: Path) -> None:
    with pytest.raises(ValueError, match=r"^model: .* does not fit the configuration .*--config"):
        load_model(str(single), "cpu")


@pytest.mark.parametrize(
    ("names", "expected_text"),
    [
        (("double_blocks.0.img_attn.qkv.weight",), "holds Flux; give a checkpoint of the SDXL family"),
        (("cond_stage_model.transformer.text_model.x",), "holds Stable Diffusion 1"),
        (("cond_stage_model.model.transformer.x",), "holds Stable Diffusion 2"),
        (("conditioner.embedders.0.model.ln_final.weight",), "holds the SDXL refiner"),
        (("model.diffusion_model.joint_blocks.0.x",), "holds Stable Diffusion 3"),
        (("down_blocks.0.resnets.0.conv1.weight",), "holds a U-Net without its text encoders"),
        (("decoder.conv_in.weight",), "holds only an autoencoder"),
        (("lora_unet_down_blocks_1_x.lora_down.weight",), "holds a LoRA; load it on top of a model"),
        (("something",), "holds no known SDXL layout"),
    ],
)
def test_another_architecture_is_named(names: tuple[str, ...], expected_text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(dict.fromkeys(names, torch.zeros(2, 2)), path)
    with pytest.raises(ValueError, match=f"^model: .*{expected_text}"):
        load_model(str(path), "cpu")


def test_truncated_and_pickled_files_are_refused(single: Path, tmp_path: Path) -> None:
    broken = tmp_path / "half.safetensors"
    broken.write_bytes(single.read_bytes()[: single.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"^model: .*not a complete safetensors file.*download it again"):
        load_model(str(broken), "cpu")
    for ending in (".ckpt", ".pt", ".bin"):
        pickled = tmp_path / f"model{ending}"
        torch.save({"x": torch.zeros(1)}, pickled)
        with pytest.raises(
            ValueError, match=r"^model must be a .safetensors file, because pickled weights can run code"
        ):
            load_model(str(pickled), "cpu")
    with pytest.raises(ValueError, match=r"^model: .*nowhere.safetensors' does not exist"):
        load_model(str(tmp_path / "nowhere.safetensors"), "cpu")


def test_a_file_with_missing_weights_is_refused(single: Path, config: Path, tmp_path: Path) -> None:
    weights = load_file(single)
    lost = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    del weights[lost]
    save_file(weights, path := tmp_path / "lacking.safetensors")
    with pytest.raises(ValueError, match=r"^model: "):
        load_model(str(path), "cpu", config=config)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "text_encoder_2", "vae"])
def test_a_folder_with_missing_weights_is_refused(part: str, config: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(config, tmp_path / "lacking")
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    weights.pop(next(name for name in weights if name.endswith("weight")))
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"^model: .* cannot be read: .*{part}"):
        load_model(str(folder), "cpu")


def test_a_folder_with_a_truncated_file_is_refused(config: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(config, tmp_path / "broken")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"^model: .* cannot be read"):
        load_model(str(folder), "cpu")


@pytest.mark.parametrize(
    ("entry", "expected_text"),
    [
        ({"unet": ["their_code", "TheirUNet"]}, "code that comes with weights is never run"),
        ({"unet": ["diffusers", "FluxTransformer2DModel"]}, "a unet of diffusers.FluxTransformer2DModel"),
        ({"vae": [None, None]}, "has no vae"),
        ({"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, "a flow-matching model"),
        ({"_class_name": ["pipeline", "Theirs"]}, "give a StableDiffusionXLPipeline"),
    ],
)
def test_foreign_code_and_other_parts_are_refused(
    entry: dict[str, object], expected_text: str, config: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(config, tmp_path / "theirs")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entry))
    (folder / "their_code.py").write_text("raise SystemExit('their code was run')")
    with pytest.raises(ValueError, match=rf"^model: .*{expected_text}"):
        load_model(str(folder), "cpu")


def test_half_precision_files_are_read_if_wanted_or_alone(config: Path, tmp_path: Path) -> None:
    pipe = two_sized_pipeline().to(torch.float16)
    pipe.save_pretrained(folder := tmp_path / "both", variant="fp16")
    alone = load_model(str(folder), "cpu")
    assert alone.pipe.unet.dtype == torch.float32
    assert same_weights(alone, pipe)
    plain, half = "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"
    assert choose_variant({plain, half}, torch.float16) == "fp16"
    assert choose_variant({plain, half}, torch.float32) is None
    assert choose_variant({plain}, torch.float16) is None


def test_without_a_network_it_fails_at_once_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # Nobody listens there; nobody answers there (an address for documentation).
    for endpoint in ("http://127.0.0.1:9", "http://192.0.2.1"):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        began = time.monotonic()
        with pytest.raises(
            ValueError, match=r"^model: 'someone/model' is not downloaded yet.*check the network, or give"
        ):
            load_model("someone/model", "cpu")
        assert time.monotonic() - began < 2
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert unreachable_reason() == "HF_HUB_OFFLINE is set"
    with pytest.raises(ValueError, match="unset HF_HUB_OFFLINE"):
        load_model("someone/model", "cpu")


def test_the_default_is_sdxl_if_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = models.default_choice("cpu")
    assert choice.source is None
    assert "no CUDA device" in choice.why
    monkeypatch.setattr(models, "_device", lambda name: torch.device("cuda"))
    for downloaded, reason, source, text in (
        (True, "no", models.SDXL_BASE, "is downloaded"),
        (False, "", models.SDXL_BASE, "can be reached"),
        (False, "no route", None, "cannot be reached (no route)"),
    ):
        monkeypatch.setattr(models, "downloaded_folder", lambda repo_id, found=downloaded: found)
        monkeypatch.setattr(models, "unreachable_reason", lambda reason=reason: reason)
        choice = models.default_choice()
        assert choice.source == source
        assert text in choice.why


def test_a_request_names_the_wrong_field(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"^dtype must be one of float16, bfloat16, float32, got 'int8'"):
        ModelRequest.parse(None, dtype="int8")
    with pytest.raises(ValueError, match=r"^memory: 'small' is not allowed; give one of auto, full"):
        ModelRequest.parse(None, memory="small")
    make_pipeline("small").save_pretrained(tmp_path / "tiny_lightning_8step")
    model = ModelRequest.parse(str(tmp_path / "tiny_lightning_8step"), "cpu", "bfloat16").load()
    assert model.pipe.unet.dtype == torch.bfloat16
    assert (model.recipe.name, model.recipe.steps, model.recipe.spacing) == ("Lightning", 8, "trailing")
