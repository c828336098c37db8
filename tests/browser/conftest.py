"""A real browser for the pages of a report: the system's Chromium, driven by Playwright; axe-core from npm.

Nothing is downloaded but axe-core, from npm, at a pinned version. Where Chromium or npm's registry is not to be had the
tests skip and say why; `.ci/run` does not let them.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

AXE = "4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
RUN_AXE = """options => axe.run(document, options).then(done => done.violations.map(
    one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200), one.nodes[0].failureSummary]))"""
SIZES = {"phone": (360, 740), "laptop": (1280, 800), "print": (718, 1010)}
"""Window of each; print = A4 less the page's margins."""
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


@pytest.fixture(scope="session")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of screenshots, for a person to look at: `screens0` in pytest's own folder of the session."""
    return tmp_path_factory.mktemp("screens")


@pytest.fixture
def badly_laid_out(layout: str, screens: Path) -> Callable[[Seen, str], dict[str, list[str]]]:
    """badly_laid_out(seen, name): what is wrong at each size, if anything; a screenshot of each is kept."""

    def look(seen: Seen, name: str) -> dict[str, list[str]]:
        wrong = {}
        for size, (width, height) in SIZES.items():
            seen.page.set_viewport_size({"width": width, "height": height})
            seen.page.emulate_media(media="print" if size == "print" else "screen")
            seen.page.screenshot(path=screens / f"{name.replace(' ', '_')}-{size}.png", full_page=True)
            if problems := seen.page.evaluate(layout):
                wrong[f"{name}, {size}"] = problems
        seen.page.emulate_media(media="null")
        return wrong

    return look


@pytest.fixture
def inaccessible(axe: str) -> Callable[[Seen], list[Any]]:
    """inaccessible(seen): what axe finds, as [rule, how often, where, why]."""

    def look(seen: Seen) -> list[Any]:
        seen.page.evaluate(axe)
        found: list[Any] = seen.page.evaluate(RUN_AXE, {"runOnly": {"type": "tag", "values": RULES}})
        return found

    return look


@pytest.fixture
def printed(screens: Path) -> Callable[[Seen, str], int]:
    """printed(seen, name): how many pages of upright A4 the page takes; the PDF is kept beside the screenshots."""

    def look(seen: Seen, name: str) -> int:
        pdf = seen.page.pdf(path=screens / f"{name}.pdf", prefer_css_page_size=True, format="A4")
        boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", pdf)}
        assert boxes
        assert all(abs(box[2] - 595) < 2 and abs(box[3] - 842) < 2 for box in boxes), "A4, upright"
        return len(re.findall(rb"/Type\s*/Page\b", pdf))

    return look


@pytest.fixture
def wrong_numbers() -> Callable[[Seen, Path], list[str]]:
    """wrong_numbers(seen, scores): risks and starting points of a person's page that are not those of the table."""

    def look(seen: Seen, scores: Path) -> list[str]:
        person = Path(seen.page.url).stem
        with duckdb.connect(str(scores), read_only=True) as connection:
            rows = connection.execute(
                "SELECT outcome, horizon_years, risk, reference_risk FROM latest_risk_scores "
                "JOIN pseudonyms USING (run_id, subject_id) WHERE pseudonym = ?",
                [person],
            ).fetchall()
        wrong = [] if rows else ["nobody of this name"]
        for hook, at in (("risk", 2), ("reference", 3)):
            found = seen.page.eval_on_selector_all(
                f"[data-test-{hook}]",
                f"all => all.map(one => [one.getAttribute('data-test-{hook}'), one.value, one.innerText])",
            )
            shown = {key: (float(value), float(re.sub(r"[^0-9.]", "", text))) for key, value, text in found}
            table = {f"{row[0]}|{row[1]}": row[at] for row in rows}
            if {key: value for key, (value, _) in shown.items()} != table:
                wrong.append(f"{hook}: other rows or values than the table's")
            # Below one percent a page has two decimals, else one.
            wrong += [
                f"{hook} {key}: digits" for key, (value, digits) in shown.items() if abs(digits - 100 * value) > 0.0501
            ]
        return wrong

    return look
