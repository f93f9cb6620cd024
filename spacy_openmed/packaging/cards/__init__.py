"""Model cards: what an adapter is, how it was trained, what it scores, and where it ends.

Every figure is taken from a file that a command wrote, or from what the package itself says of
corpora and backbones, and names it. What no file has a figure of is listed as not measured.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import ModelCard

from ... import adapters
from ...files import atomic_file
from ...tables import markdown
from . import act, audit, behaviour, data, figures, making, missing, use
from .energy import energy_facts
from .figures import results_table
from .material import REGISTRY, Material, gather, trained_on
from .metadata import metadata, name
from .text import Section, bullets, listed, render

__all__ = ["card", "energy_facts", "gather", "results_table", "trained_on", "write_card"]


def write_card(
    folder: Path, results: Sequence[Path], ledger: Path | None = None, base: str = ""
) -> None:
    """Write README.md into an adapter's folder.

    folder (Path): Adapter folder with ``training.json``.
    results (Sequence[Path]): JSON files of ``spacy openmed evaluate`` for this adapter; what
        other commands measured is found beside them, see ``gather``.
    ledger (Path | None): The record of looks at test; None for the one of the results' run.
    base (str): Where readers of the card find the folder of the first result: a URL, or a path
        relative to the card. Files are named but not linked without it.
    RAISES (OpenMedError): No training record, a result of another adapter, or a broken file.
    """
    text = card(gather(folder, results, ledger, base))
    with atomic_file(folder / adapters.CARD) as part:
        part.write_text(text, encoding="utf8")


def card(material: Material) -> str:
    """The text of a card, Markdown with the hub's metadata."""
    body = render(_sections(material))
    return str(ModelCard(f"---\n{metadata(material).to_yaml()}\n---\n\n{body}"))


def _sections(material: Material) -> Iterator[Section]:
    yield _title(material)
    yield _usage(material)
    yield _labels(material)
    yield from figures.sections(material)
    yield from behaviour.sections(material)
    yield missing.section(material)
    yield from use.sections(material)
    yield from data.sections(material)
    yield from making.sections(material)
    yield from act.sections(material)
    yield from audit.sections(material)


def _title(material: Material) -> Section:
    info = material.adapter.info
    edition = material.edition
    kind = "English biomedical text" if material.dataset else "English text"
    return Section(
        name(material),
        [
            f"**{edition.about}** ({REGISTRY})" if edition and edition.partial else "",
            f"A LoRA adapter and linear head that find {listed(info.types)} in {kind}, for "
            f"[spaCy](https://spacy.io). It is in PEFT's folder format and belongs to the backbone "
            f"named below, whose weights are not part of it.",
        ],
        level=1,
    )


def _usage(material: Material) -> Section:
    dataset = material.dataset
    config = f'"dataset": "{dataset.id}"' if dataset else '"adapter": "FOLDER"'
    return Section(
        "Usage",
        [
            f"""```python
import spacy

nlp = spacy.blank("en")
nlp.add_pipe("openmed_ner", config={{{config}}})
doc = nlp("Germline BRCA1 mutations predispose to breast cancer.")
for ent in doc.ents:
    print(ent.text, ent.label_, ent._.openmed_score)
```""",
            'With this very folder: `config={"adapter": "FOLDER"}`.' if dataset else "",
        ],
    )


def _labels(material: Material) -> Section:
    dataset = material.dataset
    types = material.adapter.info.types
    if dataset is None:
        return Section("Labels", [bullets(f"`{label}`" for label in types)])
    rows = [
        [f"`{label}`", ", ".join(f"`{own}`" for own, to in dataset.types.items() if to == label)]
        for label in types
    ]
    return Section("Labels", [markdown(["label", "type in the corpus"], rows)])
