"""The study of the spectral filter: every claim of the report that it comes from, in numbers.

    python benchmarks/study.py tell --out study/ [--stories 32] [--steps 30] [--part 1 --parts 2] [--only ROW]
    python benchmarks/study.py tell --out fresh/ --skip 32 --stories 64 --only "energy 0.8, injection" ...
    python benchmarks/study.py report --out study/ --fresh fresh/ --docs docs/

`tell` tells the same stories with the same seeds under every row's settings and keeps what the storybook
reader sees in each picture and how far backgrounds leak, a JSON file a row, so that a run which was stopped
goes on where it was, and several processes can share the rows. With `--skip` they have fresh seeds: what was
best of many rows is confirmed by them. `report` makes `svd-study.md` and its plots.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# Run as a script, Python looks for modules beside the script and not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import leakage
from benchmarks.storybook import Generation, generate_and_read, generations
from benchmarks.study_numbers import RATIOS
from benchmarks.study_report import write_report
from benchmarks.suite import load_suite
from consistory_svd import Settings, load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.metrics.attribute_reader import Reader, load_reader
from consistory_svd.metrics.vocabulary import attributes_in
from consistory_svd.models.model import Model
from consistory_svd.settings import SVDFilter

OWN_SUITE = Path(__file__).parent / "suites" / "storybook.yaml"
# Queries are blended in every row that shares, as in the report's code.
MASKS = Settings(query_blending=True, mask_dropout=0.0)
OPEN = dataclasses.replace(MASKS, masking=False)
ALL = Settings(query_blending=True, injection=True)


def _both(base: Settings, svd_filter: SVDFilter) -> Settings:
    return dataclasses.replace(base, k_filter=svd_filter, v_filter=svd_filter)


def _rows() -> dict[str, Settings]:
    quantile, log2 = SVDFilter("quantile", 0.05), SVDFilter(reweight="log2")
    rows = {
        "no sharing": Settings(sdsa=False),
        "masks": MASKS,
        "masks, dropout 0.5": dataclasses.replace(MASKS, mask_dropout=0.5),
        "ConsiStory, all parts": ALL,
        "ConsiStory, all parts, dropout 0": dataclasses.replace(ALL, mask_dropout=0.0),
        "no masks": OPEN,
    }
    for keys in RATIOS:
        for values in RATIOS:
            rows[f"quantile K {keys:g} V {values:g}"] = dataclasses.replace(
                OPEN, k_filter=SVDFilter("quantile", keys), v_filter=SVDFilter("quantile", values)
            )
    rows["quantile K 0.05, V all"] = dataclasses.replace(OPEN, k_filter=quantile)
    rows["K all, quantile V 0.05"] = dataclasses.replace(OPEN, v_filter=quantile)
    for energy in (0.8, 0.9, 0.95, 0.98, 0.99):
        rows[f"energy {energy:g}"] = _both(OPEN, SVDFilter("energy", energy))
    for count in (1, 4, 16):
        rows[f"count {count}"] = _both(OPEN, SVDFilter("count", count))
    rows["log"] = _both(OPEN, SVDFilter(reweight="log"))
    rows["log2"] = _both(OPEN, log2)
    rows["exp 0.02"] = _both(OPEN, SVDFilter(reweight="exp", alpha=0.02))
    rows["log2 quantile 0.05"] = _both(OPEN, SVDFilter("quantile", 0.05, "log2"))
    rows["log2 energy 0.95"] = _both(OPEN, SVDFilter("energy", 0.95, "log2"))
    rows["masks + quantile 0.05"] = _both(MASKS, quantile)
    rows["masks + quantile 0.5"] = _both(MASKS, SVDFilter("quantile", 0.5))
    rows["masks + energy 0.95"] = _both(MASKS, SVDFilter("energy", 0.95))
    rows["masks + log"] = _both(MASKS, SVDFilter(reweight="log"))
    rows["masks + log2"] = _both(MASKS, log2)
    for name in ("no masks", "quantile K 0.05 V 0.05", "energy 0.8", "masks + quantile 0.05", "log2"):
        rows[f"{name}, injection"] = dataclasses.replace(rows[name], injection=True)
    # Looked at for a preset of our own.
    rows["energy 0.65, injection"] = dataclasses.replace(
        _both(OPEN, SVDFilter("energy", 0.65)), injection=True
    )
    rows["no masks, same noise"] = dataclasses.replace(OPEN, same_latent=True)
    for energy in (0.8, 0.95):
        rows[f"energy {energy:g}, same noise"] = dataclasses.replace(
            _both(OPEN, SVDFilter("energy", energy)), same_latent=True
        )
    rows["masks, same noise"] = dataclasses.replace(MASKS, same_latent=True)
    for anchors in (1, 3):
        rows[f"log2, {anchors} anchor{'s' * (anchors > 1)}"] = dataclasses.replace(
            rows["log2"], anchors=anchors
        )
    return rows


ROWS = _rows()

log = logging.getLogger("benchmarks.study")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def generate_and_look(
    model: Model,
    reader: Reader,
    generation: Generation,
    settings: Settings,
    known: dict[str, leakage.Background],
) -> dict[str, Any]:
    """One story told and looked at, as JSON can hold it."""
    generated, frames = generate_and_read(model, reader, generation, settings, with_masks=True)
    shown = [leakage.background(frame.image, frame.mask) for frame in frames]
    seen = leakage.Seen(
        **vars(generated),
        group=generation.entry.group,
        confusion=leakage.confusion(shown, [one["scene"] for one in generated.named], known),
        likeness=leakage.likeness(shown),
    )
    return dataclasses.asdict(seen)


@app.command("tell")
def generate_rows(
    out: Annotated[Path, typer.Option(help="Folder that rows are kept in.")],
    suite: Annotated[Path, typer.Option(help="YAML file with groups of stories.")] = OWN_SUITE,
    stories: Annotated[
        int, typer.Option(min=1, help="How many stories; they begin anew with other seeds.")
    ] = 32,
    steps: Annotated[int, typer.Option(min=10, help="Steps of every story.")] = 20,
    skip: Annotated[int, typer.Option(min=0, help="Pass over so many stories: fresh seeds, to confirm.")] = 0,
    part: Annotated[int, typer.Option(min=1, help="Which share of the rows this process tells.")] = 1,
    parts: Annotated[int, typer.Option(min=1, help="Among how many processes rows are shared.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only this row; repeatable.")] = None,
    source: Annotated[str | None, typer.Option("--model", help="Folder or hub id.")] = None,
) -> None:
    """Tell every row's stories that `out` does not hold yet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with wrong_values():
        if missing := sorted(set(only or ()) - set(ROWS)):
            raise ValueError(f"only: {', '.join(missing)} is not a row; give one of {', '.join(ROWS)}")
        if part > parts:
            raise ValueError(f"part: {part} is not allowed; give a whole number from 1 to {parts}")
        entries = load_suite(suite)
        to_generate = generations(entries, seeds=-(-(skip + stories) // len(entries)))[skip:][:stories]
        model, reader = load_model(source), load_reader()
        out.mkdir(parents=True, exist_ok=True)
    scenes = sorted({attributes_in(p)["scene"] for one in entries for p in one.story.prompts})
    known = leakage.scene_backgrounds(scenes, "photo")
    for name in list(only or ROWS)[part - 1 :: parts]:
        kept = out / f"{name}.json"
        if kept.is_file():
            continue
        settings = dataclasses.replace(ROWS[name], steps=steps)
        generated = [
            generate_and_look(model, reader, generation, settings, known) for generation in to_generate
        ]
        row = {"row": name, "steps": steps, "settings": dataclasses.asdict(settings), "told": generated}
        kept.write_text(json.dumps(row) + "\n", encoding="utf-8")
        log.info("%s: %.1f s a story", name, sum(one["seconds"] for one in generated) / len(generated))


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder that `tell` wrote.")],
    docs: Annotated[Path, typer.Option(help="Folder for svd-study.md and its plots.")],
    fresh: Annotated[
        Path | None, typer.Option(help="Folder of rows that `tell --skip` told with fresh seeds.")
    ] = None,
) -> None:
    """Write svd-study.md and its plots from the rows that are there."""
    with wrong_values():
        rows = read_rows(out, "out")
        again = {} if fresh is None else read_rows(fresh, "fresh")
    write_report(rows, docs, [name for name in ROWS if name not in rows], again)


def read_rows(folder: Path, field: str) -> dict[str, Any]:
    """The rows that a folder holds, in order. ValueError where it has none, or some of another study."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise ValueError(f"{field}: {folder} holds no rows; run `python benchmarks/study.py tell` first")
    if len({(len(row["told"]), row["steps"]) for row in found}) > 1:
        raise ValueError(
            f"{field}: {folder} mixes rows of different numbers of stories or steps; tell them anew"
        )
    by_name = {row["row"]: row for row in found}
    return {name: by_name[name] for name in ROWS if name in by_name}


if __name__ == "__main__":
    sys.exit(run(app))
