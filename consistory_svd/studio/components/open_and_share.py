"""Stories that come back: from a `story.json`, from a picture's metadata, or from a link."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import UnidentifiedImageError

from consistory_svd.metadata import StoryRecord, read_frame, read_story_json
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio import links
from consistory_svd.studio.form import in_words, read_form
from consistory_svd.studio.generated_story import OpenedStory
from consistory_svd.studio.layout import FORM, Form, StoryTab, form_updates
from consistory_svd.studio.model_manager import ModelManager

READ_LINK = f"() => new URLSearchParams(window.location.search).get('{links.PARAMETER}') || ''"
# Made in the browser: only there is the page's own address known, whatever stands before the server.
# Whether it was copied stands on the button for a moment, and is spoken.
WRITE_LINK = f"""async (code) => {{
  if (!code) return [code, "Copy link"];
  const link = window.location.origin + window.location.pathname + "?{links.PARAMETER}=" + code;
  let said = "Copied";
  try {{
    await navigator.clipboard.writeText(link);
  }} catch (refused) {{
    said = "Not copied: take it from below";
  }}
  dispatchEvent(new CustomEvent("say", {{detail: `The link. ${{said}}.`}}));
  return [link, said];
}}"""
SAY_NO_MORE = "() => new Promise((done) => setTimeout(() => done('Copy link'), 3000))"
# Files that are dropped anywhere on the page go where the button's files go.
TAKE_DROPS = """() => {
  if (window.storyDrops) return;
  window.storyDrops = true;
  const withFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const elsewhere = (event) => event.target.closest && event.target.closest("input[type=file]");
  document.addEventListener("dragover", (event) => {
    if (withFiles(event) && !elsewhere(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!withFiles(event) || elsewhere(event) || !event.dataTransfer.files.length) return;
    const input = document.querySelector("#carriers input[type=file]");
    if (!input) return;
    event.preventDefault();
    event.stopPropagation();
    const files = new DataTransfer();
    files.items.add(event.dataTransfer.files[0]);
    input.files = files.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  }, true);
}"""


def read_file(path: Path) -> tuple[Story, Settings, str, Story | None, str]:
    """The story, the settings and the model's name in a `story.json` or a picture of ours, the story that its
    anchors were told from, where that is another one, and in words what of it makes no sense, if anything.

    ValueError, in words, for any other file.
    """
    try:
        if path.suffix.lower() == ".json":
            record = read_story_json(path)
        elif path.suffix.lower() == ".png":
            record = read_frame(path)
        else:
            raise ValueError("give a story.json, or a picture that was made here (PNG)")
    except (UnidentifiedImageError, UnicodeDecodeError, OSError, SyntaxError, RecursionError) as error:
        raise ValueError(f"it cannot be read as {path.suffix[1:].upper()}") from error
    except ValueError as error:
        raise ValueError(in_words(error).replace(str(path), "the file")) from error
    odd = _odd(record) if isinstance(record, StoryRecord) else ""
    return record.story, record.settings, str(record.model), record.anchor_story, odd


def _odd(record: StoryRecord) -> str:
    """What of a `story.json` does not go with its story, in words; empty where all does."""
    said = []
    if record.unknown:
        names = ", ".join(repr(name) for name in record.unknown)
        said.append(f"What it has under {names} means nothing here and was left out.")
    prompts = record.story.prompts
    if len(record.prompts) > len(prompts) or set(record.prompts) - set(prompts):
        said.append("Its pictures (frames) are not those of its scenes; story and settings alone were taken.")
    return " ".join(said)


class Restoring:
    """The handlers that fill the form from elsewhere, and make links."""

    def __init__(
        self, manager: ModelManager, opened: Callable[[OpenedStory | None, gr.Request], None]
    ) -> None:
        self._manager = manager
        self._opened = opened

    def open_file(self, file: str | None, request: gr.Request) -> tuple[Any, ...]:
        """The whole form, as a file has it: its boxes, what was offered as concept, the lock, the status."""
        if file is None:
            return _nothing()
        path = Path(file)
        try:
            story, settings, model, anchor_story, odd = read_file(path)
        except ValueError as error:
            return _refused(f"{path.name} was not opened: {error}")
        said = f"{path.name} is open: {_in_short(story)}. Press Generate to tell it."
        if self._manager.ready and self._manager.model.name != model:
            said += f" It was told with {model}, so the pictures will differ."
        self._opened(anchor_story and OpenedStory(story, settings, anchor_story), request)
        if anchor_story:
            said += (
                " One of its anchors was redone later, and the others still looked at the former one. "
                "Generate tells the former ones first, unseen, and then the same pictures again; once you "
                "change anything here, it tells a new story with anchors of its own."
            )
        return _restored(story, settings, f"{said} {odd}".strip())

    @staticmethod
    def open_link(code: str) -> tuple[Any, ...]:
        """The whole form, as the page's address has it: as `open_file`; nothing changes without one."""
        if not code:
            return _nothing()
        try:
            story, settings = links.decode(code)
        except ValueError as error:
            return _refused(f"The link's story was not opened. {in_words(error)}")
        return _restored(story, settings, f"The link's story: {_in_short(story)}. Press Generate to tell it.")

    @staticmethod
    def make_link(**form: Any) -> tuple[Any, Any]:
        """The code of a link to what the form says, and the status where there is none."""
        try:
            return gr.update(value=links.encode(*read_form(form)), visible=True), gr.skip()
        except ValueError as error:
            return gr.update(value="", visible=False), view.alert(in_words(error))


def _in_short(story: Story) -> str:
    return f"{story.subject}, {view.pictures_in_words(len(story.scenes))}"


def _restored(story: Story, settings: Settings, said: str) -> tuple[Any, ...]:
    return *form_updates(story, settings), ", ".join(story.concept_words), True, view.said(said)


def _refused(said: str) -> tuple[Any, ...]:
    return *(gr.skip() for _ in (*FORM, "offered", "lock")), view.alert(said)


def _nothing() -> tuple[Any, ...]:
    return tuple(gr.skip() for _ in (*FORM, "offered", "lock", "status"))


def connect_restoring(
    restoring: Restoring, form: Form, stage: StoryTab, demo: gr.Blocks, **quiet: Any
) -> None:
    """Connect the file button, files that are dropped on the page, the page's address and the link button."""
    outputs = [*form.values(), stage.offered, stage.lock, stage.status]
    stage.open_file.upload(restoring.open_file, stage.open_file, outputs, **quiet)
    demo.load(fn=None, js=TAKE_DROPS, **quiet)
    demo.load(restoring.open_link, stage.link, outputs, js=READ_LINK, **quiet)
    stage.copy_link.click(
        restoring.make_link,
        outputs=[stage.link, stage.status],
        inputs_kwargs=form,
        preprocess=False,
        **quiet,
    ).then(fn=None, inputs=stage.link, outputs=[stage.link, stage.copy_link], js=WRITE_LINK, **quiet).then(
        fn=None, outputs=stage.copy_link, js=SAY_NO_MORE, **quiet
    )
