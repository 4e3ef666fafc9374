"""Which handler answers which widget of the page."""

from collections.abc import Iterable
from typing import Any

import gradio as gr

from consistory_svd.studio import api, own_seeds
from consistory_svd.studio.components import model_picker as model_choice
from consistory_svd.studio.components.continue_handlers import partial_handler
from consistory_svd.studio.components.fields import chosen
from consistory_svd.studio.components.leaving import ask_before_leaving, leave_freely
from consistory_svd.studio.components.method_settings import (
    DEPENDENT_FIELDS,
    METHOD_FIELDS,
    preset_values,
    switches,
)
from consistory_svd.studio.components.model_following import Following, own_values
from consistory_svd.studio.components.model_following import connect as connect_following
from consistory_svd.studio.components.open_and_share import Restoring, connect_restoring
from consistory_svd.studio.components.sampling_settings import DECIDING_FIELDS, Sizes, advanced_looks
from consistory_svd.studio.components.scene_list import connect_scenes
from consistory_svd.studio.components.scores_panel import ScoreWidgets
from consistory_svd.studio.components.svd_filter_settings import PARTS, SIDES, SVD_FILTER, follow, start_value
from consistory_svd.studio.examples import EXAMPLES, Example
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.layout import FORM, Form, StoryTab, example_values, lay_out
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import PREVIEWS
from consistory_svd.studio.tabs import about as about_tab
from consistory_svd.studio.tabs import compare as compare_tab
from consistory_svd.studio.tabs.library import add_export, add_library

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NO_QUEUE: dict[str, Any] = {**HIDDEN, "queue": False}
# Values reach the library as they came: Gradio's own refusals do not name the field, the library's do.
RAW: dict[str, Any] = {"preprocess": False}
# On a narrow screen the pictures stand below the form: go there, unless they are in sight already.
SHOW_STATUS = """() => {
  const status = document.getElementById("status");
  const box = status.getBoundingClientRect();
  if (box.bottom < 0 || box.top > window.innerHeight - 120) status.scrollIntoView({block: "start"});
}"""


def build(handlers: Handlers) -> gr.Blocks:
    """Lay the page out and connect it."""
    # Files are served where they are. Gradio would serve copies, which stay for whoever knows their address
    # when the story is deleted or the visitor has gone.
    gr.set_static_paths([*handlers.storage.roots, PREVIEWS])
    demo, rooms, form, stage = lay_out()
    handlers.limits.show_on(form)
    with demo:
        api.offer(handlers.manager, handlers.limits)  # first: later handlers of the same names give way
        compare = compare_tab.lay_out(rooms)
        how = [stage.scores.backbone, stage.scores.fill]
        compare_tab.connect(demo, handlers, compare, form, how)
        add_library(handlers, rooms, form, stage)
        add_export(handlers, stage.export)
        about_tab.connect(handlers.manager, *about_tab.lay_out(rooms))
        followed = demo.load(
            handlers.follow_model,
            outputs=[stage.model, stage.words_frame, stage.words],
            concurrency_limit=None,
            **HIDDEN,
        )
        demo.unload(handlers.leave)
        line = [stage.model, stage.words_frame, stage.words]
        switched = model_choice.connect(
            handlers.manager, stage.model_choice, demo, line, handlers.follow_model, handlers.limits
        )
        sizes = Sizes(handlers.manager)
        following = Following(handlers.manager, handlers.limits, sizes, handlers.model_shown)
        connect_following(following, handlers.manager, line, stage, form, (followed, switched))
        _connect_form(handlers, form, stage)
        _connect_alike(handlers.manager, form, stage)
        _connect_advanced(sizes, form, stage)
        _connect_generate(handlers, form, stage)
        connect_restoring(Restoring(handlers.manager, handlers.opened), form, stage, demo, **NO_QUEUE)
        chosen(stage.show_masks)(handlers.show_masks, stage.show_masks, stage.pictures, **NO_QUEUE)
        filter_log = [stage.svd_layer, stage.svd_step]
        gr.on(
            [chosen(choice) for choice in filter_log],
            handlers.draw_svd_plots,
            filter_log,
            stage.svd_plots,
            **RAW,
            **NO_QUEUE,
        )
    return demo


def _connect_form(handlers: Handlers, form: Form, stage: StoryTab) -> None:
    # `change` and not `input`, which Gradio's text box tells of typed keys only, not of pasted text.
    form["subject"].change(
        handlers.offer_concept,
        [form["subject"], form["concept"], stage.offered],
        [form["concept"], stage.offered],
        trigger_mode="always_last",
        **NO_QUEUE,
    )
    connect_scenes(form["scenes"])
    gr.on(
        [form[name].change for name in ("subject", "scenes", "seeds")],
        own_seeds.follow,
        [form[name] for name in ("subject", "scenes", "seeds", "seeds_of")],
        [form[name] for name in ("seeds", "seeds_of", "seed")],
        trigger_mode="always_last",
        **RAW,
        **NO_QUEUE,
    )
    stage.dice.click(handlers.roll_seed, outputs=[form["seed"], form["seeds"]], **NO_QUEUE)
    stage.examples.click(
        lambda index: (*_within(handlers, EXAMPLES[index]), EXAMPLES[index].concept, True),
        stage.examples,
        [*form.values(), stage.offered, stage.lock],
        **NO_QUEUE,
    )


def _within(handlers: Handlers, example: Example) -> Iterable[Any]:
    """The whole form for an example, as a few-step model wants to be run, no number of it above its limit."""
    limits = handlers.limits
    values = limits.fitted(dict(zip(FORM, example_values(example), strict=True)))
    return (values | own_values(handlers.manager.recipe, limits)).values()


def _starting(manager: ModelManager, side: str) -> Any:
    return lambda select: start_value(side, select, manager.most_values)


def _connect_alike(manager: ModelManager, form: Form, stage: StoryTab) -> None:
    alike = [form[name] for name in METHOD_FIELDS]
    chosen(stage.preset)(
        lambda name: preset_values(name, manager.most_values),
        stage.preset,
        [*alike, stage.svd_filter],
        **NO_QUEUE,
    )
    svd_filter = [form[name] for name in SVD_FILTER]
    following: dict[str, Any] = {
        "fn": lambda *boxes: follow(*boxes, most=manager.most_values),
        "inputs": svd_filter,
        "outputs": [form[f"v_{part}"] for part in PARTS],
        "trigger_mode": "always_last",
        **RAW,
        **NO_QUEUE,
    }
    gr.on([chosen(form[name]) for name in ("v_as_k", "k_amount", "k_reweight", "k_alpha")], **following)
    for side in SIDES:
        select = form[f"{side}_keep"]
        started = chosen(select)(_starting(manager, side), select, form[f"{side}_amount"], **NO_QUEUE)
        if side == "k":
            started.then(**{**following, "trigger_mode": None})
    gr.on(
        [control.change for control in alike],
        lambda *alike: switches(*alike, most=manager.most_values),
        alike,
        [*(form[name] for name in DEPENDENT_FIELDS), stage.svd_filter, stage.preset],
        trigger_mode="always_last",
        **RAW,
        **NO_QUEUE,
    )


def _connect_advanced(sizes: Sizes, form: Form, stage: StoryTab) -> None:
    deciding = [form[name] for name in DECIDING_FIELDS]
    gr.on(
        [control.change for control in deciding],
        advanced_looks,
        deciding,
        [form["negative"], form["batch"]],
        trigger_mode="always_last",
        **RAW,
        **NO_QUEUE,
    )
    sides = [form["width"], form["height"]]
    chosen(stage.size)(sizes.take, [stage.size, *sides], [*sides, stage.size], **RAW, **NO_QUEUE)
    gr.on([side.change for side in sides], sizes.name, sides, stage.size, **RAW, **NO_QUEUE)


def _connect_generate(handlers: Handlers, form: Form, stage: StoryTab) -> None:
    buttons = [stage.generate, stage.cancel]
    begin = stage.generate.click(
        handlers.begin,
        [stage.offered, stage.lock],
        [stage.status, form["concept"], form["seed"], form["seeds"], *buttons],
        inputs_kwargs=form,
        concurrency_limit=None,
        **RAW,
        **HIDDEN,
    )
    generation = begin.success(
        handlers.generate,
        inputs_kwargs={**form, "show_masks": stage.show_masks},
        api_visibility="private",  # programmes have their own, in `api`
        **_long(stage),
    )
    begin.success(lambda: gr.update(visible=False), outputs=stage.continue_story.part, **NO_QUEUE)
    working = [begin, generation]
    generated = [generation]
    for kind, button in (
        ("resume", stage.continue_story.resume),
        ("add", stage.continue_story.add),
        ("redo", stage.continue_story.redo),
        ("change", stage.continue_story.change),
    ):
        wish = [stage.continue_story.scene, stage.continue_story.picture, stage.continue_story.text]
        asked = button.click(
            partial_handler(handlers.continuing.begin, kind),
            wish,
            [stage.status, *buttons],
            concurrency_limit=None,
            **RAW,
            **HIDDEN,
        )
        generation = asked.success(
            partial_handler(handlers.continue_story, kind), wish, api_visibility="private", **_long(stage)
        )
        working += [asked, generation]
        generated.append(generation)
    for asked in working[::2]:
        for ended in (asked.success, asked.failure):  # a refusal is said there, too
            ended(fn=None, js=SHOW_STATUS, **NO_QUEUE)
        asked.success(fn=None, js=ask_before_leaving("story"), **NO_QUEUE)
        asked.success(
            lambda: ("", gr.update(visible=False)), outputs=[stage.scores.card, stage.filter_log], **NO_QUEUE
        )
    for generation in generated:
        generation.then(handlers.rest, outputs=buttons, **NO_QUEUE)
    _connect_after(handlers, form, stage, working, generated)


def _long(stage: StoryTab) -> dict[str, Any]:
    """How what uses the model is connected: the engine's line says whose turn it is, and tells the others
    their place."""
    return {
        "outputs": [stage.pictures, stage.status],
        "concurrency_limit": None,
        "show_progress": "hidden",
        **RAW,
    }


def _connect_after(
    handlers: Handlers, form: Form, stage: StoryTab, working: list[Any], generated: list[Any]
) -> None:
    """What follows a story, also one that was cancelled: spectra, scores, and how one goes on with it."""
    continuing, widgets = handlers.continuing, stage.continue_story
    in_form = [form["scenes"], form["seeds"]]
    followed = [*in_form, form["seeds_of"]]
    scored = _connect_scores(handlers, stage.scores, generated)
    cancelled = stage.cancel.click(
        handlers.cancel,
        outputs=[stage.pictures, stage.status, stage.generate, stage.cancel],
        cancels=[*working, *scored],
        concurrency_limit=None,
        **HIDDEN,
    )
    _connect_scores(handlers, stage.scores, [cancelled], choices=False)
    for event in (*generated, cancelled):
        event.then(continuing.offer, in_form, [*widgets.all(), *followed], **NO_QUEUE)
        event.then(fn=None, js=leave_freely("story"), **NO_QUEUE)
        event.success(handlers.show_svd_plots, outputs=stage.svd_parts(), **NO_QUEUE)
    shown = [widgets.text, widgets.back]
    widgets.picture.change(continuing.choose, widgets.picture, shown, **RAW, **NO_QUEUE)
    stage.pictures.select(continuing.point, outputs=widgets.picture, **NO_QUEUE)
    back = widgets.back.click(
        continuing.take_back,
        [widgets.picture, *in_form],
        [stage.pictures, stage.status, widgets.text, *followed],
        **RAW,
        **NO_QUEUE,
    )
    _connect_scores(handlers, stage.scores, [back], choices=False)


def _connect_scores(
    handlers: Handlers, widgets: ScoreWidgets, generated: list[Any], choices: bool = True
) -> list[Any]:
    """Score each story after the events that have `told` it, and with `choices` again when how it is computed
    changes or weights have come.

    Returns the events that a cancelled story cancels too.
    """
    how = [widgets.backbone, widgets.fill]
    score: dict[str, Any] = {
        "fn": handlers.score,
        "inputs": how,
        "outputs": widgets.card,
        "concurrency_limit": 1,
        "concurrency_id": "scores",
        **HIDDEN,
    }
    scored = [event.success(**score) for event in generated]
    if choices:
        scored += [chosen(choice)(**score) for choice in how]
        fetch = widgets.fetch.click(handlers.fetch, how, widgets.weights(), concurrency_limit=None, **HIDDEN)
        scored.append(fetch.success(**score))
    for event in scored:
        event.success(handlers.offer_fetch, outputs=widgets.weights(), **NO_QUEUE)
    return scored
