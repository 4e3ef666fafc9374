"""What anchors lend to frames that are told after them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from consistory_svd.settings import Settings
from consistory_svd.story import Story

FORMAT = 1
TENSORS, HEADER = "bank.safetensors", "bank.json"
# Settings that shape what anchors lend or how it is read; the others may differ from frame to frame.
SHAPING = (
    "guidance",
    "sdsa",
    "masking",
    "mask_dropout",
    "query_blending",
    "injection",
    "short_first_pass",
    "freeu",
    "k_filter",
    "v_filter",
)


@dataclass(frozen=True)
class Origin:
    """What a bank was made with. `timesteps` are the schedule's; `size` is (height, width) in pixels."""

    model: str
    fingerprint: str
    size: tuple[int, int]
    timesteps: tuple[float, ...]
    settings: Mapping[str, Any]
    scenes: tuple[str, ...]
    seed: int

    @classmethod
    def of(
        cls,
        model_name: str,
        unet: UNet2DConditionModel,
        size: tuple[int, int],
        timesteps: tuple[float, ...],
        story: Story,
        settings: Settings,
        anchors: int,
    ) -> "Origin":
        """The origin of a bank that the first `anchors` scenes of a story fill."""
        shaping = {name: asdict(settings)[name] for name in SHAPING}
        scenes = story.scene_texts[:anchors]
        return cls(model_name, fingerprint(unet), size, timesteps, shaping, scenes, story.seed)

    def check_fits(self, wanted: "Origin") -> None:
        """Raise ValueError, saying what differs, where a bank of this origin cannot serve `wanted`."""
        cure = "tell the anchors again, or go back to what the bank was made with"
        if self.fingerprint != wanted.fingerprint:
            raise ValueError(f"bank: it is of another model ({self.model}, not {wanted.model}); {cure}")
        if self.size != wanted.size:
            made, asked = ("{} x {}".format(*size) for size in (self.size, wanted.size))
            raise ValueError(f"bank: it was made at {made} pixels, {asked} are asked for; {cure}")
        if self.timesteps != wanted.timesteps:
            made, asked = len(self.timesteps), len(wanted.timesteps)
            what = f"{made} steps, not {asked}" if made != asked else "other noise levels"
            raise ValueError(f"bank: it was made with another schedule ({what}); {cure}")
        for name, value in self.settings.items():
            if value != wanted.settings[name]:
                raise ValueError(
                    f"bank: it was made with {name} {value}, {wanted.settings[name]} is asked for; {cure}"
                )


def fingerprint(unet: UNet2DConditionModel) -> str:
    """A short name for a U-Net's weights, from a sample of them in half precision, whatever they run in."""
    digest = hashlib.sha256()
    for name, weight in list(unet.named_parameters())[::16]:
        digest.update(name.encode())
        sample = weight.detach().flatten()[:64].to("cpu", torch.float32).half()
        digest.update(sample.numpy().tobytes())
    for module in unet.modules():
        if isinstance(module, LoraLayer):  # its strength is no weight
            digest.update(json.dumps(module.scaling).encode())
            break
    return digest.hexdigest()[:16]


class AnchorCache:
    """For every extended layer and step, each anchor's lent tokens: [halves, tokens, channels].

    Kept are the layer's inputs, after its norm and before the projections, at the pixels that the masks with
    their dropout let through (spec section 6): half of what keys and values would take.
    `halves` is 2 with classifier-free guidance, unconditional first, else 1. With feature injection there
    are also the anchors' features at the pixels of their subjects, [pixels, channels], and what they inject
    there, a layer and step each; `first` marks what belongs to the first of the two passes alone.

    Args:
        device: where the bank keeps its tensors; None: where they are made.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.origin: Origin | None = None
        self.features: Tensor | None = None
        self._device = None if device is None else torch.device(device)
        self._shared: dict[tuple[str, int, bool], list[Tensor]] = {}
        self._injected: dict[tuple[str, int], Tensor] = {}

    def keep(self, layer: str, step: int, tokens: Sequence[Tensor], first: bool = False) -> None:
        """Keep what each anchor lends at a layer and a step."""
        self._shared[layer, step, first] = [self._home(one) for one in tokens]

    def shared(self, layer: str, step: int, like: Tensor, first: bool = False) -> list[Tensor]:
        """What each anchor lends at a layer and a step, where and in the format that `like` is.

        KeyError when nothing was kept there.
        """
        return [one.to(like) for one in self._shared[layer, step, first]]

    def keep_injected(self, layer: str, step: int, values: Tensor) -> None:
        """Keep what the anchors' subjects inject at a layer and a step: [pixels, channels]."""
        self._injected[layer, step] = self._home(values)

    def injected(self, layer: str, step: int, like: Tensor) -> Tensor:
        """What the anchors' subjects inject. KeyError when nothing was kept there."""
        return self._injected[layer, step].to(like)

    def keep_features(self, features: Tensor) -> None:
        """Keep the unit vectors of the anchors' subjects: [pixels, channels]."""
        self.features = self._home(features)

    def _home(self, tensor: Tensor) -> Tensor:
        return tensor if self._device is None else tensor.to(self._device)

    @property
    def _tensors(self) -> list[Tensor]:
        features = [] if self.features is None else [self.features]
        shared = [one for anchors in self._shared.values() for one in anchors]
        return [*shared, *self._injected.values(), *features]

    @property
    def size(self) -> int:
        """Bytes that the bank holds."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def to(self, device: torch.device | str) -> "AnchorCache":
        """Move the bank, in place; what is kept later goes there too. Returns itself."""
        self._device = torch.device(device)
        self._shared = {key: [self._home(one) for one in value] for key, value in self._shared.items()}
        self._injected = {key: self._home(value) for key, value in self._injected.items()}
        if self.features is not None:
            self.features = self._home(self.features)
        return self

    def save(self, folder: Path) -> None:
        """Write the bank to a folder: `bank.safetensors` and `bank.json`.

        ValueError for a bank that no story has filled; OSError where the folder cannot be written.
        """
        if self.origin is None:
            raise ValueError("bank: it is empty; tell a story with anchors first")
        tensors = {
            f"lent|{layer}|{step}|{int(first)}|{anchor}": one
            for (layer, step, first), anchors in self._shared.items()
            for anchor, one in enumerate(anchors)
        }
        tensors |= {f"injected|{layer}|{step}": t for (layer, step), t in self._injected.items()}
        if self.features is not None:
            tensors["features"] = self.features
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
        header = {"format": FORMAT, "bytes": self.size, **asdict(self.origin)}
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: torch.device | str | None = None) -> "AnchorCache":
        """Read what `save` wrote. ValueError, naming the folder, where it holds no bank that can be read."""
        folder = Path(folder)
        try:
            header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
            tensors = load_file(folder / TENSORS)
        except FileNotFoundError as error:
            raise ValueError(f"bank: {folder} has no {HEADER} and {TENSORS}; give a saved bank") from error
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise ValueError(f"bank: {folder} cannot be read: {error}; save it again") from error
        if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
            raise ValueError(f"bank: {folder} is of another format; save it again with this version")
        header.pop("bytes", None)
        anchor_cache = cls(device)
        try:
            lists = {key: tuple(header[key]) for key in ("size", "timesteps", "scenes")}
            anchor_cache.origin = Origin(**{**header, **lists})
            for name in sorted(tensors, key=lambda name: (len(name), name)):  # anchor 2 before anchor 10
                anchor_cache._take(name.split("|"), tensors[name])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"bank: {folder} is damaged; save it again") from error
        return anchor_cache

    def _take(self, name: list[str], tensor: Tensor) -> None:
        match name:
            case ["lent", layer, step, first, anchor]:
                anchors = self._shared.setdefault((layer, int(step), first == "1"), [])
                if len(anchors) != int(anchor):
                    raise ValueError(name)
                anchors.append(self._home(tensor))
            case ["injected", layer, step]:
                self.keep_injected(layer, int(step), tensor)
            case ["features"]:
                self.keep_features(tensor)
            case _:
                raise ValueError(name)
