"""Make the pictures of the About room with the embedded model: `python tools/make_about_pictures.py`.

Each part of `consistory_svd.studio.about.PARTS` becomes one WebP in `assets/about`: a row a setting, a column a
scene, the same seeds in all rows. `--only KEY` makes one again.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from consistory_svd.flags import run
from consistory_svd.models import Model, load_model
from consistory_svd.record import mark_subject
from consistory_svd.story import FrameDone, tell
from consistory_svd.studio.about import PARTS, PICTURES, STEPS, Part
from consistory_svd.studio.grid import GridRow, draw_grid

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str | None, typer.Option(help="Key of the part whose picture is made.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = PICTURES,
) -> None:
    """Make the pictures of the About room."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(device="cpu")
    for part in PARTS:
        if only in (None, part.key):
            rows = drawn(model, part)
            sheet = draw_grid("", part.story.scenes, rows)
            sheet.save(out / part.file, "WEBP", quality=80, method=6)


def drawn(model: Model, part: Part) -> list[GridRow]:
    """A part's story told with each of its rows; where it is marked so, with the subject's mask over it."""
    rows = []
    for row in part.rows:
        settings = replace(row.settings, steps=STEPS)
        frames = [event for event in tell(model, part.story, settings) if isinstance(event, FrameDone)]
        frames.sort(key=lambda event: event.frame)
        rows.append(GridRow(row.name, (), tuple(event.image for event in frames)))
    if part.marked:
        marked = tuple(mark_subject(event.image, event.mask) for event in frames)
        rows.append(GridRow("What the mask takes for the subject", (), marked))
    return rows


if __name__ == "__main__":
    sys.exit(run(app))
