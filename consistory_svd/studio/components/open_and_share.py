"""Fill the form from a `story.json`, from an image's metadata or from a link; and make links."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import UnidentifiedImageError

from consistory_svd.metadata import StoryRecord, read_frame, read_story_json
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.components.fields import NO_QUEUE, RAW
from consistory_svd.studio.form import LINK_PARAMETER, decode_link, encode_link, error_text, parse
from consistory_svd.studio.generated_story import OpenedStory

if TYPE_CHECKING:
    from consistory_svd.studio.services import Services

READ_LINK = f"() => new URLSearchParams(window.location.search).get('{LINK_PARAMETER}') || ''"
# Only the browser knows the page's own address. The button shows for a moment whether the link was copied.
COPY_LINK = f"""async (code) => {{
  if (!code) return [code, "Copy link"];
  const link = window.location.origin + window.location.pathname + "?{LINK_PARAMETER}=" + code;
  let result = "Copied";
  try {{
    await navigator.clipboard.writeText(link);
  }} catch (refused) {{
    result = "Not copied: copy it below";
  }}
  dispatchEvent(new CustomEvent("say", {{detail: `Link: ${{result}}.`}}));
  return [link, result];
}}"""
RESTORE_LABEL = "() => new Promise((done) => setTimeout(() => done('Copy link'), 3000))"
# Files dropped anywhere on the page are given to the button's file input.
ACCEPT_DROPS = """() => {
  if (window.acceptsDrops) return;
  window.acceptsDrops = true;
  const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const onInput = (event) => event.target.closest && event.target.closest("input[type=file]");
  document.addEventListener("dragover", (event) => {
    if (hasFiles(event) && !onInput(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event) || onInput(event) || !event.dataTransfer.files.length) return;
    const input = document.querySelector("#open-and-share input[type=file]");
    if (!input) return;
    event.preventDefault();
    event.stopPropagation();
    const files = new DataTransfer();
    files.items.add(event.dataTransfer.files[0]);
    input.files = files.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  }, true);
}"""
CHANGED_ANCHORS = (
    " An anchor was changed after other images had attended to it. Generate first regenerates the original "
    "anchors without showing them, then the same images. If you change the form, a new story is generated."
)


class OpenAndShare:
    """The buttons below the form.

    Args:
        fill: returns updates of the form for a story and its settings.
    """

    def __init__(
        self, services: "Services", fill: Callable[[Story, Settings], dict[Any, Any]], status: gr.HTML
    ) -> None:
        self._services, self._fill, self._status = services, fill, status
        with gr.Row(elem_id="open-and-share"):
            # Any file type: a wrong one gets a message of ours.
            self.file = gr.UploadButton("Open story.json or image", size="sm", elem_id="story-file")
            self.copy_link = gr.Button("Copy link", size="sm", elem_id="copy-link")
        self.link = gr.Textbox(
            "",
            label="Link to this story",
            info="Opens this page with the current values of the form.",
            visible=False,
            interactive=False,
            max_lines=4,
            buttons=["copy"],
            elem_id="link",
        )

    def connect(self, demo: gr.Blocks, form: dict[str, Any], outputs: list[Any]) -> None:
        """Connect the events. `outputs` are what `fill` updates. Call it inside the page's Blocks."""
        status = self._status
        self.file.upload(self.open_file, self.file, [*outputs, status], **NO_QUEUE)
        demo.load(fn=None, js=ACCEPT_DROPS, **NO_QUEUE)
        demo.load(self.open_link, self.link, [*outputs, status], js=READ_LINK, **NO_QUEUE)
        made = self.copy_link.click(
            self.make_link, inputs_kwargs=form, outputs=[self.link, status], **RAW, **NO_QUEUE
        )
        copied = made.then(
            fn=None, inputs=self.link, outputs=[self.link, self.copy_link], js=COPY_LINK, **NO_QUEUE
        )
        copied.then(fn=None, outputs=self.copy_link, js=RESTORE_LABEL, **NO_QUEUE)

    def open_file(self, file: str | None, request: gr.Request) -> dict[Any, Any]:
        """Return updates of the form and the status for an uploaded file."""
        if file is None:
            return gr.skip()
        path, manager = Path(file), self._services.manager
        try:
            story, settings, model, anchor_story, warning = read_file(path)
        except ValueError as error:
            return {self._status: view.alert(f"{path.name} was not opened: {error}")}
        message = f"Opened {path.name}: {_summary(story)}. Press Generate to generate it."
        if manager.ready and manager.model.name != model:
            message += f" It was made with {model}, so the images will differ."
        opened = anchor_story and OpenedStory(story, settings, anchor_story)
        self._services.sessions.of(request).opened = opened
        message = f"{message}{CHANGED_ANCHORS if opened else ''} {warning}".strip()
        return {**self._fill(story, settings), self._status: view.said(message)}

    def open_link(self, code: str) -> dict[Any, Any]:
        """Return updates of the form and the status for the link in the page's address, if there is one."""
        if not code:
            return gr.skip()
        try:
            story, settings = decode_link(code)
        except ValueError as error:
            return {self._status: view.alert(f"The link was not opened. {error_text(error)}")}
        message = f"Opened the link: {_summary(story)}. Press Generate to generate it."
        return {**self._fill(story, settings), self._status: view.said(message)}

    def make_link(self, **form: Any) -> dict[Any, Any]:
        """Return the code of a link to the form's values; the status says if there can be none."""
        try:
            return {self.link: gr.update(value=encode_link(*parse(form)), visible=True)}
        except ValueError as error:
            return {
                self.link: gr.update(value="", visible=False),
                self._status: view.alert(error_text(error)),
            }


def read_file(path: Path) -> tuple[Story, Settings, str, Story | None, str]:
    """Read a `story.json` or an image of this studio: story, settings, model name, the story that its anchors
    were generated from if it is another one, and a warning about its contents, or "".

    Raises:
        ValueError: it is another file.
    """
    try:
        if path.suffix.lower() == ".json":
            record = read_story_json(path)
        elif path.suffix.lower() == ".png":
            record = read_frame(path)
        else:
            raise ValueError("it must be a story.json or an image (PNG) made by this studio")
    except (UnidentifiedImageError, UnicodeDecodeError, OSError, SyntaxError, RecursionError) as error:
        raise ValueError(f"it is not a valid {path.suffix[1:].upper()} file") from error
    except ValueError as error:
        raise ValueError(error_text(error).replace(str(path), "the file")) from error
    warning = _warning(record) if isinstance(record, StoryRecord) else ""
    return record.story, record.settings, str(record.model), record.anchor_story, warning


def _warning(record: StoryRecord) -> str:
    """Return what of a `story.json` does not fit its story; empty if everything does."""
    warnings = []
    if record.unknown:
        warnings.append(f"Unknown keys were ignored: {', '.join(repr(name) for name in record.unknown)}.")
    prompts = record.story.prompts
    if len(record.prompts) > len(prompts) or set(record.prompts) - set(prompts):
        warnings.append("Its images (frames) do not match its scenes. Only story and settings were read.")
    return " ".join(warnings)


def _summary(story: Story) -> str:
    return f"{story.subject}, {view.pictures_in_words(len(story.scenes))}"
