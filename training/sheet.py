"""A contact sheet: 48 pictures that nobody chose, beside renders of the same truths.

python -m training.sheet --model assets/storybook --out docs/storybook.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch
from PIL import Image

from training.captions import full_caption
from training.world import draw_identity, render
from training.world.render import Picture
from training.world.vocabulary import ACTIONS, SCENES, STYLES, SUBJECTS

cure_torchvision()

from diffusers import StableDiffusionXLPipeline  # noqa: E402

COUNT, COLUMNS = 48, 12


def sheet_truth(seed: int) -> Picture:
    """The render of a seed: subjects, scenes, styles and actions take turns."""
    subject = SUBJECTS[seed % len(SUBJECTS)]
    rng = np.random.default_rng(seed)
    return render(
        subject,
        SCENES[seed % len(SCENES)],
        ACTIONS[(seed + seed // len(SUBJECTS)) % len(ACTIONS)],
        STYLES[(seed + seed // len(STYLES)) % len(STYLES)],
        rng,
        draw_identity(subject, rng),
    )


def grid(images: list[np.ndarray], columns: int = COLUMNS) -> np.ndarray:
    """Pictures (h, w, 3) in rows."""
    rows = [np.concatenate(images[k : k + columns], 1) for k in range(0, len(images), columns)]
    return np.concatenate(rows)


def contact_sheet(pipe: StableDiffusionXLPipeline, count: int = COUNT, steps: int = 30) -> Image.Image:
    """Seeds 0 to `count` - 1, reduced to 128 pixels a side: the model's pictures on the left, the renders of
    the same truths on the right."""
    renders = [sheet_truth(seed) for seed in range(count)]
    drawn = []
    for start in range(0, count, 8):
        seeds = range(start, min(start + 8, count))
        drawn += list(
            pipe(
                [full_caption(renders[seed].attributes) for seed in seeds],
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                num_inference_steps=steps,
                output_type="np",
            ).images
        )
    left = grid([(image * 255).astype(np.uint8) for image in drawn], COLUMNS // 2)
    right = grid([one.image for one in renders], COLUMNS // 2)
    gap = np.full((left.shape[0], 16, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([left, gap, right], 1)).reduce(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("assets/storybook"), help="an assembled model")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    flags = parser.parse_args()
    pipe = StableDiffusionXLPipeline.from_pretrained(flags.model, local_files_only=True)
    contact_sheet(pipe).save(flags.out)


if __name__ == "__main__":
    main()
