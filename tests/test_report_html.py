"""The report's page and plots: one file, well formed, accessible, and right in a real browser."""

import base64
import builtins
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_files import look, suite, write_measured
from typer.testing import CliRunner, Result

from spacy_openmed.cli.app import app
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation import evaluate, predictions
from spacy_openmed.evaluation.evaluate import Found
from spacy_openmed.evaluation.report import comparisons, plots, published
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.html import WITH_TEXT, render
from spacy_openmed.labelling import outermost

SAMPLE = Path(__file__).parents[1] / "assets" / "sample"
VOID = {"meta", "img", "br", "link", "hr", "input"}
PHONE, DESKTOP = 375, 1280
# Of the same bytes every time on one machine, but not under load: a browser may be slow.
PATIENCE = 120


class Page(HTMLParser):
    """Elements of a page, and whether each was closed where it has to be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def run_report(runs: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", str(runs), *map(str, arguments)])


def made(runs: Path, *arguments: object) -> str:
    run = run_report(runs, *arguments)
    assert run.exit_code == 0, run.output
    return (runs / "report" / "report.html").read_text(encoding="utf8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every dataset, with its report."""
    runs = suite(tmp_path_factory.mktemp("whole"))
    made(runs)
    return runs


@pytest.fixture(scope="module")
def page(whole: Path) -> str:
    return (whole / "report" / "report.html").read_text(encoding="utf8")


def test_it_is_well_formed(page: str) -> None:
    from lxml import etree

    assert page.startswith("<!DOCTYPE html>")
    Page(page)
    # What a browser would have to mend is an error to libxml2, which only knows no HTML 5 tags.
    parser = etree.HTMLParser()
    etree.parse(io.StringIO(page), parser)
    errors = [one.message for one in parser.error_log]
    assert [one for one in errors if not re.fullmatch(r"Tag \w+ invalid", one)] == []


def test_nothing_is_fetched(page: str) -> None:
    elements = Page(page)
    assert not elements.all("script", "link", "iframe", "object", "base", "form")
    assert all(one["src"].startswith("data:image/png;base64,") for one in elements.all("img"))
    # The sources of published figures, for who wants to follow them.
    links = {one["href"] for one in elements.all("a") if not one["href"].startswith("#")}
    known = published.sources([*registry.datasets(), *comparisons.TOGETHER])
    assert "https://arxiv.org/abs/2508.01630" in links <= {source["url"] for source in known}
    others = [a for tag, a in elements.elements if tag not in ("a", "img")]
    assert not any({"src", "href", "srcset", "action"} & set(one) for one in others)
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    policy = next(a for a in elements.all("meta") if "http-equiv" in a)["content"]
    assert policy.startswith("default-src 'none'; img-src data:")


def test_it_can_be_read_without_seeing_it(page: str) -> None:
    elements = Page(page)
    assert elements.all("html") == [{"lang": "en"}]
    assert "<title>spacy-openmed: report</title>" in page
    assert {one["scope"] for one in elements.all("th")} == {"col", "row"}
    assert len(elements.all("caption")) == len(elements.all("table")) > 10
    images = elements.all("img")
    assert len(images) == 4 and all(len(one["alt"]) > 40 for one in images)
    assert all(int(one["width"]) > 400 and int(one["height"]) > 200 for one in images)
    ids = [a["id"] for _, a in elements.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {one["href"][1:] for one in elements.all("a") if one["href"].startswith("#")}
    named = {a["aria-labelledby"] for _, a in elements.elements if "aria-labelledby" in a}
    assert targets == named == set(ids)
    # What scrolls on its own can be reached with the keyboard, and has a name.
    boxes = [a for tag, a in elements.elements if tag == "figure" or a.get("class") == "table"]
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_the_page_and_the_text_have_the_same_figures(whole: Path, page: str) -> None:
    text = (whole / "report" / "report.md").read_text(encoding="utf8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    figures = {cell for row in rows for cell in row if re.fullmatch(r"\d+\.\d\d", cell)}
    assert len(figures) > 150
    assert all(f">{figure}</td>" in page for figure in figures)
    for title in re.findall(r"^## (.*)$", text, re.MULTILINE):
        assert f">{title}</h2>" in page


def test_text_is_never_taken_for_markup(whole: Path) -> None:
    report = collect(whole, whole)
    evil = '<script>alert("1")</script>'
    report["datasets"] = [evil]
    report["main"][0]["dataset"] = evil
    report["warnings"] = [evil]
    text = render(report)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 3
    assert Page(text).all("script") == []


def test_sections_without_figures_are_not_there(tmp_path: Path) -> None:
    runs = suite(tmp_path, ["ncbi"])
    for name in ("baselines", "results/seeds", "results/cross", "results/robustness"):
        shutil.rmtree(runs / name)
    (runs / "ablation.json").unlink()
    text = made(runs)
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
    assert titles == [
        *("Results", "What lessens these figures", "What is missing", "Scores", "Labels"),
        *("Errors", "Bias", "Calibration", "Looks at test", "Hashes"),
    ]
    missing = text.split('id="what-is-missing"')[1].split("</section>")[0]
    for what in ("other system", "further seeds", "another corpus", "disturbed text"):
        assert what in missing
    assert "examples of errors: not in this page" in missing


# Plots


def test_plots_are_the_same_every_time_and_say_what_they_show(whole: Path) -> None:
    folder = whole / "report" / "plots"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {
        *("f1.png", "dev-test.png", "recall-by-frequency.png", "reliability.png"),
    }
    drawn = plots.draw(collect(whole, whole), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert all(b"Software" not in content for content in before.values())
    alt = next(plot.alt for plot in drawn if plot.name == "f1")
    assert "ncbi 9" in alt and "bc5cdr 8" in alt
    text = (whole / "report" / "report.md").read_text(encoding="utf8")
    assert f"![{alt}](plots/f1.png)" in text


def test_a_plot_of_an_earlier_report_does_not_stay(tmp_path: Path) -> None:
    runs = suite(tmp_path, ["ncbi"])
    made(runs)
    own = runs / "report" / "plots" / "mine.png"
    own.touch()
    for path in (runs / "results").glob("*.errors.json"):
        path.unlink()
    text = made(runs)
    names = {path.name for path in own.parent.iterdir()}
    assert names == {"f1.png", "dev-test.png", "reliability.png", "mine.png"}
    assert len(Page(text).all("img")) == 3


def test_without_matplotlib_it_says_what_to_install(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    run = run_report(whole, "--output", tmp_path)
    assert run.exit_code == 0, run.output
    text = (tmp_path / "report.html").read_text(encoding="utf8")
    assert "pip install &#39;spacy-openmed[report]&#39;" in text and Page(text).all("img") == []
    assert "![" not in (tmp_path / "report.md").read_text(encoding="utf8")
    assert "pip install" in json.loads((tmp_path / "report.json").read_text())["missing"][-1]


# Examples, with text of a corpus


Change = Callable[[Entity], Entity | None]


def evaluate_sample(runs: Path, split: str, change: Change) -> dict[str, Any]:
    """Results and predictions of a model that finds what is annotated, but for a change."""
    at = evaluate.load("sample", split, SAMPLE)

    def found(documents: list[Document]) -> list[Found]:
        return [
            Found(d.id, [e for one in outermost(d.entities) if (e := change(one))])
            for d in documents
        ]

    return write_measured(runs, at, found(at.raw), None if at.conll is None else found(at.conll))


def wrong(entity: Entity) -> Entity | None:
    """Misses long mentions, and takes short ones for something else."""
    length = entity.end - entity.start
    if length > 20:
        return None
    return entity._replace(label="CHEMICAL") if length < 6 else entity


def test_examples_of_errors_are_in_the_page_alone(tmp_path: Path) -> None:
    evaluate_sample(tmp_path, "dev", wrong)
    before = made(tmp_path)
    assert "Examples of errors" not in before
    assert not (tmp_path / "results" / "sample-dev.errors.json").exists()
    run = run_report(tmp_path, "--corpus", SAMPLE)
    folder = tmp_path / "report"
    assert run.exit_code == 0
    assert f"{folder / WITH_TEXT} has text of the corpora in it" in run.output
    text = (folder / WITH_TEXT).read_text(encoding="utf8")
    elements = Page(text)
    assert len(elements.all("details")) == 1
    assert len(elements.all("article")) >= 3 and len(elements.all("mark")) > 6
    assert "sample, dev:" in text and "missed" in text and "wrong type" in text
    # A passage of the corpus is in the page, and nowhere else.
    shown = re.findall(r"<dd>(.*?)</dd>", text, re.DOTALL)
    passages = [re.split(r"<[^>]+>", one)[1].strip() for one in shown]
    words = max((one for one in passages if "&" not in one), key=len)
    assert len(words) > 20
    for other in ("report.md", "report.json", "report.html"):
        assert words not in (folder / other).read_text(encoding="utf8")
    errors = tmp_path / "results" / "sample-dev.errors.json"
    assert words not in errors.read_text(encoding="utf8")
    assert json.loads(errors.read_text())["overall"]["gold"]["outcomes"]["missed"] > 0
    # What was counted stays, also where neither corpus nor predictions are.
    predictions.beside(tmp_path / "results" / "sample-dev.json").unlink()
    assert ">Errors</h2>" in made(tmp_path)


def test_errors_are_counted_again_for_other_predictions(tmp_path: Path) -> None:
    path = tmp_path / "results" / "sample-dev.errors.json"
    evaluate_sample(tmp_path, "dev", wrong)
    made(tmp_path, "--corpus", SAMPLE)
    first = path.read_bytes()
    whole = json.loads(first)
    # Of another adapter, of a version that did not count by source, and without a corpus that may
    # be at hand now.
    for old in (
        {**whole, "adapter": "other"},
        {k: v for k, v in whole.items() if k != "by_source"},
        {**whole, "train": {**whole["train"], "absent": ["sample"]}},
    ):
        path.write_text(json.dumps(old))
        made(tmp_path, "--corpus", SAMPLE)
        assert path.read_bytes() == first


def test_test_is_read_only_for_a_look_that_was_recorded(tmp_path: Path) -> None:
    result = evaluate_sample(tmp_path, "test", wrong)
    path = tmp_path / "results" / "sample-test.errors.json"
    page = tmp_path / "report" / WITH_TEXT
    made(tmp_path, "--corpus", SAMPLE)
    assert not path.exists() and not page.exists()
    look(tmp_path, result)
    made(tmp_path, "--corpus", SAMPLE)
    assert path.is_file() and "Examples of errors" in page.read_text(encoding="utf8")


def test_a_page_with_text_of_an_earlier_report_does_not_stay(tmp_path: Path) -> None:
    evaluate_sample(tmp_path, "dev", wrong)
    made(tmp_path, "--corpus", SAMPLE)
    page = tmp_path / "report" / WITH_TEXT
    assert page.is_file()
    made(tmp_path)
    assert not page.exists()


def test_git_ignores_the_page_with_text() -> None:
    lines = (Path(__file__).parents[1] / ".gitignore").read_text(encoding="utf8").splitlines()
    assert WITH_TEXT in lines


def test_a_corpus_that_is_not_there_is_said(tmp_path: Path) -> None:
    evaluate_sample(tmp_path, "dev", wrong)
    run = run_report(tmp_path, "--corpus", tmp_path / "absent")
    assert run.exit_code == 0
    (sentence,) = [
        one
        for one in json.loads((tmp_path / "report" / "report.json").read_text())["warnings"]
        if "sample-dev" in one and "absent" in one
    ]
    assert sentence.startswith("results/sample-dev.predictions.jsonl: ")


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs headless Chromium on a page, and gives what it prints."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next((path for name in names if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    profile = tmp_path_factory.mktemp("profile")

    def run(path: Path, *arguments: str) -> str:
        command = [
            *(program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            # Pages from files may not look into frames with others.
            *("--allow-file-access-from-files", f"--user-data-dir={profile}"),
            *("--no-first-run", "--disable-background-networking", *arguments, path.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
        return done.stdout.decode("utf8")

    return run


@pytest.fixture(scope="module")
def with_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything that a page may have, its details open."""
    runs = suite(tmp_path_factory.mktemp("with-examples"))
    evaluate_sample(runs, "dev", wrong)
    made(runs, "--corpus", SAMPLE)
    text = (runs / "report" / WITH_TEXT).read_text(encoding="utf8")
    page = runs / "report" / "open.html"
    page.write_text(text.replace("<details>", "<details open>"), encoding="utf8")
    return page


# A window of Chromium cannot be narrower than 500 pixels, a frame can.
MEASURE = """<!DOCTYPE html><html><body style="margin: 0">
<iframe id="f" src="{page}" style="width: {width}px; height: 800px; border: 0"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("f").contentDocument, root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter((e) => {{
    if (e.closest(".table, figure") !== null && !e.matches(".table, figure")) return false;
    return e.getBoundingClientRect().right > root.clientWidth + 1;
  }});
  const images = [...page.images].map((i) => i.complete && i.naturalWidth > 0);
  const scrolls = [...page.querySelectorAll(".table")].filter((e) => e.scrollWidth > e.clientWidth);
  document.title = JSON.stringify({{
    client: root.clientWidth, scroll: root.scrollWidth, height: root.scrollHeight,
    wide: wide.map((e) => e.outerHTML.slice(0, 80)), images, scrolls: scrolls.length,
    font: parseFloat(page.defaultView.getComputedStyle(page.querySelector("td")).fontSize),
  }});
}});
</script></body></html>"""


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_fits_its_window(
    browser: Callable[..., str], with_examples: Path, tmp_path: Path, width: int
) -> None:
    outer = tmp_path / "outer.html"
    outer.write_text(MEASURE.format(page=with_examples.as_uri(), width=width), encoding="utf8")
    dumped = browser(outer, "--dump-dom", "--virtual-time-budget=5000", "--window-size=1400,900")
    title = re.search(r"<title>(.*?)</title>", dumped, re.DOTALL)
    assert title is not None, dumped[:500]
    found = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["client"] == width and found["scroll"] == width and found["wide"] == []
    assert found["images"] == [True] * 4 and found["height"] > 3000
    # On a phone wide tables scroll inside their own box, in letters that can be read.
    assert found["font"] >= 13 and (width > PHONE or found["scrolls"] > 3)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [500, DESKTOP])
def test_the_page_in_a_browser(
    browser: Callable[..., str], with_examples: Path, tmp_path: Path, width: int, mode: str
) -> None:
    import numpy as np
    from matplotlib import image

    path = tmp_path / "page.png"
    preferred = f"--blink-settings=preferredColorScheme={0 if mode == 'dark' else 1}"
    browser(with_examples, f"--window-size={width},1600", f"--screenshot={path}", preferred)
    pixels = image.imread(path)[..., :3]
    assert pixels.shape[:2] == (1600, width)
    # The margin is the page's background; text and tables stand out from it.
    background = pixels[:, :8].reshape(-1, 3)
    assert np.ptp(background, axis=0).max() == 0
    assert (background[0].mean() < 0.2) == (mode == "dark")
    differing = np.abs(pixels - background[0]).max(axis=2) > 0.4
    assert 0.02 < differing.mean() < 0.5
    assert (differing.mean(axis=1).reshape(8, 200).max(axis=1) > 0.02).all()


def test_the_images_are_those_of_the_plots(whole: Path, page: str) -> None:
    shown = {base64.b64decode(one["src"].partition(",")[2]) for one in Page(page).all("img")}
    folder = whole / "report" / "plots"
    assert shown == {path.read_bytes() for path in folder.iterdir()}
