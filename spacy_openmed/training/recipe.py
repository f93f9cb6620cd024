"""The steps of the recipe that run once for every backbone, or every corpus and backbone.

What is finished is left alone, so that a step that was stopped goes on; each ends by writing
what it has made, as hashes, to one file, by which a project sees whether anything changed.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import adapters, backbones
from ..adapters import TRAINING
from ..corpora.folder import read_split
from ..errors import OpenMedError
from ..evaluation.perplexity import perplexity
from ..files import atomic_file
from ..runs import Runs
from . import settings
from .dapt import dapt
from .finetune import finetune
from .lora import same_shape
from .processes import is_main
from .search.run import BEST, Search, search
from .settings import DaptSettings, FinetuneSettings, SearchSettings

Say = Callable[[str], None]
ADAPTER = "adapter"
PERPLEXITY = "perplexity.json"


def pretrain(
    runs: Runs,
    names: Sequence[str],
    texts: Sequence[Path],
    heldout: Path,
    config: str,
    limit: int | None,
    say: Say,
) -> None:
    """Pre-train every backbone, and measure perplexity before and after.

    names (Sequence[str]): Backbone ids.
    texts (Sequence[Path]): Passages to train on.
    heldout (Path): Passages to measure on.
    config (str): Settings; "" takes those of each backbone.
    limit (int | None): Of passages that are measured.
    """
    made = {}
    for name in names:
        folder = runs.dapt(name)
        chosen = settings.load(DaptSettings, settings.choose("dapt", name, config))
        say(f"{name}: pre-training in {folder}")
        dapt(name, texts, folder, chosen, resume=True)
        made[name] = backbones.file_sha256(folder / ADAPTER / "adapter_model.safetensors")
        if is_main() and not (folder / PERPLEXITY).is_file():
            result = perplexity(name, [heldout], folder / ADAPTER, limit)
            write_json(folder / PERPLEXITY, result)
            before, after = (result[key]["perplexity"] for key in ("base", "adapted"))
            say(f"{name}: perplexity {before:.1f} -> {after:.1f}")
    _write_made(runs, "dapt", made)


def search_all(
    runs: Runs,
    pairs: Sequence[tuple[str, str]],
    corpora: Path | None,
    config: str,
    seed: int,
    trials: int,
    workers: int,
    address: str,
    say: Say,
) -> None:
    """Search on every corpus with every backbone.

    pairs (Sequence[tuple[str, str]]): Dataset and backbone.
    config (str): The space; "" takes that of each backbone.
    trials, workers, address: See ``search.run.search``.
    """
    made = {}
    for dataset, backbone in pairs:
        say(f"{dataset} x {backbone}: search")
        chosen = settings.load(SearchSettings, settings.choose("search", backbone, config))
        start = settings.load(
            FinetuneSettings, settings.choose("finetune", backbone, chosen.finetune)
        )
        plan = Search(
            read_split(corpora, dataset, "train"),
            read_split(corpora, dataset, "dev"),
            dataset,
            backbone,
            runs.search(dataset, backbone),
            chosen,
            start,
            runs.dapt(backbone) / ADAPTER,
            seed,
        )
        result = search(plan, trials, workers, address=address)
        say(f"{dataset} x {backbone}: best dev F1 {result['best']['dev_f1']:.2f}")
        made[f"{dataset}/{backbone}"] = backbones.file_sha256(plan.output / BEST)
    _write_made(runs, "search", made)


def train_all(
    runs: Runs, pairs: Sequence[tuple[str, str]], corpora: Path | None, seed: int, say: Say
) -> None:
    """The final run on every corpus with every backbone: the best settings, a fixed seed.

    RAISES (OpenMedError): A search has not finished.
    """
    made = {}
    for dataset, backbone in pairs:
        best = runs.search(dataset, backbone) / BEST
        if not best.is_file():
            raise OpenMedError(f"There is no {best}: let the search come to its end first.")
        chosen = settings.load(FinetuneSettings, best)
        chosen = replace(chosen, optim=replace(chosen.optim, seed=seed))
        folder = runs.train(dataset, backbone)
        init = runs.dapt(backbone) / ADAPTER
        if chosen.init == "continue":
            chosen = replace(chosen, lora=same_shape(chosen.lora, init))
        if _is_made(folder, chosen, init):
            say(f"{dataset} x {backbone}: trained before")
        else:
            say(f"{dataset} x {backbone}: training in {folder}")
            record = finetune(
                read_split(corpora, dataset, "train"),
                read_split(corpora, dataset, "dev"),
                backbone,
                folder,
                chosen,
                dataset,
                init,
                resume=True,
            )
            say(f"{dataset} x {backbone}: dev F1 {record['dev']['f1']:.2f}")
        made[f"{dataset}/{backbone}"] = adapters.content_hash(adapters.read(folder / ADAPTER))
    _write_made(runs, "train", made)


def _is_made(folder: Path, chosen: FinetuneSettings, init: Path) -> bool:
    """Whether a folder has an adapter of these settings; one of others is removed.

    All in the folder was made from files that are still there, by a command that is, too.
    """
    record = folder / ADAPTER / TRAINING
    if not record.is_file():
        return False
    trained = json.loads(record.read_text(encoding="utf8"))
    weights = backbones.file_sha256(init / "adapter_model.safetensors")
    if trained["settings"] == settings.to_dict(chosen) and trained["init_adapter"] == weights:
        return True
    if is_main():
        shutil.rmtree(folder)
    return False


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def _write_made(runs: Runs, step: str, made: dict[str, str]) -> None:
    if is_main():
        write_json(runs.made(step), made)
