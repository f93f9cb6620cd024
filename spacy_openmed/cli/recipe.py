"""``spacy openmed recipe``: the steps that ``project.yml`` runs for many corpora and backbones."""

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import typer

from ..backbones import file_sha256
from ..errors import OpenMedError
from ..runs import Runs, check_names, text_hashes
from ..training.processes import one_voice
from . import inputs

recipe = typer.Typer(
    help="Steps of the whole recipe, for several corpora and backbones; finished parts are kept.",
    no_args_is_help=True,
)

_RUNS = typer.Option(Path("runs"), "--runs", help="Folder of the run")
_DATASETS = typer.Option(..., help="Dataset ids, with commas")
_BACKBONES = typer.Option(..., help="Backbone ids, with commas")
_CORPUS = typer.Option(
    None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
)
_CONFIG = typer.Option(
    "", help="Settings for all: a TOML file, or a name in configs/ [each its own]"
)
_GPU = typer.Option(
    "0",
    help="Which GPU, where there is one; several, with commas, for several workers; -1: the CPU",
)


@recipe.command()
def corpora(
    datasets: str = _DATASETS,
    source: Path = typer.Option(
        Path("assets", "originals"), "--from", help="Originals of what CORPUS lacks"
    ),
    corpus: Path | None = _CORPUS,
    text: str = typer.Option("", help="Texts of the pre-training, with commas"),
    heldout: Path | None = typer.Option(None, help="Passages that perplexity is measured on"),
    runs: Path = _RUNS,
) -> None:
    """Prepare the corpora that are not there, and compare all with the registry.

    Of the corpora and texts it writes hashes, by which later steps see that one has changed.
    """
    from ..corpora import registry
    from ..corpora.folder import default_folder, installed
    from ..corpora.prepare import prepare
    from ..corpora.problems import stop
    from ..corpora.verify import verify

    folder, names, out = corpus or default_folder(), _names(datasets), Runs(runs)
    # Before corpora are prepared, which takes long: no other step makes these texts.
    if text and heldout:
        given = {"text": [Path(name) for name in _names(text)], "heldout": [heldout]}
        out.note("texts", {kind: text_hashes(paths) for kind, paths in given.items()})
    for name in names:
        if not installed(folder, name):
            prepare(registry.dataset(name), source, folder, stop, False, typer.echo)
    now = _fingerprint(folder, names)
    if _is_verified(out, now):
        typer.echo(f"as verified before: {', '.join(names)}")
        return
    report = verify(folder, names, lambda name: typer.echo(f"reading {name}"))
    out.note("corpora", {**report.to_dict(), **now})
    if report.breaches:
        raise OpenMedError("\n".join(map(str, report.breaches)))


def _fingerprint(folder: Path, names: list[str]) -> dict[str, Any]:
    """What the outcome of ``verify`` depends on."""
    from ..corpora import registry
    from ..corpora.folder import SPLITS, corpus_file_or_none

    wanted = product(names, SPLITS, (".jsonl", ".conll"))
    found = {
        f"{name}/{split}{suffix}": corpus_file_or_none(folder, name, split, suffix)
        for name, split, suffix in wanted
    }
    return {
        "files": {name: path and file_sha256(path) for name, path in found.items()},
        "registry": file_sha256(Path(registry.__file__).with_name("registry.toml")),
    }


def _is_verified(runs: Runs, now: dict[str, Any]) -> bool:
    try:
        before = json.loads(runs.made("corpora").read_text(encoding="utf8"))
        return all(before[key] == value for key, value in {**now, "breaches": []}.items())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


@recipe.command()
@one_voice()
def dapt(
    backbones: str = _BACKBONES,
    text: str = typer.Option(..., help="Files with one passage a line, with commas"),
    heldout: Path = typer.Option(..., help="Passages that perplexity is measured on"),
    limit: int = typer.Option(0, min=0, help="Of passages to measure on; 0: all"),
    config: str = _CONFIG,
    runs: Path = _RUNS,
    gpu_id: str = _GPU,
) -> None:
    """Pre-train every backbone, and measure perplexity before and after."""
    _use_gpu(gpu_id)
    from ..training.recipe import pretrain

    texts = [Path(name) for name in _names(text)]
    pretrain(Runs(runs), _backbones(backbones), texts, heldout, config, limit or None, inputs.say)


@recipe.command()
@one_voice()
def search(
    datasets: str = _DATASETS,
    backbones: str = _BACKBONES,
    corpus: Path | None = _CORPUS,
    config: str = _CONFIG,
    trials: int = typer.Option(40, min=1, help="Finished trials, each"),
    workers: int = typer.Option(1, min=1, help="Trials at a time, on Ray"),
    ray: str = typer.Option("", help="Address of a Ray cluster [this machine]"),
    seed: int = typer.Option(1, help="Of what is drawn"),
    runs: Path = _RUNS,
    gpu_id: str = _GPU,
) -> None:
    """Search the settings for every corpus and backbone, on dev, and draw Optuna's plots."""
    _use_gpu(gpu_id, several=workers > 1 or bool(ray))
    from ..evaluation.search_plots import check_matplotlib, draw
    from ..training.processes import is_main
    from ..training.recipe import search_all

    check_matplotlib()
    pairs = _pairs(datasets, backbones)
    search_all(Runs(runs), pairs, corpus, config, seed, trials, workers, ray, inputs.say)
    if is_main():
        for dataset, backbone in pairs:
            draw(Runs(runs).search(dataset, backbone))


@recipe.command()
@one_voice()
def train(
    datasets: str = _DATASETS,
    backbones: str = _BACKBONES,
    corpus: Path | None = _CORPUS,
    seed: int = typer.Option(1, help="Of the final runs"),
    runs: Path = _RUNS,
    gpu_id: str = _GPU,
) -> None:
    """The final run for every corpus and backbone, with the best settings of its search."""
    _use_gpu(gpu_id)
    from ..training.recipe import train_all

    train_all(Runs(runs), _pairs(datasets, backbones), corpus, seed, inputs.say)


@recipe.command()
def install(
    packages: Path = typer.Argument(..., help="Folder with the wheels"),
    selection: Path = typer.Option(
        Path("runs", "selection.json"), help="From 'select': the datasets whose wheels to install"
    ),
    text: Path = typer.Option(..., help="A text file, to see that they work"),
    output: Path = typer.Option(..., help="What was installed, and found: JSON"),
) -> None:
    """Install the wheels of the chosen adapters, and annotate a text with each.

    What is installed here from the same wheel, and was tried on the same text, is left alone.
    """
    from ..packaging.install import install_and_try

    for one in install_and_try(packages, selection, text, output):
        how = " (installed before)" if one.before else ""
        typer.echo(f"{one.name} {one.version}: {len(one.entities)} entities in {text}{how}")
        for entity, label, score in one.entities:
            typer.echo(f"  {label:12} {score:.2f}  {' '.join(entity.split())}")
        if not one.entities:
            typer.secho(
                f"{one.name} finds nothing in {text}: does it have what the corpus annotates?",
                fg="yellow",
                err=True,
            )


def _names(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not names:
        raise OpenMedError(f"'{listed}' names nothing.")
    return names


def _backbones(listed: str) -> list[str]:
    names = _names(listed)
    check_names(names)
    return names


def _pairs(datasets: str, backbones: str) -> list[tuple[str, str]]:
    return list(product(_names(datasets), _backbones(backbones)))


def _use_gpu(gpu_ids: str, several: bool = False) -> None:
    """Let this process see the GPUs that are named, or the first of them.

    several (bool): Whether there are workers to share them. A process that trains has one.
    """
    # Of processes that torchrun started each has its own.
    if "LOCAL_RANK" in os.environ:
        return
    names = _names(gpu_ids)
    if names == ["-1"]:
        names = []
    elif not all(name.isdecimal() for name in names):
        raise OpenMedError(f"--gpu-id {gpu_ids}: give a number, several with commas, or -1.")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names if several else names[:1])
