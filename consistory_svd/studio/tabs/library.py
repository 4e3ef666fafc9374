"""The room of the library: every story told, to look at, open, compare, take along and delete."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from consistory_svd.library import ORDERS
from consistory_svd.studio import library_html as library_view
from consistory_svd.studio.components.export_panel import ExportWidgets, connect_export, export_widgets
from consistory_svd.studio.components.fields import on_user_input
from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs.library_handlers import MOST, LibraryHandlers
from consistory_svd.studio.tabs.story import StoryTab

NO_QUEUE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
QUEUED: dict[str, Any] = {"concurrency_limit": 2, "show_progress": "hidden", "api_visibility": "private"}
SHOWN_AT_FIRST = 24
# Buttons of a gallery are called "Thumbnail 1 of 9"; a story has a name.
NAME_CARDS = """() => {
  for (const item of document.querySelectorAll("#shelf .thumbnail-item")) {
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


@dataclass(frozen=True)
class LibraryTab:
    """The room's widgets. `names` are of the stories on the shelf, `chosen` is the one that is looked at."""

    tab: gr.Tab
    search: gr.Textbox
    order: gr.Dropdown
    count: gr.HTML
    shelf: gr.Gallery
    more: gr.Button
    names: gr.State
    limit: gr.State
    chosen: gr.State
    message: gr.HTML
    heading: gr.HTML
    story: gr.Column
    pictures: gr.Gallery
    open: gr.Button
    compare_too: gr.Button
    delete: gr.Button
    confirm: gr.Group
    question: gr.HTML
    really: gr.Button
    keep: gr.Button
    scores: gr.HTML
    comparing: gr.Accordion
    compared: gr.Dropdown
    compare: gr.Button
    comparison: gr.HTML
    export: ExportWidgets


def add_library(services: Services, tabs: gr.Tabs, story: StoryTab) -> None:
    """Add the Library tab."""
    with tabs, gr.Tab("Library", id="library") as tab:
        widgets = _lay_out(tab)
    room = LibraryHandlers(services, story, tabs, widgets.message)
    _connect_shelf(room, widgets)
    _connect_story(room, widgets, tabs, story)
    connect_export(
        "library", widgets.export, services.sessions, services.storage, room.folder, [widgets.chosen]
    )


def _lay_out(tab: gr.Tab) -> LibraryTab:
    """The room's widgets, inside the tab."""
    made: dict[str, Any] = {"tab": tab}
    for name, value in {"names": [], "limit": SHOWN_AT_FIRST, "chosen": ""}.items():
        made[name] = gr.State(value)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            with gr.Row(elem_id="library-search"):
                made["search"] = gr.Textbox(
                    label="Search",
                    placeholder="subject, scene, style, preset",
                    max_lines=1,
                    scale=3,
                    min_width=180,
                    elem_id="library-words",
                )
                made["order"] = gr.Dropdown(
                    list(ORDERS),
                    value=ORDERS[0],
                    label="Sort",
                    filterable=False,
                    scale=2,
                    min_width=150,
                    elem_id="library-order",
                )
            made["count"] = gr.HTML("", elem_id="library-count", padding=False)
            made["shelf"] = gr.Gallery(
                label="Stories",
                show_label=False,
                columns=2,
                height="auto",
                object_fit="cover",
                allow_preview=False,
                interactive=False,
                visible=False,
                buttons=[],
                elem_id="shelf",
            )
            made["more"] = gr.Button("Show more", visible=False, elem_id="library-more")
        with gr.Column(scale=7, min_width=320, elem_id="library-story"):
            _lay_story_out(made)
    with gr.Accordion("Compare stories", open=False, elem_id="library-compare") as made["comparing"]:
        made["compared"] = gr.Dropdown(
            [],
            multiselect=True,
            max_choices=MOST,
            label="Stories to compare",
            info="Two to four. They stand in rows, their scenes in columns, scores and differences beside.",
            elem_id="library-compared",
        )
        made["compare"] = gr.Button("Compare side by side", elem_id="library-compare-now")
        made["comparison"] = gr.HTML("", elem_id="library-comparison", padding=False)
    return LibraryTab(**made)


def _lay_story_out(made: dict[str, Any]) -> None:
    made["message"] = gr.HTML("", elem_id="library-message", padding=False)
    made["heading"] = gr.HTML(
        library_view.note(library_view.NOTHING_CHOSEN), elem_id="library-heading", padding=False
    )
    with gr.Column(visible=False) as made["story"]:
        with gr.Row(elem_id="library-actions"):
            made["open"] = gr.Button(
                "Open in Story", variant="primary", min_width=120, elem_id="library-open"
            )
            made["compare_too"] = gr.Button("Compare …", min_width=120, elem_id="library-add")
            made["delete"] = gr.Button("Delete", min_width=90, elem_id="library-delete")
        with gr.Group(visible=False, elem_id="library-confirm") as made["confirm"]:
            made["question"] = gr.HTML("", padding=False)
            with gr.Row():
                made["really"] = gr.Button("Delete for good", variant="stop", elem_id="library-really")
                made["keep"] = gr.Button("Keep it", elem_id="library-keep")
        made["pictures"] = gr.Gallery(
            label="Pictures",
            show_label=False,
            columns=2,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            interactive=False,
            buttons=["download"],
            elem_id="library-pictures",
        )
        made["export"] = export_widgets("library-export")
        made["scores"] = gr.HTML("", elem_id="library-scores", padding=False)


def _connect_shelf(room: LibraryHandlers, widgets: LibraryTab) -> None:
    asked = [widgets.search, widgets.order, widgets.limit]
    shown = [widgets.shelf, widgets.names, widgets.count, widgets.more, widgets.compared]

    def list_again(event: Callable[..., Any], **how: Any) -> None:
        event(room.shelf, asked, shown, **{**QUEUED, **how}).then(fn=None, js=NAME_CARDS, **NO_QUEUE)

    list_again(widgets.tab.select)
    list_again(widgets.search.change, trigger_mode="always_last")
    list_again(on_user_input(widgets.order), trigger_mode="always_last")
    more = widgets.more.click(lambda limit: limit + SHOWN_AT_FIRST, widgets.limit, widgets.limit, **NO_QUEUE)
    list_again(more.then)
    generated = widgets.really.click(room.delete, widgets.chosen, _looked_at(widgets), **QUEUED)
    list_again(generated.then)


def _looked_at(widgets: LibraryTab) -> list[Any]:
    """What `Room.look` gives."""
    return [
        widgets.chosen,
        widgets.message,
        widgets.heading,
        widgets.story,
        widgets.pictures,
        widgets.scores,
        widgets.open,
        widgets.compare_too,
        widgets.confirm,
        widgets.export.part,
    ]


def _connect_story(room: LibraryHandlers, widgets: LibraryTab, tabs: gr.Tabs, story: StoryTab) -> None:
    # A card that is pressed while another one's story is fetched is the one that is meant: each press is
    # answered, one after the other.
    each: dict[str, Any] = {**QUEUED, "concurrency_limit": 1, "trigger_mode": "multiple"}
    seen = widgets.shelf.select(room.choose, widgets.names, _looked_at(widgets), **each)
    seen.then(fn=None, js=SHOW_STORY, **NO_QUEUE)
    widgets.delete.click(room.ask, widgets.chosen, [widgets.question, widgets.confirm], **NO_QUEUE)
    widgets.keep.click(lambda: gr.update(visible=False), outputs=widgets.confirm, **NO_QUEUE)
    opened = widgets.open.click(
        room.open,
        widgets.chosen,
        [
            *(widgets.message, tabs, story.status, story.pictures, story.scores.card, story.masks),
            *story.fill_outputs,
        ],
        **QUEUED,
    )
    opened.then(fn=None, js=TO_TOP, **NO_QUEUE)
    # The parts below the images show another story now.
    opened.success(story.finish, story.form["scenes"], story.finish_outputs, preprocess=False, **NO_QUEUE)
    opened.success(story.scores.offer_weights, outputs=story.scores.weights, **NO_QUEUE)
    pair = [widgets.compared, widgets.chosen]
    added = widgets.compare_too.click(room.add, pair, [widgets.compared, widgets.comparing], **NO_QUEUE)
    added.then(fn=None, js=SHOW_COMPARISON, **NO_QUEUE)
    widgets.compare.click(room.compare, widgets.compared, widgets.comparison, **QUEUED)
