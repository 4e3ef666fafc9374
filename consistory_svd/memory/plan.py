"""Memory modes, and which one fits: a pure function of what is needed and what is free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from consistory_svd.errors import FieldError, one_of
from consistory_svd.settings import Settings

MemoryMode = Literal["auto", "full", "cache-on-cpu", "one-by-one", "tiled", "offload", "group-offload", "fp8"]
# From fast to small; each also does what the modes before it do. The first three change no image, and tiles
# hardly do; fp8 rounds the weights of the U-Net to 8 bits, so it is last.
MEMORY_MODES: dict[str, str] = {
    "full": "everything stays on the device",
    "cache-on-cpu": "the anchor cache is kept in CPU memory",
    "one-by-one": "frames are generated one by one",
    "tiled": "images are decoded in tiles",
    "offload": "text encoders and U-Net take turns on the device",
    "group-offload": "the U-Net's layers are moved to the device one at a time",
    "fp8": "the U-Net's weights are stored in 8 bits, which changes images slightly",
}
LADDER: tuple[str, ...] = tuple(MEMORY_MODES)
SHARED_MEMORY_LADDER = ("full", "one-by-one", "tiled")  # modes that help without moving anything
TIGHT = 0.85  # share of the free memory
RESERVE, FRAGMENTATION = 300_000_000, 0.08  # bytes for libraries' workspaces; share lost to fragmentation
GIGA = 1e9


def rank(mode: str) -> int:
    """Position of a mode on the ladder, from 0; larger needs less memory."""
    return LADDER.index(mode)


@dataclass(frozen=True)
class Workload:
    """A story's size. `latent` is (height, width) of the latents; anchors are generated together, then the
    other frames in batches of `settings.batch`. `halves` is 2 with classifier-free guidance."""

    latent: tuple[int, int]
    frames: int
    settings: Settings
    halves: int = 2

    @property
    def anchors(self) -> int:
        """Number of frames in the first batch; 0 if nothing is shared."""
        if not self.settings.shares:
            return 0
        return self.frames if self.settings.random_anchors else min(self.settings.anchors, self.frames)

    @property
    def fills_cache(self) -> bool:
        """Whether anchors are cached for later frames."""
        return 0 < self.anchors < self.frames


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a story needs.

    unet, text, vae: weights. call_frame: activations of a U-Net call, per frame. decode, decode_tiled:
    decoding of one frame. anchor_cache: the full cache, if subjects fill their images. largest_layer: the
    largest weight of the U-Net.
    """

    unet: int
    text: int
    vae: int
    call_frame: int
    decode: int
    decode_tiled: int
    anchor_cache: int
    largest_layer: int


@dataclass(frozen=True)
class Item:
    """A part of the peak memory, in bytes."""

    name: str
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a story in one mode. `items` are the parts of the peak on the device; `free` is the free
    memory there, None if unknown. `host` and `host_free` are the same for CPU memory.
    """

    mode: str
    batch: int
    items: tuple[Item, ...]
    free: int | None
    host: int = 0
    host_free: int | None = None

    @property
    def needed(self) -> int:
        """Peak bytes on the device, including the reserve."""
        return round(sum(item.bytes for item in self.items) * (1 + FRAGMENTATION)) + RESERVE

    @property
    def fits(self) -> bool:
        """Whether device and CPU have enough memory."""
        return self.fits_device and (self.host_free is None or self.host <= self.host_free)

    @property
    def fits_device(self) -> bool:
        """Whether the device has enough memory."""
        return self.free is None or self.needed <= self.free

    @property
    def cache_on_cpu(self) -> bool:
        """Whether the anchor cache is kept in CPU memory."""
        return rank(self.mode) >= rank("cache-on-cpu")

    def summary(self) -> str:
        """Whether memory suffices, in a short phrase."""
        if not self.fits:
            free = self.host_free if self.fits_device else self.free
            needed = self.host if self.fits_device else self.needed
            return (
                f"Low memory: {_amount(needed)} needed, {_amount(free)} free; "
                "may fall back to a smaller memory mode"
            )
        if self.mode != LADDER[0]:
            return f"To save memory, {MEMORY_MODES[self.mode]}"
        if self.free is not None and self.needed > TIGHT * self.free:
            return f"Fits in memory, but only just: {_amount(self.needed)} of {_amount(self.free)} free"
        return "Fits in memory"

    def description(self) -> str:
        """The mode, what it does, and the memory it needs, in one line."""
        parts = ", ".join(f"{item.name} {_amount(item.bytes)}" for item in self.items if item.bytes)
        of = "" if self.free is None else f" of {_amount(self.free)} free"
        line = (
            f"Memory mode {self.mode} ({MEMORY_MODES[self.mode]}): about {_amount(self.needed)}{of}: {parts}"
        )
        if self.host and self.host_free is not None:
            line += f"; and {_amount(self.host)} of {_amount(self.host_free)} of CPU memory"
        return line if self.fits else f"{line}. Memory is low: may fall back to a smaller mode"


def check_mode(mode: str) -> MemoryMode:
    """Return the mode. FieldError if it is unknown."""
    if mode not in get_args(MemoryMode):
        raise FieldError("memory", mode, one_of(get_args(MemoryMode)))
    return mode  # type: ignore[return-value]


def plan(
    need: MemoryNeed,
    workload: Workload,
    mode: str = "auto",
    free: int | None = None,
    host_free: int | None = None,
    shared_memory: bool = False,
) -> MemoryPlan:
    """The plan of a mode; with "auto", of the first mode that fits, or the last if none does.

    Args:
        free: bytes on the device for this program, including its model; None if unknown, which fits all.
        host_free: bytes of free CPU memory.
        shared_memory: device and CPU share one memory, as on Apple silicon and on a plain CPU: moving data
            between them frees nothing, so modes that only do that are skipped.
    """
    if mode != "auto":
        return _plan_mode(mode, need, workload, free, host_free)
    if shared_memory:
        plans = [_plan_mode(name, need, workload, free, None) for name in SHARED_MEMORY_LADDER]
    else:
        plans = [_plan_mode(name, need, workload, free, host_free) for name in LADDER]
    # The cache is estimated as if subjects filled their images, so CPU memory is the softer limit.
    return next(
        (one for one in plans if one.fits), next((one for one in plans if one.fits_device), plans[-1])
    )


def next_below(mode: str, shared_memory: bool = False) -> str | None:
    """The next smaller mode; None below the last."""
    names: Sequence[str] = SHARED_MEMORY_LADDER if shared_memory else LADDER
    return next((name for name in names if rank(name) > rank(mode)), None)


def _plan_mode(
    mode: str, need: MemoryNeed, workload: Workload, free: int | None, host_free: int | None
) -> MemoryPlan:
    """The plan of a mode, with its bytes at the worst of three moments: encoding, denoising, decoding."""
    turns = rank(mode) >= rank("offload")
    batch = 1 if rank(mode) >= rank("one-by-one") else workload.settings.batch
    # Anchors cannot be generated one by one: they attend to each other.
    together = max(workload.anchors, min(batch, max(1, workload.frames - workload.anchors)))
    weights = need.unet // 2 if mode == "fp8" else need.unet
    on_device = 3 * need.largest_layer if rank(mode) >= rank("group-offload") else weights
    cache = 0 if rank(mode) >= rank("cache-on-cpu") else need.anchor_cache
    always = (Item("autoencoder", need.vae),)
    text, unet = Item("text encoders", need.text), Item("U-Net", on_device)
    while_denoising = (*always, unet, *(() if turns else (text,)), Item("anchor cache", cache))
    decode = need.decode_tiled if rank(mode) >= rank("tiled") else need.decode
    moments = (
        (*always, text, *(() if turns else (unet,))),
        (*while_denoising, Item(f"a step of {together}", together * need.call_frame)),
        (*while_denoising, Item("decoding", decode)),
    )
    worst = max(moments, key=lambda items: sum(item.bytes for item in items))
    host = (need.anchor_cache - cache) + (need.text + weights if turns else 0)
    return MemoryPlan(mode, batch, worst, free, host, host_free)


def _amount(count: int) -> str:
    """Bytes as "5.1 GB" or "48 MB"; a gigabyte is a billion bytes."""
    return f"{count / GIGA:.1f} GB" if count >= 0.95 * GIGA else f"{max(1, round(count / 1e6))} MB"
