"""What programmes may call: named endpoints with documented parameters, beside the page and under its limits.

Everything else that the page does is private. `gradio_client` calls them by name; see the README.
"""

import inspect
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.data_classes import ListFiles
from gradio_client.utils import is_file_obj_with_meta
from PIL import Image

from consistory_svd.fields import field_of
from consistory_svd.library import slug
from consistory_svd.limits import Limits
from consistory_svd.metadata import FILE_NAME
from consistory_svd.metrics.report import as_json
from consistory_svd.metrics.result import Frames
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.suite import Suite
from consistory_svd.models.request import with_recipe
from consistory_svd.presets import PRESETS, preset
from consistory_svd.settings import Settings, check
from consistory_svd.story import Story
from consistory_svd.studio import compare_html as compare_view
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import Comparison, compared
from consistory_svd.studio.comparison_rows import FEWEST, MOST, RECIPES, Row, check_different, recipe
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.services import STOP_SECONDS
from consistory_svd.studio.tabs.compare import save_grid

TEXT, TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
WHOLE, NUMBER, SWITCH = {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
OBJECT, ANYTHING = {"type": "object", "additionalProperties": {}}, {}
FILE = gr.FileData.model_json_schema()
FILES = ListFiles.model_json_schema()
WHOLE_OR_OWN, NUMBER_OR_OWN = ({"anyOf": [kind, {"type": "null"}]} for kind in (WHOLE, NUMBER))
WANTED = object()  # of a parameter without a default
OWN = " Null: the model's own, or the preset's."


@dataclass(frozen=True)
class Parameter:
    """A parameter or a result of an endpoint as the page "Use via API" shows it."""

    name: str
    label: str
    schema: Mapping[str, Any]
    default: Any = WANTED


def _known(owner: type, name: str, schema: Mapping[str, Any], default: Any = WANTED) -> Parameter:
    """A field of Story or Settings: label and help are the field's own."""
    field = field_of(owner, name)
    limits = "" if field.minimum is None else f" From {field.minimum} to {field.maximum}."
    own = OWN if default is None else ""
    return Parameter(name, f"{field.label}: {field.help}{limits}{own}", schema, default)


STORY = (
    _known(Story, "subject", TEXT),
    _known(Story, "scenes", TEXTS),
    _known(Story, "style", TEXT, Story.style),
    _known(Story, "concepts", TEXTS, []),
    _known(Story, "negative", TEXT, Story.negative),
    _known(Story, "seed", WHOLE, Story.seed),
    _known(Settings, "steps", WHOLE_OR_OWN, None),
    _known(Settings, "guidance", NUMBER_OR_OWN, None),
)
PRESET = Parameter("preset", f"Preset: {', '.join(PRESETS)}", TEXT, "consistory")
FIELDS = ", ".join(item.name for item in fields(Settings))
SETTINGS = Parameter("settings", f"What differs from the preset, by name, of {FIELDS}", OBJECT, {})
ROWS = Parameter(
    "settings",
    f"{FEWEST} to {MOST} presets to compare, or objects with name, preset, and what differs from it",
    {"type": "array", "items": ANYTHING},
    ["plain", "consistory"],
)
RECIPE = Parameter(
    "recipe", f"A figure instead of settings: {', '.join(item.key for item in RECIPES)}; or empty", TEXT, ""
)
SCORED = (
    Parameter("pictures", "Pictures: files, in order", FILES),
    Parameter("prompts", "Prompts: one a picture", TEXTS),
    Parameter("masks", "Masks: one a picture, white where the subject is; or none", FILES, []),
    Parameter("backbone", "DreamSim's network", TEXT, ScoreSettings.backbone),
    Parameter(
        "fill", "What replaces the background where the subject is scored alone", TEXT, ScoreSettings.fill
    ),
    Parameter("storybook", "Whether the embedded storybook model drew the pictures", SWITCH, False),
)


def story_of(given: Mapping[str, Any]) -> Story:
    """The story that the values of STORY describe. ValueError, naming the field, for what is not allowed.

    A text with a line for each stands for a list of scenes, and one with commas for a list of concept words.
    """
    names = ("subject", "scenes", "style", "concepts", "negative", "seed")
    values = {name: given[name] for name in names}
    for name, parts in (("scenes", str.splitlines), ("concepts", lambda text: text.split(","))):
        if isinstance(values[name], str):
            values[name] = [part.strip() for part in parts(values[name]) if part.strip()]
    return Story(**values)


def settings_of(base: Settings, story: Story, changes: Any) -> Settings:
    """Settings with changes by name; fewer anchors than the base has where the story has fewer scenes.

    Raises:
        ValueError: naming the field, for what is not known or not allowed.
    """
    if not isinstance(changes, Mapping):
        raise ValueError(f"settings: {changes!r} is not allowed; give an object of names and values")
    known = {item.name for item in fields(Settings)}
    for name in changes:
        if name not in known:
            raise ValueError(f"settings: {name!r} is not known; the names are {', '.join(sorted(known))}")
    return replace(base, **{"anchors": min(base.anchors, len(story.scenes)), **changes})


def row_of(given: Any, story: Story) -> Row:
    """A row of a comparison: a preset's name, or an object with `name`, `preset` and changes by name."""
    if isinstance(given, str):
        return Row(given, preset(given))
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ValueError(f"settings: {given!r} is not allowed; give a preset or an object with a name")
    changes = {name: value for name, value in given.items() if name not in ("name", "preset")}
    return Row(given["name"], settings_of(preset(given.get("preset", "sdsa")), story, changes))


class ApiClients:
    """The endpoints' handlers. Each call has its own folder, which goes when the call ends."""

    def __init__(self, manager: ModelManager, limits: Limits) -> None:
        self.manager, self.limits = manager, limits

    def generate(self, **given: Any) -> Iterator[tuple[list, list, dict]]:
        """Tell a story: a picture for each scene, in which the subject stays the same.

        Streams: pictures come one by one, and the third result says how far the story is.
        """
        story = story_of(given)
        base, changes = preset(given["preset"]), _object(given["settings"])
        settings = settings_of(base, story, self._with_own(base, _asked(given) | changes))
        check(story, settings)
        self.limits.check(story, settings)
        with tempfile.TemporaryDirectory(prefix="told-") as folder:
            run = GenerationJob(self.manager, GenerationRequest(story, settings, Path(folder)))
            run.start()
            try:
                for progress in run.watch():
                    files = [picture.path for picture in progress.pictures]
                    masks = [picture.mask for picture in progress.pictures if picture.mask]
                    record = Path(folder, FILE_NAME)
                    known = json.loads(record.read_text(encoding="utf-8")) if progress.over and files else {}
                    generated = {"status": _words(view.status(progress)), **known}
                    yield _files(files), _files(masks), generated
            finally:
                run.stop()
                run.join(STOP_SECONDS)
            if run.progress.state == "failed":
                raise gr.Error(run.progress.error, print_exception=False)

    def compare(self, **given: Any) -> Iterator[tuple[dict | None, list]]:
        """Tell one story under several settings with the same seeds, and score each.

        Gives the comparison as one picture, and for each setting its name, what differs, files and scores.
        Streams: the list grows row by row and picture by picture.
        """
        story = story_of(given)
        shared = settings_of(Settings(), story, self._with_own(Settings(), _asked(given)))
        rows = recipe(given["recipe"]).rows if given["recipe"] else self._rows(given["settings"], story)
        generated = compared(story, shared, rows, self.limits)
        with tempfile.TemporaryDirectory(prefix="compared-") as folder:
            comparison = Comparison(
                self.manager, story, generated, partial(_folder_in, Path(folder)), ScoreSettings()
            )
            try:
                for snapshot in comparison.watch():
                    figure = (
                        save_grid(snapshot, Path(folder)) if snapshot.over and snapshot.pictures else None
                    )
                    listed = [_row(generation) for generation in snapshot.generations]
                    yield (_files([figure])[0] if figure else None), listed
            finally:
                comparison.stop()
                comparison.join(STOP_SECONDS)
            if comparison.snapshot.failed:
                raise gr.Error(comparison.snapshot.current.error, print_exception=False)

    def score(self, **given: Any) -> Iterator[dict]:
        """Score pictures against each other and against their prompts.

        Gives {"scores": [...], "absent": [...]}: numbers with unit, direction, model and protocol, and
        for each that is not there why, and how to get it.
        """
        pictures, masks = (_pictures(name, given[name], self.limits) for name in ("pictures", "masks"))
        frames = Frames(pictures, given["prompts"], masks, _truth("storybook", given["storybook"]))
        suite = Suite(ScoreSettings(given["backbone"], fill=given["fill"]))
        try:
            yield json.loads(as_json(list(suite.measure(frames))))
        finally:
            suite.free()

    def _with_own(self, base: Settings, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for; else what the model wants, or the base has, within the limits."""
        base = {name: getattr(base, name) for name in ("steps", "batch")}
        return self.limits.fitted(base | with_recipe(self.manager.recipe, asked)[0]) | asked

    def _rows(self, given: Any, story: Story) -> tuple[Row, ...]:
        if not isinstance(given, list) or not FEWEST <= len(given) <= MOST:
            raise ValueError(f"settings: {given!r} is not allowed; give a list of {FEWEST} to {MOST}")
        rows = tuple(row_of(item, story) for item in given)
        check_different([row.name for row in rows])
        return rows


def _folder_in(folder: Path, name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{slug(name)}-", dir=folder))


def offer(manager: ModelManager, limits: Limits) -> None:
    """Add the endpoints to the page that is being built; no part of them is seen on it."""
    calls = ApiClients(manager, limits)
    pictures = Parameter("pictures", "Pictures", FILES)
    generated = (
        pictures,
        Parameter("masks", "Masks", FILES),
        Parameter("story", "Status, story.json at the end", OBJECT),
    )
    rows = Parameter(
        "rows", "Name, differences, pictures and scores of each", {"type": "array", "items": OBJECT}
    )
    _offer("tell", calls.generate, (*STORY, PRESET, SETTINGS), generated)
    _offer(
        "compare", calls.compare, (*STORY, ROWS, RECIPE), (Parameter("figure", "As one picture", FILE), rows)
    )
    _offer(
        "score", calls.score, SCORED, (Parameter("result", "Scores, and what is absent", OBJECT),), "scores"
    )


def _offer(
    name: str,
    call: Callable[..., Iterator[Any]],
    parameters: Sequence[Parameter],
    results: Sequence[Parameter],
    queue: str | None = None,
) -> None:
    """An endpoint. With `queue` its calls come one after another with others of that queue; without, the
    engine's line gives them their turn."""

    def handler(**given: Any) -> Iterator[Any]:
        try:
            yield from call(**given)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    # Gradio takes a box without a value for one that must be given, unless the function has None for it.
    handler.__signature__ = inspect.Signature(
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if item.default is None else inspect.Parameter.empty,
        )
        for item in parameters
    )
    boxes = {item.name: _box(item) for item in parameters}
    gr.Button(name, visible=False).click(
        handler,
        inputs_kwargs=boxes,
        outputs=[Api(None, dict(item.schema), item.label) for item in results],
        api_name=name,
        api_description=" ".join((call.__doc__ or "").split()),
        concurrency_limit=1 if queue else None,
        concurrency_id=queue,
        show_progress="hidden",
    )


def _box(item: Parameter) -> Api:
    return Api(None if item.default is WANTED else item.default, dict(item.schema), item.label)


def _row(generation: Any) -> dict[str, Any]:
    pictures = [picture.path for picture in generation.progress.pictures] if generation.progress else []
    known = compare_view.headlines(generation.entries or ())
    return {
        "name": generation.row.name,
        "differences": list(generation.differences),
        "pictures": _files(pictures),
        "withheld": [picture.filtered for picture in generation.progress.pictures]
        if generation.progress
        else [],
        "scores": {result.name: result.value for result in known},
    }


def _files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [gr.FileData(path=str(path)).model_dump() for path in paths]


def _words(html: str) -> str:
    """A status line without its markup."""
    return " ".join(view.TAG.sub(" ", html).split())


def _asked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("steps", "guidance") if given[name] is not None}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"settings: {value!r} is not allowed; give an object of names and values")
    return dict(value)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: {value!r} is not allowed; give true or false")
    return value


def _pictures(name: str, files: Any, limits: Limits) -> list[Image.Image]:
    """Uploaded pictures, within the limits."""
    # Gradio looks at files with this mark alone, and lets only those pass that were uploaded.
    if not isinstance(files, list) or not all(is_file_obj_with_meta(file) for file in files):
        raise ValueError(f"{name}: not a list of files; give files, as handle_file(path) does")
    if limits.frames is not None and len(files) > limits.frames:
        raise ValueError(f"{name}: {len(files)} are not allowed in this studio; give at most {limits.frames}")
    return [_picture(name, number, file["path"], limits) for number, file in enumerate(files, start=1)]


def _picture(name: str, number: int, path: str, limits: Limits) -> Image.Image:
    try:
        with Image.open(path) as image:
            if limits.size is not None and max(image.size) > limits.size:
                raise ValueError(
                    f"{name}: number {number} is {image.width} x {image.height}; "
                    f"give at most {limits.size} pixels a side in this studio"
                )
            return image.convert("L" if name == "masks" else "RGB")
    except OSError as error:  # what is no picture, too
        raise ValueError(f"{name}: number {number} cannot be read as a picture") from error
