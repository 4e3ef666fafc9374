"""Text of the page as HTML. Pure functions; everything that is put into a template is escaped."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import jinja2
from markupsafe import Markup

from consistory_svd.studio.generated_story import Picture
from consistory_svd.studio.progress import Progress
from consistory_svd.text_format import format_duration

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
# Commands in messages are between backticks.
TEMPLATES.filters["code"] = lambda text: Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escape(text)))
TAG = re.compile("<[^>]*>")
# `Picture.filtered` -> the end of a sentence on one such image, and on several.
FILTERED = {
    "sexual": (
        "was filtered: it was classified as sexual. Try another seed or text.",
        "were filtered: they were classified as sexual. Try other seeds or texts.",
    ),
    "unseen": (
        "was filtered: the content filter failed to check it. Try it again.",
        "were filtered: the content filter failed to check them. Try them again.",
    ),
}


def render(template: str, **context: Any) -> str:
    """Return a template of the folder `templates`, filled in."""
    return TEMPLATES.get_template(template).render(**context)


def count(number: int, noun: str) -> str:
    """Return "1 story", "4 stories"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def count_images(number: int) -> str:
    """Return "1 image", "4 images"."""
    return count(number, "image")


def join(*sentences: str) -> str:
    """Return sentences as one text; empty ones are left out."""
    return " ".join(filter(None, sentences))


def caption(text: str, filtered: str) -> str:
    """Return the caption of an image."""
    return f"{text} (filtered)" if filtered else text


def filtered_text(pictures: Sequence[Picture]) -> str:
    """Return which images were filtered and why; empty if none was."""
    texts = []
    for reason, (one, several) in FILTERED.items():
        numbers = [str(picture.frame + 1) for picture in pictures if picture.filtered == reason]
        if len(numbers) == 1:
            texts.append(f"Image {numbers[0]} {one}")
        elif numbers:
            texts.append(f"Images {', '.join(numbers[:-1])} and {numbers[-1]} {several}")
    return " ".join(texts)


def welcome() -> str:
    """Return the status before the first story."""
    return note("Your images will appear here, one by one.")


def waiting(model_is_ready: bool, jobs_ahead: int, seconds: float | None = None) -> str:
    """Return the status between Generate and the first step: the position in the queue, and an ETA."""
    if not model_is_ready:
        return progress_bar("Waiting for the model to load", "Starts automatically.", None)
    if jobs_ahead:
        eta = "Starts automatically" if seconds is None else f"Starts in about {format_duration(seconds)}"
        return progress_bar("Waiting in the queue", f"{count(jobs_ahead, 'job')} ahead of you. {eta}.", None)
    return progress_bar("Getting ready", "", None)


def alert(message: str) -> str:
    """Return an error that stays until the next story and that screen readers announce at once."""
    return f'<div class="note note-alert" role="alert">{escape(message)}</div>'


def refusal(message: str) -> gr.Error:
    """Return the error that ends an event whose `alert` is shown: API clients get it, the page shows nothing
    more."""
    return gr.Error(message, visible=False, print_exception=False)


def note(message: str, css: str = "") -> str:
    """Return a message for the status area; empty for an empty message."""
    return f'<div class="note {css}" data-say>{escape(message)}</div>' if message else ""


def cancelled_early() -> str:
    """Return the status of a story that was cancelled before its turn."""
    return note("Cancelled before generation started.")


def stopping() -> str:
    """Return the status between Cancel and the end of the current step."""
    return note("Stopping after this step.")


def making_file() -> str:
    """Return the status of an export."""
    return progress_bar("Creating the file", "", None)


def status(progress: Progress) -> str:
    """Return the status of a job.

    `data-subject` is the start of all prompts: a caption is the scene alone, and the page's script makes it
    the whole prompt for screen readers and for the large view.
    """
    return f'<div data-subject="{escape(progress.subject)}">{_status(progress)}</div>'


def _status(progress: Progress) -> str:
    made, filtered = len(progress.pictures), filtered_text(progress.pictures)
    match progress.state:
        case "loading" | "waiting":
            return waiting(progress.state == "waiting", progress.jobs_ahead, progress.seconds_to_wait)
        case "generating":
            return _generating(progress)
        case "done":
            images = count_images(made)
            if progress.continues:
                images = f"{count_images(progress.finished)} of {made}"
            notes = (f"Note: {note}." for note in progress.notes)
            text = f"{images} in {format_duration(progress.seconds)}."
            return note(join(text, filtered, *notes), "note-done")
        case "stopped" if progress.continues and not progress.finished:
            return note("Stopped. The story is unchanged.")
        case "stopped" if not progress.steps:
            return cancelled_early()
        case "stopped" if not made:
            return note("Stopped before the first image was finished.")
        case "stopped":
            return note(join(f"Stopped. {made} of {count_images(progress.frames)} kept.", filtered))
        case _:
            kept = f"{count_images(made)} kept." if made else ""
            return alert(join(progress.error, kept, filtered))


def model_line(description: str) -> str:
    """Return the line with the model and device in use."""
    return f'<p class="model-line" data-say><span class="dot dot-ready"></span>{escape(description)}</p>'


def model_loading() -> str:
    """Return the model line while the model loads."""
    return (
        '<p class="model-line" data-say><span class="dot"></span>'
        "The model is loading. You can write your story meanwhile.</p>"
    )


def word_groups(groups: Mapping[str, Sequence[str]]) -> str:
    """Return the words a small model knows, one row for each group."""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{''.join(f'<span>{escape(word)}</span>' for word in words)}</dd>"
        for name, words in groups.items()
    )
    return f'<dl class="words">{rows}</dl>'


def _generating(progress: Progress) -> str:
    first, last = progress.first_frame or len(progress.pictures) + 1, progress.last_frame
    which = f"Image {last}" if first >= last else f"Images {first}–{last}"
    if progress.anchors_only:
        which = f"Regenerating anchors: {which.lower()}"
    which = f"{which} of {progress.frames}"
    headline = f"{which}, step {progress.step} of {progress.steps}"
    if progress.first_pass:
        headline += " of the first pass"
    left = progress.seconds_left
    detail = "" if left is None else f"About {format_duration(left)} left"
    quarters = int(4 * progress.share)  # spoken: the image, and every quarter of the way
    say = f"{which}. {25 * quarters} percent done." if quarters else f"{which}."
    notes = join(*(f"Note: {note}." for note in progress.notes), filtered_text(progress.pictures))
    line = f'<p class="model-line plan-line">{escape(notes)}</p>' if notes else ""
    return progress_bar(headline, detail, progress.share, say) + line + _plan(progress)


def _plan(progress: Progress) -> str:
    """Return whether memory suffices, in a line; the memory plan is folded."""
    if not progress.memory:
        return ""
    return (
        f'<details class="plan" data-keep="plan"><summary>{escape(progress.memory)}</summary>'
        f"<p>{escape(progress.details)}</p></details>"
    )


def progress_bar(headline: str, detail: str, share: float | None, say: str | None = None) -> str:
    """Return a progress bar; `share` is from 0 to 1, None if unknown. Screen readers speak `say`, by default
    the headline."""
    return render(
        "progress.html",
        headline=headline,
        detail=detail,
        percent=None if share is None else round(100 * share),
        say=headline if say is None else say,
    )


def gallery_items(
    pictures: Sequence[Picture], masks: bool = False, progress: Progress | None = None
) -> list[tuple[str, str]]:
    """Return pictures as (file, caption) for a gallery, and the previews of `progress`.

    Args:
        masks: highlight the subject.
    """
    items = {
        picture.frame: (
            str(picture.marked() if masks else picture.path),
            caption(picture.scene, picture.filtered),
        )
        for picture in pictures
    }
    for frame, path in progress.previews if progress else ():
        items[frame] = (str(path), f"{progress.scenes[frame]} (being generated)")
    return [items[frame] for frame in sorted(items)]


def megabytes(done: int, total: int | None) -> str:
    """Return "120 of 605 MB", or "120 MB" if the total is unknown. A megabyte is a million bytes."""
    million = 10**6
    return f"{done // million} MB" if total is None else f"{done // million} of {total // million} MB"
