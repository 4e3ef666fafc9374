"""CLIP and DINO, on tiny networks saved to disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from consistory_svd.metrics.clip_dino import OPENAI_CLIP, ClipAlignment, DinoSimilarity
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.result import Frames, MetricUnavailable, MissingScore
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.suite import Suite
from tests.tiny_models import make_tokenizer

# isort: split
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
)

from tests.tiny_networks import (
    PROMPTS,
    by_name,
    frames,
    half_mask,
    model_cosines,
    picture,
    save_clip,
    save_dino,
)


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dino(folder := tmp_path_factory.mktemp("networks") / "dino")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, clip_folder: Path) -> Path:
    """A folder of weights that keeps the tiny CLIP under OpenAI's name, as the hub's client does."""
    kept = tmp_path / "hub" / f"models--{OPENAI_CLIP.replace('/', '--')}"
    (kept / "snapshots").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1" * 40)
    (kept / "snapshots" / ("1" * 40)).symlink_to(clip_folder)
    return tmp_path


def test_clip_numbers_are_those_of_the_forward_pass(clip_folder: Path, tmp_path: Path):
    prompts = (*PROMPTS, "the fox", "snow", "a red hat")
    some = Frames([picture(k) for k in range(6)], prompts)
    found = by_name(
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(clip_folder)), Embeddings()).measure(some)
    )
    plain = model_cosines(clip_folder, some.images, prompts).diagonal()
    assert found["CLIP-T"].per_frame == pytest.approx(plain, abs=1e-5)
    assert found["CLIP-T"].value == pytest.approx(plain.mean(), abs=1e-5)
    prefixed = model_cosines(clip_folder, some.images, [f"A photo depicts {p}" for p in prompts]).diagonal()
    expected = np.array([2.5 * max(cosine, 0) for cosine in prefixed])
    assert found["Scaled CLIP-T"].per_frame == pytest.approx(expected, abs=1e-5)
    assert found["Scaled CLIP-T"].value == pytest.approx(expected.mean(), abs=1e-5)
    unprefixed = 2.5 * plain.clip(min=0)
    assert np.abs(expected - unprefixed).max() > 1e-3, "the prefix makes no difference"


def test_clip_score_is_never_negative(clip_folder: Path, tmp_path: Path):
    many = Frames([picture(k) for k in range(8)], ["a cat"] * 8)
    found = by_name(
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(clip_folder)), Embeddings()).measure(many)
    )
    raw = [found[name].per_frame for name in ("CLIP-T", "Scaled CLIP-T")]
    assert min(raw[0]) < 0, "no cosine is negative, so nothing was cut off"
    assert min(raw[1]) == 0


def test_only_openais_clip_gives_a_clip_score(hub_cache: Path, clip_folder: Path):
    other = by_name(
        ClipAlignment(ScoreSettings(cache=hub_cache, clip=str(clip_folder)), Embeddings()).measure(frames())
    )
    assert "CLIPScore" not in other
    assert all(not result.published for result in other.values())
    theirs = by_name(ClipAlignment(ScoreSettings(cache=hub_cache), Embeddings()).measure(frames()))
    assert "Scaled CLIP-T" not in theirs
    assert theirs["CLIPScore"].published["SDXL"] == 0.9074
    assert theirs["CLIPScore"].model == OPENAI_CLIP


def test_clip_i_and_dino_are_blind_to_order(clip_folder: Path, dino_folder: Path, tmp_path: Path):
    some = frames(masks=[half_mask()] * 3)
    order = [2, 0, 1]
    turned = Frames([some.images[k] for k in order], [PROMPTS[k] for k in order], some.masks)
    for score in (
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(clip_folder)), Embeddings()),
        DinoSimilarity(ScoreSettings(cache=tmp_path, dino=str(dino_folder)), Embeddings()),
    ):
        before, after = by_name(score.measure(some)), by_name(score.measure(turned))
        pairs = [name for name, result in before.items() if result.matrix]
        assert len(pairs) == 2
        for name in pairs:
            matrix = np.array(before[name].matrix)
            assert (matrix == matrix.T).all()
            assert (matrix.diagonal() == 1).all()
            assert (np.array(after[name].matrix) == matrix[np.ix_(order, order)]).all()
            assert before[name].value == pytest.approx(matrix[np.triu_indices(3, 1)].mean())
            assert matrix.min() < 1


def test_clip_i_is_the_cosine_of_pictures(clip_folder: Path, tmp_path: Path):
    some = frames(2)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(some.images, return_tensors="pt").pixel_values
    with torch.inference_mode():
        ids = torch.tensor([make_tokenizer()("a cat").input_ids])
        one, two = model(input_ids=ids, pixel_values=pixels).image_embeds
    found = by_name(
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(clip_folder)), Embeddings()).measure(some)
    )
    assert found["CLIP-I"].value == pytest.approx(float(one @ two), abs=1e-5)


def test_truncated_prompts_have_a_note(clip_folder: Path, tmp_path: Path):
    # Start and end count: 75 words fill the 77 tokens, and the prefix no longer fits.
    some = frames(prompts=("a cat", " ".join(["cat"] * 75), " ".join(["cat"] * 76)))
    found = by_name(
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(clip_folder)), Embeddings()).measure(some)
    )
    (note,) = found["CLIP-T"].notes
    assert "image 3 has 78 tokens" in note
    assert "truncated" in note
    assert [note.split(" has")[0] for note in found["Scaled CLIP-T"].notes] == [
        "the prompt of image 2",
        "the prompt of image 3",
    ]


def test_one_picture_has_an_alignment_and_no_pairs(clip_folder: Path, tmp_path: Path):
    entries = ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(clip_folder)), Embeddings()).measure(
        frames(1)
    )
    assert set(by_name(entries)) == {"CLIP-T", "Scaled CLIP-T"}
    assert [entry.name for entry in entries if isinstance(entry, MissingScore)] == ["CLIP-I"]


def test_a_clip_with_missing_weights_is_refused(clip_folder: Path, tmp_path: Path):
    """transformers fills them in at random and only warns."""
    from safetensors.torch import load_file, save_file

    save_clip(folder := tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MetricUnavailable, match="1 weights are missing"):
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(folder)), Embeddings()).measure(frames())
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MetricUnavailable, match="cannot be read"):
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(folder)), Embeddings()).measure(frames())


def test_missing_and_empty_masks_are_reported(clip_folder: Path, dino_folder: Path, tmp_path: Path):
    suite = Suite(ScoreSettings(clip=str(clip_folder), dino=str(dino_folder), cache=tmp_path))
    empty = Image.new("L", (48, 40))
    for masks, why in (
        ([half_mask(), None, half_mask()], "no subject mask for image 2"),
        ([empty, half_mask(), empty], "empty for images 1, 3"),
    ):
        entries = list(suite.measure(frames(masks=masks)))
        assert why in next(str(e) for e in entries if e.name == "Every subject-only score")
        assert not any("subject only" in name for name in by_name(entries))
