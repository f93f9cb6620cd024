"""The chosen adapters beside other systems: the main table, and every system measured here."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...corpora import registry
from ...errors import OpenMedError
from .. import significance
from ..ledger import TEST
from . import published
from .files import FEWEST_DOCUMENTS, Result, Row, at, figures, folders, interval, results

SPACY_NER = "spacy-ner"
# Corpora that others report as one, and of which we have an adapter for each type.
TOGETHER = {"bc5cdr": ("bc5cdr-chem", "bc5cdr-disease")}
_SCORES = ("raw", "conll")

Key = tuple[str, str]


def with_sums(found: Sequence[Result]) -> list[Result]:
    """Results, and for corpora that others report as one the sum of their parts."""
    by_key = {(one.dataset, one.split): one for one in found}
    sums = [
        _sum(name, split, [by_key[part, split] for part in parts])
        for name, parts in TOGETHER.items()
        for split in sorted({one.split for one in found})
        if all((part, split) in by_key for part in parts)
    ]
    return [*found, *sums]


def _sum(name: str, split: str, parts: Sequence[Result]) -> Result:
    content: Row = {
        "dataset": name,
        "split": split,
        "partial": any(part.content.get("partial") for part in parts),
        "data": {
            f"{part.dataset}/{file}": digest
            for part in parts
            for file, digest in (part.content.get("data") or {}).items()
        },
    }
    for kind in _SCORES:
        scores = [part.content.get(kind) for part in parts]
        if all(scores):
            content[kind] = _sum_scores([score for score in scores if score])
    return Result(name, split, parts[0].path.with_name(f"{name}-{split}.json"), content)


def _sum_scores(scores: Sequence[Row]) -> Row:
    counts = [sum(score[key] for score in scores) for key in ("tp", "fp", "fn")]
    whole: Row = dict(zip(("tp", "fp", "fn"), counts, strict=True))
    whole["f1"] = significance.f1([counts])
    documents = [score.get("documents") for score in scores]
    # The parts are annotations of the same documents, in the same order.
    if all(documents) and len({len(rows) for rows in documents if rows}) == 1:
        summed = [
            [sum(values) for values in zip(*rows, strict=True)]
            for rows in zip(*(rows for rows in documents if rows), strict=True)
        ]
        whole["documents"] = summed
        whole["f1_ci"] = list(significance.bootstrap_interval(summed))
    return whole


def systems(place: Path, ours: Sequence[Result]) -> tuple[list[Row], list[str]]:
    """Other systems that were measured on the same splits.

    place (Path): ``baselines``, with a folder of results for each system.
    ours (Sequence[Result]): Of the chosen adapters, see ``with_sums``.
    RETURNS (tuple): A row for each result of theirs: "system", "version", "seconds",
        "dataset", "split", "raw" and "conll"; "on", which of the two was compared, with
        "difference" (ours minus theirs, in points), "difference_ci" and "p". And sentences about
        what could not be compared.
    """
    by_key = {(one.dataset, one.split): one for one in ours}
    rows, problems = [], []
    for folder in folders(place):
        for theirs in with_sums(list(results(folder))):
            row: Row = {
                "system": folder.name,
                "version": at(theirs.content, "system", "version"),
                "seconds": at(theirs.content, "system", "seconds"),
                "dataset": theirs.dataset,
                "split": theirs.split,
                **{kind: figures(theirs.content.get(kind)) for kind in _SCORES},
                **dict.fromkeys(("on", "difference", "difference_ci", "p")),
            }
            mine = by_key.get((theirs.dataset, theirs.split))
            if mine is not None:
                try:
                    row.update(_compare(mine, theirs))
                except OpenMedError as error:
                    name = f"baselines/{folder.name}/{theirs.path.name}"
                    problems.append(f"{name}: not compared. {str(error).removesuffix('.')}")
            rows.append(row)
    return rows, problems


def _compare(mine: Result, theirs: Result) -> Row:
    both = [one.content for one in (mine, theirs)]
    names = ("the chosen adapter", "the other system")
    on = "conll" if _same_mentions(mine) and all(one.get("conll") for one in both) else "raw"
    found = significance.compare(both[0], both[1], on, names)
    enough = found["documents"] >= FEWEST_DOCUMENTS
    return {
        "on": on,
        "difference": found["difference"],
        "difference_ci": found["difference_ci"] if enough else None,
        "p": found["p"],
    }


def main_table(ours: Sequence[Result], others: Iterable[Row], errors: Iterable[Row]) -> list[Row]:
    """The chosen adapters on test, beside what others report and spaCy's own ``ner``.

    ours (Sequence[Result]): See ``with_sums``.
    others (Iterable[dict]): From ``systems``.
    errors (Iterable[dict]): See ``derived.errors``.
    RETURNS (list[dict]): One a dataset, in the registry's order, those of several corpora last:
        "dataset", "together", "partial"; "conll", None where the token file annotates other
        mentions than the raw form, and "raw", each "f1" and "f1_ci"; "unseen";
        "published"; "to_openmed", "to_closed" and "to_scispacy", ours minus theirs in
        points by CoNLL F1; and "spacy_ner": its "f1" and "f1_ci", "on" which of the two scores,
        and how far ours is ahead, see ``systems``. None is what is not known, or cannot be
        compared because only a part of the corpus is at hand, or because one of the two has no
        CoNLL score.
    """
    beside = {
        row["dataset"]: row for row in others if row["system"] == SPACY_NER and row["split"] == TEST
    }
    unseen = {
        row["dataset"]: row["unseen"] for row in errors if row["split"] == TEST and row["unseen"]
    }
    for name, parts in TOGETHER.items():
        if all(part in unseen for part in parts):
            unseen[name] = _sum_unseen([unseen[part] for part in parts])
    order = [*registry.with_demos()]
    rows = [
        _main_row(one, beside.get(one.dataset), unseen.get(one.dataset))
        for one in ours
        if one.split == TEST
    ]

    def place(row: Row) -> tuple[bool, int, str]:
        name = row["dataset"]
        known = order.index(name) if name in order else len(order)
        return row["together"] is not None, known, name

    return sorted(rows, key=place)


def _sum_unseen(parts: Sequence[Row]) -> Row:
    mentions, correct = (sum(part[key] for part in parts) for key in ("mentions", "correct"))
    recall = 100 * correct / mentions if mentions else None
    return {"mentions": mentions, "correct": correct, "recall": recall}


def _main_row(one: Result, spacy_ner: Row | None, unseen: Row | None) -> Row:
    known = published.of(one.dataset)
    partial = one.content.get("partial")
    same = _same_mentions(one)
    conll = one.content.get("conll") if same else None
    f1 = None if partial or not conll else conll["f1"]

    def beyond(other: float | None) -> float | None:
        return None if f1 is None or other is None else f1 - other

    return {
        "dataset": one.dataset,
        "together": TOGETHER.get(one.dataset),
        "partial": partial,
        "conll": _f1(conll),
        "raw": _f1(one.content.get("raw")),
        "unseen": unseen,
        "published": known.to_dict(),
        "to_openmed": beyond(known.openmed),
        "to_closed": beyond(known.closed),
        "to_scispacy": beyond(known.scispacy),
        "spacy_ner": _beside(spacy_ner, "conll" if same else "raw")
        if spacy_ner and (one.content.get("conll") or not same)
        else None,
    }


def _same_mentions(one: Result) -> bool:
    return registry.same_mentions(one.dataset, one.content.get("edition"), one.split)


def _f1(score: Row | None) -> Row | None:
    return {"f1": score["f1"], "f1_ci": interval(score)} if score else None


def _beside(row: Row, on: str) -> Row | None:
    score = _f1(row[on])
    compared = {key: row[key] for key in ("difference", "difference_ci", "p")}
    return score and {**score, "on": on, **compared}


def mean(rows: Iterable[Row]) -> Row | None:
    """The mean over complete corpora that have a CoNLL score, each counted once.

    rows (Iterable[dict]): From ``main_table``.
    RETURNS (dict | None): "datasets", how many; "conll_f1" and "raw_f1"; "spacy_ner":
        {"datasets", "f1", "difference"} over those that it was measured on, or None.
    """
    known = registry.datasets()
    whole = [
        row
        for row in rows
        if row["dataset"] in known and not row["partial"] and row["conll"] and row["raw"]
    ]
    if not whole:
        return None
    beside: list[Any] = [
        row["spacy_ner"]
        for row in whole
        if row["spacy_ner"] and row["spacy_ner"]["difference"] is not None
    ]
    return {
        "datasets": len(whole),
        "conll_f1": statistics.mean(row["conll"]["f1"] for row in whole),
        "raw_f1": statistics.mean(row["raw"]["f1"] for row in whole),
        "spacy_ner": {
            "datasets": len(beside),
            "f1": statistics.mean(one["f1"] for one in beside),
            "difference": statistics.mean(one["difference"] for one in beside),
        }
        if beside
        else None,
    }
