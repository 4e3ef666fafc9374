"""Make the pictures of the About room with the embedded model: `python tools/make_about_pictures.py`.

Each row of each part in `PARTS` (studio/tabs/about_text.py) becomes a strip in `assets/about`: a
story's pictures side by side, the same seeds in all strips of a part. `--only KEY` makes one part's again.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from consistory_svd.cli.options import run
from consistory_svd.metadata import mark_subject
from consistory_svd.models.model import load_model
from consistory_svd.pipeline import Finished, generate
from consistory_svd.studio.tabs.about_text import PARTS, PICTURES, STEPS

GAP = 8
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str | None, typer.Option(help="Key of the part whose pictures are made.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = PICTURES,
) -> None:
    """Make the pictures of the About room."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(device="cpu")
    for part in (part for part in PARTS if only in (None, part.key)):
        rows: list[list[Image.Image]] = []
        for row in part.rows:
            *_, generated = generate(model, part.story, replace(row.settings, steps=STEPS))
            assert isinstance(generated, Finished)
            rows.append(list(generated.images))
        if part.masks:
            rows.append([mark_subject(*pair) for pair in zip(generated.images, generated.masks, strict=True)])
        for images, (_, file) in zip(rows, part.strips, strict=True):
            strip(images).save(out / file, "WEBP", quality=82, method=6)


def strip(images: list[Image.Image]) -> Image.Image:
    """Pictures side by side; what is between them lets the page show through."""
    width, height = images[0].size
    sheet = Image.new("RGBA", ((width + GAP) * len(images) - GAP, height))
    for number, image in enumerate(images):
        sheet.paste(image, (number * (width + GAP), 0))
    return sheet


if __name__ == "__main__":
    sys.exit(run(app))
