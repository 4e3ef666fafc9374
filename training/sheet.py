"""A contact sheet: 48 pictures that nobody chose, beside renders of the same truths.

python -m training.sheet --model assets/storybook --out docs/storybook.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from consistory_svd.compat import cure_torchvision
from training.world import draw_identity, render
from training.world.render import Picture
from training.world.vocabulary import ACTIONS, SCENES, STYLES, SUBJECTS

cure_torchvision()

from diffusers import StableDiffusionXLPipeline  # noqa: E402

COUNT, COLUMNS = 48, 12


def full_caption(truth: dict[str, str]) -> str:
    """A caption that names everything but the second colour, in the usual words."""
    words = f"{truth['color']} {truth['subject']}"
    if truth["pattern"] != "plain":
        words = f"{truth['pattern']} {words}"
    if truth["accessory"] != "none":
        article = "" if truth["accessory"] == "glasses" else "a "
        words += f" with {article}{truth['accessory_color']} {truth['accessory']}"
    style = {"photo": "a photo of", "watercolor": "a watercolor of", "pencil": "a pencil drawing of"}
    places = {
        "forest": "in the forest", "desert": "in the desert", "beach": "on the beach", "snow": "in the snow",
        "city street": "in a city street", "meadow": "on a meadow", "night sky": "under the night sky",
        "cafe": "in a cafe", "mountains": "in the mountains", "underwater": "underwater",
        "library": "in a library", "parking lot": "in a parking lot", "castle": "in front of a castle",
        "kitchen": "in a kitchen",
    }  # fmt: skip
    article = "an" if words[0] in "aeiou" else "a"
    return f"{style[truth['style']]} {article} {words} {truth['action']} {places[truth['scene']]}"


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
