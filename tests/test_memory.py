"""Memory: what a story needs, which mode fits, stepping down, and that memory is released."""

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from diffusers import AutoencoderKL

from consistory_svd import Finished, FrameDone, Model, Settings, Started, Story, generate, load_model, preset
from consistory_svd.events import Cancelled, Note
from consistory_svd.memory.estimate import estimate
from consistory_svd.memory.offload import Placement
from consistory_svd.memory.plan import MEMORY_MODES, MemoryNeed, MemoryPlan, Workload, next_below, plan

STORY = Story("a fox", ("in the forest", "in the desert", "on the beach", "in the snow"), seed=3)
SHARED = Settings(steps=3, batch=2)
MB, GB = 10**6, 10**9


def latents(events: list) -> dict[int, torch.Tensor]:
    return {event.frame: event.latents for event in events if isinstance(event, FrameDone)}


WORKLOAD = Workload((128, 128), 30, preset("consistory"))
# SDXL at 1024 x 1024 in float16, with an autoencoder in float32.
NEED = MemoryNeed(
    unet=2 * 2_567_463_684,
    text=2 * (123_060_480 + 694_659_840),
    vae=4 * 83_653_863,
    call_frame=332 * MB,
    decode=3_230 * MB,
    decode_tiled=821 * MB,
    anchor_cache=6_170 * MB,
    largest_layer=59 * MB,
)


def planned(mode: str, *free: int | None) -> MemoryPlan:
    return plan(NEED, WORKLOAD, mode, *free)


@pytest.mark.parametrize("gigabytes", [24, 16, 12])
@pytest.mark.parametrize("frames", [4, 1000])
def test_large_stories_fit_into_usual_cards(gigabytes: int, frames: int) -> None:
    workload = Workload((128, 128), frames, preset("consistory"))
    found = plan(NEED, workload, "auto", round(0.94 * gigabytes * GB), 64 * GB)
    assert found.fits
    assert found.needed < 0.94 * gigabytes * GB
    assert found.mode in ("full", "cache-on-cpu", "one-by-one", "tiled", "offload")
    assert found.description().startswith(f"Memory mode {found.mode} (")


def test_modes_need_less_from_one_to_the_next() -> None:
    needed = [planned(mode).needed for mode in MEMORY_MODES]
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] < 4 * GB
    chosen = [planned("auto", free, 64 * GB).mode for free in range(40 * GB, 2 * GB, -GB // 2)]
    order = list(MEMORY_MODES)
    assert [order.index(mode) for mode in chosen] == sorted(order.index(mode) for mode in chosen)
    tight = planned("auto", GB, 64 * GB)
    assert not tight.fits
    assert "Memory is low" in tight.description()


def test_a_plan_has_a_summary_that_names_low_memory() -> None:
    full = planned("full", 80 * GB, 64 * GB)
    assert full.summary() == "Fits in memory"
    assert replace(full, free=None).summary() == "Fits in memory"
    tight = replace(full, free=round(full.needed * 1.05)).summary()
    assert tight.startswith("Fits in memory, but only just: ")
    assert planned("one-by-one", 80 * GB).summary() == "To save memory, frames are generated one by one"
    low = planned("full", 8 * GB).summary()
    assert low.startswith("Low memory: ")
    assert "needed, 8.0 GB free" in low
    assert "needed, 1.0 GB free" in planned("offload", 80 * GB, 1 * GB).summary()


def test_where_memory_is_shared_nothing_is_moved() -> None:
    modes = {plan(NEED, WORKLOAD, "auto", free, 64 * GB, True).mode for free in range(GB, 40 * GB, GB)}
    assert modes <= {"full", "one-by-one", "tiled"}
    below = [next_below(mode, True) for mode in ("full", "one-by-one", "tiled")]
    assert below == ["one-by-one", "tiled", None]


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_the_estimated_cache_is_the_real_one(small_model: Model, guidance: float) -> None:
    settings = replace(SHARED, masking=False, mask_dropout=0.0, guidance=guidance)
    *_, finished = generate(small_model, STORY, settings)
    workload = Workload((16, 16), 4, settings, 2 if guidance > 1 else 1)
    found = estimate(small_model.pipe, torch.float32, workload)
    assert found.anchor_cache == finished.timings.cache_bytes
    parts = (small_model.pipe.text_encoder, small_model.pipe.text_encoder_2)
    assert found.text == sum(weight.nbytes for part in parts for weight in part.parameters())


def test_the_estimate_grows_with_what_is_generated(small_model: Model) -> None:
    def need(latent: tuple[int, int] = (16, 16), **change: object) -> MemoryNeed:
        return estimate(small_model.pipe, torch.float32, Workload(latent, 4, replace(SHARED, **change)))

    assert need((32, 32)).call_frame == 4 * need().call_frame
    assert need((32, 32)).decode == 4 * need().decode
    injected = need(steps=10, injection=True).anchor_cache
    assert injected > 2 * need(steps=10).anchor_cache > 0
    assert need(masking=False).anchor_cache == 2 * need(mask_dropout=0.5).anchor_cache
    assert need(sdsa=False).anchor_cache == 0


def test_the_plan_is_known_before_the_first_step(tiny_folder: Path) -> None:
    first = next(iter(generate(load_model(str(tiny_folder), "cpu"), STORY, SHARED)))
    assert first.memory.mode == "full"


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
def test_a_story_continues_in_a_smaller_mode(call: int, tiny_folder: Path) -> None:
    expected = latents(list(generate(load_model(str(tiny_folder), "cpu"), STORY, SHARED)))
    model = load_model(str(tiny_folder), "cpu")
    RunsOut(model, call)
    processors = dict(model.pipe.unet.attn_processors)
    events = list(generate(model, STORY, SHARED))
    assert isinstance(events[-1], Finished)
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.startswith("memory ran out; ")
    assert ("the 2 finished images are kept" in note) == (call > 3)
    assert "one-by-one" in note
    generated = latents(events)
    assert len([event for event in events if isinstance(event, FrameDone)]) == 4
    for frame, one in expected.items():
        torch.testing.assert_close(generated[frame], one, rtol=1e-4, atol=1e-4)
    assert model.pipe.unet.attn_processors == processors
    assert not model.lock.locked()


def test_below_the_smallest_mode_images_stay_and_the_reason_is_given(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    RunsOut(model, *range(4, 100))
    *events, last = generate(model, STORY, SHARED)
    assert isinstance(last, Cancelled)
    assert last.frames == len(latents(events)) == 2
    assert last.reason.startswith("memory ran out, and there is no smaller memory mode: CUDA out of memory")
    assert not model.lock.locked()


def test_other_errors_are_not_taken_for_lack_of_memory(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")

    def fail(unet: torch.nn.Module, given: tuple) -> None:
        raise RuntimeError("shapes do not match")

    model.pipe.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(generate(model, STORY, SHARED))
    assert not model.lock.locked()


def test_a_decoder_that_runs_out_of_memory_uses_tiles(
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
        "memory ran out while decoding an image; images are now decoded in tiles"
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_autoencoder_that_overflows_gives_no_black_image(dtype: torch.dtype, tiny_folder: Path) -> None:
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
    assert "would have given a black image; it now computes in float32" in note
    assert vae.dtype == torch.float32
    (done,) = [event for event in events if isinstance(event, FrameDone)]
    assert max(high for _, high in done.image.getextrema()) > 0
    assert not [event for event in generate(model, story, plain) if isinstance(event, Note)]  # only once


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


def test_a_u_net_that_overflows_cancels_the_story(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), "cpu")
    model.pipe.unet.conv_out.register_forward_hook(lambda module, given, made: made * float("inf"))
    *_, last = generate(model, STORY, replace(SHARED, sdsa=False))
    assert isinstance(last, Cancelled)
    assert "the U-Net overflowed in float32" in last.reason


@pytest.mark.parametrize("mode", [*MEMORY_MODES])
def test_every_mode_generates_the_same_story(mode: str, tiny_folder: Path) -> None:
    expected = latents(list(generate(load_model(str(tiny_folder), "cpu"), STORY, SHARED)))
    model = load_model(str(tiny_folder), "cpu", memory=mode)
    events = list(generate(model, STORY, SHARED))
    assert next(e for e in events if isinstance(e, Started)).memory.mode == mode
    off = max((latents(events)[frame] - one).abs().max().item() for frame, one in expected.items())
    if mode == "fp8":
        assert off > 1e-3  # weights are rounded, as the mode's description says
    else:
        assert off < 1e-4


def test_modes_can_be_changed_between_stories(tiny_folder: Path) -> None:
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
    assert "another model was loaded" in only.reason
    gone = weakref.ref(model.pipe)
    del model, waiting, only
    gc.collect()
    assert gone() is None


def test_a_placement_knows_what_it_holds(tiny_folder: Path) -> None:
    pipe = load_model(str(tiny_folder), "cpu").pipe
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    whole = sum(weight.nbytes for part in parts for weight in part.parameters())
    assert Placement(pipe, torch.device("cpu")).held() == whole
