"""Make the images of the About tab: `python -m tools.make_about_pictures [--only KEY]`.

Each row of each part in `PARTS` (studio/tabs/about_text.py) becomes a strip in `assets/about`: a story's
images side by side, by the embedded model, with the same seeds in all strips of a part.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from consistory_svd.cli.options import run
from consistory_svd.metadata import mark_subject
from consistory_svd.models.model import load_model
from consistory_svd.pipeline import Finished, generate
from consistory_svd.studio.tabs.about_text import PARTS, PICTURES, STEPS

GAP = 8
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str | None, typer.Option(help="Key of one part; default: all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = PICTURES,
) -> None:
    """Make the images of the About tab."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(device="cpu")
    for part in (part for part in PARTS if only in (None, part.key)):
        rows: list[list[Image.Image]] = []
        for row in part.rows:
            *_, finished = generate(model, part.story, replace(row.settings, steps=STEPS))
            assert isinstance(finished, Finished)
            rows.append(list(finished.images))
        if part.masks:
            rows.append([mark_subject(*pair) for pair in zip(finished.images, finished.masks, strict=True)])
        for images, (_, file) in zip(rows, part.strips, strict=True):
            strip(images).save(out / file, "WEBP", quality=82, method=6)


def strip(images: list[Image.Image]) -> Image.Image:
    """Put images side by side, with transparent gaps."""
    width, height = images[0].size
    sheet = Image.new("RGBA", ((width + GAP) * len(images) - GAP, height))
    for number, image in enumerate(images):
        sheet.paste(image, (number * (width + GAP), 0))
    return sheet


if __name__ == "__main__":
    sys.exit(run(app))
