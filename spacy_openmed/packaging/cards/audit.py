"""What an adapter was made from and when it was tested, so that others can check it."""

from collections.abc import Iterator
from typing import Any

from ... import lineage
from ...evaluation.ledger import TEST
from ...tables import markdown
from .material import Material
from .source import cited
from .text import Section


def sections(material: Material) -> Iterator[Section]:
    """Hashes, settings, looks at test, and the files of this card."""
    record = material.record
    backbone = material.adapter.info.backbone
    seeds = [
        str(run.get("seed", record["settings"]["optim"]["seed"])) for run in lineage.runs(record)
    ]
    facts = {
        "Adapter": f"sha256 `{material.sha256}`",
        "Backbone": f"`{material.backbone}`, sha256 `{backbone.sha256}`",
        "Pre-training adapter": f"sha256 `{record['init_adapter']}`"
        if record["init_adapter"]
        else "none",
        "Training data": f"sha256 `{record['data']['train']}`",
        "Development data": f"sha256 `{record['data']['dev']}`",
        **dict(_evaluated(material)),
        "Code of the training": _code(record),
        **{f"Code that measured {one}": _code(one.content) for one in material.results},
        "Seeds": ", ".join(seeds),
    }
    yield Section(
        "Audit trail",
        [
            markdown(["", ""], list(facts.items())),
            cited([material.training, *material.results]),
        ],
    )
    yield _settings(material)
    yield _looks(material)
    yield _files(material)


def _code(made: dict[str, Any]) -> str:
    """Which code made a file, as the file says."""
    version = f"spacy-openmed {made['spacy_openmed']}, " if "spacy_openmed" in made else ""
    if "code" not in made:
        return f"{version}no hash of it recorded"
    return f"{version}sha256 of its Python files `{made['code']}`"


def _evaluated(material: Material) -> Iterator[tuple[str, str]]:
    for source in material.results:
        content = source.content
        of = content.get("dataset") or content["file"]
        for file, digest in content["data"].items():
            yield f"Evaluated on `{of}`, {file}", f"sha256 `{digest}`"


def _settings(material: Material) -> Section:
    rows = [
        [f"`{name}`", f"`{value}`" if isinstance(value, str) else value]
        for name, value in _flat(material.record["settings"])
    ]
    parts = [markdown(["setting", "value"], rows), cited([material.training])]
    return Section("Settings", parts, level=3)


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _looks(material: Material) -> Section:
    """Every look at test with this adapter, or that there is no record of one."""
    title = "Looks at test"
    tested = [one for one in material.results if one.content.get("split") == TEST]
    found = material.looks
    if found is None or not found.looks:
        if not tested:
            return Section(title, [])
        lacking = (
            f"{found.source} has no look at test with this adapter: the figures on test are of one "
            f"that nobody recorded."
            if found
            else "No ledger was given: how often test was looked at is not known."
        )
        return Section(title, [lacking], level=3)
    rows = [
        [
            look.line,
            look.entry.get("time", ""),
            f"`{look.entry.get('dataset')}`",
            look.purpose,
            look.entry.get("look", ""),
            look.entry.get("reason") or "",
            f"`{look.sha256}`",
        ]
        for look in found.looks
    ]
    head = ["line", "time", "dataset", "for", "look", "why again", "sha256 of the line"]
    faults = f"The ledger is not as it was written: {'; '.join(found.faults)}."
    return Section(
        title,
        [
            "Every evaluation on test is recorded before its figures are shown; a look after the "
            "first needs a reason. Looks of other adapters at the same data are in the ledger, "
            "too.",
            markdown(head, rows),
            faults if found.faults else "",
            cited([found.source]),
        ],
        level=3,
    )


def _files(material: Material) -> Section:
    rows = [[str(source), f"`{source.sha256}`"] for source in material.files]
    return Section(
        "Files that this card was made from", [markdown(["file", "sha256"], rows)], level=3
    )
