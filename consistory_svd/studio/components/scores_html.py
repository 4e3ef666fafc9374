"""The scores of a story as a piece of the page: headlines, heat map, bars, and what is not there and why."""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from consistory_svd.metrics.folder import of_storybook
from consistory_svd.metrics.report import ARROWS
from consistory_svd.metrics.result import ALIGNMENT, CONSISTENCY, Frames, MissingScore, Result
from consistory_svd.studio.generated_story import Picture

LABEL_PIXELS = 56


def scored(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures that can be scored: a withheld one is a plain one."""
    return [picture for picture in pictures if not picture.filtered]


def left_out(pictures: Sequence[Picture]) -> str:
    """What is said of pictures that are not scored; empty where all are."""
    count = len(pictures) - len(scored(pictures))
    if not count:
        return ""
    if count == len(pictures):
        return "There are no scores: all pictures were withheld."
    which = "1 withheld picture is" if count == 1 else f"{count} withheld pictures are"
    return f"{which} left out here, and the others are counted without."


def frames_of(pictures: Sequence[Picture], model_name: str) -> Frames:
    """A finished story's pictures, prompts and masks as scores take them, without those that are withheld.

    ValueError where nothing is left.
    """
    shown = scored(pictures)
    return Frames(
        images=tuple(_read(picture.path, "RGB") for picture in shown),
        prompts=tuple(picture.prompt for picture in shown),
        masks=tuple(picture.mask and _read(picture.mask, "L") for picture in shown),
        storybook=of_storybook(model_name),
    )


def scoring() -> str:
    """Said while the scores are computed."""
    return '<div class="note" data-say>The scores are being computed.</div>'


def nothing_to_score(pictures: Sequence[Picture]) -> str:
    """Said where `scored` has none."""
    return f'<div class="note" role="status">{escape(left_out(pictures))}</div>'


def card(entries: Sequence[Result | MissingScore], frames: Frames, note: str = "") -> str:
    """All that is known of a story's scores; `note` is what `left_out` says of its pictures."""
    results = {entry.name: entry for entry in entries if isinstance(entry, Result)}
    missing = [entry for entry in entries if isinstance(entry, MissingScore)]
    alike = next((results[name] for name in CONSISTENCY if name in results), None)
    aligned = next((results[name] for name in ALIGNMENT if name in results), None)
    parts = [f"<p>Note: {escape(note)}</p>"] if note else []
    parts.append(f'<div class="headlines">{"".join(_headline(r) for r in (alike, aligned) if r)}</div>')
    if alike:
        parts.append(_heat_map(alike, frames))
    if aligned:
        parts.append(_bars(aligned))
    parts += [_table(r) for r in results.values() if r.table]
    parts.append(_all_numbers(results.values()))
    parts += [
        f"<p>Note: {escape(note)}.</p>"
        for note in dict.fromkeys(n for r in results.values() for n in r.notes)
    ]
    if missing:
        said = "".join(f"<li>{_with_commands(str(entry))}</li>" for entry in missing)
        parts.append(
            f"<details open><summary>Scores that are not shown, and why</summary><ul>{said}</ul></details>"
        )
    say = ", ".join(f"{r.name} {r.value:.3f}" for r in (alike, aligned) if r)
    said = f' data-say="Scores: {escape(say, quote=True)}"' if say else ""
    return f'<section class="scores" aria-label="Scores"{said}><h2>Scores</h2>{"".join(parts)}</section>'


def _headline(result: Result) -> str:
    elsewhere = ""
    if result.published:
        values = ", ".join(f"{escape(name)} {value:.4f}" for name, value in result.published.items())
        elsewhere = f"<p>Published: {values}. <cite>{escape(result.source)}</cite></p>"
    elif result.unlike:
        elsewhere = f"<p>No published values beside it: {escape(result.unlike)}.</p>"
    return (
        f'<div class="headline"><h3>{escape(result.name)}</h3><strong>{result.value:.3f}</strong> '
        f"<span>{escape(result.unit)}, {ARROWS[result.better]}</span>"
        f"<p>{escape(result.model)}: {escape(result.protocol)}</p>{elsewhere}</div>"
    )


def _heat_map(result: Result, frames: Frames) -> str:
    """Pairs of frames as coloured cells: the stronger the colour, the more alike the two are."""
    labels = [
        f'<th scope="{{scope}}"><img src="{_small(image)}" alt="Picture {k}" title="Picture {k}"></th>'
        for k, image in enumerate(frames.images, start=1)
    ]
    head = "".join(label.format(scope="col") for label in labels)
    body = "".join(
        f"<tr>{label.format(scope='row')}{''.join(_cell(value, result.better) for value in row)}</tr>"
        for label, row in zip(labels, result.matrix, strict=True)
    )
    return (
        f'<div class="wide"><table class="heat"><caption>{escape(result.name)} of each pair: '
        f"the stronger the colour, the more alike</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: float, better: str) -> str:
    alike = min(max(value if better == "higher" else 1 - value, 0.0), 1.0)
    return f'<td style="background:rgb(15 118 110 / {0.6 * alike:.2f})">{value:.2f}</td>'


def _table(result: Result) -> str:
    count = len(result.table[0]) - 2
    names = ("", *(f"Picture {k + 1}" for k in range(count)), "Pairs alike")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0].replace("_", " "))}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in result.table
    )
    return (
        f'<div class="wide"><table><caption>What the storybook reader reads</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _bars(result: Result) -> str:
    rows = "".join(
        f'<tr><th scope="row">Picture {k}</th><td class="bar-cell"><div class="bar"><div style="width:'
        f'{100 * min(max(value, 0.0), 1.0):.0f}%"></div></div></td><td>{value:.3f}</td></tr>'
        for k, value in enumerate(result.per_frame, start=1)
    )
    return (
        f'<div class="wide"><table class="bars"><caption>{escape(result.name)} of each picture and its '
        f"prompt</caption><tbody>{rows}</tbody></table></div>"
    )


def _all_numbers(results: Sequence[Result]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(r.name)}</th><td>{r.value:.4f}</td><td>{escape(r.unit)}, '
        f"{ARROWS[r.better]}</td><td>{escape(r.model)}: {escape(r.protocol)}</td></tr>"
        for r in results
    )
    if not rows:
        return ""
    return f'<details><summary>All numbers</summary><div class="wide"><table>{rows}</table></div></details>'


def _with_commands(text: str) -> str:
    """Text with its commands, which stand between backticks, set as such."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _read(path: Path, mode: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert(mode)


def _small(image: Image.Image) -> str:
    """A picture as a label: small, and inside the page."""
    small, file = image.copy(), io.BytesIO()
    small.thumbnail((LABEL_PIXELS, LABEL_PIXELS))
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
