"""The steps of the recipe that run once for every backbone, or every corpus and backbone.

What is finished is left alone, so that a step that was stopped goes on; each ends by writing
what it has made, as hashes, to one file, by which a project sees whether anything changed.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from .. import adapters, backbones, pretraining
from ..adapters import TRAINING
from ..corpora.documents import Document
from ..corpora.guarded import read_guarded
from ..corpora.statistics import content_hash
from ..errors import OpenMedError
from ..evaluation.calibration import calibrate_new
from ..evaluation.perplexity import perplexity
from ..files import write_json
from ..runs import Runs, text_hashes
from . import begun, settings
from .begun import RUN
from .dapt import dapt
from .finetune import file_hash, finetune
from .lora import same_shape
from .processes import is_main, process_group
from .search.run import BEST, RESULT, Search, search
from .settings import DaptSettings, FinetuneSettings, SearchSettings

Say = Callable[[str], None]
ADAPTER = "adapter"
PERPLEXITY = "perplexity.json"
# Of a fine-tuning that was begun: what is not compared here. ``finetune`` refuses to go on with
# other processes or another precision, which is for the user to put right.
_FREE = ("method", "precision", "processes", "settings.optim.gradient_checkpointing")
_MADE, _STALE, _TO_DO = "made", "stale", "to do"


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
    RAISES (OpenMedError): As ``dapt``; a run of others is in the way, and which folder it is.
    """
    hashes = list(text_hashes(texts).values())
    for name in names:
        folder = runs.dapt(name)
        chosen = settings.load(DaptSettings, settings.choose("dapt", name, config))
        if _is_pretrained(folder, name, chosen, hashes):
            say(f"{name}: pre-trained before")
            continue
        say(f"{name}: pre-training in {folder}")
        with _way_out(folder):
            dapt(name, texts, folder, chosen, resume=True)
    if not is_main():
        return
    # After all of the training: no process may wait for one that measures, which takes longer
    # than they wait.
    for name in names:
        _measure(name, runs.dapt(name), heldout, limit, say)
    made = {
        name: {
            "adapter": file_hash(runs.dapt(name) / ADAPTER),
            "perplexity": backbones.file_sha256(runs.dapt(name) / PERPLEXITY),
        }
        for name in names
    }
    runs.note("dapt", made)


def _is_pretrained(
    folder: Path, backbone: str, chosen: DaptSettings, hashes: Sequence[str]
) -> bool:
    """Whether a folder has the adapter of these settings and texts, whoever made it.

    ``dapt`` would refuse one that another number of processes has made.
    """
    record = _read(folder / ADAPTER / pretraining.RECORD)
    return (
        record.get("settings") == settings.to_dict(chosen)
        and list(record.get("texts", {}).values()) == hashes
        and record.get("backbone", {}).get("sha256") == backbones.reference(backbone).sha256
    )


def _measure(backbone: str, folder: Path, heldout: Path, limit: int | None, say: Say) -> None:
    """Write the perplexities, unless they are there: of this adapter, on these passages."""
    now = {
        "adapter": file_hash(folder / ADAPTER),
        "texts": text_hashes([heldout]),
        "limit": limit,
    }
    before = _read(folder / PERPLEXITY)
    if all(name in before and before[name] == value for name, value in now.items()):
        return
    say(f"{backbone}: measuring perplexity")
    result = perplexity(backbone, [heldout], folder / ADAPTER, limit)
    write_json(folder / PERPLEXITY, {**result, "limit": limit})
    plain, adapted = (result[key]["perplexity"] for key in ("base", "adapted"))
    say(f"{backbone}: perplexity {plain:.1f} -> {adapted:.1f}")


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
    RAISES (OpenMedError): As ``search``; a search of others is in the way, and which folder it
        is.
    """
    made = {}
    for dataset, backbone in pairs:
        say(f"{dataset} x {backbone}: search")
        chosen = settings.load(SearchSettings, settings.choose("search", backbone, config))
        start = settings.load(
            FinetuneSettings, settings.choose("finetune", backbone, chosen.finetune)
        )
        plan = Search(
            read_guarded(corpora, dataset, "train"),
            read_guarded(corpora, dataset, "dev"),
            dataset,
            backbone,
            runs.search(dataset, backbone),
            chosen,
            start,
            runs.dapt(backbone) / ADAPTER,
            seed,
        )
        with _way_out(plan.output):
            result = search(plan, trials, workers, address=address)
        say(f"{dataset} x {backbone}: best dev F1 {result['best']['dev_f1']:.2f}")
        # Further trials change it even where none is better.
        made[f"{dataset}/{backbone}"] = backbones.file_sha256(plan.output / RESULT)
    _note(runs, "search", made)


def train_all(
    runs: Runs, pairs: Sequence[tuple[str, str]], corpora: Path | None, seed: int, say: Say
) -> None:
    """The final run on every corpus with every backbone: the best settings, a fixed seed.

    What others than these settings, this corpus or this backbone have made is removed, and
    made again.

    RAISES (OpenMedError): A search has not finished.
    """
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
        train, dev = (read_guarded(corpora, dataset, split) for split in ("train", "dev"))
        if _is_made(folder, _facts(chosen, backbone, init, train, dev)):
            say(f"{dataset} x {backbone}: trained before")
        else:
            say(f"{dataset} x {backbone}: training in {folder}")
            with _way_out(folder):
                record = finetune(train, dev, backbone, folder, chosen, dataset, init, resume=True)
            say(f"{dataset} x {backbone}: dev F1 {record['dev']['f1']:.2f}")
    # After all of the training: no process may wait for one that measures.
    if is_main():
        before = _read(runs.made("train"))
        made = {}
        for dataset, backbone in pairs:
            pair, folder = f"{dataset}/{backbone}", runs.train(dataset, backbone) / ADAPTER
            made[pair] = _hash(folder)
            # What was noted before has been chosen and looked at under its hash.
            if before.get(pair) != made[pair] and not _read(folder / TRAINING).get("calibration"):
                calibrate_new(folder, read_guarded(corpora, dataset, "dev"), say)
                made[pair] = _hash(folder)
        runs.note("train", made)


def _hash(adapter: Path) -> str:
    return adapters.content_hash(adapters.read(adapter))


def _facts(
    chosen: FinetuneSettings,
    backbone: str,
    init: Path,
    train: Sequence[Document],
    dev: Sequence[Document],
) -> dict[str, Any]:
    """What decides the adapter, by the names that ``finetune`` notes it under."""
    return {
        "backbone": backbones.reference(backbone).sha256,
        "settings": settings.to_dict(chosen),
        "pre-training adapter": file_hash(init),
        "warm start": "none",
        "train": content_hash(train),
        "dev": content_hash(dev),
    }


def _is_made(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether a folder has an adapter of these facts; a run of others is removed.

    All in the folder was made from files that are still there, by a command that is, too.
    """
    processes = process_group()
    # Decided by one: another could look when the folder is half removed.
    found = [_state(folder, facts)] if processes.is_main_process else [""]
    if found == [_STALE]:
        shutil.rmtree(folder)
    broadcast_object_list(found)
    return found == [_MADE]


def _state(folder: Path, facts: dict[str, Any]) -> str:
    trained = _read(folder / ADAPTER / TRAINING)
    if trained:
        data = trained.get("data", {})
        same = {
            "backbone": trained.get("backbone", {}).get("sha256"),
            "settings": trained.get("settings"),
            "pre-training adapter": trained.get("init_adapter"),
            "warm start": (trained.get("warm_start") or {}).get("adapter", "none"),
            "train": data.get("train"),
            "dev": data.get("dev"),
        } == facts
        return _MADE if same else _STALE
    try:
        begun.check(folder / RUN, facts, _FREE)
    except OpenMedError as error:
        if isinstance(error.__cause__, OSError):  # it may be read another time
            raise
        return _STALE
    return _TO_DO


@contextmanager
def _way_out(folder: Path) -> Iterator[None]:
    """Where a run of others is in the way, the advice is to choose another --output, but here
    names decide where things are."""
    try:
        yield
    except OpenMedError as error:
        if "--output" not in str(error):
            raise
        raise OpenMedError(
            f"{error} In the recipe the folder cannot be chosen: remove {folder} to make anew "
            f"what is in it, or give another --runs."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """A record; empty where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(runs: Runs, step: str, made: dict[str, Any]) -> None:
    if is_main():
        runs.note(step, made)
