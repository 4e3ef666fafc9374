"""Memory: what a story needs, which plan fits, what happens when it runs out, and that it comes back."""

import gc
import threading
import types
import weakref
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from consistory_svd import Finished, FrameDone, Model, Settings, Started, Story, generate, load_model, preset
from consistory_svd.events import Cancelled, Note
from consistory_svd.memory import PLANS, Footprint, Job, Pace, Placement, footprint, next_below, plan
from consistory_svd.memory.time_estimate import duration_in_words
from consistory_svd.models.single_file import SDXL_CONFIG

STORY = Story("a fox", ("in the forest", "in the desert", "on the beach", "in the snow"), seed=3)
SHARED = Settings(steps=3, batch=2)
GB = 10**9


def latents(events: list) -> dict[int, torch.Tensor]:
    return {event.frame: event.latents for event in events if isinstance(event, FrameDone)}


@pytest.fixture(scope="module")
def sdxl() -> types.SimpleNamespace:
    """SDXL's true shapes in float16 on the meta device: no bytes, every size."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SDXL_CONFIG / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(SDXL_CONFIG / "vae"))
        one, two = (CLIPTextConfig.from_pretrained(SDXL_CONFIG / f"text_encoder{k}") for k in ("", "_2"))
        encoders = CLIPTextModel(one).half(), CLIPTextModelWithProjection(two).half()
    return types.SimpleNamespace(
        unet=torch.nn.Module.half(unet), vae=vae, text_encoder=encoders[0], text_encoder_2=encoders[1]
    )


@pytest.fixture(scope="module")
def need(sdxl: types.SimpleNamespace) -> Footprint:
    return footprint(sdxl, torch.float16, Job((128, 128), 30, preset("consistory")))


def test_weights_and_bank_have_sdxls_true_sizes(need: Footprint) -> None:
    assert need.unet == 2 * 2_567_463_684
    assert need.text == 2 * (123_060_480 + 694_659_840)
    assert need.vae == 4 * 83_653_863  # float32, because it overflows in float16
    # 30 layers of 1024 tokens, 6 of 4096; 1280 and 640 channels; both halves, two anchors, half dropped.
    step = 2 * 2 * 2 * (30 * 512 * 1280 + 6 * 2048 * 640)
    injected = 8 * (2 * 2 + 3) * 2 * 4096 * 640 * 2  # steps 3 to 10, layers of 64 x 64
    assert need.anchor_cache == pytest.approx(step * (29 + 30 - 3) + injected, rel=0.02)
    # Of SDXL's 1024 x 1024, published counts say about 6 TFLOP a call and an item; sharing adds to it.
    assert 10e12 < need.call_operations < 18e12


@pytest.mark.parametrize("gigabytes", [24, 16, 12])
@pytest.mark.parametrize("frames", [4, 1000])
def test_large_stories_fit_into_usual_cards(gigabytes: int, frames: int, need: Footprint) -> None:
    job = Job((128, 128), frames, preset("consistory"))
    found = plan(need, job, "auto", round(0.94 * gigabytes * GB), 64 * GB)
    assert found.fits
    assert found.needed < 0.94 * gigabytes * GB
    assert found.name in ("full", "bank-on-cpu", "one-by-one", "tiled", "offload")
    assert found.words().startswith(f"Memory plan {found.name} (")


def test_plans_shrink_from_step_to_step(need: Footprint) -> None:
    job = Job((128, 128), 30, preset("consistory"))
    needed = [plan(need, job, name, None, None).needed for name in PLANS]
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] < 4 * GB
    chosen = [plan(need, job, "auto", free, 64 * GB).name for free in range(40 * GB, 2 * GB, -GB // 2)]
    order = list(PLANS)
    assert [order.index(name) for name in chosen] == sorted(order.index(name) for name in chosen)
    tight = plan(need, job, "auto", GB, 64 * GB)
    assert not tight.fits
    assert "more than there is" in tight.words()


def test_a_plan_is_said_in_short_and_trouble_is_named(need: Footprint) -> None:
    job = Job((128, 128), 30, preset("consistory"))
    full = plan(need, job, "full", 80 * GB, 64 * GB)
    assert full.short_words() == "Fits in memory"
    assert replace(full, free=None).short_words() == "Fits in memory"
    tight = replace(full, free=round(full.needed * 1.05)).short_words()
    assert tight.startswith("Fits in memory, but only just: ")
    assert " GB free" in tight
    assert (
        plan(need, job, "one-by-one", 80 * GB).short_words() == "To save memory, frames are drawn one by one"
    )
    short = plan(need, job, "full", 8 * GB).short_words()
    assert short.startswith("Memory is short, ")
    assert "needed and 8.0 GB free: the story may stop" in short
    host = plan(need, job, "offload", 80 * GB, 1 * GB).short_words()
    assert "needed and 1.0 GB free" in host


def test_where_memory_is_shared_nothing_is_moved(need: Footprint) -> None:
    job = Job((128, 128), 30, preset("consistory"))
    names = {plan(need, job, "auto", free, 64 * GB, True).name for free in range(GB, 40 * GB, GB)}
    assert names <= {"full", "one-by-one", "tiled"}
    assert [next_below(name, True) for name in ("full", "one-by-one", "tiled")] == [
        "one-by-one",
        "tiled",
        None,
    ]


def test_the_traced_bank_is_the_real_one(small_model: Model) -> None:
    settings = replace(SHARED, masking=False, mask_dropout=0.0)
    *_, finished = generate(small_model, STORY, settings)
    traced = footprint(small_model.pipe, torch.float32, Job((16, 16), 4, settings))
    assert traced.anchor_cache == finished.timings.cache_bytes


def test_a_plan_and_a_time_are_said_before_the_first_step(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    first = next(iter(generate(model, STORY, SHARED)))
    assert first.memory.name == "full"
    assert not first.estimate.measured
    assert "Roughly" in first.estimate.words()
    *_, finished = generate(model, STORY, SHARED)
    again = next(iter(generate(model, STORY, SHARED))).estimate
    assert again.measured
    assert again.seconds == pytest.approx(finished.timings.seconds, rel=0.01)


def test_durations_are_said_as_people_say_them() -> None:
    said = [duration_in_words(seconds) for seconds in (0.2, 40, 600, 3 * 3600, 5 * 86400)]
    assert said == ["1 s", "40 s", "10 min", "3 h", "5 days"]
    pace = Pace()
    pace.learn(1000, 10)
    assert pace.estimate(500, torch.device("cpu"), torch.float32).seconds == 5


class RunsOut:
    """Raises, as a GPU does, at chosen calls of the U-Net; counts them from 1."""

    def __init__(self, model: Model, *calls: int) -> None:
        self.calls, self.count = calls, 0
        self.handle = model.pipe.unet.register_forward_pre_hook(self._call)

    def _call(self, unet: torch.nn.Module, given: tuple) -> None:
        self.count += 1
        if self.count in self.calls:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("call", [1, 2, 4, 6])
def test_a_story_goes_on_with_a_smaller_plan(call: int, tiny_folder: Path) -> None:
    expected = latents(list(generate(load_model(str(tiny_folder), "cpu"), STORY, SHARED)))
    model = load_model(str(tiny_folder), "cpu")
    RunsOut(model, call)
    processors = dict(model.pipe.unet.attn_processors)
    events = list(generate(model, STORY, SHARED))
    assert isinstance(events[-1], Finished)
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.startswith("memory ran out; ")
    assert ("the 2 finished pictures are kept" in note) == (call > 3)
    assert "one-by-one" in note
    generated = latents(events)
    assert len([event for event in events if isinstance(event, FrameDone)]) == 4
    for frame, one in expected.items():
        torch.testing.assert_close(generated[frame], one, rtol=1e-4, atol=1e-4)
    assert model.pipe.unet.attn_processors == processors
    assert not model.lock.locked()


def test_below_the_smallest_plan_pictures_stay_and_the_reason_is_said(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    RunsOut(model, *range(4, 100))
    *events, last = generate(model, STORY, SHARED)
    assert isinstance(last, Cancelled)
    assert last.frames == len(latents(events)) == 2
    assert last.reason.startswith("memory ran out, and there is no smaller plan: CUDA out of memory")
    assert not model.lock.locked()


def test_other_errors_are_not_taken_for_it(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")

    def fail(unet: torch.nn.Module, given: tuple) -> None:
        raise RuntimeError("shapes do not match")

    model.pipe.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(generate(model, STORY, SHARED))
    assert not model.lock.locked()


def test_a_decoder_that_runs_out_goes_on_in_tiles(
    small_model: Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, vae = load_model(str(tiny_folder), "cpu"), None
    vae = model.pipe.vae
    decode = type(vae).decode

    def narrow(self: AutoencoderKL, *given: object, **named: object) -> object:
        if not self.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, *given, **named)

    monkeypatch.setattr(type(vae), "decode", narrow)
    events = list(generate(model, STORY, SHARED))
    assert isinstance(events[-1], Finished)
    assert [event.text for event in events if isinstance(event, Note)] == [
        "memory ran out while a picture was decoded; it is decoded in tiles from now on"
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_autoencoder_that_overflows_makes_no_black_picture(dtype: torch.dtype, tiny_folder: Path) -> None:
    """Weights so large that half precision leaves its range, and small again after it."""
    model = load_model(str(tiny_folder), "cpu", dtype)
    vae = model.pipe.vae
    scale = 1e6 if dtype == torch.float16 else 1e39
    reference = load_model(str(tiny_folder), "cpu")
    for one in (model, reference):
        _overflow(one.pipe.vae, scale)
    story = Story("a fox", ("in the forest",))
    plain = Settings(steps=2, sdsa=False)
    events = list(generate(model, story, plain))
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert "would have made a black picture; it computes in float32 from now on" in note
    assert vae.dtype == torch.float32
    (done,) = [event for event in events if isinstance(event, FrameDone)]
    assert max(high for _, high in done.image.getextrema()) > 0
    assert not [event for event in generate(model, story, plain) if isinstance(event, Note)]  # said once


def _overflow(vae: AutoencoderKL, scale: float) -> None:
    """Have the decoder's middle pass through numbers of `scale`, in a way that float32 carries."""

    def up(module: torch.nn.Module, given: tuple, made: torch.Tensor) -> torch.Tensor:
        return made * torch.tensor(scale, dtype=torch.float64).to(made.dtype)

    def down(module: torch.nn.Module, given: tuple) -> tuple:
        return (given[0] / torch.tensor(scale, dtype=torch.float64).to(given[0].dtype), *given[1:])

    if scale > 3e38:  # bfloat16 reaches as far as float32: only weights that are not numbers overflow it
        vae.decoder.conv_in.register_forward_hook(
            lambda module, given, made: made if made.dtype == torch.float32 else made * float("nan")
        )
        return
    vae.decoder.conv_in.register_forward_hook(up)
    vae.decoder.mid_block.register_forward_pre_hook(down)


def test_a_u_net_that_overflows_is_said_and_not_painted_black(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    model.pipe.unet.conv_out.register_forward_hook(lambda module, given, made: made * float("inf"))
    *_, last = generate(model, STORY, replace(SHARED, sdsa=False))
    assert isinstance(last, Cancelled)
    assert "the U-Net's numbers left the range of float32" in last.reason


@pytest.mark.parametrize("name", [*PLANS])
def test_every_plan_tells_the_same_story(name: str, tiny_folder: Path) -> None:
    expected = latents(list(generate(load_model(str(tiny_folder), "cpu"), STORY, SHARED)))
    model = load_model(str(tiny_folder), "cpu", memory=name)
    events = list(generate(model, STORY, SHARED))
    assert next(e for e in events if isinstance(e, Started)).memory.name == name
    off = max((latents(events)[frame] - one).abs().max().item() for frame, one in expected.items())
    if name == "fp8":
        assert off > 1e-3  # weights are rounded: the plan's words say so
    else:
        assert off < 1e-4


def test_plans_can_be_changed_between_stories(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    expected = latents(list(generate(model, STORY, SHARED)))
    for name in ("group-offload", "offload", "full", "group-offload", "tiled", "full"):
        changed = replace(model, memory=name)
        object.__setattr__(changed, "placement", model.placement)
        generated = latents(list(generate(changed, STORY, SHARED)))
        assert all((generated[frame] - one).abs().max() < 1e-4 for frame, one in expected.items())
    assert model.pipe.vae.use_tiling is False


def test_memory_does_not_grow_over_twenty_stories(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    story, settings = Story("a fox", STORY.scenes[:3]), replace(SHARED, steps=2)

    def tensors() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if isinstance(thing, torch.Tensor))

    for _ in range(2):
        list(generate(model, story, settings))
    before, resident = tensors(), psutil.Process().memory_info().rss
    for _ in range(20):
        list(generate(model, story, settings))
    assert tensors() <= before
    assert psutil.Process().memory_info().rss - resident < 40_000_000


def test_a_retired_model_is_gone_and_refuses_stories(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    list(generate(model, STORY, SHARED))
    waiting = generate(model, STORY, SHARED, threading.Event())
    model.placement.retire()
    assert model.placement.held() == 0
    (only,) = waiting
    assert "another model was chosen" in only.reason
    gone = weakref.ref(model.pipe)
    del model, waiting, only
    gc.collect()
    assert gone() is None


def test_a_placement_knows_what_it_holds(tiny_folder: Path) -> None:
    pipe = load_model(str(tiny_folder), "cpu").pipe
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    whole = sum(weight.nbytes for part in parts for weight in part.parameters())
    assert Placement(pipe, torch.device("cpu")).held() == whole
