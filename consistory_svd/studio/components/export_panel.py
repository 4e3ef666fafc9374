"""The part of a page that takes a story along: what it becomes, and the file."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from consistory_svd.errors import FieldError
from consistory_svd.export.exporter import FORMATS, ExportSettings, as_one, export
from consistory_svd.export.settings import CAPTIONS, LAYOUTS, MOVING, OWN_LAYOUT, PAPER_LABELS, PLACES
from consistory_svd.fields import field_of
from consistory_svd.studio import html as view
from consistory_svd.studio.session import Sessions
from consistory_svd.studio.visitor_storage import VisitorStorage
from consistory_svd.text_format import format_bytes

log = logging.getLogger(__name__)
FIELDS = ("format", "title", "captions", "place", "layout", "paper", "seconds", "side", "repeat")
# Whose story an export takes: the folder, by who asks and what the inputs hold. ValueError: there is none.
FolderOf = Callable[..., Path]


@dataclass(frozen=True)
class ExportWidgets:
    """The widgets of an export: those of ExportSettings by their names, and the rest."""

    part: gr.Accordion
    boxes: dict[str, Any]
    make: gr.Button
    status: gr.HTML
    file: gr.DownloadButton


def export_widgets(name: str) -> ExportWidgets:
    """Lay an export out, folded. `name` begins the ids of its widgets."""

    def known(field: str, help: bool = True) -> dict[str, Any]:
        about = field_of(ExportSettings, field)
        said = {"info": about.help} if help else {}
        return {"label": about.label, "elem_id": f"{name}-{field}", "min_width": 150, **said}

    start = ExportSettings()
    with gr.Accordion("Take it along", open=False, elem_id=name, elem_classes="export") as part:
        boxes: dict[str, Any] = {}
        with gr.Row():
            boxes["format"] = gr.Dropdown(
                _choices(FORMATS), value=start.format, filterable=False, **known("format")
            )
            boxes["title"] = gr.Textbox("", placeholder="the subject", max_lines=1, **known("title"))
        with gr.Row():
            boxes["captions"] = gr.Radio(_choices(CAPTIONS), value=start.captions, **known("captions"))
            boxes["place"] = gr.Radio(_choices(PLACES), value=start.place, **known("place"))
        with gr.Row():
            boxes["layout"] = gr.Radio(
                [(str(count), count) for count in LAYOUTS],
                value=OWN_LAYOUT[start.format],
                **{**known("layout", help=False), "info": "On each page, at most."},
            )
            boxes["paper"] = gr.Radio(_choices(PAPER_LABELS), value=start.paper, **known("paper"))
        with gr.Row():
            boxes["seconds"] = _number("seconds", start.seconds, known("seconds"))
            boxes["side"] = _number("side", start.side, known("side"))
        boxes["repeat"] = gr.Checkbox(start.repeat, visible=False, **known("repeat"))
        with gr.Row():
            make = gr.Button("Make the file", elem_id=f"{name}-make")
            file = gr.DownloadButton("Download", visible=False, variant="primary", elem_id=f"{name}-file")
        status = gr.HTML("", elem_id=f"{name}-status", padding=False)
    return ExportWidgets(part, {field: boxes[field] for field in FIELDS}, make, status, file)


def connect_export(
    name: str,
    widgets: ExportWidgets,
    sessions: Sessions,
    storage: VisitorStorage,
    folder_of: FolderOf,
    inputs: list[Any],
) -> None:
    """Let the widgets export the story in the folder that `folder_of(request, *inputs)` names; `name` is that
    of the part of the page."""
    boxes = list(widgets.boxes.values())

    def make(request: gr.Request, *values: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Make the file: the status, the button that fetches it, the one that makes it."""
        session = sessions.of(request)
        yield view.making_file(), gr.update(visible=False), gr.update(interactive=False)
        try:
            settings = ExportSettings(**dict(zip(FIELDS, values, strict=False)))
            made = as_one(export(folder_of(request, *values[len(FIELDS) :]), settings))
            path = storage.export_folder(session, name) / made.name
            path.write_bytes(made.content)
        except ValueError as refusal:
            yield view.alert(_in_words(refusal)), gr.update(visible=False), gr.update(interactive=True)
            return
        except OSError as error:  # a picture that went, a full disk
            log.exception("an export failed")
            words = f"The file could not be made: {error}"
            yield view.alert(words), gr.update(visible=False), gr.update(interactive=True)
            return
        label = f"Download {made.name} ({format_bytes(len(made.content))})"
        yield "", gr.update(value=str(path), label=label, visible=True), gr.update(interactive=True)

    widgets.make.click(
        make,
        [*boxes, *inputs],
        [widgets.status, widgets.file, widgets.make],
        concurrency_limit=2,
        concurrency_id="export",
        show_progress="hidden",
        api_visibility="private",
        preprocess=False,
    )
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    used = [widgets.boxes[field] for field in FIELDS if field != "format"]
    widgets.boxes["format"].change(_fitting_boxes, widgets.boxes["format"], used, **quiet)
    # A file belongs to the settings that it was made with.
    gr.on(
        [box.change for box in boxes],
        lambda: ("", gr.update(visible=False)),
        outputs=[widgets.status, widgets.file],
        **quiet,
    )


def _fitting_boxes(form: str) -> list[Any]:
    """Updates of all boxes but the format: those that it has no use for are away."""
    pages, moving, written = form in OWN_LAYOUT, form in MOVING, form != "zip"
    visible = {
        "title": written and not moving,
        "captions": written,
        "place": written,
        "layout": pages,
        "paper": pages,
        "seconds": moving,
        "side": moving,
        "repeat": moving,
    }
    updates = {field: {"visible": on} for field, on in visible.items()}
    if pages:
        updates["layout"]["value"] = OWN_LAYOUT[form]
    return [gr.update(**updates[field]) for field in FIELDS if field != "format"]


def _choices(labels: dict[str, str]) -> list[tuple[str, str]]:
    return [(label, name) for name, label in labels.items()]


def _number(field: str, value: float, looks: dict[str, Any]) -> gr.Slider:
    about = field_of(ExportSettings, field)
    return gr.Slider(about.minimum, about.maximum, value, step=about.step, buttons=[], visible=False, **looks)


def _in_words(refusal: ValueError) -> str:
    if isinstance(refusal, FieldError) and refusal.field in FIELDS:
        return refusal.named(field_of(ExportSettings, refusal.field).label)
    return str(refusal)
