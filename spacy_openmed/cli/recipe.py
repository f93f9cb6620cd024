"""``spacy openmed recipe``: the steps that ``project.yml`` runs for many corpora and backbones."""

import os
from itertools import product
from pathlib import Path

import typer

from ..errors import OpenMedError
from ..runs import Runs
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
_GPU = typer.Option(0, help="Which GPU, where there is one; -1: the CPU")


@recipe.command()
def corpora(
    datasets: str = _DATASETS,
    source: Path = typer.Option(
        Path("assets", "originals"), "--from", help="Originals of what CORPUS lacks"
    ),
    corpus: Path | None = _CORPUS,
    runs: Path = _RUNS,
) -> None:
    """Prepare the corpora that are not there, and compare all with the registry."""
    from ..corpora import registry
    from ..corpora.folder import default_folder, installed
    from ..corpora.prepare import prepare
    from ..corpora.problems import stop
    from ..corpora.verify import verify
    from ..training.recipe import write_json

    folder, names = corpus or default_folder(), _names(datasets)
    for name in names:
        if not installed(folder, name):
            prepare(registry.dataset(name), source, folder, stop, False, typer.echo)
    report = verify(folder, names, lambda name: typer.echo(f"reading {name}"))
    write_json(Runs(runs).made("corpora"), report.to_dict())
    if report.breaches:
        raise OpenMedError("\n".join(map(str, report.breaches)))


@recipe.command()
@one_voice()
def dapt(
    backbones: str = _BACKBONES,
    text: str = typer.Option(..., help="Files with one passage a line, with commas"),
    heldout: Path = typer.Option(..., help="Passages that perplexity is measured on"),
    limit: int = typer.Option(0, min=0, help="Of passages to measure on; 0: all"),
    config: str = _CONFIG,
    runs: Path = _RUNS,
    gpu_id: int = _GPU,
) -> None:
    """Pre-train every backbone, and measure perplexity before and after."""
    _use_gpu(gpu_id)
    from ..training.recipe import pretrain

    texts = [Path(name) for name in _names(text)]
    pretrain(Runs(runs), _names(backbones), texts, heldout, config, limit or None, inputs.say)


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
    gpu_id: int = _GPU,
) -> None:
    """Search the settings for every corpus and backbone, on dev, and draw Optuna's plots."""
    _use_gpu(gpu_id)
    from ..evaluation.search_plots import draw
    from ..training.processes import is_main
    from ..training.recipe import search_all

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
    gpu_id: int = _GPU,
) -> None:
    """The final run for every corpus and backbone, with the best settings of its search."""
    _use_gpu(gpu_id)
    from ..training.recipe import train_all

    train_all(Runs(runs), _pairs(datasets, backbones), corpus, seed, inputs.say)


@recipe.command()
def install(
    packages: Path = typer.Argument(..., help="Folder with the wheels"),
    text: Path = typer.Option(..., help="A text file, to see that they work"),
    output: Path = typer.Option(..., help="What was installed, and found: JSON"),
) -> None:
    """Install the wheels into this environment, and annotate a text with each."""
    from ..packaging.install import install_and_try

    for line in install_and_try(packages, text, output):
        typer.echo(line)


def _names(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not names:
        raise OpenMedError(f"'{listed}' names nothing.")
    return names


def _pairs(datasets: str, backbones: str) -> list[tuple[str, str]]:
    return list(product(_names(datasets), _names(backbones)))


def _use_gpu(gpu_id: int) -> None:
    # Of processes that torchrun started each has its own.
    if "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu_id) if gpu_id >= 0 else ""
