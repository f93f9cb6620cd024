"""What an adapter was trained on, and under which terms."""

from collections.abc import Iterator, Mapping

from ... import backbones, lineage
from ...corpora import registry
from ...corpora.registry import Dataset
from ...tables import markdown
from .material import BACKBONES, REGISTRY, Material
from .source import cited
from .text import Section


def sections(material: Material) -> Iterator[Section]:
    """Corpus, backbone and the text of pre-training, with their licences."""
    yield Section(
        "Data and licences",
        [
            "An adapter holds weights only: no text and no annotation of what follows is in it. "
            "Whether the terms of a corpus extend to weights that were trained on it is for the "
            "user to judge.",
        ],
    )
    yield _corpus(material)
    yield _went_on_from(material)
    yield _backbone(material)
    yield _pretraining(material)


def _corpus(material: Material) -> Section:
    hashes = {
        "Training data": f"sha256 `{material.record['data']['train']}`",
        "Development data": f"sha256 `{material.record['data']['dev']}`",
    }
    dataset = material.dataset
    if dataset is None:
        name = material.adapter.info.dataset
        facts = {
            "Corpus": f"the user's own, called `{name}`" if name else "the user's own",
            "Licence": "for its owner to state",
            **hashes,
        }
        parts = [markdown(["", ""], list(facts.items())), cited([material.training])]
        return Section("Corpus", parts, level=3)
    edition = material.edition
    facts = {
        "Corpus": f"{dataset.name} (`{dataset.id}`)",
        "Licence": dataset.licence,
        "Publication": dataset.citation,
        "Split": dataset.split,
        "Edition": _edition(material),
        "Notes": dataset.notes,
        "Not handed on": f"the user gets it from {dataset.user_data}" if dataset.user_data else "",
        "Originals": "; ".join(f"`{source}`" for source in dataset.sources),
        "Sentences that repeat": _repeated(edition.repeated if edition else {}),
        "Shared with other corpora": _shared(dataset),
        **hashes,
    }
    rows = [[name, text] for name, text in facts.items() if text]
    return Section(
        "Corpus", [markdown(["", ""], rows), cited([REGISTRY, material.training])], level=3
    )


def _went_on_from(material: Material) -> Section:
    """The corpora of the adapters that its runs went on from."""
    known = registry.with_demos()
    rows = []
    for start in lineage.starts(material.record):
        dataset = known.get(start["dataset"])
        if dataset is None:
            rows.append([f"`{start['dataset']}`" if start["dataset"] else "the user's own", ""])
        elif dataset.id != material.adapter.info.dataset:
            rows.append([f"{dataset.name} (`{dataset.id}`)", dataset.licence])
    if not rows:
        return Section("Corpora that it went on from", [])
    return Section(
        "Corpora that it went on from",
        [
            "Training began with an adapter for:",
            markdown(["corpus", "licence"], rows),
            cited([REGISTRY, material.training]),
        ],
        level=3,
    )


def _edition(material: Material) -> str:
    edition = material.edition
    if edition is None:
        return "not one that the registry knows: the texts or their annotations are others"
    return f"{edition.id}. {edition.about}" if edition.about else edition.id


def _repeated(repeated: Mapping[str, tuple[int, int]]) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')}: {count}, of which long {long}"
        for name, (count, long) in repeated.items()
        if count
    )


def _shared(dataset: Dataset) -> str:
    return "; ".join(
        f"{one.percent:g} % of the runs of words of {one.split} are in train of `{one.train_of}`"
        for one in registry.overlaps()
        if one.dataset == dataset.id
    )


def _backbone(material: Material) -> Section:
    own = material.adapter.info.backbone
    known = backbones.registry().get(own.id, {})
    facts = {
        "Backbone": f"`{material.backbone}`, sha256 `{own.sha256}`",
        "Published as": f"`{own.hub_id}`, revision `{own.revision}`" if own.hub_id else "",
        "Licence": known.get("licence", "not known"),
        "Notes": known.get("note", ""),
    }
    rows = [[name, text] for name, text in facts.items() if text]
    return Section("Backbone", [markdown(["", ""], rows), cited([BACKBONES])], level=3)


def _pretraining(material: Material) -> Section:
    title = "Text of the pre-training"
    if not material.record["init_adapter"]:
        return Section(title, [])
    found = material.pretraining
    if found is None:
        text = "The record of the pre-training is not at hand; it names the files of its text."
        return Section(title, [text], level=3)
    rows = [[f"`{name}`", f"`{digest}`"] for name, digest in found.content["texts"].items()]
    return Section(
        title,
        [
            f"{found.content['wordpieces']:,} wordpieces in {found.content['windows']:,} windows, "
            f"from these files. The record does not name their licences.",
            markdown(["file", "sha256"], rows),
            cited([found]),
        ],
        level=3,
    )
