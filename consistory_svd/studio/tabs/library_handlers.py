"""What the library's room asks for: between its widgets and the stories on disk."""

import logging
from pathlib import Path
from typing import Any

import gradio as gr

from consistory_svd.library import KeptStory, found, ordered
from consistory_svd.metrics.report import from_json
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.metrics.weights import fetchable
from consistory_svd.studio import html as view
from consistory_svd.studio import library_html as library_view
from consistory_svd.studio.components.scores_panel import excluded_note, load_frames, scores_html
from consistory_svd.studio.generated_story import GeneratedStory, OpenedStory, Picture
from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs.story import StoryTab
from consistory_svd.thumbnails import UNREADABLE, blank, cover

log = logging.getLogger(__name__)
FEWEST, MOST = 2, 4  # stories that are compared


class LibraryHandlers:
    """What the room's widgets ask for."""

    def __init__(self, services: Services, story: StoryTab, tabs: gr.Tabs, message: gr.HTML) -> None:
        self.services = services
        self._story_tab, self._tabs, self.message = story, tabs, message

    def folder(self, request: gr.Request, name: str) -> Path:
        """The folder of the visitor's story of that name. ValueError when there is none."""
        return self._story(request, name).folder

    def shelf(self, words: str, order: str, limit: int, request: gr.Request) -> tuple[Any, ...]:
        """The stories with these words in them: their covers, names, how many, whether there are more, and
        the choices of a comparison."""
        library = self.services.library_of(request)
        stories, words = library.stories(), str(words or "")
        fitting = ordered(found(stories, words), order)
        shown = fitting[:limit]
        choices = [(library_view.card(story), story.name) for story in stories if story.pictures]
        return (
            gr.update(value=[_card(story) for story in shown], visible=bool(shown), selected_index=None),
            [story.name for story in shown],
            library_view.note(library.note) + library_view.counted(len(shown), len(fitting), words),
            gr.update(visible=len(shown) < len(fitting)),
            gr.update(choices=choices),
        )

    def choose(self, names: list[str], request: gr.Request, event: gr.SelectData) -> tuple[Any, ...]:
        """Look at the story whose cover was chosen."""
        return self.look(names[event.index], request)

    def look(self, name: str, request: gr.Request) -> tuple[Any, ...]:
        """A story: its name, message, heading, pictures, scores, and what can be done with it."""
        try:
            story = self._story(request, name)
        except ValueError as refusal:
            return self._nothing(view.alert(_in_words(refusal)))
        whole = bool(story.pictures)
        said = map(view.caption, story.scenes, story.filtered) if whole else ()
        pictures = zip(map(str, story.pictures), said, strict=True) if whole else ()
        return (
            name,
            "",
            library_view.heading(story),
            gr.update(visible=True),
            gr.update(value=list(pictures), visible=whole, selected_index=None),
            _scores(story),
            *(gr.update(interactive=whole) for _ in range(2)),
            gr.update(visible=False),
            gr.update(visible=whole),
        )

    def ask(self, name: str, request: gr.Request) -> tuple[Any, Any]:
        """Ask whether a story is really to be deleted: the question, and the part it stands in."""
        try:
            story = self._story(request, name)
        except ValueError as refusal:
            return view.alert(_in_words(refusal)), gr.update(visible=True)
        count = view.pictures_in_words(len(story.pictures))
        which = f"“{story.title}”, told {library_view.date(story)}, with its {count}"
        return view.alert(f"Delete {which}? It cannot be had back."), gr.update(visible=True)

    def delete(self, name: str, request: gr.Request) -> tuple[Any, ...]:
        """Delete a story; what `look` gives for none."""
        library = self.services.library_of(request)
        try:
            story = library.get(name)
            if self.services.is_generating_into(story.folder):
                raise ValueError("The story is still being told; cancel it first, or wait for its end.")
            library.delete(name)
        except ValueError as refusal:
            return self._kept(name, _in_words(refusal))
        except OSError as error:
            log.exception("deleting a story failed")
            return self._kept(name, f"The story could not be deleted: {error.strerror or error}")
        self.services.forget_folder(story.folder)
        return self._nothing(library_view.note(f"“{story.title}” is deleted."))

    def open(self, name: str, request: gr.Request) -> dict[Any, Any]:
        """Open a saved story in the Story tab."""
        services, tab = self.services, self._story_tab
        try:
            story = self._story(request, name)
            if not story.pictures:
                raise ValueError(f"It has no images to open. {story.problem}")
            if services.is_generating(request):
                raise ValueError("Your story is still being generated. Cancel it first, or wait.")
            if services.is_generating_into(story.folder):
                raise ValueError("The story is being generated on another page. Wait until it is done.")
            saved = GeneratedStory.from_saved(story)
        except (ValueError, *UNREADABLE) as refusal:
            return {self.message: view.alert(_in_words(refusal))}
        session, record = services.sessions.of(request), story.record
        session.show(saved)
        session.show_masks, session.missing_weights = False, fetchable(_entries(story))
        opened = record.anchor_story and OpenedStory(record.story, record.settings, record.anchor_story)
        session.opened = opened
        count = view.pictures_in_words(len(story.pictures))
        said = (
            f"Opened from the library: {library_view.date(story)}, {count}.",
            view.filtered_text(saved.pictures),
            services.manager.refuses(saved),
        )
        return {
            self.message: "",
            self._tabs: gr.update(selected="story"),
            tab.status: library_view.note(" ".join(filter(None, said))),
            tab.pictures: view.gallery_items(saved.pictures),
            tab.scores.card: _scores(story),
            tab.masks: False,
            **tab.fill(record.story, record.settings),
        }

    @staticmethod
    def add(names: list[str] | None, name: str) -> tuple[list[str], Any]:
        """One story more to compare, and the part of the page that compares."""
        names = names or []
        if name and name not in names and len(names) < MOST:
            names = [*names, name]
        return names, gr.update(open=True)

    def compare(self, names: list[str], request: gr.Request) -> str:
        """Stories side by side."""
        names = names or []
        if not FEWEST <= len(names) <= MOST:
            return view.alert(f"Stories to compare: {len(names)} are not allowed; choose {FEWEST} to {MOST}.")
        try:
            return library_view.compared([self._whole(request, name) for name in names])
        except ValueError as refusal:
            return view.alert(_in_words(refusal))

    def _whole(self, request: gr.Request, name: str) -> KeptStory:
        story = self._story(request, name)
        if not story.pictures:
            raise ValueError(f"{story.title} has no pictures to compare. {story.problem}")
        return story

    def _story(self, request: gr.Request, name: str) -> KeptStory:
        if not name:
            raise ValueError("Choose a story first.")
        return self.services.library_of(request).get(name)

    @staticmethod
    def _kept(name: str, words: str) -> tuple[Any, ...]:
        """As `look`, with the story as it is on the page and a message."""
        same = (gr.skip() for _ in range(6))
        return name, view.alert(words), *same, gr.update(visible=False), gr.skip()

    @staticmethod
    def _nothing(message: str) -> tuple[Any, ...]:
        """As `look`, with no story chosen."""
        chosen, heading = "", library_view.note(library_view.NOTHING_CHOSEN)
        hidden = gr.update(visible=False)
        same = gr.skip(), gr.skip()
        return chosen, message, heading, hidden, gr.update(value=[]), "", *same, hidden, hidden


def _card(story: KeptStory) -> tuple[Any, str]:
    try:
        picture = cover(story)
    except UNREADABLE:
        picture = None
    return (str(picture) if picture else blank()), library_view.card(story)


def _entries(story: KeptStory) -> list[Result | MissingScore]:
    """The scores that were kept with a story; none where they cannot be read."""
    try:
        return from_json(story.scores) if story.scores else []
    except ValueError:
        return []


def _scores(story: KeptStory) -> str:
    """The scores that were kept with a story; nothing where there are none for its pictures."""
    if story.scores is None:
        return ""
    known = zip(story.pictures, story.prompts, story.scenes, story.filtered, strict=True)
    pictures = [
        Picture(path, frame, prompt, scene, filtered=why)
        for frame, (path, prompt, scene, why) in enumerate(known)
    ]
    try:
        frames, note = load_frames(pictures, story.record.model), excluded_note(pictures)
        return scores_html(from_json(story.scores), frames, note)
    except (ValueError, *UNREADABLE) as error:
        return library_view.note(f"The scores of this story cannot be shown: {error}")


def _in_words(refusal: Exception) -> str:
    return str(refusal)
