"""Continue a story: add a scene, regenerate an image, finish a stopped story, undo."""

import secrets
import threading
from html import escape
from typing import Any

import gradio as gr

from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.settings import check
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.components.fields import NO_QUEUE, RAW
from consistory_svd.studio.form import error_text, parse_scenes, scene_rows
from consistory_svd.studio.generated_story import (
    GeneratedStory,
    GenerationRequest,
    is_as_recorded,
    same_frame,
    undo,
    with_scene,
    with_seed,
    with_text,
    write_record,
)
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.services import Services
from consistory_svd.studio.session import Session
from consistory_svd.text_format import format_bytes

BUSY = "A story is being generated. Wait for it, or cancel it first."
ELSEWHERE = "This story is being generated on another page. When it is done, open it from the Library again."
CHANGED = "This story was changed or deleted on another page. Open it from the Library again to continue it."
NOTHING = "Nothing to continue yet. Generate a story first."
COMPLETE = "All images of the story exist. There is nothing to continue."


class ContinuePanel:
    """The card below the images; hidden until there is a story.

    Args:
        scenes, status, pictures: components of the tab that a continued story changes.
    """

    def __init__(self, services: Services, scenes: gr.HTML, status: gr.HTML, pictures: gr.Gallery) -> None:
        self._services = services
        self._scenes, self._status, self._pictures = scenes, status, pictures
        self._starting = threading.Lock()  # two pages may continue the same story
        with gr.Column(visible=False, elem_id="continue") as self.part, gr.Group(elem_classes="card"):
            gr.HTML("<h2>Continue this story</h2>", elem_classes="card-title", padding=False)
            self.note = gr.HTML("", elem_id="continue-note", padding=False)
            self.resume = gr.Button("Continue", variant="primary", visible=False, elem_id="resume")
            with gr.Column() as self.changes:
                with gr.Row(elem_classes="with-buttons"):
                    self.scene = gr.Textbox(
                        "", label="New scene", info="Adds one image at the end.", scale=3, elem_id="new-scene"
                    )
                    self.add = gr.Button("Add scene", scale=1, min_width=130, elem_id="add-scene")
                with gr.Row():
                    self.picture = gr.Dropdown(
                        [],
                        label="Image",
                        info="Select it here or click it above.",
                        filterable=False,
                        scale=1,
                        min_width=120,
                        elem_id="redo-image",
                    )
                    self.text = gr.Textbox(
                        "",
                        label="Scene text",
                        info="Edit it to change the scene.",
                        scale=3,
                        elem_id="redo-scene",
                    )
                with gr.Row(elem_id="redo-row"):
                    self.redo = gr.Button("Redo with a new seed", min_width=150, elem_id="redo")
                    self.change = gr.Button("Change scene", min_width=150, elem_id="change-scene")
                    self.back = gr.Button("Undo", interactive=False, min_width=150, elem_id="undo")

    @property
    def buttons(self) -> dict[str, gr.Button]:
        """The buttons that start a job, by the kind of change."""
        return {"resume": self.resume, "add": self.add, "redo": self.redo, "change": self.change}

    @property
    def inputs(self) -> list[Any]:
        """The components that a change is read from, in the order of `start`."""
        return [self.scene, self.picture, self.text]

    @property
    def outputs(self) -> list[Any]:
        """The components that `refresh` updates."""
        return [self.part, self.note, self.resume, self.changes, *self.inputs, self.back, self._scenes]

    def connect(self) -> Any:
        """Connect the events but those of `buttons`. Return the event of an undo."""
        self.picture.change(self.select, self.picture, [self.text, self.back], **RAW, **NO_QUEUE)
        self._pictures.select(self.click_image, outputs=self.picture, **NO_QUEUE)
        changed = [self._pictures, self._status, self.text, self._scenes]
        return self.back.click(self.undo, [self.picture, self._scenes], changed, **RAW, **NO_QUEUE)

    def start(self, session: Session, kind: str, scene: str, picture: Any, text: str) -> GenerationJob:
        """Start the job for a change; it becomes the story on the visitor's page.

        Args:
            kind: a key of `buttons`.

        Raises:
            ValueError: there is nothing to continue, a value is wrong, or the queue is full.
        """
        with self._starting:
            generated = self._story_of(session)
            story, frames = self._changed(generated, kind, scene, picture, text)
            request = GenerationRequest.continuing(generated, story, frames)
            job = GenerationJob(self._services.manager, request)
            job.start()
            session.job = job
        return job

    def _story_of(self, session: Session) -> GeneratedStory:
        """Return the visitor's story if it can be continued. ValueError if not."""
        generated = session.generated
        if generated is None:
            raise ValueError(NOTHING)
        if session.is_generating:
            raise ValueError(BUSY)
        others = [other for other in self._services.sessions.all() if other.is_generating]
        if any(other.job.request.folder == generated.folder for other in others):
            raise ValueError(ELSEWHERE)
        if generated.pictures and not is_as_recorded(generated):
            raise ValueError(CHANGED)
        return generated

    def _changed(
        self, generated: GeneratedStory, kind: str, scene: str, picture: Any, text: str
    ) -> tuple[Story, tuple[int, ...]]:
        """Return the changed story and the frames to generate."""
        if reason := self._services.manager.refuses(generated):
            raise ValueError(reason)
        story = generated.story
        if kind == "resume":
            if not generated.missing:
                raise ValueError(COMPLETE)
            return story, generated.missing
        if kind == "add":
            frames = (len(story.scenes),)
            story = with_scene(story, scene or "")
        else:
            frames = (_frame(generated, picture),)
            story = with_text(story, *frames, text or "") if kind == "change" else _reseeded(story, *frames)
            if kind == "change" and story == generated.story:
                raise ValueError(
                    f"Scene text: image {frames[0] + 1} already shows {text!r}. Edit the text first."
                )
        check(story, generated.settings)
        self._services.limits.check(story, generated.settings)
        return story, frames

    def refresh(self, rows: Any, request: gr.Request) -> dict[Any, Any]:
        """Return updates of the card for the visitor's story, and of the form's scenes if they were the
        story's."""
        session = self._services.sessions.find(request)
        generated = session and session.generated
        if generated is None or session.is_generating:
            return {self.part: gr.update(visible=False)}
        story = generated.story
        previous = session.job and session.job.request.previous
        before = previous.story if previous else story
        frames = [picture.frame for picture in generated.pictures]
        # Preselect the image that was generated last, else one that was filtered.
        changed = [frame for frame in frames if not same_frame(story, before, frame)]
        filtered = [picture.frame for picture in generated.pictures if picture.filtered]
        frame = next(iter(changed + filtered + frames), None)
        note = self._services.manager.refuses(generated) or describe(generated)
        return {
            self.part: gr.update(visible=True),
            self.note: f'<p class="note">{escape(note)}</p>',
            self.resume: gr.update(visible=bool(generated.missing), value=_resume_label(generated)),
            self.changes: gr.update(visible=bool(frames)),
            self.scene: "",
            self.picture: gr.update(
                choices=[(f"{k + 1}: {story.scenes[k].text}", k) for k in frames], value=frame
            ),
            self.text: "" if frame is None else story.scenes[frame].text,
            self.back: gr.update(interactive=generated.can_undo(frame)),
            **self._form_follows(rows, before, story),
        }

    def _form_follows(self, rows: Any, before: Story, now: Story) -> dict[Any, Any]:
        if before != now and parse_scenes(rows) == before.scenes:
            return {self._scenes: scene_rows(now)}
        return {}

    def select(self, picture: Any, request: gr.Request) -> dict[Any, Any]:
        """Return the scene of the selected image, and whether it can be undone."""
        generated = self._services.sessions.story_of(request)
        if generated is None or picture is None:
            return gr.skip()
        return {
            self.text: generated.story.scenes[picture].text,
            self.back: gr.update(interactive=generated.can_undo(picture)),
        }

    def click_image(self, request: gr.Request, event: gr.SelectData) -> Any:
        """Return the frame of the image that was clicked in the gallery."""
        session = self._services.sessions.find(request)
        generated = session and session.generated
        if generated is None or session.is_generating or event.index >= len(generated.pictures):
            return gr.skip()
        return generated.pictures[event.index].frame

    def undo(self, picture: Any, rows: Any, request: gr.Request) -> dict[Any, Any]:
        """Restore the previous image of a frame. Undoing again restores the one it replaces."""
        try:
            session = self._services.sessions.of(request)
            generated = self._story_of(session)
            frame = _frame(generated, picture)
            changed = undo(generated, frame)
        except ValueError as error:
            return {self._status: view.alert(error_text(error))}
        session.show(changed)
        write_record(changed, changed.seconds)
        message = f"The previous image {frame + 1} is restored. Undo again to switch back."
        return {
            self._pictures: view.gallery_items(changed.pictures, session.show_masks),
            self._status: view.note(message),
            self.text: changed.story.scenes[frame].text,
            **self._form_follows(rows, generated.story, changed.story),
        }


def describe(generated: GeneratedStory) -> str:
    """Return what happens to the other images when one is generated again."""
    count = generated.settings.anchors
    anchors = "image 1" if count == 1 else f"images 1 to {count}"
    if not generated.settings.shares:
        return "Nothing is shared between images, so only the image that you change is generated."
    if generated.settings.random_anchors:
        images = len(generated.story.scenes)
        return f"Anchors are random: a change regenerates all {images} images, because any may attend to any."
    if generated.needs_full_run:
        return "The story was stopped before its anchors were finished, so it starts over."
    cache = generated.anchor_cache
    if cache:
        first = f"New images attend to the cached anchors ({anchors}, {format_bytes(cache.size)})."
    else:
        first = (
            f"The anchors ({anchors}) are not in memory: they are generated again first, without being shown."
        )
    return f"{first} Other images do not change, even if you change an anchor that they attended to."


def _resume_label(generated: GeneratedStory) -> str:
    missing = len(generated.missing)
    if generated.needs_full_run:
        return "Start the story over"
    return f"Continue: {missing} more image" + ("" if missing == 1 else "s")


def _frame(generated: GeneratedStory, picture: Any) -> int:
    if not isinstance(picture, int) or picture not in range(len(generated.story.scenes)):
        raise FieldError("Image", picture, "an image of the story")
    return picture


def _reseeded(story: Story, frame: int) -> Story:
    most = int(field_of(Story, "seed").maximum) + 1
    while (seed := secrets.randbelow(most)) in story.frame_seeds:
        pass
    return with_seed(story, frame, seed)
