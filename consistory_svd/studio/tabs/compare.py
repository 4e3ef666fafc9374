"""The Compare room: the story of the Story room under several settings, side by side."""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from PIL.PngImagePlugin import PngInfo

from consistory_svd.metadata import replace_file, story_as_dict
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.presets import PRESETS, preset_label
from consistory_svd.settings import Settings
from consistory_svd.studio import compare_html as compare_view
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import Comparison, Snapshot, compared
from consistory_svd.studio.comparison_image import draw_grid
from consistory_svd.studio.comparison_rows import FEWEST, MOST, RECIPES, Recipe, chosen_rows
from consistory_svd.studio.components.fields import allow_leaving, ask_before_leaving, card_title
from consistory_svd.studio.form import anchor_note, error_text, parse
from consistory_svd.studio.services import NOT_WRITABLE, STOP_SECONDS, Services
from consistory_svd.studio.session import Session

log = logging.getLogger(__name__)

CURRENT = "as in the Story room"
NOTHING = "nothing"
DOWNLOAD = "Download as one picture"
START_ROWS = ("plain", CURRENT, NOTHING, NOTHING)
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Values reach the library as they came, as in the Story room.
RAW: dict[str, Any] = {"preprocess": False, **HIDDEN}
# The dialog in which pictures of the grid are shown large.
LARGE = (Path(__file__).parents[1] / "static" / "lightbox.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class CompareTab:
    """The room's widgets."""

    tab: gr.Tab
    story: gr.HTML
    recipes: tuple[gr.Button, ...]
    rows: tuple[gr.Dropdown, ...]
    go: gr.Button
    cancel: gr.Button
    look: gr.HTML
    status: gr.HTML
    grid: gr.HTML
    download: gr.DownloadButton

    @property
    def starts(self) -> list[gr.Button]:
        """Everything that starts a comparison."""
        return [self.go, *self.recipes]

    @property
    def shown(self) -> list[Any]:
        """What a comparison changes, in the order of its updates."""
        return [self.look, self.status, self.grid, self.download, self.cancel, *self.starts]


def lay_out(rooms: gr.Tabs) -> CompareTab:
    """The room as a tab of the page, not connected yet."""
    with rooms, gr.Tab("Compare", id="compare") as tab:
        story = gr.HTML("", elem_id="compare-story", padding=False)
        with gr.Row(equal_height=False, elem_id="compare-choices"):
            with gr.Column(min_width=320), gr.Group(elem_classes="card"):
                card_title(
                    "A figure in one click",
                    "Settings that belong side by side, on your own story: after figures of the coursework "
                    "report on the spectral filter (HSE, 2025).",
                )
                recipes = tuple(_recipe(item) for item in RECIPES)
            with gr.Column(min_width=320), gr.Group(elem_classes="card"):
                card_title(
                    "Your own choice",
                    "Two to four settings; all else is as in the Story room. Each comes into the library.",
                )
                with gr.Row():
                    first = [_choice(number) for number in (1, 2)]
                with gr.Row():
                    rows = (*first, *(_choice(number) for number in (3, 4)))
                with gr.Row(elem_id="compare-actions"):
                    go = gr.Button("Compare", variant="primary", scale=2, elem_id="compare-go")
                    cancel = gr.Button("Cancel", interactive=False, scale=1, elem_id="compare-cancel")
        look = gr.HTML("", elem_id="compare-look", padding=False)
        status = gr.HTML(
            view._plain("The pictures will appear here, a row a setting."),
            elem_id="compare-status",
            padding=False,
        )
        grid = gr.HTML("", elem_id="compare-grid", padding=False)
        download = gr.DownloadButton(DOWNLOAD, interactive=False, elem_id="compare-download", size="md")
    return CompareTab(tab, story, recipes, rows, go, cancel, look, status, grid, download)


def _recipe(item: Recipe) -> gr.Button:
    with gr.Row(elem_classes="recipe"):
        gr.HTML(
            f"<p><strong>{item.title}</strong><br>{item.look}</p>", elem_classes="card-title", padding=False
        )
        return gr.Button("Make this figure", size="md", scale=0, min_width=150, elem_id=f"recipe-{item.key}")


def _choice(number: int) -> gr.Dropdown:
    needed = number <= FEWEST
    return gr.Dropdown(
        [*([] if needed else [NOTHING]), CURRENT, *((preset_label(name), name) for name in PRESETS)],
        value=START_ROWS[number - 1],
        label=f"Setting {number}",
        filterable=False,
        min_width=150,
        elem_id=f"compare-{number}",
    )


@dataclass(frozen=True)
class RunningComparison:
    """A visitor's comparison, and the folder in which it is made one picture to take along.

    The folder is its own, and there from the beginning: a comparison that is cancelled is drawn twice at
    once, by what cancels it and by what still watches it.
    """

    comparison: Comparison
    export_folder: Path


class Comparing:
    """The room's handlers."""

    def __init__(self, services: Services, room: CompareTab) -> None:
        self.manager, self.limits = services.manager, services.limits
        self._room = room
        self.services = services
        services.owners.append(self)

    def summarise(self, **form: Any) -> str:
        """What would be compared: the Story room's story, or why it cannot be told."""
        try:
            story, settings = parse(form)
        except ValueError as error:
            return view.alert(error_text(error))
        most = max(form["anchors"], Settings.anchors)  # of the Story room's setting and of the presets
        generated = replace(settings, anchors=min(most, len(story.scenes)))
        return compare_view.summary(story, settings, anchor_note(most, story, generated))

    def starter(self, recipe: Recipe | None) -> Callable[..., Iterator[tuple[Any, ...]]]:
        """The handler of a button that starts a recipe, or the visitor's own choice (None)."""

        def start(request: gr.Request, **values: Any) -> Iterator[tuple[Any, ...]]:
            rows = [values.pop(f"setting_{number}") for number in range(1, MOST + 1)]
            how = values.pop("backbone"), values.pop("fill")
            yield from self.compare(request, recipe, rows, how, **values)

        return start

    def compare(
        self,
        request: gr.Request,
        recipe: Recipe | None,
        rows: Sequence[str],
        how: tuple[str, str],
        **form: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Tell the form's story under each setting: updates of `CompareTab.shown`. `how` is how scores are
        computed: DreamSim's network, and what replaces the background.

        Raises:
            gr.Error: a field is wrong, or a row failed; pictures already made stay.
        """
        session = self.services.sessions.of(request)
        try:
            story, shared = parse(form)
            named = [name for name in rows if name != NOTHING]
            chosen = recipe.rows if recipe else chosen_rows(named, shared, CURRENT)
            scored = ScoreSettings(how[0], fill=how[1])
            generated = compared(story, shared, chosen, self.limits)
            self.manager.queue.check_capacity()
        except ValueError as error:
            yield ("", view.alert(error_text(error)), *[gr.skip()] * (len(self._room.shown) - 2))
            raise view.refusal(error_text(error)) from error
        self._forget(session)
        library, title = self.services.library_of(request), recipe.title if recipe else ""

        def new_folder(row: str) -> Path:
            return library.new(f"{row} {story.subject}")

        comparison = Comparison(self.manager, story, generated, new_folder, scored, title)
        running = RunningComparison(comparison, self.services.storage.export_folder(session, "compare"))
        session.comparison = running
        look = f'<p class="look"><strong>{recipe.title}.</strong> {recipe.look}</p>' if recipe else ""
        yield look, view.waiting(self.manager.loaded, len(self.manager.queue)), "", *self._buttons(True)
        yield from self._updates(running)

    def cancel(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Stop the visitor's comparison and show what there is."""
        session = self.services.sessions.find(request)
        running = session and session.comparison
        if running is None:
            yield (gr.skip(), gr.skip(), gr.skip(), *self._buttons(False))
            return
        comparison = running.comparison
        comparison.stop()
        yield gr.skip(), view.stopping(), *[gr.skip()] * (len(self._room.shown) - 2)
        comparison.join(STOP_SECONDS)
        yield gr.skip(), *self._whole(comparison.snapshot), *self._buttons(False, running)

    def leave(self, session: Session, remove_from: Path | None) -> Path | None:
        """As `StoryOwner` has it."""
        comparison = self._forget(session)
        busy = comparison and comparison.generated_into
        if busy and remove_from:
            comparison.remove_files(remove_from)
        return busy

    def is_generating_into(self, folder: Path) -> bool:
        """As `StoryOwner` has it."""
        running = [session.comparison for session in self.services.sessions.all()]
        return any(one is not None and one.comparison.generated_into == folder for one in running)

    def _updates(self, running: RunningComparison) -> Iterator[tuple[Any, ...]]:
        """Snapshots as updates; what has not changed is not sent again."""
        comparison = running.comparison
        shown: tuple[str, str] = ("", "")
        rest = [gr.skip()] * (len(self._room.shown) - 3)
        try:
            for snapshot in comparison.watch():
                now = self._whole(snapshot)
                yield (
                    gr.skip(),
                    *(gr.skip() if new == old else new for new, old in zip(now, shown, strict=True)),
                    *(self._buttons(False, running) if snapshot.over else rest),
                )
                shown = now
        except (ValueError, OSError) as error:
            said = error_text(error) if isinstance(error, ValueError) else f"{NOT_WRITABLE} {error}"
            yield gr.skip(), view.alert(said), gr.skip(), *self._buttons(False, running)
            raise view.refusal(said) from error
        finally:
            comparison.stop()  # an abandoned generator ends here, and the work with it
        if comparison.snapshot.failed:
            raise view.refusal(comparison.snapshot.current.error)

    def _whole(self, snapshot: Snapshot) -> tuple[str, str]:
        return compare_view.status(snapshot), compare_view.grid(snapshot, self._address)

    @staticmethod
    def _address(path: Path) -> str:
        """Where the page finds a picture: the file as it is, beside the page whatever its own address is."""
        return f"gradio_api/file={quote(path.as_posix())}"

    def _buttons(self, busy: bool, ended: RunningComparison | None = None) -> tuple[Any, ...]:
        """Updates of download, cancel and everything that starts a comparison."""
        file, label = None, DOWNLOAD
        if ended is not None and ended.comparison.snapshot.pictures:
            try:
                file = str(save_grid(ended.comparison.snapshot, ended.export_folder))
            except OSError as error:  # a full disk; or the visitor has gone, and the folder with them
                log.warning("a comparison could not be made one picture: %s", error)
                label = f"No picture to download: {error.strerror or error}"
        return (
            gr.update(value=file, label=label, interactive=file is not None),
            gr.update(interactive=busy),
            *[gr.update(interactive=not busy)] * len(self._room.starts),
        )

    @staticmethod
    def _forget(session: Session) -> Comparison | None:
        running, session.comparison = session.comparison, None
        if running is None:
            return None
        running.comparison.stop()
        running.comparison.join(STOP_SECONDS)
        return running.comparison


def save_grid(snapshot: Snapshot, folder: Path) -> Path:
    """The comparison as one PNG in `folder`, with the story and its settings in its metadata."""
    story = snapshot.story
    title = f"{snapshot.title}. {story.style} {story.subject}".strip(". ")
    sheet = draw_grid(title, story.scene_texts, compare_view.grid_rows(snapshot))
    rows = [{"name": t.row.name, "settings": asdict(t.row.settings)} for t in snapshot.generations]
    info = PngInfo()
    info.add_itxt("comparison", json.dumps({"story": story_as_dict(story), "rows": rows}, ensure_ascii=False))
    content = io.BytesIO()
    sheet.save(content, format="PNG", pnginfo=info)
    path = folder / "comparison.png"
    replace_file(path, content.getvalue())
    return path


def connect(
    demo: gr.Blocks, services: Services, room: CompareTab, form: Mapping[str, Any], how: Sequence[Any]
) -> Comparing:
    """Connect the room, inside the page: `form` are the Story room's boxes by name, `how` its choices of how
    scores are had."""
    comparing = Comparing(services, room)
    demo.load(fn=None, js=LARGE)
    room.tab.select(comparing.summarise, outputs=room.story, inputs_kwargs=dict(form), queue=False, **RAW)
    chosen = {f"setting_{number}": widget for number, widget in enumerate(room.rows, start=1)}
    scoring = dict(zip(("backbone", "fill"), how, strict=True))
    events = [
        button.click(
            comparing.starter(recipe),
            outputs=room.shown,
            inputs_kwargs={**form, **chosen, **scoring},
            concurrency_limit=None,
            **RAW,
        )
        for recipe, button in zip((None, *RECIPES), room.starts, strict=True)
    ]
    for button in room.starts:
        button.click(fn=None, js=ask_before_leaving("compare"), **HIDDEN)
    cancelled = room.cancel.click(
        comparing.cancel, outputs=room.shown, cancels=events, concurrency_limit=None, **HIDDEN
    )
    for event in (*events, cancelled):
        event.then(fn=None, js=allow_leaving("compare"), **HIDDEN)
    return comparing
