"""The Library tab: every saved story, to search, open, compare, export and delete."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from consistory_svd.library import ORDERS, KeptStory, found, ordered
from consistory_svd.metrics.report import from_json
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.metrics.weights import fetchable
from consistory_svd.studio import html as view
from consistory_svd.studio import library_html
from consistory_svd.studio.components.export_panel import ExportWidgets, connect_export, export_widgets
from consistory_svd.studio.components.fields import HIDDEN, NO_QUEUE, on_user_input
from consistory_svd.studio.components.scores_panel import excluded_note, load_frames, scores_html
from consistory_svd.studio.generated_story import GeneratedStory, OpenedStory
from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs.story import StoryTab
from consistory_svd.thumbnails import UNREADABLE, blank, cover

log = logging.getLogger(__name__)
QUEUED: dict[str, Any] = {"concurrency_limit": 2, **HIDDEN}
PAGE_SIZE = 24
MIN_STORIES, MAX_STORIES = 2, 4  # of a comparison
# A gallery names its buttons "Thumbnail 1 of 9"; a story has a name.
NAME_CARDS = """() => {
  for (const item of document.querySelectorAll("#library-stories .thumbnail-item")) {
    const caption = item.querySelector(".caption-label");
    if (caption) item.setAttribute("aria-label", caption.textContent.trim());
  }
}"""
SHOW_STORY = """() => {
  const story = document.getElementById("library-story");
  const box = story.getBoundingClientRect();
  if (box.top < 0 || box.top > window.innerHeight - 200) story.scrollIntoView({block: "start"});
}"""
SHOW_COMPARISON = """() => document.getElementById("library-compare").scrollIntoView({block: "nearest"})"""
TO_TOP = "() => window.scrollTo({top: 0})"
Updates = dict[Any, Any]  # by component


class LibraryTab:
    """Layout, events and handlers of the tab."""

    def __init__(self, services: Services, tabs: gr.Tabs, story_tab: StoryTab) -> None:
        self.services, self.tabs, self.story_tab = services, tabs, story_tab
        with tabs, gr.Tab("Library", id="library") as self.tab:
            self.names, self.limit = gr.State([]), gr.State(PAGE_SIZE)
            self.selected = gr.State("")  # the name of the story that is shown
            with gr.Row(equal_height=False):
                with gr.Column(scale=6, min_width=320):
                    self._lay_out_list()
                with gr.Column(scale=7, min_width=320, elem_id="library-story"):
                    self._lay_out_story()
            self._lay_out_comparison()

    def _lay_out_list(self) -> None:
        with gr.Row(elem_id="library-search"):
            self.search = gr.Textbox(
                label="Search",
                placeholder="subject, scene, style, preset",
                max_lines=1,
                scale=3,
                min_width=180,
                elem_id="library-query",
            )
            self.order = gr.Dropdown(
                list(ORDERS),
                value=ORDERS[0],
                label="Sort",
                filterable=False,
                scale=2,
                min_width=150,
                elem_id="library-order",
            )
        self.count = gr.HTML("", elem_id="library-count", padding=False)
        self.stories = gr.Gallery(
            label="Stories",
            show_label=False,
            columns=2,
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            visible=False,
            buttons=[],
            elem_id="library-stories",
        )
        self.more = gr.Button("Show more", visible=False, elem_id="library-more")

    def _lay_out_story(self) -> None:
        self.message = gr.HTML("", elem_id="library-message", padding=False)
        self.heading = gr.HTML(
            view.note(library_html.NOTHING_SELECTED), elem_id="library-heading", padding=False
        )
        with gr.Column(visible=False) as self.story:
            with gr.Row(elem_id="library-actions"):
                self.open_button = gr.Button(
                    "Open in Story", variant="primary", min_width=120, elem_id="library-open"
                )
                self.add_button = gr.Button("Compare …", min_width=120, elem_id="library-add")
                self.delete_button = gr.Button("Delete", min_width=90, elem_id="library-delete")
            with gr.Group(visible=False, elem_id="library-confirm") as self.confirm:
                self.question = gr.HTML("", padding=False)
                with gr.Row():
                    self.really = gr.Button("Delete permanently", variant="stop", elem_id="library-really")
                    self.keep = gr.Button("Keep", elem_id="library-keep")
            self.pictures = gr.Gallery(
                label="Images",
                show_label=False,
                columns=2,
                fit_columns=False,
                height="auto",
                object_fit="contain",
                interactive=False,
                buttons=["download"],
                elem_id="library-pictures",
            )
            self.export: ExportWidgets = export_widgets("library-export")
            self.scores = gr.HTML("", elem_id="library-scores", padding=False)

    def _lay_out_comparison(self) -> None:
        with gr.Accordion("Compare stories", open=False, elem_id="library-compare") as self.comparing:
            self.compared = gr.Dropdown(
                [],
                multiselect=True,
                max_choices=MAX_STORIES,
                label="Stories to compare",
                info="Two to four. One row per story, one column per scene, with scores and differences.",
                elem_id="library-compared",
            )
            self.compare_button = gr.Button("Compare side by side", elem_id="library-compare-now")
            self.comparison = gr.HTML("", elem_id="library-comparison", padding=False)

    def connect(self) -> None:
        """Connect the events."""
        self._connect_list()
        self._connect_story()
        services = self.services
        connect_export(
            "library", self.export, services.sessions, services.storage, self.folder, [self.selected]
        )

    def _connect_list(self) -> None:
        inputs = [self.search, self.order, self.limit]
        outputs = [self.stories, self.names, self.count, self.more, self.compared]

        def list_on(event: Callable[..., Any], **options: Any) -> None:
            listed = event(self.list_stories, inputs, outputs, **{**QUEUED, **options})
            listed.then(fn=None, js=NAME_CARDS, **NO_QUEUE)

        list_on(self.tab.select)
        list_on(self.search.change, trigger_mode="always_last")
        list_on(on_user_input(self.order), trigger_mode="always_last")
        more = self.more.click(lambda limit: limit + PAGE_SIZE, self.limit, self.limit, **NO_QUEUE)
        list_on(more.then)
        deleted = self.really.click(self.delete, self.selected, self._story_parts, **QUEUED)
        list_on(deleted.then)

    @property
    def _story_parts(self) -> list[Any]:
        """The components that show the selected story."""
        return [
            *(self.selected, self.message, self.heading, self.story, self.pictures, self.scores),
            *(self.open_button, self.add_button, self.confirm, self.export.part),
        ]

    def _connect_story(self) -> None:
        # A second story may be clicked before the first one is shown: each click counts, one after the other.
        each: dict[str, Any] = {**QUEUED, "concurrency_limit": 1, "trigger_mode": "multiple"}
        shown = self.stories.select(self.select, self.names, self._story_parts, **each)
        shown.then(fn=None, js=SHOW_STORY, **NO_QUEUE)
        self.delete_button.click(self.ask, self.selected, [self.question, self.confirm], **NO_QUEUE)
        self.keep.click(lambda: gr.update(visible=False), outputs=self.confirm, **NO_QUEUE)
        story_tab = self.story_tab
        opened = self.open_button.click(
            self.open,
            self.selected,
            [
                *(self.message, self.tabs, story_tab.status, story_tab.pictures, story_tab.scores.card),
                *(story_tab.masks, *story_tab.fill_outputs),
            ],
            **QUEUED,
        )
        opened.then(fn=None, js=TO_TOP, **NO_QUEUE)
        # The parts below the images show another story now.
        opened.success(
            story_tab.finish,
            story_tab.form["scenes"],
            story_tab.finish_outputs,
            preprocess=False,
            **NO_QUEUE,
        )
        opened.success(story_tab.scores.offer_weights, outputs=story_tab.scores.weights, **NO_QUEUE)
        pair = [self.compared, self.selected]
        added = self.add_button.click(self.add, pair, [self.compared, self.comparing], **NO_QUEUE)
        added.then(fn=None, js=SHOW_COMPARISON, **NO_QUEUE)
        self.compare_button.click(self.compare, self.compared, self.comparison, **QUEUED)

    # -- handlers ------------------------------------------------------------------------------------------

    def folder(self, request: gr.Request, name: str) -> Path:
        """Return the folder of a visitor's story. ValueError if there is none of that name."""
        return self._get(request, name).folder

    def list_stories(self, query: str, order: str, limit: int, request: gr.Request) -> Updates:
        """Show the stories that match a query."""
        library = self.services.library_of(request)
        stories, query = library.stories(), str(query or "")
        matching = ordered(found(stories, query), order)
        shown = matching[:limit]
        choices = [(library_html.card(story), story.name) for story in stories if story.pictures]
        return {
            self.stories: gr.update(
                value=[_card(story) for story in shown], visible=bool(shown), selected_index=None
            ),
            self.names: [story.name for story in shown],
            self.count: view.note(library.note) + library_html.counted(len(shown), len(matching), query),
            self.more: gr.update(visible=len(shown) < len(matching)),
            self.compared: gr.update(choices=choices),
        }

    def select(self, names: list[str], request: gr.Request, event: gr.SelectData) -> Updates:
        """Show the story whose cover was clicked."""
        return self.show(names[event.index], request)

    def show(self, name: str, request: gr.Request) -> Updates:
        """Show a story."""
        try:
            story = self._get(request, name)
        except ValueError as error:
            return self._nothing(view.alert(str(error)))
        has_images = bool(story.pictures)
        captions = map(view.caption, story.scenes, story.filtered) if has_images else ()
        pictures = list(zip(map(str, story.pictures), captions, strict=True)) if has_images else []
        return {
            self.selected: name,
            self.message: "",
            self.heading: library_html.heading(story),
            self.story: gr.update(visible=True),
            self.pictures: gr.update(value=pictures, visible=has_images, selected_index=None),
            self.scores: _scores(story),
            self.open_button: gr.update(interactive=has_images),
            self.add_button: gr.update(interactive=has_images),
            self.confirm: gr.update(visible=False),
            self.export.part: gr.update(visible=has_images),
        }

    def _nothing(self, message: str) -> Updates:
        return {
            self.selected: "",
            self.message: message,
            self.heading: view.note(library_html.NOTHING_SELECTED),
            self.story: gr.update(visible=False),
            self.pictures: gr.update(value=[]),
            self.scores: "",
            self.confirm: gr.update(visible=False),
        }

    def ask(self, name: str, request: gr.Request) -> Updates:
        """Ask for confirmation before a story is deleted."""
        try:
            story = self._get(request, name)
        except ValueError as error:
            return {self.question: view.alert(str(error)), self.confirm: gr.update(visible=True)}
        images = view.count_images(len(story.pictures))
        which = f"“{story.title}”, generated {library_html.date(story)}, with its {images}"
        question = view.alert(f"Delete {which}? This cannot be undone.")
        return {self.question: question, self.confirm: gr.update(visible=True)}

    def delete(self, name: str, request: gr.Request) -> Updates:
        """Delete a story."""
        library = self.services.library_of(request)
        try:
            story = library.get(name)
            if self.services.is_generating_into(story.folder):
                raise ValueError(
                    "The story is still being generated. Cancel it first, or wait until it is done."
                )
            library.delete(name)
        except (ValueError, OSError) as error:
            text = str(error)
            if isinstance(error, OSError):
                log.exception("deleting a story failed")
                text = f"The story could not be deleted: {error.strerror or error}"
            return {self.message: view.alert(text), self.confirm: gr.update(visible=False)}
        self.services.forget_folder(story.folder)
        return self._nothing(view.note(f"“{story.title}” was deleted."))

    def open(self, name: str, request: gr.Request) -> Updates:
        """Open a story in the Story tab."""
        services, tab = self.services, self.story_tab
        try:
            story = self._get(request, name)
            if not story.pictures:
                raise ValueError(f"It has no images to open. {story.problem}")
            if services.is_generating(request):
                raise ValueError(
                    "Your story is still being generated. Cancel it first, or wait until it is done."
                )
            if services.is_generating_into(story.folder):
                raise ValueError("The story is still being generated on another page. Wait until it is done.")
            generated, scores = GeneratedStory.from_saved(story), _scores(story)
        except (ValueError, *UNREADABLE) as error:
            return {self.message: view.alert(str(error))}
        session, record = services.sessions.of(request), story.record
        session.show(generated)
        session.show_masks, session.missing_weights = False, fetchable(_entries(story))
        anchors = record.anchor_story
        session.opened = anchors and OpenedStory(record.story, record.settings, anchors)
        images = view.count_images(len(story.pictures))
        status = view.join(
            f"Opened from the library: generated {library_html.date(story)}, {images}.",
            view.filtered_text(generated.pictures),
            services.manager.refuses(generated),
        )
        return {
            self.message: "",
            self.tabs: gr.update(selected="story"),
            tab.status: view.note(status),
            tab.pictures: view.gallery_items(generated.pictures),
            tab.scores.card: scores,
            tab.masks: False,
            **tab.fill(record.story, record.settings),
        }

    def add(self, names: list[str] | None, name: str) -> Updates:
        """Add a story to the comparison."""
        names = names or []
        if name and name not in names and len(names) < MAX_STORIES:
            names = [*names, name]
        return {self.compared: names, self.comparing: gr.update(open=True)}

    def compare(self, names: list[str] | None, request: gr.Request) -> str:
        """Return stories side by side."""
        names = names or []
        if not MIN_STORIES <= len(names) <= MAX_STORIES:
            return view.alert(f"Choose {MIN_STORIES} to {MAX_STORIES} stories to compare, got {len(names)}.")
        try:
            stories = [self._get(request, name) for name in names]
        except ValueError as error:
            return view.alert(str(error))
        for story in stories:
            if not story.pictures:
                return view.alert(f"{story.title} has no images to compare. {story.problem}")
        return library_html.compared(stories, [_entries(story) for story in stories])

    def _get(self, request: gr.Request, name: str) -> KeptStory:
        if not name:
            raise ValueError("Select a story first.")
        return self.services.library_of(request).get(name)


def _card(story: KeptStory) -> tuple[Any, str]:
    try:
        picture = cover(story)
    except UNREADABLE:
        picture = None
    return (str(picture) if picture else blank()), library_html.card(story)


def _entries(story: KeptStory) -> list[Result | MissingScore]:
    """Return the scores saved with a story; none if they cannot be read."""
    try:
        return from_json(story.scores) if story.scores else []
    except ValueError:
        return []


def _scores(story: KeptStory) -> str:
    """Return the scores saved with a story; empty if there are none for its images."""
    if story.scores is None:
        return ""
    pictures = GeneratedStory.from_saved(story).pictures
    try:
        frames, note = load_frames(pictures, story.record.is_embedded), excluded_note(pictures)
        return scores_html(from_json(story.scores), frames, note)
    except (ValueError, *UNREADABLE) as error:
        return view.note(f"The scores of this story cannot be shown: {error}")
