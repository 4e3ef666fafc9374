"""The API: named endpoints with documented parameters, beside the page and under its limits.

Everything else that the page does is private. `gradio_client` calls the endpoints by name; see the README.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import get_blocks_context
from gradio.utils import get_function_description
from gradio_client.utils import is_file_obj_with_meta
from PIL import Image

from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.library import slug
from consistory_svd.limits import Limits
from consistory_svd.metadata import FILE_NAME
from consistory_svd.metrics.report import as_json
from consistory_svd.metrics.result import Frames
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.models.request import with_recipe
from consistory_svd.presets import PRESETS
from consistory_svd.presets import preset as preset_of_name
from consistory_svd.settings import Settings, check
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.compare_html import headlines
from consistory_svd.studio.comparison import (
    FIGURES,
    MAX_ROWS,
    MIN_ROWS,
    Comparison,
    Row,
    RowResult,
    check_different,
    figure_of,
    rows_for,
)
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.services import STOP_SECONDS
from consistory_svd.studio.tabs.compare import save_grid

Files = list[gr.FileData]
STORY_NAMES = tuple(item.name for item in fields(Story))
SETTING_NAMES = tuple(sorted(item.name for item in fields(Settings)))
MODEL_DEFAULTS = ("steps", "guidance")  # taken from the model or the preset unless given
# What the docstrings of the endpoints name in braces.
CHOICES = {
    "presets": ", ".join(PRESETS),
    "settings": ", ".join(SETTING_NAMES),
    "recipes": ", ".join(item.key for item in FIGURES),
    "fewest": MIN_ROWS,
    "most": MAX_ROWS,
}


class ApiClients:
    """The endpoints: typed generators whose docstrings describe them on the page "Use via API".

    Each call has a folder of its own, which is removed when the call ends. Return annotations are what Gradio
    reads: the types of one yielded value.
    """

    def __init__(self, manager: ModelManager, limits: Limits) -> None:
        self.manager, self.limits = manager, limits

    def generate(
        self,
        subject: str,
        scenes: list[str],
        style: str = Story.style,
        concepts: list[str] | None = None,
        negative: str = Story.negative,
        seed: int = Story.seed,
        steps: int | None = None,
        guidance: float | None = None,
        preset: str = "consistory",
        settings: dict | None = None,
    ) -> tuple[Files, Files, dict]:
        """Generate a story: an image for each scene, with a consistent subject.

        Streams: images come one by one, and the third result says how far the story is.

        Args:
            preset: Preset: {presets}.
            settings: Settings that differ from the preset, by name: {settings}.

        Returns:
            Images.
            Subject masks.
            Status, and the content of story.json at the end.
        """
        story = read_story(subject, scenes, style, concepts, negative, seed)
        base, changes = preset_of_name(preset), _object(settings)
        requested = self._with_model_defaults(base, _given(steps=steps, guidance=guidance) | changes)
        known = read_settings(base, story, requested)
        check(story, known)
        self.limits.check(story, known)
        with tempfile.TemporaryDirectory(prefix="generated-") as folder:
            job = GenerationJob(self.manager, GenerationRequest(story, known, Path(folder), preset=preset))
            job.start()
            try:
                for progress in job.watch():
                    files = [picture.path for picture in progress.pictures]
                    masks = [picture.mask for picture in progress.pictures if picture.mask]
                    record = Path(folder, FILE_NAME)
                    content = json.loads(record.read_text("utf-8")) if progress.over and files else {}
                    yield _files(files), _files(masks), {"status": _text(view.status(progress)), **content}
            finally:
                job.stop()
                job.join(STOP_SECONDS)
            if job.progress.state == "failed":
                raise gr.Error(job.progress.error, print_exception=False)

    def compare(
        self,
        subject: str,
        scenes: list[str],
        style: str = Story.style,
        concepts: list[str] | None = None,
        negative: str = Story.negative,
        seed: int = Story.seed,
        steps: int | None = None,
        guidance: float | None = None,
        settings: list[Any] | None = None,
        recipe: str = "",
    ) -> tuple[gr.FileData, list[dict]]:
        """Generate one story with several settings and the same seeds, and score each.

        Streams: the rows grow one by one and image by image.

        Args:
            settings: {fewest} to {most} presets, or objects with name, preset and changes.
            recipe: A figure instead of settings: {recipes}; or empty.

        Returns:
            The comparison as one image.
            For each row its name, what differs, images, filtered images and scores.
        """
        story = read_story(subject, scenes, style, concepts, negative, seed)
        requested = self._with_model_defaults(Settings(), _given(steps=steps, guidance=guidance))
        shared = read_settings(Settings(), story, requested)
        chosen = ["plain", "consistory"] if settings is None else settings
        rows = rows_for(story, shared, _rows(recipe, chosen, story), self.limits)
        with tempfile.TemporaryDirectory(prefix="compared-") as folder:
            comparison = Comparison(
                self.manager, story, rows, partial(_new_folder, Path(folder)), ScoreSettings()
            )
            try:
                for snapshot in comparison.watch():
                    done = snapshot.over and snapshot.pictures
                    figure = _files([save_grid(snapshot, Path(folder))])[0] if done else None
                    yield figure, [_row(result) for result in snapshot.rows]
            finally:
                comparison.stop()
                comparison.join(STOP_SECONDS)
            if comparison.snapshot.failed:
                raise gr.Error(comparison.snapshot.current.error, print_exception=False)

    def score(
        self,
        pictures: Files,
        prompts: list[str],
        masks: Files | None = None,
        backbone: str = ScoreSettings.backbone,
        fill: str = ScoreSettings.fill,
        storybook: bool = False,
    ) -> dict:
        """Score images against each other and against their prompts.

        Args:
            pictures: Images: files, in order.
            prompts: Prompts: one for each image.
            masks: Masks: one for each image, white for the subject; or none.
            backbone: DreamSim backbone.
            fill: What replaces the background when the subject is scored alone.
            storybook: Whether the embedded storybook model generated the images.

        Returns:
            {"scores": [...], "absent": [...]}: what is known of each score, and why others are missing.
        """
        images, subjects = (
            _images(name, files, self.limits)
            for name, files in (("pictures", pictures), ("masks", masks or []))
        )
        if not isinstance(storybook, bool):
            raise FieldError("storybook", storybook, "true or false")
        from consistory_svd.metrics.suite import Suite

        suite = Suite(ScoreSettings(backbone, fill=fill))
        try:
            yield json.loads(as_json(list(suite.measure(Frames(images, prompts, subjects, storybook)))))
        finally:
            suite.free()

    def _with_model_defaults(self, base: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was given; else what a few-step model needs, or the base has, within the limits."""
        defaults = {name: getattr(base, name) for name in ("steps", "batch")}
        return self.limits.fitted(defaults | with_recipe(self.manager.recipe, given)[0]) | given


def add_endpoints(manager: ModelManager, limits: Limits) -> None:
    """Add the endpoints to the page that is being built; nothing of them is visible on it."""
    clients = ApiClients(manager, limits)
    # The queue for the model gives generate and compare their turn; scores are computed one at a time.
    _add(clients.generate)
    _add(clients.compare)
    _add(clients.score, concurrency_limit=1, concurrency_id="scores")


def _add(function: Callable[..., Any], concurrency_limit: int | None = None, **options: Any) -> None:
    gr.api(_with_gradio_errors(function), concurrency_limit=concurrency_limit, **options)
    *_, endpoint = get_blocks_context().fns.values()
    # Uploads are checked, and results are copied to where a client may fetch them after the call.
    endpoint.preprocess = endpoint.postprocess = True
    _, parameters, results = get_function_description(function)
    labels = [_field_label(name) or text.format(**CHOICES) for name, text in parameters.items()]
    for component, label in zip((*endpoint.inputs, *endpoint.outputs), (*labels, *results), strict=True):
        component.label = label


def _with_gradio_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def endpoint(*args: Any, **kwargs: Any) -> Any:
        try:
            yield from function(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return endpoint


def _field_label(name: str) -> str:
    """Return label, help and range of a field of Story, or of steps and guidance; else an empty text."""
    owner = Settings if name in MODEL_DEFAULTS else Story
    if name not in (*STORY_NAMES, *MODEL_DEFAULTS):
        return ""
    known = field_of(owner, name)
    limits = "" if known.minimum is None else f" From {known.minimum} to {known.maximum}."
    default = " Null: the default of the model or the preset." if owner is Settings else ""
    return f"{known.label}: {known.help}{limits}{default}"


def read_story(subject: str, scenes: Any, style: str, concepts: Any, negative: str, seed: int) -> Story:
    """Return a story. ValueError, naming the field, for a wrong value.

    A text with one scene per line stands for a list of scenes, one with commas for a list of concept words.
    """
    if isinstance(scenes, str):
        scenes = _parts(scenes.splitlines())
    if isinstance(concepts, str):
        concepts = _parts(concepts.split(","))
    return Story(subject, scenes, style, concepts=concepts or (), negative=negative, seed=seed)


def read_settings(base: Settings, story: Story, changes: Any) -> Settings:
    """Return settings with changes by name, and no more anchors than the story has scenes.

    Raises:
        ValueError: naming the field, for an unknown name or a wrong value.
    """
    for name in _object(changes):
        if name not in SETTING_NAMES:
            raise ValueError(f"settings: {name!r} is not known; the names are {', '.join(SETTING_NAMES)}")
    return replace(base, **{"anchors": min(base.anchors, len(story.scenes)), **changes})


def read_row(given: Any, story: Story) -> Row:
    """Return a row of a comparison: a preset's name, or an object with `name`, `preset` and changes."""
    if isinstance(given, str):
        return Row(given, preset_of_name(given), given)
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise FieldError("settings", given, "a preset or an object with a name")
    changes = {name: value for name, value in given.items() if name not in ("name", "preset")}
    base = given.get("preset", "sdsa")
    return Row(given["name"], read_settings(preset_of_name(base), story, changes), base)


def _rows(recipe_key: str, given: Any, story: Story) -> tuple[Row, ...]:
    if recipe_key:
        return figure_of(recipe_key).rows
    if not isinstance(given, list) or not MIN_ROWS <= len(given) <= MAX_ROWS:
        raise FieldError("settings", given, f"a list of {MIN_ROWS} to {MAX_ROWS}")
    rows = tuple(read_row(item, story) for item in given)
    check_different([row.name for row in rows])
    return rows


def _row(result: RowResult) -> dict[str, Any]:
    pictures = result.progress.pictures if result.progress else ()
    return {
        "name": result.row.name,
        "differences": list(result.differences),
        "pictures": _files([picture.path for picture in pictures]),
        "filtered": [picture.filtered for picture in pictures],
        "scores": {score.name: score.value for score in headlines(result.entries or ())},
    }


def _new_folder(parent: Path, name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{slug(name)}-", dir=parent))


def _files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [gr.FileData(path=str(path)).model_dump() for path in paths]


def _text(html: str) -> str:
    """Return a status line without its markup."""
    return " ".join(view.TAG.sub(" ", html).split())


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _parts(pieces: Sequence[str]) -> list[str]:
    return [piece.strip() for piece in pieces if piece.strip()]


def _object(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FieldError("settings", value, "an object of names and values")
    return value


def _images(name: str, files: Any, limits: Limits) -> list[Image.Image]:
    """Return uploaded images, within the limits."""
    # Gradio checks only files with this mark, and lets only those pass that were uploaded.
    if not isinstance(files, list) or not all(is_file_obj_with_meta(file) for file in files):
        raise ValueError(f"{name} must be a list of files, as handle_file(path) makes them")
    if limits.frames is not None and len(files) > limits.frames:
        raise FieldError(name, len(files), f"at most {limits.frames} in this studio")
    return [_image(name, number, file["path"], limits) for number, file in enumerate(files, start=1)]


def _image(name: str, number: int, path: str, limits: Limits) -> Image.Image:
    try:
        with Image.open(path) as image:
            if limits.size is not None and max(image.size) > limits.size:
                raise ValueError(
                    f"{name}: number {number} must be at most {limits.size} pixels a side in this studio, "
                    f"got {image.width} x {image.height}"
                )
            return image.convert("L" if name == "masks" else "RGB")
    except OSError as error:
        raise ValueError(f"{name}: number {number} cannot be read as an image") from error
