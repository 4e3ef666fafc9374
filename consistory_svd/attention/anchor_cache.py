"""The anchor cache: what frames that are generated later need of the anchors (docs/method.md, section 6)."""

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

from consistory_svd.errors import FieldError
from consistory_svd.settings import Settings
from consistory_svd.story import Story

FORMAT = 1
TENSORS, HEADER = "bank.safetensors", "bank.json"  # names of the file format, as are "lent" and "injected"
# Settings that must be the same for anchors and later frames; the others may differ from frame to frame.
SHARED_SETTINGS = (
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


EMPTY = ("anchor_cache", None, "filled by a story with keep_anchors")
# Names in headers of earlier versions.
OLD_NAMES = {"spectrum_k": "k_filter", "spectrum_v": "v_filter", "select": "keep", "value": "amount"}


@dataclass(frozen=True)
class Origin:
    """What a cache was made with. `timesteps` are the schedule's; `size` is (height, width) in pixels."""

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
        """The origin of a cache that the first `anchors` scenes of a story fill."""
        values = asdict(settings)
        shared = {name: values[name] for name in SHARED_SETTINGS}
        scenes = story.scene_texts[:anchors]
        return cls(model_name, fingerprint(unet), size, timesteps, shared, scenes, story.seed)

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "Origin":
        """The origin in a saved header, also of an earlier version, which called the filters spectra."""
        settings = {OLD_NAMES.get(name, name): value for name, value in header["settings"].items()}
        for name in ("k_filter", "v_filter"):
            settings[name] = {OLD_NAMES.get(key, key): value for key, value in settings[name].items()}
        lists = {key: tuple(header[key]) for key in ("size", "timesteps", "scenes")}
        return cls(**{**header, **lists, "settings": settings})

    def check_fits(self, wanted: "Origin") -> None:
        """Raise FieldError, saying what differs, if a cache of this origin does not fit `wanted`."""
        if self.fingerprint != wanted.fingerprint:
            raise FieldError("anchor_cache", self.model, f"made with this model ({wanted.model})")
        if self.size != wanted.size:
            raise FieldError("anchor_cache", self.size, f"made at {wanted.size} pixels")
        if len(self.timesteps) != len(wanted.timesteps):
            raise FieldError("anchor_cache", len(self.timesteps), f"made with {len(wanted.timesteps)} steps")
        if self.timesteps != wanted.timesteps:
            raise FieldError("anchor_cache", self.timesteps, "made with the same noise levels")
        for name, value in self.settings.items():
            if value != wanted.settings[name]:
                raise FieldError("anchor_cache", value, f"made with {name} {wanted.settings[name]}")


def fingerprint(unet: UNet2DConditionModel) -> str:
    """A hash of a U-Net's weights, from a sample of them in half precision, whatever they are loaded in."""
    digest = hashlib.sha256()
    for name, weight in list(unet.named_parameters())[::16]:
        digest.update(name.encode())
        sample = weight.detach().flatten()[:64].to("cpu", torch.float32).half()
        digest.update(sample.numpy().tobytes())
    for module in unet.modules():
        if isinstance(module, LoraLayer):  # its strength is not among the parameters
            digest.update(json.dumps(module.scaling).encode())
            break
    return digest.hexdigest()[:16]


class AnchorCache:
    """For every extended layer and step, each anchor's shared tokens: [halves, tokens, channels].

    The tokens are the layer's inputs, after its norm and before the projections, at the pixels inside the
    masks with their dropout: half of the size of keys and values. `halves` is 2 with classifier-free
    guidance, unconditional first, else 1. With feature injection the cache also has the anchors' features at
    the pixels of their subjects, [pixels, channels], and the values injected from there, per layer and step.
    `first_pass` marks entries that belong to the first of the two passes alone.

    Args:
        device: where the cache keeps its tensors; None: where they are made.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.origin: Origin | None = None
        self.features: Tensor | None = None
        self._device = None if device is None else torch.device(device)
        self._inputs: dict[tuple[str, int, bool], list[Tensor]] = {}
        self._injected: dict[tuple[str, int], Tensor] = {}

    def put(self, layer: str, step: int, inputs: Sequence[Tensor], first_pass: bool = False) -> None:
        """Store each anchor's tokens at a layer and a step."""
        self._inputs[layer, step, first_pass] = [self._home(one) for one in inputs]

    def get(self, layer: str, step: int, like: Tensor, first_pass: bool = False) -> list[Tensor]:
        """Each anchor's tokens at a layer and a step, on the device and in the dtype of `like`.

        KeyError if nothing was stored there.
        """
        return [one.to(like) for one in self._inputs[layer, step, first_pass]]

    def put_injected(self, layer: str, step: int, values: Tensor) -> None:
        """Store the values of the anchors' subjects at a layer and a step: [pixels, channels]."""
        self._injected[layer, step] = self._home(values)

    def get_injected(self, layer: str, step: int, like: Tensor) -> Tensor:
        """The values of the anchors' subjects. KeyError if nothing was stored there."""
        return self._injected[layer, step].to(like)

    def put_features(self, features: Tensor) -> None:
        """Store the unit vectors of the anchors' subjects: [pixels, channels]."""
        self.features = self._home(features)

    def _home(self, tensor: Tensor) -> Tensor:
        return tensor if self._device is None else tensor.to(self._device)

    @property
    def _tensors(self) -> list[Tensor]:
        features = [] if self.features is None else [self.features]
        inputs = [one for anchors in self._inputs.values() for one in anchors]
        return [*inputs, *self._injected.values(), *features]

    @property
    def size(self) -> int:
        """Bytes of all tensors in the cache."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def to(self, device: torch.device | str) -> "AnchorCache":
        """Move the cache, in place; later entries go to the same device. Returns itself."""
        self._device = torch.device(device)
        self._inputs = {key: [self._home(one) for one in value] for key, value in self._inputs.items()}
        self._injected = {key: self._home(value) for key, value in self._injected.items()}
        if self.features is not None:
            self.features = self._home(self.features)
        return self

    def check_fits(self, wanted: Origin) -> None:
        """Raise FieldError if the cache is empty, or was made with something other than `wanted`."""
        if self.origin is None:
            raise FieldError(*EMPTY)
        self.origin.check_fits(wanted)

    def save(self, folder: Path) -> None:
        """Write the cache to a folder: `bank.safetensors` and `bank.json`.

        FieldError for an empty cache; OSError if the folder cannot be written.
        """
        if self.origin is None:
            raise FieldError(*EMPTY)
        tensors = {
            f"lent|{layer}|{step}|{int(first)}|{anchor}": one
            for (layer, step, first), anchors in self._inputs.items()
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
        """Read a cache that `save` wrote. FieldError, naming the folder, if it cannot be read."""
        folder = Path(folder)

        def unreadable(allowed: str) -> FieldError:
            return FieldError("anchor_cache", str(folder), allowed)

        try:
            header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
            tensors = load_file(folder / TENSORS)
        except FileNotFoundError as error:
            raise unreadable(f"a folder with {HEADER} and {TENSORS}") from error
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise unreadable(f"readable ({error})") from error
        if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
            raise unreadable(f"of format {FORMAT}, saved by this version")
        header.pop("bytes", None)
        cache = cls(device)
        try:
            cache.origin = Origin.from_header(header)
            for name in sorted(tensors, key=lambda name: (len(name), name)):  # anchor 2 before anchor 10
                cache._read_tensor(name.split("|"), tensors[name])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise unreadable("a whole saved cache, not a damaged one") from error
        return cache

    def _read_tensor(self, name: list[str], tensor: Tensor) -> None:
        match name:
            case ["lent", layer, step, first, anchor]:
                anchors = self._inputs.setdefault((layer, int(step), first == "1"), [])
                if len(anchors) != int(anchor):
                    raise ValueError(name)
                anchors.append(self._home(tensor))
            case ["injected", layer, step]:
                self.put_injected(layer, int(step), tensor)
            case ["features"]:
                self.put_features(tensor)
            case _:
                raise ValueError(name)
