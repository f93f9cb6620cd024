"""The report's plots, from what ``collect`` gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import OpenMedError
from ...files import atomic_file
from ..errors import FREQUENCIES
from ..ledger import TEST
from .further import best_split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
# Place on the axis, F1, and its interval if there is one.
Points = list[tuple[int, float, list[float] | None]]
# Told apart also without colours (Okabe & Ito 2008).
_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#e69f00", "#009e73", "#777777"
_DPI = 120


@dataclass(frozen=True)
class Plot:
    """A plot.

    name (str): As ``parts.Figure`` has it.
    title (str): In a few words.
    alt (str): What it shows, for those who do not see it.
    width, height (float): In inches.
    """

    name: str
    title: str
    alt: str
    width: float
    height: float

    @property
    def file(self) -> str:
        """Name of the file in ``plots/``."""
        return f"{self.name}.png"


class MatplotlibMissing(OpenMedError):
    """matplotlib is not installed."""


def plots(report: Row) -> list[Plot]:
    """The plots that there are figures for. Needs no matplotlib.

    report (dict): From ``collect``.
    """
    return [plot for describe, _ in _PLOTS.values() if (plot := describe(report)) is not None]


def draw(report: Row, folder: Path) -> list[Plot]:
    """Draw the plots that there are figures for.

    report (dict): From ``collect``.
    folder (Path): Gets PNG files; the same figures give the same bytes with the same
        matplotlib. What an earlier report had more is removed.
    RETURNS (list[Plot]): Those that were drawn.
    RAISES (MatplotlibMissing): matplotlib is not installed.
    """
    found = plots(report)
    if found:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MatplotlibMissing(
                "The plots need matplotlib: pip install 'spacy-openmed[report]'."
            ) from error
    for name in _PLOTS.keys() - {plot.name for plot in found}:
        (folder / f"{name}.png").unlink(missing_ok=True)
    for plot in found:
        figure = Figure(figsize=(plot.width, plot.height), layout="constrained", dpi=_DPI)
        _PLOTS[plot.name][1](figure, report)
        with atomic_file(folder / plot.file) as part:
            # Without the name and version of the program, which a PNG has by default.
            figure.savefig(part, format="png", metadata={"Software": None})
    return found


def _wide(name: str, title: str, alt: str, groups: int) -> Plot:
    return Plot(name, title, alt, max(6.0, 2 + 0.85 * groups), 4.2)


# F1 by dataset


def _f1_rows(report: Row) -> list[Row]:
    return [row for row in report["main"] if row["conll"]]


def _f1(report: Row) -> Plot | None:
    rows = _f1_rows(report)
    if not rows:
        return None
    listed = ", ".join(f"{row['dataset']} {row['conll']['f1']:.1f}" for row in rows)
    alt = (
        f"CoNLL F1 on test by dataset, beside OpenMed NER, spaCy's own ner and scispaCy where "
        f"known. Ours: {listed}."
    )
    return _wide("f1", "F1 by dataset", alt, len(rows))


def _draw_f1(figure: "Figure", report: Row) -> None:
    rows = _f1_rows(report)
    axes = figure.subplots()
    series: list[tuple[str, str, str, Points]] = [
        ("spaCy ner, trained here", _ORANGE, "s", _points(rows, lambda row: row["spacy_ner"])),
        ("ours", _BLUE, "o", _points(rows, lambda row: row["conll"])),
        ("OpenMed NER, published", _GREEN, "D", _points(rows, _published("openmed"))),
        ("scispaCy, published", _GREY, "^", _points(rows, _published("scispacy"))),
    ]
    shown = [one for one in series if one[3]]
    for place, (label, colour, marker, points) in enumerate(shown):
        shift = 0.16 * (place - (len(shown) - 1) / 2)
        _dots(axes, label, colour, marker, points, shift)
    _by_dataset(axes, [row["dataset"] + (" *" if row["partial"] else "") for row in rows])
    axes.set_ylabel("CoNLL F1 on test, 95 % intervals")
    if any(row["partial"] for row in rows):
        axes.set_xlabel("* a part of the corpus, not comparable with published figures")


def _points(rows: Sequence[Row], of: Callable[[Row], Row | None]) -> Points:
    return [
        (x, found["f1"], found.get("f1_ci"))
        for x, row in enumerate(rows)
        if (found := of(row)) and found["f1"] is not None
    ]


def _published(key: str) -> Callable[[Row], Row | None]:
    return lambda row: {"f1": row["published"][key]}


def _dots(axes: "Axes", label: str, colour: str, marker: str, points: Points, shift: float) -> None:
    axes.errorbar(
        [x + shift for x, _, _ in points],
        [y for _, y, _ in points],
        yerr=_errors(points),
        fmt=marker,
        color=colour,
        label=label,
        markersize=5,
        capsize=2,
        linestyle="none",
    )


def _errors(points: Points) -> list[list[float]]:
    # An F1 can lie outside the percentiles of its resamples, by rounding or by chance.
    ends = [(y, ci or [y, y]) for _, y, ci in points]
    return [[max(y - ci[0], 0) for y, ci in ends], [max(ci[1] - y, 0) for y, ci in ends]]


def _by_dataset(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8)


# Dev against test


def _dev_test_rows(report: Row) -> list[tuple[str, Row, Row]]:
    by_key = {(row["dataset"], row["split"]): row["raw"] for row in report["results"] if row["raw"]}
    return [
        (name, by_key[name, "dev"], by_key[name, TEST])
        for name in report["datasets"]
        if (name, "dev") in by_key and (name, TEST) in by_key
    ]


def _dev_test(report: Row) -> Plot | None:
    rows = _dev_test_rows(report)
    if not rows:
        return None
    listed = ", ".join(f"{name} {dev['f1']:.1f} and {test['f1']:.1f}" for name, dev, test in rows)
    alt = f"Raw F1 on dev and on test by dataset: {listed}."
    return _wide("dev-test", "Dev and test", alt, len(rows))


def _draw_dev_test(figure: "Figure", report: Row) -> None:
    rows = _dev_test_rows(report)
    axes = figure.subplots()
    dev = [(x, score["f1"], score.get("f1_ci")) for x, (_, score, _) in enumerate(rows)]
    test = [(x, score["f1"], score.get("f1_ci")) for x, (_, _, score) in enumerate(rows)]
    _dots(axes, "dev", _GREY, "s", dev, -0.1)
    _dots(axes, "test", _BLUE, "o", test, 0.1)
    _by_dataset(axes, [name for name, _, _ in rows])
    axes.set_ylabel("raw F1, 95 % intervals")


# Recall by frequency


def _by_frequency(report: Row) -> list[Row]:
    return [row for row in best_split(report["errors"]) if row["by_frequency"]]


def _frequency(report: Row) -> Plot | None:
    rows = _by_frequency(report)
    if not rows:
        return None
    listed = "; ".join(
        f"{row['dataset']}: "
        + ", ".join("–" if r is None else f"{r:.0f}" for r in map(_recall_at(row), FREQUENCIES))
        for row in rows
    )
    alt = (
        f"Recall by how often a mention was annotated in training ({', '.join(FREQUENCIES)} "
        f"times). {listed}."
    )
    columns, lines = _grid(len(rows))
    return Plot(
        "recall-by-frequency", "Recall by frequency", alt, 0.6 + 2.2 * columns, 0.8 + 1.9 * lines
    )


def _recall_at(row: Row) -> Callable[[str], float | None]:
    return lambda name: row["by_frequency"][name]["gold"]["recall"]


def _draw_frequency(figure: "Figure", report: Row) -> None:
    rows = _by_frequency(report)
    for axes, row in zip(_small(figure, len(rows)), rows, strict=True):
        recalls = [(x, _recall_at(row)(name)) for x, name in enumerate(FREQUENCIES)]
        known = [(x, recall) for x, recall in recalls if recall is not None]
        axes.bar([x for x, _ in known], [recall for _, recall in known], color=_BLUE, width=0.7)
        for x, recall in known:
            mentions = row["by_frequency"][FREQUENCIES[x]]["gold"]["mentions"]
            axes.annotate(
                f"{mentions:,}", (x, recall), ha="center", va="bottom", fontsize=6, color="#444444"
            )
        axes.set_xticks(range(len(FREQUENCIES)), FREQUENCIES, fontsize=7)
        axes.set_ylim(0, 112)
        axes.set_yticks([0, 50, 100])
        axes.set_title(f"{row['dataset']}, {row['split']}", fontsize=8)
    figure.supxlabel("times annotated in training; above the bars: mentions", fontsize=8)
    figure.supylabel("recall", fontsize=8)


# Reliability


def _reliability(report: Row) -> Plot | None:
    rows = best_split(report["calibrations"])
    if not rows:
        return None
    listed = ", ".join(f"{row['dataset']} {100 * row['after']['ece']:.1f} %" for row in rows)
    alt = f"Share of entities that are right by score. Expected calibration error: {listed}."
    columns, lines = _grid(len(rows))
    return Plot("reliability", "Reliability", alt, 0.6 + 2.2 * columns, 0.9 + 2.2 * lines)


def _draw_reliability(figure: "Figure", report: Row) -> None:
    rows = best_split(report["calibrations"])
    labels: dict[str, Any] = {}
    for axes, row in zip(_small(figure, len(rows)), rows, strict=True):
        axes.plot([0, 1], [0, 1], "--", color="#bbbbbb", linewidth=1)
        for when, colour, marker in (("before", _ORANGE, "s"), ("after", _BLUE, "o")):
            bins = [one for one in row[when]["bins"] if one["count"]]
            (labels[f"{when} calibration"],) = axes.plot(
                [one["mean_score"] for one in bins],
                [one["accuracy"] for one in bins],
                color=colour,
                marker=marker,
                markersize=3,
                linewidth=1,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_aspect("equal")
        axes.set_title(f"{row['dataset']}, {row['split']}", fontsize=8)
    figure.legend(
        list(labels.values()),
        list(labels),
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    figure.supxlabel("score", fontsize=8)
    figure.supylabel("share that is right", fontsize=8)


def _grid(count: int) -> tuple[int, int]:
    columns = min(count, 4)
    return columns, -(-count // columns)


def _small(figure: "Figure", count: int) -> "list[Axes]":
    """Small plots in a grid, as many as needed."""
    columns, lines = _grid(count)
    grid = figure.subplots(lines, columns, squeeze=False)
    every: list[Axes] = list(grid.flat)
    for axes in every[count:]:
        axes.set_visible(False)
    for axes in every[:count]:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return every[:count]


_PLOTS: dict[str, tuple[Callable[[Row], Plot | None], Callable[["Figure", Row], None]]] = {
    "f1": (_f1, _draw_f1),
    "dev-test": (_dev_test, _draw_dev_test),
    "recall-by-frequency": (_frequency, _draw_frequency),
    "reliability": (_reliability, _draw_reliability),
}
