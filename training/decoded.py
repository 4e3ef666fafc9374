"""Pictures as the model draws them: latents with a little noise, decoded. The reader learns from these
too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from training.dataset import load_truth


@torch.no_grad()
def decode_shard(
    vae, pictures: Path, latents: Path, out: Path, index: int, count: int = 1000, noise: float = 0.25
) -> None:
    """Write `count` pictures of shard `index`, decoded from latents with noise of up to `noise` standard
    deviations."""
    if (out / f"truth-{index:04d}.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    clean = torch.from_numpy(np.load(latents / f"latents-{index:04d}.npy")[:count]).float()
    generator = torch.Generator().manual_seed(index)
    amount = torch.rand((len(clean), 1, 1, 1), generator=generator) * noise * clean.std()
    noisy = clean + amount * torch.randn(clean.shape, generator=generator)
    images = np.empty((len(clean), 256, 256, 3), np.uint8)
    for k in range(0, len(clean), 10):
        with torch.autocast(vae.device.type, torch.bfloat16):
            decoded = vae.decode(noisy[k : k + 10].to(vae.device)).sample
        images[k : k + 10] = (
            ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        )
    np.save(out / f"images-{index:04d}.npy", images)
    (out / f"truth-{index:04d}.json").write_text(json.dumps(load_truth(pictures, index)[:count]))
