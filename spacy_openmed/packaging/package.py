"""Installable spaCy pipelines: one wheel a dataset, made by spaCy's own packaging."""

import shutil
import tempfile
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
from .cards import trained_on


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
    with tempfile.TemporaryDirectory() as temporary:
        pipeline, build = Path(temporary) / "pipeline", Path(temporary) / "build"
        build.mkdir()
        nlp.to_disk(pipeline)
        if adapters.CARD in found.card:
            (pipeline / "README.md").write_text(found.card[adapters.CARD], encoding="utf8")
        try:
            spacy_package(
                pipeline,
                build,
                name=adapters.package_name(dataset).removeprefix("en_"),
                version=__version__,
                create_sdist=False,
                create_wheel=True,
                silent=True,
            )
        except SystemExit as error:  # spaCy's commands exit where a library would raise
            raise OpenMedError(
                f"spaCy could not package '{dataset}' (its message is above); nothing was "
                f"written to {output}."
            ) from error
        wheels = list(build.glob("*/dist/*.whl"))
        if len(wheels) != 1:
            raise OpenMedError(f"The build of '{dataset}' left {len(wheels)} wheels instead of 1.")
        output.mkdir(parents=True, exist_ok=True)
        part = output / (wheels[0].name + ".part")
        try:
            shutil.copyfile(wheels[0], part)
            return part.replace(output / wheels[0].name)
        finally:
            part.unlink(missing_ok=True)


def build_pipeline(dataset: str, adapter: Adapter, bundle_backbone: bool = False) -> Language:
    """A blank English pipeline with one adapter, its meta filled in."""
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(
        "openmed_ner", config={"dataset": dataset, "bundle_backbone": bundle_backbone}
    )
    assert isinstance(pipe, OpenMedNER)
    # Given as an object, so that no folder of this machine gets into the config.
    pipe.shim.set_adapters([adapter])
    nlp.meta.update(_meta(dataset, adapter, bundle_backbone))
    return nlp


def _meta(dataset: str, adapter: Adapter, bundle_backbone: bool) -> dict[str, Any]:
    known = registry.dataset(dataset)
    backbone = adapter.info.backbone
    edition = trained_on(adapter)
    requirements = []
    package = backbones.registry().get(backbone.id, {}).get("python_package")
    if package and not bundle_backbone:
        # The extra pins what the package's own, open requirements would resolve badly.
        requirements.append(f"{__title__}[embedded]~={__version__}")
    return {
        "name": adapters.package_name(dataset).removeprefix("en_"),
        "version": __version__,
        "description": (
            f"Biomedical named entities ({', '.join(adapter.info.types)}): LoRA adapter for "
            f"the corpus '{dataset}' on the backbone '{backbone.id}'."
            + (f" {edition.about}" if edition and edition.partial else "")
        ),
        "author": "spacy-openmed",
        "license": "Apache-2.0",
        "requirements": requirements,
        "sources": [
            {"name": f"corpus {dataset}", "license": known.licence},
            {"name": f"backbone {backbone.hub_id or backbone.id}"},
        ],
    }
