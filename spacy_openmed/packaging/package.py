"""Installable spaCy pipelines by spaCy's own packaging: one wheel a dataset, or one of all."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.package import package as spacy_package
from spacy.language import Language

from .. import adapters, backbones
from ..about import __title__, __version__
from ..adapters import Adapter
from ..component import OpenMedNER
from ..corpora import registry
from ..errors import OpenMedError
from ..tables import markdown
from .cards import trained_on
from .cards.links import without_dead_links

_ALL = "all"


def build_package(
    dataset: str, output: Path, adapter: Path | None = None, bundle_backbone: bool = False
) -> Path:
    """Build the wheel ``en_openmed_<dataset>``.

    dataset (str): One of the 12 ids; its hyphens become underscores.
    output (Path): Folder for the wheel; made if it does not exist.
    adapter (Path | None): Adapter folder; None takes the best installed one.
    bundle_backbone (bool): Put the backbone inside (about 90 MB for ``minilm``) instead of
        requiring its Python package.
    RETURNS (Path): The wheel.
    RAISES (OpenMedError): Unknown dataset, no adapter, or the build failed.
    """
    registry.dataset(dataset)
    found = adapters.read(adapter or adapters.find(dataset))
    adapters.verify_types(found, dataset, str(adapter or "the installed adapter"))
    if found.info.dataset not in ("", dataset):
        raise OpenMedError(
            f"The adapter in {adapter} is for '{found.info.dataset}', not for '{dataset}': "
            f"package it under its own name."
        )
    nlp = build_pipeline(dataset, found, bundle_backbone)
    return _build(nlp, found.card.get(adapters.CARD, ""), output)


def build_package_of_all(
    found: Mapping[str, Adapter], output: Path, bundle_backbone: bool = False
) -> Path:
    """Build the wheel ``en_openmed_all``, one component with every adapter.

    found (Mapping[str, Adapter]): By dataset id; all on the same backbone.
    output (Path): Folder for the wheel; made if it does not exist.
    bundle_backbone (bool): See ``build_package``.
    RETURNS (Path): The wheel.
    RAISES (OpenMedError): No adapter, several backbones, or the build failed.
    """
    nlp = build_pipeline_of_all(found, bundle_backbone)
    return _build(nlp, _card_of_all(found), output)


def _build(nlp: Language, card: str, output: Path) -> Path:
    """Write the wheel of a pipeline, named as its meta says."""
    name = nlp.meta["name"]
    with tempfile.TemporaryDirectory() as temporary:
        pipeline, build = Path(temporary) / "pipeline", Path(temporary) / "build"
        build.mkdir()
        nlp.to_disk(pipeline)
        if card:
            # Beside it there is none of the files that it names.
            text = without_dead_links(card)
            (pipeline / "README.md").write_text(text, encoding="utf8")
        try:
            spacy_package(
                pipeline,
                build,
                name=name,
                version=__version__,
                create_sdist=False,
                create_wheel=True,
                silent=True,
            )
        except SystemExit as error:  # spaCy's commands exit where a library would raise
            raise OpenMedError(
                f"spaCy could not package 'en_{name}' (its message is above); nothing was "
                f"written to {output}."
            ) from error
        wheels = list(build.glob("*/dist/*.whl"))
        if len(wheels) != 1:
            raise OpenMedError(f"The build of 'en_{name}' left {len(wheels)} wheels instead of 1.")
        output.mkdir(parents=True, exist_ok=True)
        part = output / (wheels[0].name + ".part")
        try:
            shutil.copyfile(wheels[0], part)
            return part.replace(output / wheels[0].name)
        finally:
            part.unlink(missing_ok=True)


def build_pipeline(dataset: str, adapter: Adapter, bundle_backbone: bool = False) -> Language:
    """A blank English pipeline with one adapter, its meta filled in."""
    config = {"dataset": dataset, "bundle_backbone": bundle_backbone}
    nlp = _pipeline(config, [adapter])
    about = " ".join(
        [
            f"Biomedical named entities ({', '.join(adapter.info.types)}): LoRA adapter for the "
            f"corpus '{dataset}' on the backbone '{adapter.info.backbone.id}'.",
            *_parts({dataset: adapter}).values(),
        ]
    )
    name = adapters.package_name(dataset)
    nlp.meta.update(_meta(name, about, {dataset: adapter}, bundle_backbone))
    return nlp


def build_pipeline_of_all(found: Mapping[str, Adapter], bundle_backbone: bool = False) -> Language:
    """A blank English pipeline with several adapters on one backbone, its meta filled in.

    ``doc.spans["openmed"]`` gets what each adapter finds, with its dataset as ``span.id_``;
    ``doc.ents`` the likeliest of what overlaps.

    RAISES (OpenMedError): No adapter, or several backbones.
    """
    check_one_backbone(found)
    config = {"dataset": list(found), "annotate": "both", "bundle_backbone": bundle_backbone}
    nlp = _pipeline(config, list(found.values()))
    backbone = next(iter(found.values())).info.backbone.id
    parts = [f"{name}: {text}" for name, text in _parts(found).items()]
    about = " ".join(
        [
            f"Biomedical named entities: {len(found)} LoRA adapters on the backbone '{backbone}'.",
            *parts,
        ]
    )
    nlp.meta.update(_meta(adapters.package_name(_ALL), about, found, bundle_backbone))
    return nlp


def _parts(found: Mapping[str, Adapter]) -> dict[str, str]:
    """Of adapters that were trained on a part of their corpus, what that is."""
    editions = {name: trained_on(adapter) for name, adapter in found.items()}
    return {name: one.about for name, one in editions.items() if one and one.partial}


def check_one_backbone(found: Mapping[str, Adapter]) -> None:
    """Refuse adapters that cannot be in one pipeline.

    RAISES (OpenMedError): No adapter, or several backbones.
    """
    kinds = {adapter.info.backbone.sha256: adapter.info.backbone.id for adapter in found.values()}
    if len(kinds) != 1:
        raise OpenMedError(
            f"A pipeline of all adapters runs on one backbone, and there are adapters on "
            f"{', '.join(sorted(kinds.values())) or 'none'}. Choose adapters of one."
        )


def _pipeline(config: dict[str, Any], found: list[Adapter]) -> Language:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("openmed_ner", config=config)
    assert isinstance(pipe, OpenMedNER)
    # Given as objects, so that no folder of this machine gets into the config.
    pipe.shim.set_adapters([_with_links_that_lead_somewhere(adapter) for adapter in found])
    return nlp


def _with_links_that_lead_somewhere(adapter: Adapter) -> Adapter:
    """An adapter whose card links files in its own folder only."""
    card = {
        name: without_dead_links(text, adapter.card) if name == adapters.CARD else text
        for name, text in adapter.card.items()
    }
    return replace(adapter, card=card)


def _card_of_all(found: Mapping[str, Adapter]) -> str:
    parts = _parts(found)
    rows = [
        [
            f"`{name}`",
            ", ".join(adapter.info.types),
            registry.with_demos()[name].licence,
            parts.get(name, ""),
        ]
        for name, adapter in found.items()
    ]
    return f"""# All adapters

One `openmed_ner` with {len(found)} adapters on one backbone. `doc.spans["openmed"]` has what each
finds, with its dataset as `span.id_`; `doc.ents` the likeliest where they overlap. The card of
each is in its package `en_openmed_<dataset>`, and in the component's folders here.

{markdown(["dataset", "labels", "licence of the corpus", "trained on"], rows)}
"""


def _meta(
    name: str, about: str, found: Mapping[str, Adapter], bundle_backbone: bool
) -> dict[str, Any]:
    backbone = next(iter(found.values())).info.backbone
    requirements = []
    package = backbones.registry().get(backbone.id, {}).get("python_package")
    if package and not bundle_backbone:
        # The extra pins what the package's own, open requirements would resolve badly.
        requirements.append(f"{__title__}[embedded]~={__version__}")
    return {
        "name": name.removeprefix("en_"),
        "version": __version__,
        "description": about,
        "author": "spacy-openmed",
        "license": "Apache-2.0",
        "requirements": requirements,
        "sources": [
            *(
                {"name": f"corpus {dataset}", "license": registry.with_demos()[dataset].licence}
                for dataset in found
            ),
            {"name": f"backbone {backbone.hub_id or backbone.id}"},
        ],
    }
