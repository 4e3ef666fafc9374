"""Fixtures: tiny models in folders, loaded models, a story; the studio's parts, its address, a browser."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from consistory_svd import Model, Story, load_model
from tests.tiny_models import LAYOUTS, make_pipeline

if TYPE_CHECKING:  # a browser and Gradio take seconds that other tests need not wait for
    from playwright.sync_api import Browser, Page

    from consistory_svd.library import Library
    from consistory_svd.studio.model_manager import ModelManager
    from consistory_svd.studio.tabs.story import StoryTab


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder without downloaded weights."""
    return tmp_path_factory.mktemp("no weights")


@pytest.fixture(scope="module", autouse=True)
def _no_downloaded_weights(empty_cache: Path) -> None:
    """Tests see no weights that this machine happens to have."""
    os.environ["CONSISTORY_SVD_CACHE"] = str(empty_cache)


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of saved tiny models, by layout."""
    folders = {}
    for layout in LAYOUTS:
        folder = tmp_path_factory.mktemp("models") / layout
        make_pipeline(layout).save_pretrained(folder)
        folders[layout] = folder
    return folders


@pytest.fixture(scope="session")
def tiny_folder(tiny_folders: dict[str, Path]) -> Path:
    """The folder of a tiny SDXL that loads in a second: 32 x 32 pictures, factor 2 autoencoder."""
    return tiny_folders["small"]


@pytest.fixture(scope="session", params=LAYOUTS)
def model(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> Model:
    """A tiny model of each layout, on the CPU. Tests leave it as it was."""
    return load_model(str(tiny_folders[request.param]), device="cpu")


@pytest.fixture(scope="session")
def small_model(tiny_folder: Path) -> Model:
    """The tiny model of the small layout alone, for what no layout changes."""
    return load_model(str(tiny_folder), device="cpu")


@pytest.fixture
def story() -> Story:
    """Four frames of a fox."""
    scenes = ("in the forest", "in the desert", "on the beach", "in the snow")
    return Story("a fox", scenes, seed=3)


@pytest.fixture(scope="module")
def manager(tiny_folder: Path) -> "ModelManager":
    """The studio's owner of a tiny model, loaded."""
    from consistory_svd.studio.model_manager import ModelManager

    manager = ModelManager(str(tiny_folder), "cpu")
    manager.start()
    assert manager.wait(120)
    return manager


@pytest.fixture
def story_tab(manager: "ModelManager") -> Iterator["StoryTab"]:
    """The Story tab of a studio where each visitor has a library of their own."""
    yield from _story_tab(manager)


@pytest.fixture
def library(tmp_path: Path) -> "Library":
    """An empty library on disk."""
    from consistory_svd.library import Library

    return Library(tmp_path / "library")


@pytest.fixture
def common(manager: "ModelManager", library: "Library") -> Iterator["StoryTab"]:
    """The Story tab of a studio where all visitors share one library."""
    from consistory_svd.studio.visitor_storage import VisitorStorage

    yield from _story_tab(manager, storage=VisitorStorage(library))


def _story_tab(manager: "ModelManager", **parts: Any) -> Iterator["StoryTab"]:
    from tests.visitors import ANN, BEN, make_story_tab

    story_tab = make_story_tab(manager, **parts)
    yield story_tab
    for visitor in (ANN, BEN):
        story_tab.services.leave(visitor)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The address of a studio on the embedded model where every visitor has their own stories."""
    from tests.browser import serve

    with serve() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium."""
    from tests.browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """The page of a new visitor, its model loaded."""
    from tests.browser import visit

    page = visit(browser, address)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def form(browser: "Browser", address: str) -> Iterator["Page"]:
    """The page of one visitor, for tests of the form that set all they depend on."""
    from tests.browser import visit

    page = visit(browser, address)
    yield page
    page.context.close()


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP of transformers, saved to disk."""
    from tests.tiny_networks import save_clip

    save_clip(folder := tmp_path_factory.mktemp("networks") / "clip")
    return folder
