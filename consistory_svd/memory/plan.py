"""Which plan fits: a pure function from what is needed and what is free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from consistory_svd.memory.estimate import Footprint, Job

MemoryMode = Literal["auto", "full", "bank-on-cpu", "one-by-one", "tiled", "offload", "group-offload", "fp8"]
# From fast to small; each does what those before it do. The first three change no picture, tiles hardly do;
# fp8 rounds the weights of the U-Net to 8 bits and comes last for that.
PLANS: dict[str, str] = {
    "full": "everything stays on the device",
    "bank-on-cpu": "what anchors lend waits in the CPU's memory",
    "one-by-one": "frames are drawn one by one",
    "tiled": "pictures are decoded in tiles",
    "offload": "text encoders and U-Net take turns on the device",
    "group-offload": "the U-Net's layers come to the device one after another",
    "fp8": "the U-Net's weights are kept in 8 bits, which changes pictures a little",
}
LADDER: tuple[str, ...] = tuple(PLANS)
SHARED = ("full", "one-by-one", "tiled")  # these need less in all, and move nothing elsewhere
TIGHT = 0.85  # of what is free
RESERVE, SLACK = 300_000_000, 0.08  # workspaces of the libraries; what fragments of free memory cost
GIGA = 1e9


@dataclass(frozen=True)
class Item:
    """Bytes at the moment of the highest need, and what needs them."""

    what: str
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """How a story's memory is laid out. `free` bytes were there for it on the device, None where that is not
    known; `host` bytes are needed in the CPU's memory beside the program, `host_free` were there.
    """

    name: str
    batch: int
    items: tuple[Item, ...]
    free: int | None
    host: int = 0
    host_free: int | None = None

    @property
    def needed(self) -> int:
        """Bytes on the device at the moment of the highest need, with what is held in reserve."""
        return round(sum(item.bytes for item in self.items) * (1 + SLACK)) + RESERVE

    @property
    def fits(self) -> bool:
        """Whether what is needed is there, on the device and in the CPU's memory."""
        return self.fits_device and (self.host_free is None or self.host <= self.host_free)

    @property
    def fits_device(self) -> bool:
        """Whether what is needed is there on the device."""
        return self.free is None or self.needed <= self.free

    @property
    def tiled(self) -> bool:
        """Whether pictures are decoded in tiles."""
        return self._at_least("tiled")

    @property
    def cache_on_cpu(self) -> bool:
        """Whether what anchors lend waits in the CPU's memory."""
        return self._at_least("bank-on-cpu")

    def _at_least(self, name: str) -> bool:
        return LADDER.index(self.name) >= LADDER.index(name)

    def short_words(self) -> str:
        """What a person should know of it at a glance: that all is well, or else what is not."""
        if not self.fits:
            free = self.host_free if self.fits_device else self.free
            needed = self.host if self.fits_device else self.needed
            return (
                f"Memory is short, {_amount(needed)} needed and {_amount(free)} free: the story may stop, "
                "and go on with a smaller plan where there is one"
            )
        if self.name != LADDER[0]:
            return f"To save memory, {PLANS[self.name]}"
        if self.free is not None and self.needed > TIGHT * self.free:
            return f"Fits in memory, but only just: {_amount(self.needed)} of {_amount(self.free)} free"
        return "Fits in memory"

    def words(self) -> str:
        """The plan in a line for people: its name, what it does, what it needs and of what."""
        parts = ", ".join(f"{item.what} {_amount(item.bytes)}" for item in self.items if item.bytes)
        of = "" if self.free is None else f" of {_amount(self.free)} free"
        line = f"Memory plan {self.name} ({PLANS[self.name]}): about {_amount(self.needed)}{of}: {parts}"
        if self.host and self.host_free is not None:
            line += f"; and {_amount(self.host)} of {_amount(self.host_free)} of the CPU's memory"
        if not self.fits:
            line += (
                ". That is more than there is: it may stop, and go on with a smaller plan where there is one"
            )
        return line


def check_mode(mode: str) -> MemoryMode:
    """The mode, when it is one. ValueError naming those that are."""
    if mode not in get_args(MemoryMode):
        raise ValueError(f"memory: {mode!r} is not allowed; give one of {', '.join(get_args(MemoryMode))}")
    return mode  # type: ignore[return-value]


def plan(
    need: Footprint,
    job: Job,
    mode: str = "auto",
    free: int | None = None,
    host_free: int | None = None,
    shared_memory: bool = False,
) -> MemoryPlan:
    """The first plan of the ladder that fits; the last where none does; the one that `mode` names.

    Args:
        free: bytes on the device for this program, those that its model already holds included; None where
            nobody knows: then everything is taken to fit.
        host_free: likewise of the CPU's memory.
        shared_memory: device and CPU have the same memory, as on Apple's machines and on a plain CPU: moving
            something from one to the other frees nothing, so only plans that need less in all are considered.
    """
    if mode != "auto":
        return _laid_out(mode, need, job, free, host_free)
    names: Sequence[str] = LADDER
    if shared_memory:
        names = [name for name in LADDER if name in SHARED]
    plans = [_laid_out(name, need, job, free, None if shared_memory else host_free) for name in names]
    # What anchors lend is counted as if subjects filled the pictures: the CPU's memory is the softer limit.
    return next(
        (one for one in plans if one.fits), next((one for one in plans if one.fits_device), plans[-1])
    )


def next_below(name: str, shared_memory: bool = False) -> str | None:
    """The next smaller plan; None below the last."""
    names = [one for one in LADDER if one in SHARED] if shared_memory else LADDER
    return next((one for one in names if LADDER.index(one) > LADDER.index(name)), None)


def _laid_out(name: str, need: Footprint, job: Job, free: int | None, host_free: int | None) -> MemoryPlan:
    """A plan with its bytes at the worst of its three moments: encoding, denoising, decoding."""
    rank = LADDER.index(name)
    turns = rank >= LADDER.index("offload")
    grouped = rank >= LADDER.index("group-offload")
    batch = 1 if rank >= LADDER.index("one-by-one") else job.settings.batch
    # Anchors cannot be drawn one by one: they look at each other.
    wave = max(job.anchors, min(batch, max(1, job.frames - job.anchors)))
    unet = need.unet // 2 if name == "fp8" else need.unet
    on_device = 3 * need.largest_layer if grouped else unet
    anchor_cache = 0 if rank >= LADDER.index("bank-on-cpu") else need.anchor_cache
    text = Item("text encoders", need.text)
    always = (Item("autoencoder", need.vae),)
    decode = need.decode_tiled if rank >= LADDER.index("tiled") else need.decode
    u_net = Item("U-Net", on_device)
    moments = (
        (*always, text, *(() if turns else (u_net,))),
        (
            *always,
            u_net,
            *(() if turns else (text,)),
            Item(f"a step of {wave}", need.call(wave)),
            Item("bank", anchor_cache),
        ),
        (*always, u_net, *(() if turns else (text,)), Item("decoding", decode), Item("bank", anchor_cache)),
    )
    worst = max(moments, key=lambda items: sum(item.bytes for item in items))
    host = (need.anchor_cache - anchor_cache) + (need.text + unet if turns else 0)
    return MemoryPlan(name, batch, worst, free, host, host_free)


def _amount(count: int) -> str:
    """ "5.1 GB", "48 MB"; a gigabyte is a billion bytes."""
    return f"{count / GIGA:.1f} GB" if count >= 0.95 * GIGA else f"{max(1, round(count / 1e6))} MB"
