"""What the page says: snapshots and models as small pieces of HTML. Pure functions, everything escaped."""

import re
from collections.abc import Mapping, Sequence
from html import escape

import gradio as gr

from consistory_svd.studio.generated_story import Picture
from consistory_svd.studio.progress import Progress
from consistory_svd.text_format import format_duration

TAG = re.compile("<[^>]*>")
# `Picture.withheld` -> what is said of one such picture, and of several.
FILTERED = {
    "sexual": (
        "was withheld: the filter for sexual pictures took it for sexual. Another seed or text may help.",
        "were withheld: the filter for sexual pictures took them for sexual. Other seeds or texts may help.",
    ),
    "unseen": (
        "was withheld: the filter for sexual pictures failed, so it was not looked at. Try it again.",
        "were withheld: the filter for sexual pictures failed, so they were not looked at. Try them again.",
    ),
}


def pictures_in_words(count: int) -> str:
    """ "1 picture", "4 pictures"."""
    return f"{count} picture" if count == 1 else f"{count} pictures"


def caption(text: str, filtered: str) -> str:
    """What stands below a picture."""
    return f"{text} (withheld)" if filtered else text


def filtered_text(pictures: Sequence[Picture]) -> str:
    """Which pictures are withheld and why, a sentence or two for each reason; empty where none is."""
    said = []
    for why, (one, several) in FILTERED.items():
        numbers = [str(picture.frame + 1) for picture in pictures if picture.filtered == why]
        if len(numbers) == 1:
            said.append(f"Picture {numbers[0]} {one}")
        elif numbers:
            said.append(f"Pictures {', '.join(numbers[:-1])} and {numbers[-1]} {several}")
    return " ".join(said)


def welcome() -> str:
    """What stands in the status area before the first story."""
    return _plain("Your pictures will appear here, one by one.")


def waiting(model_is_ready: bool, stories_before: int, seconds: float | None = None) -> str:
    """Said between Generate and the first step: the place in the line, and about how long if known."""
    if not model_is_ready:
        return progress_bar("Waiting for the model to load", "Your story begins by itself.", None)
    if stories_before:
        others = "Another story is" if stories_before == 1 else f"{stories_before} other stories are"
        long = "" if seconds is None else f" in about {format_duration(seconds)}"
        return progress_bar(
            "Waiting for your turn", f"{others} before yours. It begins by itself{long}.", None
        )
    return progress_bar("Getting ready", "", None)


def alert(message: str) -> str:
    """A message that stays until the next story and that screen readers speak at once."""
    return f'<div class="note note-alert" role="alert">{escape(message)}</div>'


def refusal(message: str) -> gr.Error:
    """The error that ends what was asked for where `alert` has said why: programmes get it, and the page does
    not say it a second time over the alert."""
    return gr.Error(message, visible=False, print_exception=False)


def said(message: str) -> str:
    """A message in the status area."""
    return _plain(message)


def cancelled_early() -> str:
    """Said when Cancel was pressed before the story's turn came."""
    return _plain("Cancelled before your story began.")


def stopping() -> str:
    """Said between Cancel and the end of the step that was running."""
    return _plain("Stopping after this step.")


def making_file() -> str:
    """Said while a story is made into a file."""
    return progress_bar("The file is being made", "", None)


def status(progress: Progress) -> str:
    """The status area for a snapshot.

    `data-subject` is what all prompts begin with: below a picture stands its scene alone, and the page's
    script gives the whole prompt to screen readers, and to a picture that is looked at.
    """
    return f'<div data-subject="{escape(progress.subject, quote=True)}">{_status(progress)}</div>'


def _status(progress: Progress) -> str:
    made, filtered = len(progress.pictures), filtered_text(progress.pictures)
    if progress.state in ("loading", "waiting"):
        return waiting(progress.state == "waiting", progress.jobs_ahead, progress.seconds_to_wait)
    if progress.state == "generating":
        return _generating(progress)
    if progress.state == "done":
        said = " ".join(f"Note: {note}." for note in progress.notes)
        generated = (
            f"{pictures_in_words(progress.finished)} of {made}"
            if progress.continues
            else pictures_in_words(made)
        )
        words = f"{generated} in {format_duration(progress.seconds)}.", filtered, said
        return _plain(" ".join(filter(None, words)), "note-done")
    if progress.state == "stopped":
        if progress.continues and not progress.finished:
            return _plain("Stopped. The story is as it was.")
        if not progress.steps:
            return cancelled_early()
        return _plain(f"{stopped_words(made, progress.frames)} {filtered}".strip())
    kept = f" The {pictures_in_words(made)} already made are kept." if made else ""
    return alert(f"{progress.error}{kept} {filtered}".strip())


def stopped_words(made: int, frames: int) -> str:
    """What a cancelled story leaves behind."""
    if made == 0:
        return "Stopped before the first picture was finished."
    return f"Stopped. {made} of {pictures_in_words(frames)} made and kept."


def model_line(description: str) -> str:
    """The line that says which model and device are in use."""
    return f'<p class="model-line" data-say><span class="dot dot-ready"></span>{escape(description)}</p>'


def model_loading() -> str:
    """The model line while the model loads."""
    return (
        '<p class="model-line" data-say><span class="dot"></span>'
        "The model is loading. You can write your story meanwhile.</p>"
    )


def loading_words(words: str) -> str:
    """How loading another model goes."""
    return _plain(words)


def word_groups(groups: Mapping[str, Sequence[str]]) -> str:
    """The words a small model knows, a row for each group."""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{''.join(f'<span>{escape(word)}</span>' for word in words)}</dd>"
        for name, words in groups.items()
    )
    return f'<dl class="words">{rows}</dl>'


def _generating(progress: Progress) -> str:
    first, last = progress.first_frame or len(progress.pictures) + 1, progress.last_frame
    which = f"Picture {last}" if first >= last else f"Pictures {first}–{last}"
    if progress.anchors_only:
        which = f"The anchors again, unseen: {which.lower()}"
    which = f"{which} of {progress.frames}"
    headline = f"{which}, step {progress.step} of {progress.steps}"
    if progress.first_pass:
        headline += " of the first pass"
    left = progress.seconds_left
    detail = "" if left is None else f"About {format_duration(left)} left"
    notes = (f"Note: {note}." for note in progress.notes)
    said = " ".join(filter(None, (*notes, filtered_text(progress.pictures))))
    quarters = int(4 * progress.share)  # spoken: which picture, and every quarter of the way
    say = f"{which}. {25 * quarters} percent done." if quarters else f"{which}."
    said = f'<p class="model-line plan-line">{escape(said)}</p>' if said else ""
    return progress_bar(headline, detail, progress.share, say) + said + _plan(progress)


def _plan(progress: Progress) -> str:
    """Whether memory suffices, in a line; the memory plan is folded."""
    if not progress.memory:
        return ""
    return (
        f'<details class="plan" data-keep="plan"><summary>{escape(progress.memory)}</summary>'
        f"<p>{escape(progress.details)}</p></details>"
    )


def progress_bar(headline: str, detail: str, share: float | None, say: str | None = None) -> str:
    """Return a progress bar; `share` is from 0 to 1, None if unknown. Screen readers speak `say`, by default
    the headline."""
    percent = None if share is None else round(100 * share)
    value = "" if percent is None else f' aria-valuenow="{percent}"'
    width = "" if percent is None else f' style="width:{percent}%"'
    moving = " bar-waiting" if percent is None else ""
    return (
        f'<div class="progress" data-say="{escape(headline if say is None else say, quote=True)}">'
        f'<div class="progress-words"><strong>{escape(headline)}</strong>'
        f"<span>{escape(detail)}</span></div>"
        f'<div class="bar{moving}" role="progressbar" aria-label="{escape(headline)}" aria-valuemin="0" '
        f'aria-valuemax="100"{value}><div{width}></div></div></div>'
    )


def _plain(message: str, extra: str = "") -> str:
    return f'<div class="note {extra}" data-say>{escape(message)}</div>'


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
