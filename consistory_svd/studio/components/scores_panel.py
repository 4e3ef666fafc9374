"""Scores of the story on the page: how they are computed, the results, and the download of missing
weights."""

import base64
import io
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from consistory_svd.downloads import DownloadError
from consistory_svd.library import keep_scores
from consistory_svd.metrics.dreamsim_weights import BACKBONES
from consistory_svd.metrics.report import ARROWS, as_json
from consistory_svd.metrics.result import ALIGNMENT, CONSISTENCY, Frames, MissingScore, Result
from consistory_svd.metrics.settings import FILLS, ScoreSettings
from consistory_svd.metrics.weights import NAMES, SIZES, fetch_weights, fetchable
from consistory_svd.studio import html as view
from consistory_svd.studio.components.fields import HIDDEN, NO_QUEUE, on_user_input
from consistory_svd.studio.generated_story import Picture
from consistory_svd.studio.services import Services
from consistory_svd.text_format import format_progress

log = logging.getLogger(__name__)
THUMBNAIL_PIXELS = 56


class ScoresPanel:
    """The part below the images. Scores are computed after a story; the images do not wait for them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._download = WeightsDownload()
        self.card = gr.HTML("", elem_id="scores", padding=False)
        self.fetch_button = gr.Button("Download weights", visible=False, elem_id="fetch")
        self.fetch_status = gr.HTML("", elem_id="fetch-status", padding=False)
        with gr.Accordion("Score settings", open=False, elem_id="score-settings"):
            self.backbone = gr.Dropdown(
                list(BACKBONES),
                value=ScoreSettings.backbone,
                label="DreamSim backbone",
                info="Papers use ensemble; clip_vitb32 is several times as fast. Their scores differ.",
                elem_id="backbone",
            )
            self.fill = gr.Radio(
                list(FILLS),
                value=ScoreSettings.fill,
                label="Background",
                info="Replaces the background when the subject is scored alone. Papers use noise.",
                elem_id="fill",
            )

    @property
    def settings(self) -> list[Any]:
        """The components that say how scores are computed."""
        return [self.backbone, self.fill]

    @property
    def weights(self) -> list[Any]:
        """The components that `offer_weights` updates."""
        return [self.fetch_button, self.fetch_status]

    def connect(self) -> list[Any]:
        """Connect the events of this part. Return the ones that compute scores."""
        scored = [self.score_after(on_user_input(choice)) for choice in self.settings]
        fetched = self.fetch_button.click(
            self.fetch, self.settings, self.weights, concurrency_limit=None, **HIDDEN
        )
        return [*scored, self.score_after(fetched.success)]

    def score_after(self, event: Any) -> Any:
        """Compute scores after an event. Return the event in which that happens."""
        scored = event(
            self.score,
            self.settings,
            self.card,
            concurrency_limit=1,
            concurrency_id="scores",
            **HIDDEN,
        )
        scored.success(self.offer_weights, outputs=self.weights, **NO_QUEUE)
        return scored

    def score(self, backbone: str, fill: str, request: gr.Request) -> Iterator[str]:
        """Score the visitor's finished story; report each score as soon as it is known."""
        session = self._services.sessions.find(request)
        generated = session and session.generated
        if not generated or not generated.pictures or session.is_generating or session.failed:
            return
        pictures = generated.pictures
        note = excluded_note(pictures)
        if not scorable(pictures):
            yield view.note(note)
            return
        yield view.note("Computing scores.")
        settings = ScoreSettings(backbone, fill=fill, device=self._services.manager.scores_on)
        suite, entries = session.suite_for(settings), []
        frames = load_frames(pictures, generated.is_embedded)
        try:
            for entry in suite.measure(frames):
                if session.is_generating or session.generated.pictures != pictures:
                    yield ""  # the page shows a newer story
                    return
                entries.append(entry)
                yield scores_html(entries, frames, note)
        finally:
            suite.free()  # the next story needs the memory
        session.missing_weights = fetchable(entries)
        try:
            keep_scores(generated.folder, [picture.path for picture in pictures], as_json(entries))
        except OSError:  # the story was deleted, or the disk is full; the page has the scores
            log.warning("the scores of %s could not be saved", generated.folder.name, exc_info=True)

    def offer_weights(self, request: gr.Request) -> dict[Any, Any]:
        """Return updates of the download button, which is shown if weights for the visitor's scores are
        missing."""
        session = self._services.sessions.find(request)
        missing = session.missing_weights if session else ()
        if not missing:
            return {self.fetch_button: gr.update(visible=False), self.fetch_status: ""}
        *first, last = (NAMES[name] for name in missing)
        names = f"{', '.join(first)} and {last}" if first else last
        sizes = ", ".join(f"{NAMES[name]} {SIZES[name]}" for name in missing)
        return {
            self.fetch_button: gr.update(visible=True, value=f"Download {names}"),
            self.fetch_status: view.note(f"Downloads once, and stays on this machine: {sizes}."),
        }

    def fetch(self, backbone: str, fill: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Download the missing weights and report progress.

        Raises:
            gr.Error: it failed; the status has said so before.
        """
        missing = self._services.sessions.of(request).missing_weights
        self._download.start(missing, ScoreSettings(backbone, fill=fill))
        error = ""
        for state in self._download.watch():
            error = state.error
            yield {
                self.fetch_button: gr.update(interactive=state.over),
                self.fetch_status: download_html(state),
            }
        if error:
            raise view.refusal("The weights could not be downloaded.")


@dataclass(frozen=True)
class DownloadState:
    """State of a download: a key of NAMES, bytes so far and in total (None if unknown), how it ended."""

    name: str
    done: int = 0
    total: int | None = None
    over: bool = False
    error: str = ""


class WeightsDownload:
    """A download in a thread, shared by all visitors. It continues when a page is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._state: DownloadState | None = None

    def start(self, names: Sequence[str], settings: ScoreSettings) -> None:
        """Start to download; does nothing while a download runs, or if there is nothing to download."""
        with self._changed:
            if not names or (self._state is not None and not self._state.over):
                return
            self._state = DownloadState(names[0])
        threading.Thread(target=self._work, args=(names, settings), name="fetch", daemon=True).start()

    def watch(self, tick: float = 0.5) -> Iterator[DownloadState]:
        """Yield the state of the current or last download every `tick` seconds, and when it is over."""
        seen = None
        while self._state is not None and (seen is None or not seen.over):
            with self._changed:
                self._changed.wait_for(lambda: self._state.over, 0 if seen is None else tick)
                seen = self._state
            yield seen

    def _work(self, names: Sequence[str], settings: ScoreSettings) -> None:
        name, error = names[0], ""
        try:
            for name in names:
                fetch_weights(name, settings, partial(self._update, name))
        except DownloadError as failure:
            error = str(failure)
        except Exception as failure:  # top of the thread: the page has to report it, whatever it is
            log.exception("downloading weights failed")
            error = f"{type(failure).__name__}: {failure}"
        self._update(name, 0, None, over=True, error=error)

    def _update(self, *progress: Any, **ended: Any) -> None:
        with self._changed:
            self._state = DownloadState(*progress, **ended)
            self._changed.notify_all()


def download_html(state: DownloadState) -> str:
    """Return the state of a download as HTML."""
    name = NAMES[state.name]
    if state.error:
        reason = state.error.removeprefix("weights: ")
        return view.alert(
            f"{name} could not be downloaded. {reason}. Check the network, then press the button again. "
            "Images and all other scores are not affected."
        )
    if state.over:
        return view.note("The weights are downloaded.")
    detail = format_progress(state.done, state.total) if state.done or state.total else "Connecting"
    return view.progress_bar(f"Downloading {name}", detail, state.done / state.total if state.total else None)


def scorable(pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures that can be scored: all but filtered ones, which are blank."""
    return [picture for picture in pictures if not picture.filtered]


def excluded_note(pictures: Sequence[Picture]) -> str:
    """Return the note on pictures that are not scored; empty if all are."""
    count = len(pictures) - len(scorable(pictures))
    if not count:
        return ""
    if count == len(pictures):
        return "No scores: all images were removed by the content filter."
    return f"{count} filtered {'image is' if count == 1 else 'images are'} excluded from the scores."


def load_frames(pictures: Sequence[Picture], storybook: bool) -> Frames:
    """Return images, prompts and masks of a story as scores take them, without filtered ones.

    Args:
        storybook: whether the embedded storybook model generated them.

    Raises:
        ValueError: nothing is left.
    """
    pictures = scorable(pictures)
    return Frames(
        images=tuple(_read(picture.path, "RGB") for picture in pictures),
        prompts=tuple(picture.prompt for picture in pictures),
        masks=tuple(picture.mask and _read(picture.mask, "L") for picture in pictures),
        storybook=storybook,
    )


def scores_html(entries: Sequence[Result | MissingScore], frames: Frames, note: str = "") -> str:
    """Return all that is known of a story's scores as HTML. `note` is from `excluded_note`."""
    results = {entry.name: entry for entry in entries if isinstance(entry, Result)}
    similarity = next((results[name] for name in CONSISTENCY if name in results), None)
    alignment = next((results[name] for name in ALIGNMENT if name in results), None)
    headlines = [result for result in (similarity, alignment) if result]
    return view.render(
        "scores.html",
        results=list(results.values()),
        missing=[entry for entry in entries if isinstance(entry, MissingScore)],
        similarity=similarity,
        alignment=alignment,
        headlines=headlines,
        thumbnails=[_thumbnail(image) for image in frames.images],
        cells=[[(value, _shade(value, similarity.better)) for value in row] for row in similarity.matrix]
        if similarity
        else (),
        notes=dict.fromkeys(text for result in results.values() for text in result.notes),
        note=note,
        say=", ".join(f"{result.name} {result.value:.3f}" for result in headlines),
        arrows=ARROWS,
    )


def _shade(value: float, better: str) -> float:
    """Return the opacity of a cell: the more similar a pair, the stronger."""
    return 0.6 * min(max(value if better == "higher" else 1 - value, 0.0), 1.0)


def _read(path: Path, mode: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert(mode)


def _thumbnail(image: Image.Image) -> str:
    """Return a small version of an image as a data URL."""
    small, file = image.copy(), io.BytesIO()
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
