"""The Compare tab: the story of the Story tab with several settings, side by side."""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.PngImagePlugin import PngInfo

from consistory_svd.metadata import replace_file, story_as_dict
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.presets import PRESETS, preset_label
from consistory_svd.settings import Settings
from consistory_svd.studio import compare_html
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import (
    FIGURES,
    MAX_ROWS,
    MIN_ROWS,
    Comparison,
    Figure,
    Snapshot,
    chosen_rows,
    rows_for,
)
from consistory_svd.studio.comparison_image import draw_grid
from consistory_svd.studio.components.fields import (
    HIDDEN,
    NO_QUEUE,
    RAW,
    allow_leaving,
    ask_before_leaving,
    card_title,
    then_always,
)
from consistory_svd.studio.form import anchor_note, error_text, parse
from consistory_svd.studio.services import NOT_WRITABLE, STOP_SECONDS, Services
from consistory_svd.studio.session import Session

log = logging.getLogger(__name__)

CURRENT = "current settings"
NOTHING = "none"
DOWNLOAD = "Download as image"
START_ROWS = ("plain", CURRENT, NOTHING, NOTHING)
LIGHTBOX = (Path(__file__).parents[1] / "static" / "lightbox.js").read_text(encoding="utf-8")
Updates = dict[Any, Any]  # by component


@dataclass(frozen=True)
class RunningComparison:
    """A visitor's comparison, and the folder of its image for download.

    The folder is made at the start: a comparison that is cancelled is drawn twice at once, by Cancel and by
    the handler that still watches it.
    """

    comparison: Comparison
    export_folder: Path


class CompareTab:
    """Layout, events and handlers of the tab."""

    def __init__(self, services: Services, tabs: gr.Tabs) -> None:
        self.services = services
        services.owners.append(self)
        with tabs, gr.Tab("Compare", id="compare") as self.tab:
            self.story = gr.HTML("", elem_id="compare-story", padding=False)
            with gr.Row(equal_height=False, elem_id="compare-choices"):
                with gr.Column(min_width=320), gr.Group(elem_classes="card"):
                    card_title(
                        "Figures", "Compare settings that belong together on your own story, in one click."
                    )
                    self.figures = [_figure_button(figure) for figure in FIGURES]
                with gr.Column(min_width=320), gr.Group(elem_classes="card"):
                    card_title(
                        "Custom comparison",
                        "Two to four presets. All other settings are those of the Story tab. Each row is "
                        "saved to the library.",
                    )
                    with gr.Row():
                        first = [_row_choice(number) for number in (1, 2)]
                    with gr.Row():
                        self.rows = [*first, *(_row_choice(number) for number in (3, 4))]
                    with gr.Row(elem_id="compare-actions"):
                        self.go = gr.Button("Compare", variant="primary", scale=2, elem_id="compare-go")
                        self.stop = gr.Button("Cancel", interactive=False, scale=1, elem_id="compare-cancel")
            self.question = gr.HTML("", elem_id="compare-question", padding=False)
            self.status = gr.HTML(
                view.note("The images will appear here, one row per setting."),
                elem_id="compare-status",
                padding=False,
            )
            self.grid = gr.HTML("", elem_id="compare-grid", padding=False)
            self.download = gr.DownloadButton(
                DOWNLOAD, interactive=False, elem_id="compare-download", size="md"
            )

    @property
    def starts(self) -> list[gr.Button]:
        """The buttons that start a comparison."""
        return [self.go, *self.figures]

    def connect(self, demo: gr.Blocks, form: Mapping[str, Any], scoring: Sequence[Any]) -> None:
        """Connect the events.

        Args:
            form: the widgets of the Story tab's form, by name.
            scoring: its widgets for DreamSim's backbone and for the background fill.
        """
        demo.load(fn=None, js=LIGHTBOX)
        self.tab.select(self.summarise, outputs=self.story, inputs_kwargs=dict(form), **RAW, **NO_QUEUE)
        rows = {f"setting_{number}": widget for number, widget in enumerate(self.rows, start=1)}
        inputs = {**form, **rows, **dict(zip(("backbone", "fill"), scoring, strict=True))}
        outputs = [self.question, self.status, self.grid, self.download, self.stop, *self.starts]
        events = [
            button.click(
                self._start(figure),
                outputs=outputs,
                inputs_kwargs=inputs,
                concurrency_limit=None,
                **RAW,
                **HIDDEN,
            )
            for figure, button in zip((None, *FIGURES), self.starts, strict=True)
        ]
        for button in self.starts:
            button.click(fn=None, js=ask_before_leaving("compare"), **HIDDEN)
        stopped = self.stop.click(
            self.cancel, outputs=outputs, cancels=events, concurrency_limit=None, **HIDDEN
        )
        for event in (*events, stopped):
            then_always(event, fn=None, js=allow_leaving("compare"), **HIDDEN)

    def summarise(self, **form: Any) -> str:
        """Return what would be compared: the story of the form, or why it is invalid."""
        try:
            story, settings = parse(form)
        except ValueError as error:
            return view.alert(error_text(error))
        most = max(form["anchors"], Settings.anchors)  # of the form and of the presets
        fitted = replace(settings, anchors=min(most, len(story.scenes)))
        return compare_html.summary(story, settings, anchor_note(most, story, fitted))

    def _start(self, figure: Figure | None) -> Callable[..., Iterator[Updates]]:
        """Return the handler of a figure's button, or of the custom comparison's (None)."""

        def start(request: gr.Request, **values: Any) -> Iterator[Updates]:
            rows = [values.pop(f"setting_{number}") for number in range(1, MAX_ROWS + 1)]
            scoring = values.pop("backbone"), values.pop("fill")
            yield from self.compare(request, figure, rows, scoring, **values)

        return start

    def compare(
        self,
        request: gr.Request,
        figure: Figure | None,
        rows: Sequence[str],
        scoring: tuple[str, str],
        **form: Any,
    ) -> Iterator[Updates]:
        """Generate the form's story with each setting.

        Args:
            figure: the figure to make; None: `rows` are compared.
            rows: names of presets, CURRENT or NOTHING.
            scoring: DreamSim's backbone, and what replaces the background.

        Raises:
            gr.Error: a field is wrong, or a row failed; images already made are kept.
        """
        services, session = self.services, self.services.sessions.of(request)
        try:
            story, shared = parse(form)
            named = [name for name in rows if name != NOTHING]
            chosen = figure.rows if figure else chosen_rows(named, shared, CURRENT)
            score_settings = ScoreSettings(scoring[0], fill=scoring[1])
            complete = rows_for(story, shared, chosen, services.limits)
            services.manager.queue.check_capacity()
        except ValueError as error:
            yield {self.question: "", self.status: view.alert(error_text(error))}
            raise view.refusal(error_text(error)) from error
        self._forget(session)
        library = services.library_of(request)

        def new_folder(row: str) -> Path:
            return library.new(f"{row} {story.subject}")

        title = figure.title if figure else ""
        comparison = Comparison(services.manager, story, complete, new_folder, score_settings, title)
        running = RunningComparison(comparison, services.storage.export_folder(session, "compare"))
        session.comparison = running
        yield {
            self.question: _question(figure) if figure else "",
            self.status: view.waiting(services.manager.loaded, len(services.manager.queue)),
            self.grid: "",
            **self._buttons(busy=True),
        }
        yield from self._watch(running)

    def cancel(self, request: gr.Request) -> Iterator[Updates]:
        """Stop the visitor's comparison and show what there is."""
        session = self.services.sessions.find(request)
        running = session and session.comparison
        if running is None:
            yield self._buttons(busy=False)
            return
        comparison = running.comparison
        comparison.stop()
        yield {self.status: view.stopping()}
        comparison.join(STOP_SECONDS)
        yield {**self._shown(comparison.snapshot), **self._buttons(busy=False, ended=running)}

    def leave(self, session: Session, remove_from: Path | None) -> Path | None:
        """See `StoryOwner`."""
        comparison = self._forget(session)
        busy = comparison and comparison.current_folder
        if busy and remove_from:
            comparison.remove_files(remove_from)
        return busy

    def is_generating_into(self, folder: Path) -> bool:
        """See `StoryOwner`."""
        running = [session.comparison for session in self.services.sessions.all()]
        return any(one is not None and one.comparison.current_folder == folder for one in running)

    def _watch(self, running: RunningComparison) -> Iterator[Updates]:
        """Yield snapshots as updates; what has not changed is not sent again."""
        comparison = running.comparison
        sent: Updates = {}
        try:
            for snapshot in comparison.watch():
                now = self._shown(snapshot)
                changed = {widget: html for widget, html in now.items() if sent.get(widget) != html}
                sent = now
                if snapshot.over:
                    changed |= self._buttons(busy=False, ended=running)
                yield changed or {self.status: gr.skip()}  # so that the handler can be cancelled
        except (ValueError, OSError) as error:
            text = error_text(error) if isinstance(error, ValueError) else f"{NOT_WRITABLE} {error}"
            yield {self.status: view.alert(text), **self._buttons(busy=False, ended=running)}
            raise view.refusal(text) from error
        finally:
            comparison.stop()  # an abandoned generator ends here, and the work with it
        if comparison.snapshot.failed:
            raise view.refusal(comparison.snapshot.current.error)

    def _shown(self, snapshot: Snapshot) -> Updates:
        return {self.status: compare_html.status(snapshot), self.grid: compare_html.grid(snapshot)}

    def _buttons(self, busy: bool, ended: RunningComparison | None = None) -> Updates:
        file, label = None, DOWNLOAD
        if ended is not None and ended.comparison.snapshot.pictures:
            try:
                file = str(save_grid(ended.comparison.snapshot, ended.export_folder))
            except OSError as error:  # a full disk; or the visitor has left, and the folder is gone
                log.warning("the image of a comparison could not be saved: %s", error)
                label = f"No image to download: {error.strerror or error}"
        return {
            self.download: gr.update(value=file, label=label, interactive=file is not None),
            self.stop: gr.update(interactive=busy),
            **{button: gr.update(interactive=not busy) for button in self.starts},
        }

    @staticmethod
    def _forget(session: Session) -> Comparison | None:
        running, session.comparison = session.comparison, None
        if running is None:
            return None
        running.comparison.stop()
        running.comparison.join(STOP_SECONDS)
        return running.comparison


def save_grid(snapshot: Snapshot, folder: Path) -> Path:
    """Save a comparison as one PNG in `folder`, with the story and its settings as metadata."""
    story = snapshot.story
    title = f"{snapshot.title}. {story.style} {story.subject}".strip(". ")
    sheet = draw_grid(title, story.scene_texts, compare_html.grid_rows(snapshot))
    rows = [{"name": one.row.name, "settings": asdict(one.row.settings)} for one in snapshot.rows]
    info = PngInfo()
    info.add_itxt("comparison", json.dumps({"story": story_as_dict(story), "rows": rows}, ensure_ascii=False))
    content = io.BytesIO()
    sheet.save(content, format="PNG", pnginfo=info)
    path = folder / "comparison.png"
    replace_file(path, content.getvalue())
    return path


def _question(figure: Figure) -> str:
    return f'<p class="question"><strong>{figure.title}.</strong> {figure.question}</p>'


def _figure_button(figure: Figure) -> gr.Button:
    with gr.Row(elem_classes="figure"):
        gr.HTML(
            f"<p><strong>{figure.title}</strong><br>{figure.question}</p>",
            elem_classes="card-title",
            padding=False,
        )
        return gr.Button("Compare", size="md", scale=0, min_width=150, elem_id=f"figure-{figure.key}")


def _row_choice(number: int) -> gr.Dropdown:
    none = [] if number <= MIN_ROWS else [NOTHING]
    return gr.Dropdown(
        [*none, CURRENT, *((preset_label(name), name) for name in PRESETS)],
        value=START_ROWS[number - 1],
        label=f"Row {number}",
        filterable=False,
        min_width=150,
        elem_id=f"compare-{number}",
    )
