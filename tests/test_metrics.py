"""CLIP, DINO, the storybook's own scores, and all of them together, on tiny networks saved to disk."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from consistory_svd import Settings, Story, load_model
from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.errors import FieldError
from consistory_svd.metadata import write_story_json
from consistory_svd.metrics.clip_dino import OPENAI_CLIP, ClipAlignment, DinoSimilarity
from consistory_svd.metrics.folder import STORYBOOK_NAME, of_storybook, read_folder
from consistory_svd.metrics.images import Embeddings, Subject, in_batches, subject_only
from consistory_svd.metrics.report import as_csv
from consistory_svd.metrics.result import Frames, MetricUnavailable, MissingScore, Result
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.storybook import CLIP_FOLDER, IdentityAgreement, StorybookClip
from consistory_svd.metrics.suite import Suite, harmonic_means
from consistory_svd.models.lora import Lora
from tests.tiny_models import make_tokenizer
from training.world import render

# isort: split
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WHO, PLACES = ("cat", "robot", "owl"), ("kitchen", "beach", "snow")
PROMPTS = ("a cat in the forest", "a fox on the beach", "a cat in the snow")


def save_clip(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = SMALL | special | {"vocab_size": len(tokenizer), "initializer_range": 0.5}
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_clip(folder := tmp_path_factory.mktemp("networks") / "clip")
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("networks") / "dino"
    config = ViTConfig(**SMALL, image_size=32, patch_size=8)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
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


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize((48, 40), Image.NEAREST)


def half_mask() -> Image.Image:
    return Image.fromarray(np.pad(np.full((20, 24), 255, np.uint8), ((10, 10), (12, 12))))


def frames(count: int = 3, **changes: object) -> Frames:
    return replace(Frames([picture(k) for k in range(count)], PROMPTS[:count]), **changes)


def by_name(entries) -> dict[str, Result]:
    return {entry.name: entry for entry in entries if isinstance(entry, Result)}


def model_cosines(folder: Path, pictures, texts) -> np.ndarray:
    """Cosines [pictures, texts] out of the model's own forward pass, by hand."""
    processor, tokenizer = CLIPImageProcessorPil.from_pretrained(folder), make_tokenizer()
    pixels = processor(list(pictures), return_tensors="pt").pixel_values
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.inference_mode():
            out = CLIPModel.from_pretrained(folder).eval()(input_ids=ids, pixel_values=pixels)
        rows.append((out.image_embeds @ out.text_embeds.T)[:, 0].numpy())
    return np.stack(rows, 1)


def test_clip_numbers_are_those_of_the_forward_pass(clip_folder: Path, tmp_path: Path):
    prompts = (*PROMPTS, "the fox", "snow", "a red hat")
    some = Frames([picture(k) for k in range(6)], prompts)
    found = by_name(ClipAlignment(Embeddings(), tmp_path, str(clip_folder)).measure(some))
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
    found = by_name(ClipAlignment(Embeddings(), tmp_path, str(clip_folder)).measure(many))
    raw = [found[name].per_frame for name in ("CLIP-T", "Scaled CLIP-T")]
    assert min(raw[0]) < 0, "no cosine is negative, so nothing was cut off"
    assert min(raw[1]) == 0


def test_only_openais_clip_gives_a_clip_score(hub_cache: Path, clip_folder: Path):
    other = by_name(ClipAlignment(Embeddings(), hub_cache, str(clip_folder)).measure(frames()))
    assert "CLIPScore" not in other
    assert all(not result.published for result in other.values())
    theirs = by_name(ClipAlignment(Embeddings(), hub_cache).measure(frames()))
    assert "Scaled CLIP-T" not in theirs
    assert theirs["CLIPScore"].published["SDXL"] == 0.9074
    assert theirs["CLIPScore"].model == OPENAI_CLIP


def test_clip_i_and_dino_are_blind_to_order(clip_folder: Path, dino_folder: Path, tmp_path: Path):
    some = frames(masks=[half_mask()] * 3)
    order = [2, 0, 1]
    turned = Frames([some.images[k] for k in order], [PROMPTS[k] for k in order], some.masks)
    for score in (
        ClipAlignment(Embeddings(), tmp_path, str(clip_folder)),
        DinoSimilarity(Embeddings(), tmp_path, str(dino_folder)),
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
    found = by_name(ClipAlignment(Embeddings(), tmp_path, str(clip_folder)).measure(some))
    assert found["CLIP-I"].value == pytest.approx(float(one @ two), abs=1e-5)


def test_long_prompts_are_said_to_be_truncated(clip_folder: Path, tmp_path: Path):
    # Start and end count: 75 words fill the 77 tokens, and the prefix no longer fits.
    some = frames(prompts=("a cat", " ".join(["cat"] * 75), " ".join(["cat"] * 76)))
    found = by_name(ClipAlignment(Embeddings(), tmp_path, str(clip_folder)).measure(some))
    (note,) = found["CLIP-T"].notes
    assert "image 3 has 78 tokens" in note
    assert "truncated" in note
    assert [note.split(" has")[0] for note in found["Scaled CLIP-T"].notes] == [
        "the prompt of image 2",
        "the prompt of image 3",
    ]


def test_one_picture_has_an_alignment_and_no_pairs(clip_folder: Path, tmp_path: Path):
    entries = ClipAlignment(Embeddings(), tmp_path, str(clip_folder)).measure(frames(1))
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
        ClipAlignment(Embeddings(), tmp_path, str(folder)).measure(frames())
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MetricUnavailable, match="cannot be read"):
        ClipAlignment(Embeddings(), tmp_path, str(folder)).measure(frames())


def test_subject_only_keeps_the_subject_and_replaces_the_rest():
    image, mask = picture(0), half_mask()
    inside = np.asarray(mask) > 0
    for fill in ("noise", "grey"):
        alone = np.asarray(subject_only(image, mask, Subject(fill)))
        assert (alone[inside] == np.asarray(image)[inside]).all()
        if fill == "grey":
            assert (alone[~inside] == 128).all()
    noise = np.asarray(subject_only(image, mask, Subject()))
    assert 120 < noise[~inside].mean() < 135
    assert 70 < noise[~inside].std() < 78, "uniform noise has a deviation of 256 / sqrt(12)"
    assert (noise == np.asarray(subject_only(image, mask, Subject()))).all()
    assert (noise != np.asarray(subject_only(image, mask, Subject(seed=1)))).any()
    shifted = Image.fromarray(np.roll(np.asarray(mask), 1, 0))
    elsewhere = ~inside & ~(np.asarray(shifted) > 0)
    other = np.asarray(subject_only(image, shifted, Subject()))
    assert (other[elsewhere] != noise[elsewhere]).mean() > 0.9, "different pictures share their noise"


@pytest.mark.parametrize("fill", ["noise", "grey"])
def test_other_backgrounds_move_whole_pictures_only(tmp_path: Path, fill: str):
    """By the trained storybook CLIP, over figures whose place alone is exchanged."""
    figures = [
        render(who, "forest", "standing", "photo", np.random.default_rng(k)) for k, who in enumerate(WHO)
    ]
    places = [render("cat", scene, "standing", "photo", np.random.default_rng(9)).image for scene in PLACES]
    masks = [Image.fromarray(figure.mask.astype(np.uint8) * 255) for figure in figures]
    score = ClipAlignment(Embeddings(), tmp_path, str(CLIP_FOLDER), Subject(fill))

    def distances(place: np.ndarray) -> dict[str, np.ndarray]:
        images = [Image.fromarray(np.where(f.mask[..., None], f.image, place)) for f in figures]
        found = by_name(score.measure(Frames(images, [""] * len(images), masks)))
        return {name: 1 - np.array(result.matrix) for name, result in found.items() if result.matrix}

    seen = [distances(place) for place in places]
    for name, least, most in (("CLIP-I", 0.02, 1), ("CLIP-I (subject only)", 0, 1e-9)):
        moved = max(np.abs(other[name] - seen[0][name]).max() for other in seen[1:])
        assert least <= moved <= most, name
        assert seen[0][name].max() > 0.01, "different figures are told apart"


def test_masks_that_are_missing_or_empty_are_said(clip_folder: Path, dino_folder: Path, tmp_path: Path):
    suite = Suite(ScoreSettings(clip=str(clip_folder), dino=str(dino_folder), cache=tmp_path))
    empty = Image.new("L", (48, 40))
    for masks, why in (
        ([half_mask(), None, half_mask()], "no subject mask for image 2"),
        ([empty, half_mask(), empty], "empty for images 1, 3"),
    ):
        entries = list(suite.measure(frames(masks=masks)))
        assert why in next(str(e) for e in entries if e.name == "Every subject-only score")
        assert not any("subject only" in name for name in by_name(entries))


def test_batches_are_halved_where_memory_is_short():
    sizes = []

    def embed(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("too much")
        return torch.tensor([[float(item)] for item in items])

    assert in_batches([1, 2, 3, 4, 5], embed, 8).flatten().tolist() == [1, 2, 3, 4, 5]
    assert sizes == [5, 4, 2, 2, 1]


def test_embeddings_are_computed_once_a_setting_and_forgotten_in_time():
    kept, asked = Embeddings(limit=2), []

    def embed(texts):
        asked.extend(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    assert kept.of("x", ["a", "bb", "a"], embed).flatten().tolist() == [1, 2, 1]
    kept.of("x", ["bb"], embed)
    assert asked == ["a", "bb"]
    kept.of("y", ["bb"], embed)
    kept.of("x", ["a"], embed)
    assert asked == ["a", "bb", "bb", "a"]


def test_storybook_clip_stands_under_its_own_name(clip_folder: Path, tmp_path: Path):
    (result,) = StorybookClip(Embeddings(), tmp_path, folder=clip_folder).measure(frames())
    assert result.name == "Storybook CLIP alignment"
    expected = model_cosines(clip_folder, frames().images, PROMPTS).diagonal()
    assert result.per_frame == pytest.approx(expected, abs=1e-5)
    with pytest.raises(MetricUnavailable, match="storybook CLIP is missing"):
        StorybookClip(Embeddings(), tmp_path, folder=tmp_path / "none").measure(frames())


class Answers:
    """A reader whose answers are known."""

    def __init__(self, *answers: dict[str, str]) -> None:
        self._answers = list(answers)

    def read(self, images) -> list[dict[str, str]]:
        return self._answers


def test_identity_agreement_counts_attributes_alike():
    common = {"pattern": "plain", "accessory": "hat", "accessory_color": "blue"}
    score = IdentityAgreement()
    score._reader = Answers(
        {"subject": "cat", "color": "red", "scene": "forest", **common},
        {"subject": "cat", "color": "red", "scene": "beach", **common},
        {"subject": "dog", "color": "blue", "scene": "snow", **common},
    )
    (result,) = score.measure(frames())
    assert result.matrix[0] == pytest.approx((1, 1, 3 / 5))
    assert result.value == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
    assert result.table[0] == ("subject", "cat", "cat", "dog", "33%")
    assert result.table[2] == ("pattern", "plain", "plain", "plain", "100%")
    assert "scene" not in {row[0] for row in result.table}


def test_identity_agreement_of_one_picture_with_itself_is_whole():
    (result,) = IdentityAgreement().measure(Frames([picture(0)] * 2, ["", ""]))
    assert (result.value, result.better) == (1.0, "higher")


def number(name: str, value: float) -> Result:
    return Result(name, value, "", "higher", "m", "p")


def test_s_h_is_the_harmonic_mean_of_its_four_parts():
    parts = [number("CLIPScore", 0.8), number("CLIP-I", 0.9), number("DreamSim", 0.3)]
    (missing,) = harmonic_means({r.name: r for r in parts})
    assert isinstance(missing, MissingScore)
    assert "DINO similarity" in missing.why
    parts.append(number("DINO similarity", 0.6))
    (result,) = harmonic_means({r.name: r for r in parts})
    assert result.name == "S_H"
    assert result.value == pytest.approx(4 / (1 / 0.8 + 1 / 0.9 + 1 / (1 - 0.3) + 1 / 0.6))
    parts[0] = number("CLIPScore", 0.0)
    (missing,) = harmonic_means({r.name: r for r in parts})
    assert "not above zero" in missing.why


def test_without_weights_every_score_says_why_and_nothing_is_called_dreamsim_or_clip(tmp_path: Path):
    entries = list(Suite(ScoreSettings(cache=tmp_path)).measure(frames(storybook=True)))
    lines = {entry.name: str(entry) for entry in entries if isinstance(entry, MissingScore)}
    assert {"DreamSim", "CLIP", "DINO similarity", "S_H"} <= set(lines)
    assert "fetch dreamsim --backbone ensemble" in lines["DreamSim"]
    assert "fetch clip" in lines["CLIP"]
    own = {"Identity agreement by the storybook reader", "Storybook CLIP alignment"}
    assert set(by_name(entries)) <= own
    assert "Identity agreement by the storybook reader" in by_name(entries)


def test_pictures_of_other_models_are_not_shown_to_the_reader(tmp_path: Path):
    entries = list(Suite(ScoreSettings(cache=tmp_path)).measure(frames()))
    assert by_name(entries) == {}
    assert not any("torybook" in entry.name for entry in entries)


def test_a_score_that_fails_takes_no_other_with_it(clip_folder: Path, tmp_path: Path):
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))

    class Broken:
        name = "Broken"

        def measure(self, frames: Frames) -> list[Result]:
            raise KeyError("lost")

    suite._scores = (Broken(), *suite._scores)
    first, *others = suite.measure(frames())
    assert first == MissingScore("Broken", "the computation failed (KeyError: 'lost')")
    assert "CLIP-T" in by_name(others)


def test_free_lets_weights_go_and_scores_stay_the_same(clip_folder: Path, tmp_path: Path):
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))
    before = by_name(suite.measure(frames()))
    suite.free()
    assert suite._scores[1]._clip._parts is None
    assert by_name(suite.measure(frames())) == before


class Hungry:
    """A score that needs more memory than there is beside the others, or than there is at all."""

    name = "Hungry"

    def __init__(self, others: list, error: Exception, always: bool) -> None:
        self.others, self.error, self.always = others, error, always

    def measure(self, frames: Frames) -> list[Result]:
        if self.always or any(other._clip._parts for other in self.others):
            raise self.error
        return [number("Hungry", 1.0)]

    def free(self) -> None:
        pass


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("too much"), MemoryError()])
def test_where_memory_is_short_other_weights_go_and_it_is_tried_again(
    clip_folder: Path, tmp_path: Path, error: Exception
):
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))
    clip = suite._scores[1]
    suite._scores = (clip, Hungry([clip], error, always=False), Hungry([], error, always=True), clip)
    entries = list(suite.measure(frames()))
    assert by_name(entries)["Hungry"].value == 1.0
    assert "cpu has not enough memory" in next(e for e in entries if isinstance(e, MissingScore)).why
    assert [entry.name for entry in entries].count("CLIP-T") == 2, "the others are not lost"


@pytest.mark.parametrize("short", [True, False])
def test_weights_stay_while_there_is_room(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
):
    monkeypatch.setattr("consistory_svd.metrics.suite.memory_is_short", lambda device: short)
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))
    list(suite.measure(frames()))
    assert (suite._scores[1]._clip._parts is None) == short


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "resnet"),
        ("dino", "no/such/folder"),
        ("fill", "black"),
        ("clip", " "),
        ("seed", -1),
        ("batch", 0),
        ("device", "abacus"),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object):
    with pytest.raises(FieldError, match=rf"^{field} must be "):
        ScoreSettings(**{field: value})


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"images": ()}, "images"), ({"prompts": ("a",)}, "prompts"), ({"masks": (None,)}, "masks")],
)
def test_frames_that_do_not_fit_are_named(changes: dict, field: str):
    with pytest.raises(ValueError, match=rf"^{field}: "):
        frames(**changes)


@pytest.fixture
def story_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "story"
    folder.mkdir()
    story = Story("a cat", ("in the forest", "on the beach", "in the snow"))
    names = []
    for k in (1, 2):
        names.append(f"frame-{k + 1:02d}.png")
        picture(k).save(folder / names[-1])
        half_mask().save(folder / f"mask-{k + 1:02d}.png")
    masks = [name.replace("frame", "mask") for name in names]
    write_story_json(folder, story, Settings(), STORYBOOK_NAME, names, masks, frames=[1, 2])
    return folder


def test_a_told_story_is_read_with_its_own_prompts(story_folder: Path):
    some = read_folder(story_folder)
    assert some.prompts == ("a photo of a cat on the beach", "a photo of a cat in the snow")
    assert some.storybook
    assert [mask.size for mask in some.masks] == [(48, 40)] * 2


def test_the_embedded_models_name_is_the_one_looked_for():
    model = load_model(device="cpu")
    assert model.name == model.checkpoint == STORYBOOK_NAME
    with_lora = replace(model, loras=(Lora(Path("toy.safetensors"), 0.5),))
    assert with_lora.name == f"{STORYBOOK_NAME} with toy:0.5"
    assert of_storybook(model.name)
    assert of_storybook(with_lora.name)
    assert not of_storybook("another model with toy:0.5")


def test_a_csv_is_read_with_the_masks_that_it_names(tmp_path: Path):
    picture(0).save(tmp_path / "a.png")
    half_mask().save(tmp_path / "m.png")
    (tmp_path / "list.csv").write_text("picture,prompt,mask\na.png,a cat,m.png\na.png,a fox,\n")
    some = read_folder(tmp_path)
    assert (some.prompts, some.masks[1], some.storybook) == (("a cat", "a fox"), None, False)


@pytest.mark.parametrize("content", [b'{"version": 1', b"\xff\xfe{}"])
def test_a_story_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "story.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^story\.json: .*cannot be read"):
        read_folder(tmp_path)


def test_a_csv_of_another_encoding_is_named(tmp_path: Path):
    (tmp_path / "list.csv").write_bytes("picture,prompt\na.png,Bär\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^csv: .*UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("picture\na.png\n", "prompt"),
        ("picture,prompt\nnone.png,a cat\n", "picture"),
        ("", "picture"),
        (None, "folder"),
    ],
)
def test_a_folder_that_cannot_be_read_says_which_field(tmp_path: Path, content: str | None, field: str):
    picture(0).save(tmp_path / "a.png")
    if content is not None:
        (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"^{field}: "):
        read_folder(tmp_path)


def test_score_on_the_command_line(
    story_folder: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    command = ["score", str(story_folder), "--clip", str(clip_folder), "--cache", str(tmp_path / "cache")]
    command += ["--device", "cpu"]
    assert run(app, [*command, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    scores = {score["name"]: score for score in content["scores"]}
    assert {"CLIP-T", "CLIP-I", "CLIP-I (subject only)"} <= set(scores)
    assert "DreamSim" in {missing["name"] for missing in content["absent"]}
    assert run(app, [*command, "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    per_frame = [float(line["value"]) for line in lines if line["name"] == "CLIP-T" and line["frame"]]
    assert per_frame == pytest.approx(scores["CLIP-T"]["per_frame"])
    assert run(app, command) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert "DreamSim unavailable" in table
    assert run(app, [*command, "--format", "xml"]) == 2
    assert capsys.readouterr().err.startswith("error: format must be ")


def test_a_csv_has_numbers_only_and_no_line_for_what_is_absent():
    text = as_csv([number("x", 0.5), MissingScore("y", "why")])
    assert [line.split(",")[:3] for line in text.splitlines()[1:]] == [["x", "", "0.5"]]
