"""LoRA files act with their weights, are removed again to the bit, and wrong ones are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from consistory_svd import FrameDone, Model, Settings, Story, generate, load_model
from consistory_svd.attention.anchor_cache import fingerprint
from consistory_svd.models.lora import Lora, load_loras, read_lora, unload_loras

STORY = Story("a fox", ("in the forest", "on the beach"))
SETTINGS = Settings(steps=2)


def write_lora(path: Path, model: Model, seed: int = 0, width: int | None = None) -> Path:
    """A LoRA of rank 2 on the queries and values of all self-attention; `width` is that of another model."""
    drawn = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in model.pipe.unet.named_modules():
        if name.endswith(("attn1.to_q", "attn1.to_v")):
            out, inner = module.weight.shape
            weights[f"unet.{name}.lora_A.weight"] = torch.randn(2, width or inner, generator=drawn)
            weights[f"unet.{name}.lora_B.weight"] = torch.randn(out, 2, generator=drawn)
    save_file(weights, path)
    return path


def latents(model: Model) -> torch.Tensor:
    return torch.stack([e.latents for e in generate(model, STORY, SETTINGS) if isinstance(e, FrameDone)])


@pytest.fixture
def fresh(tiny_folder: Path) -> Model:
    return load_model(str(tiny_folder), "cpu")


def test_loras_act_by_their_weights_and_are_removed(fresh: Model, tiny_folder: Path, tmp_path: Path) -> None:
    one, two = (write_lora(tmp_path / f"{k}.safetensors", fresh, k) for k in (1, 2))
    plain = latents(fresh)
    seen = {}
    for name, loras in {
        "one": (Lora(one),),
        "half": (Lora(one, 0.5),),
        "none": (Lora(one, 0.0),),
        "both": (Lora(one), Lora(two, 0.5)),
    }.items():
        model = load_model(str(tiny_folder), "cpu", loras=loras)
        seen[name] = latents(model)
        assert model.describe().startswith(f"{model.name}, ")
        assert model.name == " with ".join(
            ("small", ", ".join(f"{lora.path.stem}:{lora.weight:g}" for lora in loras))
        )
    assert torch.allclose(seen["none"], plain, atol=1e-4)
    for name in ("one", "half", "both"):
        assert (seen[name] - plain).abs().max() > 0.01
    assert (seen["one"] - seen["half"]).abs().max() > 0.01
    assert (seen["both"] - seen["one"]).abs().max() > 0.01

    before = {name: weight.clone() for name, weight in fresh.pipe.unet.state_dict().items()}
    load_loras(fresh.pipe, (Lora(one), Lora(two)))
    unload_loras(fresh.pipe)
    after = fresh.pipe.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(latents(fresh), plain)


def test_a_merged_sum_is_what_a_lora_adds(fresh: Model, tiny_folder: Path, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "one.safetensors", fresh)
    with_lora, plain = latents(load_model(str(tiny_folder), "cpu", loras=(Lora(path, 0.25),))), latents(fresh)
    weights = load_file(path)
    for name, module in fresh.pipe.unet.named_modules():
        if f"unet.{name}.lora_A.weight" in weights:
            down, up = (weights[f"unet.{name}.lora_{letter}.weight"] for letter in "AB")
            module.weight.data += 0.25 * up @ down
    merged = latents(fresh)
    assert (with_lora - merged).abs().max() < 0.01 * (with_lora - plain).abs().max()


def test_a_bank_of_other_weights_does_not_fit(fresh: Model, tiny_folder: Path, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "one.safetensors", fresh)
    models = [load_model(str(tiny_folder), "cpu", loras=(Lora(path, weight),)) for weight in (1.0, 0.5)]
    prints = {fingerprint(model.pipe.unet) for model in (*models, fresh)}
    assert len(prints) == 3


def test_wrong_loras_are_refused_and_none_stays_loaded(fresh: Model, tmp_path: Path) -> None:
    good = write_lora(tmp_path / "good.safetensors", fresh)
    wide = write_lora(tmp_path / "wide.safetensors", fresh, width=768)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(good.read_bytes()[:300])
    save_file({"x": torch.zeros(2)}, none := tmp_path / "none.safetensors")
    flux = tmp_path / "flux.safetensors"
    save_file({"transformer.blocks.0.attn.to_q.lora_A.weight": torch.zeros(2, 8)}, flux)
    torch.save({}, pickled := tmp_path / "old.pt")
    plain = latents(fresh)
    for path, text in (
        (tmp_path / "nowhere.safetensors", "does not exist"),
        (pickled, "must be a .safetensors file"),
        (broken, "not a complete safetensors file"),
        (none, "is not a LoRA"),
        (wide, "does not fit this model"),
        (flux, "give a LoRA of the SDXL family"),
    ):
        with pytest.raises(ValueError, match=rf"^lora.*{text}"):
            load_loras(fresh.pipe, (Lora(good), Lora(path)))
        assert not fresh.pipe.get_list_adapters()
    assert torch.equal(latents(fresh), plain)


def test_a_lora_is_read_from_text(tmp_path: Path) -> None:
    assert read_lora("toys.safetensors:0.8") == Lora(Path("toys.safetensors"), 0.8)
    assert read_lora(" toys.safetensors ") == Lora(Path("toys.safetensors"), 1.0)
    assert read_lora("C:/my/toys.safetensors") == Lora(Path("C:/my/toys.safetensors"))
    assert read_lora("toys.safetensors:-1").weight == -1
    with pytest.raises(
        ValueError, match=r"^lora must be FILE, or FILE:WEIGHT .*, got 'toys.safetensors:strong'"
    ):
        read_lora("toys.safetensors:strong")
    for weight in ("9", "nan", "inf"):
        with pytest.raises(ValueError, match=r"^lora must be a file with a weight from -4 to 4, got"):
            read_lora(f"toys.safetensors:{weight}")
    assert replace(Lora(tmp_path / "a.safetensors"), weight=2).weight == 2
