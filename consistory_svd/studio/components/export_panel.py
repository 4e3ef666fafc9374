"""The export panel: a story as a PDF, comic pages, an animation or a ZIP file."""

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
from consistory_svd.studio.components.fields import HIDDEN, NO_QUEUE
from consistory_svd.studio.session import Sessions
from consistory_svd.studio.visitor_storage import VisitorStorage
from consistory_svd.text_format import format_bytes

log = logging.getLogger(__name__)
FIELDS = ("format", "title", "captions", "place", "layout", "paper", "seconds", "side", "repeat")
Updates = dict[Any, Any]  # by component


@dataclass(frozen=True)
class ExportWidgets:
    """The widgets of an export; `boxes` are those of ExportSettings by name."""

    part: gr.Accordion
    boxes: dict[str, Any]
    make: gr.Button
    status: gr.HTML
    file: gr.DownloadButton


def export_widgets(name: str) -> ExportWidgets:
    """Lay out a closed export panel. The ids of its widgets begin with `name`."""

    def known(field: str, **changes: Any) -> dict[str, Any]:
        about = field_of(ExportSettings, field)
        defaults = {"label": about.label, "info": about.help, "elem_id": f"{name}-{field}"}
        return {**defaults, "min_width": 150, **changes}

    def radio(field: str, choices: list[tuple[str, Any]], value: Any, **changes: Any) -> gr.Radio:
        return gr.Radio(choices, value=value, **known(field, **changes))

    def slider(field: str, value: float) -> gr.Slider:
        about = field_of(ExportSettings, field)
        limits = {"minimum": about.minimum, "maximum": about.maximum, "step": about.step}
        return gr.Slider(value=value, buttons=[], visible=False, **limits, **known(field))

    start = ExportSettings()
    with gr.Accordion("Export", open=False, elem_id=name, elem_classes="export") as part:
        boxes: dict[str, Any] = {}
        with gr.Row():
            boxes["format"] = gr.Dropdown(
                _choices(FORMATS), value=start.format, filterable=False, **known("format")
            )
            boxes["title"] = gr.Textbox("", placeholder="the subject", max_lines=1, **known("title"))
        with gr.Row():
            boxes["captions"] = radio("captions", _choices(CAPTIONS), start.captions)
            boxes["place"] = radio("place", _choices(PLACES), start.place)
        with gr.Row():
            layouts = [(str(count), count) for count in LAYOUTS]
            boxes["layout"] = radio("layout", layouts, OWN_LAYOUT[start.format], info="The maximum per page.")
            boxes["paper"] = radio("paper", _choices(PAPER_LABELS), start.paper)
        with gr.Row():
            boxes["seconds"] = slider("seconds", start.seconds)
            boxes["side"] = slider("side", start.side)
        boxes["repeat"] = gr.Checkbox(start.repeat, visible=False, **known("repeat"))
        with gr.Row():
            make = gr.Button("Create file", elem_id=f"{name}-make")
            file = gr.DownloadButton("Download", visible=False, variant="primary", elem_id=f"{name}-file")
        status = gr.HTML("", elem_id=f"{name}-status", padding=False)
    return ExportWidgets(part, {field: boxes[field] for field in FIELDS}, make, status, file)


def connect_export(
    name: str,
    widgets: ExportWidgets,
    sessions: Sessions,
    storage: VisitorStorage,
    folder_of: Callable[..., Path],
    inputs: list[Any],
) -> None:
    """Connect the panel.

    Args:
        name: of this panel; each has one file for download.
        folder_of: returns the story's folder, given the request and the values of `inputs`, or raises
            ValueError if there is no story.
    """
    boxes, settings_boxes = list(widgets.boxes.values()), widgets.boxes

    def make(request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = sessions.of(request)  # before the first answer: an invalid hash gets none
        hidden = gr.update(visible=False)
        yield {
            widgets.status: view.making_file(),
            widgets.file: hidden,
            widgets.make: gr.update(interactive=False),
        }
        status, file = "", hidden
        try:
            settings = ExportSettings(**dict(zip(FIELDS, values, strict=False)))
            made = as_one(export(folder_of(request, *values[len(FIELDS) :]), settings))
            path = storage.export_folder(session, name) / made.name
            path.write_bytes(made.content)
            label = f"Download {made.name} ({format_bytes(len(made.content))})"
            file = gr.update(value=str(path), label=label, visible=True)
        except ValueError as error:
            status = view.alert(_text(error))
        except OSError as error:  # an image was deleted, or the disk is full
            log.exception("an export failed")
            status = view.alert(f"The file could not be created: {error}")
        yield {widgets.status: status, widgets.file: file, widgets.make: gr.update(interactive=True)}

    def show_boxes(form: str) -> Updates:
        """Show the settings that the format uses."""
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
        updates = {settings_boxes[field]: gr.update(visible=shown) for field, shown in visible.items()}
        if pages:
            updates[settings_boxes["layout"]] = gr.update(visible=True, value=OWN_LAYOUT[form])
        return updates

    widgets.make.click(
        make,
        [*boxes, *inputs],
        [widgets.status, widgets.file, widgets.make],
        concurrency_limit=2,
        concurrency_id="export",
        preprocess=False,
        **HIDDEN,
    )
    settings_boxes["format"].change(show_boxes, settings_boxes["format"], boxes, **NO_QUEUE)
    # A file belongs to the settings that it was made with.
    gr.on(
        [box.change for box in boxes],
        lambda: {widgets.status: "", widgets.file: gr.update(visible=False)},
        outputs=[widgets.status, widgets.file],
        **NO_QUEUE,
    )


def _choices(labels: dict[str, str]) -> list[tuple[str, str]]:
    return [(label, name) for name, label in labels.items()]


def _text(error: ValueError) -> str:
    if isinstance(error, FieldError) and error.field in FIELDS:
        return error.named(field_of(ExportSettings, error.field).label)
    return str(error)
