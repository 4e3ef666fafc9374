"""The About room: what runs here, what each part of the method does, and how to get more."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.tabs.about_text import PARTS, PICTURES, STEPS, Part
from consistory_svd.system_info import Memory, memory, versions
from consistory_svd.text_format import format_bytes

# Commands that exist; the tests run each with --help.
COMMANDS = (
    (
        "SDXL on your GPU",
        "The embedded storybook model is small, so that everything runs without a GPU. Any model of the SDXL "
        "family can take its place: a hub id or a folder. Its weights are downloaded once.",
        "python app.py --model stabilityai/stable-diffusion-xl-base-1.0",
    ),
    (
        "DreamSim, the score of the papers",
        "How alike the pictures are, as people see it. Without its weights the studio says so and shows the "
        "scores that it has.",
        "python -m consistory_svd fetch dreamsim",
    ),
    (
        "CLIP and DINO, the other scores",
        "How well the pictures follow their prompts, and another view of how alike they are.",
        "python -m consistory_svd fetch clip\npython -m consistory_svd fetch dino",
    ),
)
LICENCE = "Apache-2.0. The method was built from its description."
PAPER = "https://arxiv.org/abs/2402.03286"


def lay_out(rooms: gr.Tabs) -> tuple[gr.Tab, gr.HTML]:
    """The room as a tab of the page: the tab, and what stands in it of the machine, empty yet."""
    gr.set_static_paths([PICTURES])
    with rooms, gr.Tab("About", id="about") as tab, gr.Column(elem_id="about"):
        machine = gr.HTML(facts("The model is loading.", (), {}), elem_id="about-machine", padding=False)
        gr.HTML(method(PARTS), elem_id="about-method", padding=False)
        gr.HTML(commands(), elem_id="about-more", padding=False)
    return tab, machine


def connect(manager: ModelManager, tab: gr.Tab, machine: gr.HTML) -> None:
    """Tell of the machine whenever the room is entered."""

    def follow() -> Iterator[Any]:
        manager.start()
        yield now(manager)
        while not manager.wait(0.2):
            yield gr.skip()
        yield now(manager)

    tab.select(
        follow, outputs=machine, concurrency_limit=None, show_progress="hidden", api_visibility="private"
    )


def now(manager: ModelManager) -> str:
    """What runs here, at this moment."""
    if not manager.loaded:
        return facts("The model is loading.", memory(), versions())
    if manager.error:
        return facts(manager.error, memory(), versions())
    # Not the model's device: the memory of a GPU that is lent is not seen from here.
    return facts(manager.description, memory(manager.scores_on), versions())


def facts(model: str, memories: Sequence[Memory], known: dict[str, str]) -> str:
    """Model, memory in use and free, and versions, as a piece of the page."""
    bars = "".join(_memory(item) for item in memories)
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(version)}</dd></div>" for name, version in known.items()
    )
    return (
        f'<section class="about-card"><h2>What runs here</h2><p class="about-model">{escape(model)}</p>{bars}'
        f'<dl class="versions">{rows}</dl></section>'
    )


def _memory(item: Memory) -> str:
    used, ours = (100 * part / item.whole for part in (item.used, item.ours))
    said = f"{format_bytes(item.used)} of {format_bytes(item.whole)} in use, {format_bytes(item.free)} free"
    name = escape(item.name)
    return (
        f'<div class="memory"><p><strong>{name}:</strong> {said}; '
        f"{format_bytes(item.ours)} by this studio.</p>"
        f'<div class="bar" role="meter" aria-label="{name}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{used:.0f}" aria-valuetext="{said}"><div class="others" style="width:{used:.1f}%">'
        f'</div><div class="ours" style="width:{min(ours, used):.1f}%"></div></div></div>'
    )


def method(parts: Sequence[Part]) -> str:
    """What each part of the method does, with its pictures."""
    return (
        '<section class="about-card"><h2>What the method does</h2><p>Every strip below was told by this app '
        f"with its embedded model, {STEPS} steps, and the same seeds in all strips of a part. That model is "
        "small and rough: the strips show what the parts of the method do, not how fine pictures can be. "
        f'<a href="{PAPER}" rel="noreferrer">The paper</a>, by Tewel et al., has all but the filter.</p>'
        f"{''.join(_part(part) for part in parts)}</section>"
    )


def _part(part: Part) -> str:
    scenes = ", ".join(part.story.scene_texts)
    strips = "".join(
        f'<figure><figcaption>{escape(name)}</figcaption><img loading="lazy" '
        f'src="gradio_api/file={escape(str(PICTURES / file), quote=True)}" '
        f'alt="{escape(f"{part.story.subject}, {name.lower()}: {scenes}", quote=True)}"></figure>'
        for name, file in part.strips
    )
    return (
        f'<article class="part" id="about-{part.key}"><h3>{escape(part.title)}</h3><p>{escape(part.does)}</p>'
        f'<div class="strips">{strips}</div><p class="seen"><strong>Seen here:</strong> '
        f"{escape(part.seen)}</p></article>"
    )


def commands() -> str:
    """How to get a larger model and the weights of scores."""
    items = "".join(
        f"<article><h3>{escape(title)}</h3><p>{escape(text)}</p>"
        f"<pre><code>{escape(command)}</code></pre></article>"
        for title, text, command in COMMANDS
    )
    return (
        f'<section class="about-card"><h2>How to get more</h2>{items}'
        f'<p class="licence">Licence: {escape(LICENCE)}</p></section>'
    )
