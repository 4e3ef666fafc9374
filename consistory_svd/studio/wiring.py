"""Which handler answers which widget of the page."""

from collections.abc import Iterable
from typing import Any

import gradio as gr

from consistory_svd.studio import about_room, api, compare_room, drafts, model_choice, own_seeds
from consistory_svd.studio.advanced import DECIDING, Sizes, advanced_looks
from consistory_svd.studio.alike import DEPENDENT, HOW_ALIKE, preset_values, switches
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.examples import EXAMPLES, Example
from consistory_svd.studio.following import Following, own_values
from consistory_svd.studio.following import connect as connect_following
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.layout import FORM, Form, Stage, example_values, lay_out
from consistory_svd.studio.library_room import add_export, add_library
from consistory_svd.studio.parting import ask_before_leaving, leave_freely
from consistory_svd.studio.restore import Restoring, connect_restoring
from consistory_svd.studio.retell import bound
from consistory_svd.studio.scenes import connect_scenes
from consistory_svd.studio.scoring import ScoreWidgets
from consistory_svd.studio.spectrum import PARTS, SIDES, SPECTRUM, follow, start_value
from consistory_svd.studio.widgets import chosen

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
# Values reach the library as they came: Gradio's own refusals do not name the field, the library's do.
AS_SENT: dict[str, Any] = {"preprocess": False}
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
    gr.set_static_paths([*handlers.shelves.roots, drafts.HOME])
    demo, rooms, form, stage = lay_out()
    handlers.limits.show_on(form)
    with demo:
        api.offer(handlers.engine, handlers.limits)  # first: later handlers of the same names give way
        compare = compare_room.lay_out(rooms)
        how = [stage.scores.backbone, stage.scores.fill]
        compare_room.connect(demo, handlers, compare, form, how)
        add_library(handlers, rooms, form, stage)
        add_export(handlers, stage.export)
        about_room.connect(handlers.engine, *about_room.lay_out(rooms))
        followed = demo.load(
            handlers.follow_model,
            outputs=[stage.model, stage.words_frame, stage.words],
            concurrency_limit=None,
            **QUIET,
        )
        demo.unload(handlers.leave)
        line = [stage.model, stage.words_frame, stage.words]
        switched = model_choice.connect(
            handlers.engine, stage.model_choice, demo, line, handlers.follow_model, handlers.limits
        )
        sizes = Sizes(handlers.engine)
        following = Following(handlers.engine, handlers.limits, sizes, handlers.model_shown)
        connect_following(following, handlers.engine, line, stage, form, (followed, switched))
        _connect_form(handlers, form, stage)
        _connect_alike(handlers.engine, form, stage)
        _connect_advanced(sizes, form, stage)
        _connect_telling(handlers, form, stage)
        connect_restoring(Restoring(handlers.engine, handlers.opened), form, stage, demo, **AT_ONCE)
        chosen(stage.show_masks)(handlers.show_masks, stage.show_masks, stage.pictures, **AT_ONCE)
        spectra = [stage.spectra_layer, stage.spectra_step]
        gr.on(
            [chosen(choice) for choice in spectra],
            handlers.draw_spectra,
            spectra,
            stage.spectra_figures,
            **AS_SENT,
            **AT_ONCE,
        )
    return demo


def _connect_form(handlers: Handlers, form: Form, stage: Stage) -> None:
    # `change` and not `input`, which Gradio's text box tells of typed keys only, not of pasted text.
    form["subject"].change(
        handlers.offer_concept,
        [form["subject"], form["concept"], stage.offered],
        [form["concept"], stage.offered],
        trigger_mode="always_last",
        **AT_ONCE,
    )
    connect_scenes(form["scenes"])
    gr.on(
        [form[name].change for name in ("subject", "scenes", "seeds")],
        own_seeds.follow,
        [form[name] for name in ("subject", "scenes", "seeds", "seeds_of")],
        [form[name] for name in ("seeds", "seeds_of", "seed")],
        trigger_mode="always_last",
        **AS_SENT,
        **AT_ONCE,
    )
    stage.dice.click(handlers.roll_seed, outputs=[form["seed"], form["seeds"]], **AT_ONCE)
    stage.examples.click(
        lambda index: (*_within(handlers, EXAMPLES[index]), EXAMPLES[index].concept, True),
        stage.examples,
        [*form.values(), stage.offered, stage.lock],
        **AT_ONCE,
    )


def _within(handlers: Handlers, example: Example) -> Iterable[Any]:
    """The whole form for an example, as a few-step model wants to be run, no number of it above its limit."""
    limits = handlers.limits
    values = limits.fitted(dict(zip(FORM, example_values(example), strict=True)))
    return (values | own_values(handlers.engine.recipe, limits)).values()


def _starting(engine: Engine, side: str) -> Any:
    return lambda select: start_value(side, select, engine.most_values)


def _connect_alike(engine: Engine, form: Form, stage: Stage) -> None:
    alike = [form[name] for name in HOW_ALIKE]
    chosen(stage.preset)(
        lambda name: preset_values(name, engine.most_values),
        stage.preset,
        [*alike, stage.spectrum],
        **AT_ONCE,
    )
    spectrum = [form[name] for name in SPECTRUM]
    following: dict[str, Any] = {
        "fn": lambda *boxes: follow(*boxes, most=engine.most_values),
        "inputs": spectrum,
        "outputs": [form[f"v_{part}"] for part in PARTS],
        "trigger_mode": "always_last",
        **AS_SENT,
        **AT_ONCE,
    }
    gr.on([chosen(form[name]) for name in ("v_as_k", "k_value", "k_reweight", "k_alpha")], **following)
    for side in SIDES:
        select = form[f"{side}_select"]
        started = chosen(select)(_starting(engine, side), select, form[f"{side}_value"], **AT_ONCE)
        if side == "k":
            started.then(**{**following, "trigger_mode": None})
    gr.on(
        [control.change for control in alike],
        lambda *alike: switches(*alike, most=engine.most_values),
        alike,
        [*(form[name] for name in DEPENDENT), stage.spectrum, stage.preset],
        trigger_mode="always_last",
        **AS_SENT,
        **AT_ONCE,
    )


def _connect_advanced(sizes: Sizes, form: Form, stage: Stage) -> None:
    deciding = [form[name] for name in DECIDING]
    gr.on(
        [control.change for control in deciding],
        advanced_looks,
        deciding,
        [form["negative"], form["batch"]],
        trigger_mode="always_last",
        **AS_SENT,
        **AT_ONCE,
    )
    sides = [form["width"], form["height"]]
    chosen(stage.size)(sizes.take, [stage.size, *sides], [*sides, stage.size], **AS_SENT, **AT_ONCE)
    gr.on([side.change for side in sides], sizes.name, sides, stage.size, **AS_SENT, **AT_ONCE)


def _connect_telling(handlers: Handlers, form: Form, stage: Stage) -> None:
    buttons = [stage.generate, stage.cancel]
    begin = stage.generate.click(
        handlers.begin,
        [stage.offered, stage.lock],
        [stage.status, form["concept"], form["seed"], form["seeds"], *buttons],
        inputs_kwargs=form,
        concurrency_limit=None,
        **AS_SENT,
        **QUIET,
    )
    telling = begin.success(
        handlers.tell,
        inputs_kwargs={**form, "show_masks": stage.show_masks},
        api_visibility="private",  # programmes have their own, in `api`
        **_long(stage),
    )
    begin.success(lambda: gr.update(visible=False), outputs=stage.go_on.part, **AT_ONCE)
    working = [begin, telling]
    told = [telling]
    for kind, button in (
        ("resume", stage.go_on.resume),
        ("add", stage.go_on.add),
        ("redo", stage.go_on.redo),
        ("change", stage.go_on.change),
    ):
        wish = [stage.go_on.scene, stage.go_on.picture, stage.go_on.text]
        asked = button.click(
            bound(handlers.going_on.begin, kind),
            wish,
            [stage.status, *buttons],
            concurrency_limit=None,
            **AS_SENT,
            **QUIET,
        )
        telling = asked.success(bound(handlers.go_on, kind), wish, api_visibility="private", **_long(stage))
        working += [asked, telling]
        told.append(telling)
    for asked in working[::2]:
        for ended in (asked.success, asked.failure):  # a refusal is said there, too
            ended(fn=None, js=SHOW_STATUS, **AT_ONCE)
        asked.success(fn=None, js=ask_before_leaving("story"), **AT_ONCE)
        asked.success(
            lambda: ("", gr.update(visible=False)), outputs=[stage.scores.card, stage.spectra], **AT_ONCE
        )
    for telling in told:
        telling.then(handlers.rest, outputs=buttons, **AT_ONCE)
    _connect_after(handlers, form, stage, working, told)


def _long(stage: Stage) -> dict[str, Any]:
    """How what uses the model is connected: the engine's line says whose turn it is, and tells the others
    their place."""
    return {
        "outputs": [stage.pictures, stage.status],
        "concurrency_limit": None,
        "show_progress": "hidden",
        **AS_SENT,
    }


def _connect_after(handlers: Handlers, form: Form, stage: Stage, working: list[Any], told: list[Any]) -> None:
    """What follows a story, also one that was cancelled: spectra, scores, and how one goes on with it."""
    going_on, widgets = handlers.going_on, stage.go_on
    in_form = [form["scenes"], form["seeds"]]
    followed = [*in_form, form["seeds_of"]]
    scored = _connect_scores(handlers, stage.scores, told)
    cancelled = stage.cancel.click(
        handlers.cancel,
        outputs=[stage.pictures, stage.status, stage.generate, stage.cancel],
        cancels=[*working, *scored],
        concurrency_limit=None,
        **QUIET,
    )
    _connect_scores(handlers, stage.scores, [cancelled], choices=False)
    for event in (*told, cancelled):
        event.then(going_on.offer, in_form, [*widgets.all(), *followed], **AT_ONCE)
        event.then(fn=None, js=leave_freely("story"), **AT_ONCE)
        event.success(handlers.show_spectra, outputs=stage.spectra_parts(), **AT_ONCE)
    shown = [widgets.text, widgets.back]
    widgets.picture.change(going_on.choose, widgets.picture, shown, **AS_SENT, **AT_ONCE)
    stage.pictures.select(going_on.point, outputs=widgets.picture, **AT_ONCE)
    back = widgets.back.click(
        going_on.take_back,
        [widgets.picture, *in_form],
        [stage.pictures, stage.status, widgets.text, *followed],
        **AS_SENT,
        **AT_ONCE,
    )
    _connect_scores(handlers, stage.scores, [back], choices=False)


def _connect_scores(
    handlers: Handlers, widgets: ScoreWidgets, told: list[Any], choices: bool = True
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
        **QUIET,
    }
    scored = [event.success(**score) for event in told]
    if choices:
        scored += [chosen(choice)(**score) for choice in how]
        fetch = widgets.fetch.click(handlers.fetch, how, widgets.weights(), concurrency_limit=None, **QUIET)
        scored.append(fetch.success(**score))
    for event in scored:
        event.success(handlers.offer_fetch, outputs=widgets.weights(), **AT_ONCE)
    return scored
