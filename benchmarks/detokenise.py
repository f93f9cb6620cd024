"""Blanks and mentions that are right when a text is made of tokens, of three ways to do it.

Needs sacremoses besides the package: pip install sacremoses
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sacremoses import MosesDetokenizer

from spacy_openmed.corpora import registry
from spacy_openmed.corpora.detokenise import detokenise
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.corpora.token_offsets import token_offsets
from spacy_openmed.evaluation.scores import on_tokens

# Those of which both tokens and texts are known.
DATASETS = [name for name in registry.datasets() if name != "fsu"]
SPLITS = ("train", "dev")

_moses = MosesDetokenizer(lang="en")
WAYS: dict[str, Callable[[Sequence[str]], str]] = {
    "blank everywhere": " ".join,
    "sacremoses": lambda tokens: _moses.detokenize(tokens, unescape=False),
    "rules": lambda tokens: detokenise(tokens)[0],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [row(arguments.corpora, dataset, split) for split in SPLITS for dataset in DATASETS]
    print("\n".join(table(rows)))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf8")


def row(corpora: Path, dataset: str, split: str) -> dict[str, Any]:
    """Counts of one file, in percent."""
    places = mentions = 0
    right = dict.fromkeys(WAYS, 0)
    restored = dict.fromkeys(WAYS, 0)
    for tokens, truth, spans in sentences(corpora, dataset, split):
        places += len(truth)
        mentions += len(spans)
        for name, way in WAYS.items():
            text = way(tokens)
            made = blanks(text, token_offsets(tokens, text))
            found = [a == b for a, b in zip(truth, made, strict=True)]
            right[name] += sum(found)
            restored[name] += sum(all(found[first : stop - 1]) for first, stop in spans)
    return {
        "dataset": dataset,
        "split": split,
        "places": places,
        "percent of places right": {name: 100 * n / places for name, n in right.items()},
        "mentions": mentions,
        "percent of mentions right": {name: 100 * n / mentions for name, n in restored.items()},
    }


def sentences(
    corpora: Path, dataset: str, split: str
) -> Iterator[tuple[list[str], list[bool], list[tuple[int, int]]]]:
    """Tokens, blanks between them in the original, and the tokens of mentions."""
    originals = list(jsonl.read(corpus_file(corpora, dataset, split, ".jsonl")))
    by_id = {document.id: document.text for document in originals}
    documents = conll.read(corpus_file(corpora, dataset, split, ".conll"))
    for number, document in enumerate(documents):
        text = by_id[document.id] if document.id else originals[number].text
        words = [document.text[a:b] for a, b in document.tokens]
        ranges = token_offsets(words, text, document.id)
        mentions = on_tokens(document.entities, document.tokens)
        for first, stop in document.sentences:
            inside = [(a - first, b - first) for a, b, _ in mentions if first <= a < stop]
            yield words[first:stop], blanks(text, ranges[first:stop]), inside


def blanks(text: str, ranges: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether there is white space between a token and the next, for all but the last."""
    return [any(map(str.isspace, text[a[1] : b[0]])) for a, b in pairwise(ranges)]


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: places and mentions in percent, for each way."""
    yield f"| dataset | split | places | {' | '.join(WAYS)} | mentions | {' | '.join(WAYS)} |"
    yield "|---|---|" + "---:|" * (2 + 2 * len(WAYS))
    for r in rows:
        right = " | ".join(f"{x:.2f}" for x in r["percent of places right"].values())
        restored = " | ".join(f"{x:.2f}" for x in r["percent of mentions right"].values())
        names = f"| {r['dataset']} | {r['split']}"
        yield f"{names} | {r['places']} | {right} | {r['mentions']} | {restored} |"


if __name__ == "__main__":
    main()
