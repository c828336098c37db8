"""A real browser for the pages of a report: the system's Chromium, driven by Playwright; axe-core from npm.

Nothing is downloaded but axe-core, from npm, at a pinned version. Where Chromium or npm's registry is not to be had the
tests skip and say why; `.ci/run` does not let them.
"""

import importlib.util
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

AXE = "4.14.1"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SYNTHETIC = Path(__file__).resolve().parents[1] / "unit" / "report" / "synthetic_scores.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(str(item.fspath)).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium, headless."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    from playwright.sync_api import sync_playwright

    # Chromium's own sandbox cannot be had by root; the pages carry no script, and the tests check that.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


class Seen:
    """A page in the browser, with all that it said and asked for. problems: console errors, exceptions and dialogs."""

    def __init__(self, browser: Any, file: Path, width: int, height: int) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self.problems.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(f"dialog {dialog.type}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    @property
    def left(self) -> list[str]:
        """Requests beyond the file itself and pictures within it."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]


@pytest.fixture
def see(browser: Any) -> Iterator[Callable[..., Seen]]:
    """see(file, width=1280, height=800): the page, opened."""
    opened: list[Seen] = []

    def look(file: Path, width: int = 1280, height: int = 800) -> Seen:
        opened.append(Seen(browser, file, width, height))
        return opened[-1]

    yield look
    for one in opened:
        one.context.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no axe-core: npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(
        [npm, "pack", f"axe-core@{AXE}", "--silent", "--fetch-retries=1", "--fetch-timeout=20000"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("no axe-core: npm reached no registry")
    with tarfile.open(folder / f"axe-core-{AXE}.tgz") as packed:
        source = packed.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


@pytest.fixture(scope="session")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of screenshots, for a person to look at: `screens0` in pytest's own folder of the session."""
    return tmp_path_factory.mktemp("screens")


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """tests/unit/report/synthetic_scores.py."""
    spec = importlib.util.spec_from_file_location("browser_synthetic_scores", SYNTHETIC)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def layout() -> str:
    """JavaScript that names what a reader would see wrong: overflow, text over text, text cut off."""
    return (Path(__file__).parent / "layout.js").read_text(encoding="utf-8")
