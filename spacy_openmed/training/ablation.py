"""The ablation: without and with domain-adaptive pre-training, times what is fine-tuned.

arXiv 2508.01630 says that pre-training and LoRA together beat either alone, that LoRA is two
to three times as fast as full fine-tuning, and that seeds hardly matter. Each is measured
here on dev: the same data and code, but for what is trained.
"""

import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tqdm import tqdm

from .. import backbones, pretraining
from ..about import __version__
from ..corpora.documents import Document
from ..corpora.guarded import read_guarded
from ..errors import OpenMedError
from ..files import read_json, write_json
from ..precision import resolve_precision
from .energy import portion, total
from .finetune import fit
from .processes import threads
from .settings import AblationSettings, FinetuneSettings, to_dict
from .share import describe, share
from .trainer import trainable_state


@dataclass(frozen=True)
class Cell:
    """One variant.

    pretraining (str): "none"; or how the pre-training adapter enters, "merge" or "continue".
    method (str): What is trained besides the head: "lora", "full" or "head".
    """

    pretraining: str
    method: str

    @property
    def rates(self) -> str:
        """Its key in the settings' learning rates."""
        return "continue" if self.pretraining == "continue" else self.method


# A LoRA can only be continued by a LoRA.
CELLS = (
    Cell("none", "head"),
    Cell("none", "lora"),
    Cell("none", "full"),
    Cell("merge", "head"),
    Cell("merge", "lora"),
    Cell("continue", "lora"),
    Cell("merge", "full"),
)


@dataclass(frozen=True)
class Run:
    """One fine-tuning of one variant."""

    corpus: str
    cell: Cell
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        parts = (self.corpus, self.cell.pretraining, self.cell.method, self.learning_rate)
        return "_".join(map(str, (*parts, self.seed)))


@dataclass(frozen=True)
class Ablation:
    """What all runs share.

    backbone (str): Backbone id or folder.
    pretraining (Path): Pre-training adapter.
    corpora (Path | None): Folder with the prepared corpora, None for the default one.
    output (Path): Gets ``runs/NAME.json`` for every finished run; they are not run again.
    settings (AblationSettings): The settings.
    """

    backbone: str
    pretraining: Path
    corpora: Path | None
    output: Path
    settings: AblationSettings

    def result(self, run: Run) -> Path:
        return self.output / "runs" / f"{run.name}.json"

    def documents(self, corpus: str, split: str) -> list[Document]:
        """The share of a split that the settings ask for: whole documents, drawn at random.

        They are the same for every variant and seed.
        """
        return self.share_of(read_guarded(self.corpora, corpus, split), split)

    def share_of(self, documents: list[Document], split: str) -> list[Document]:
        return share(documents, getattr(self.settings, f"{split}_characters"))


def ablation(plan: Ablation, workers: int = 1) -> dict[str, Any]:
    """Run what is missing, and collect everything.

    The learning rate of each variant is the best of those the settings list, by dev F1 of the
    first seed on the first corpus.

    plan (Ablation): What to run.
    workers (int): Processes at a time; each has its share of the threads.
    RETURNS (dict): "learning_rates" with what each scored, "runs", and what they were run on.
    RAISES (OpenMedError): Unknown corpus, unusable settings, or earlier results in ``output``
        of other settings.
    """
    settings = plan.settings
    _check(settings)
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise OpenMedError(
            "Each run of an ablation is made in one process: start it without torchrun, and with "
            "--workers for several runs at a time."
        )
    header = _header(plan)
    _same_plan(plan.output / "plan.json", header)
    first, seed = settings.corpora[0], settings.seeds[0]
    candidates = [
        Run(first, cell, rate, seed)
        for cell in CELLS
        for rate in settings.learning_rates[cell.rates]
    ]
    tried = dict(
        zip(candidates, _run_all(plan, candidates, workers, "learning rates"), strict=True)
    )
    rates = {
        cell: max(
            (run for run in candidates if run.cell == cell), key=lambda run: tried[run]["dev_f1"]
        ).learning_rate
        for cell in CELLS
    }
    # Seed by seed: what is finished when somebody stops it is a whole, if a smaller one.
    runs = [
        Run(corpus, cell, rates[cell], seed)
        for seed in settings.seeds
        for corpus in settings.corpora
        for cell in CELLS
    ]
    rows = list(_run_all(plan, runs, workers, "ablation"))
    made = {**tried, **dict(zip(runs, rows, strict=True))}
    return {
        **header,
        "learning_rates": [{**_facts(run), "dev_f1": row["dev_f1"]} for run, row in tried.items()],
        "runs": rows,
        "energy": total([row["energy"] for row in made.values()]),
    }


def train_one(plan: Ablation, run: Run, workers: int = 1) -> dict[str, Any]:
    """One run, in a process of its own: its peak memory is the process's.

    workers (int): Runs at a time on this machine.
    """
    settings = plan.settings.finetune
    settings = replace(
        settings,
        init="continue" if run.cell.pretraining == "continue" else "merge",
        # Where nothing else is trained, the rate is the head's.
        head_learning_rate=0.0 if run.cell.method == "head" else settings.head_learning_rate,
        optim=replace(settings.optim, learning_rate=run.learning_rate, seed=run.seed),
    )
    folder = plan.output / "running" / run.name
    # A run is short: one that was cut off starts over.
    shutil.rmtree(folder, ignore_errors=True)
    fitted = fit(
        plan.documents(run.corpus, "train"),
        plan.documents(run.corpus, "dev"),
        plan.backbone,
        folder,
        settings,
        run.corpus,
        None if run.cell.pretraining == "none" else plan.pretraining,
        method=run.cell.method,
    )
    record = fitted.record
    best = max(record["epochs"], key=lambda row: row["dev_f1"])
    half = {name: tensor.half() for name, tensor in trainable_state(fitted.network).items()}
    row = {
        **_facts(run),
        "dev_f1": best["dev_f1"],
        "best_epoch": best["epoch"],
        "epochs": [round(row["dev_f1"], 2) for row in record["epochs"]],
        "steps": record["steps"],
        "step_seconds": record["step_seconds"],
        "seconds": record["seconds"],
        # Of the whole machine, which other runs use at the same time.
        "energy": portion(record["energy"], 1 / workers),
        "machine": machine(settings, workers),
        "peak_memory_mb": round(peak_memory() / 1e6),
        "trainable_parameters": record["trainable_parameters"],
        # What a task adds; the pre-training adapter is there once for all.
        "disk_bytes": len(save(half)),
    }
    write_json(plan.result(run), row)
    shutil.rmtree(folder, ignore_errors=True)
    return row


def peak_memory() -> int:
    """Bytes: of the GPU if there is one, else of this process; 0 where that is not known."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        # Not getrusage, which begins with the peak of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="utf8")
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def machine(settings: FinetuneSettings, workers: int) -> dict[str, Any]:
    """What the times and memory of a result depend on."""
    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "precision": resolve_precision(settings.optim.precision),
        "threads": torch.get_num_threads(),
        "workers": workers,
    }


def _run_all(
    plan: Ablation, runs: Sequence[Run], workers: int, title: str
) -> Iterator[dict[str, Any]]:
    """The results of runs, in their order; the missing ones are made first."""
    missing = [run for run in runs if not plan.result(run).is_file()]
    with (
        tqdm(total=len(runs), initial=len(runs) - len(missing), desc=title, unit="run") as bar,
        ProcessPoolExecutor(
            workers,
            # A fork would inherit threads of torch that do not exist in it.
            multiprocessing.get_context("spawn"),
            torch.set_num_threads,
            (threads(workers),),
            max_tasks_per_child=1,
        ) as pool,
    ):
        futures = [pool.submit(train_one, plan, run, workers) for run in missing]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    for run in runs:
        yield read_json(plan.result(run), "Remove it to run it again.")


def _facts(run: Run) -> dict[str, Any]:
    return {
        "corpus": run.corpus,
        "pretraining": run.cell.pretraining,
        "method": run.cell.method,
        "learning_rate": run.learning_rate,
        "seed": run.seed,
    }


def _header(plan: Ablation) -> dict[str, Any]:
    return {
        "spacy_openmed": __version__,
        "backbone": backbones.reference(plan.backbone).to_dict(),
        "pretraining_sha256": pretraining.read(plan.pretraining).sha256,
        "settings": to_dict(plan.settings),
        "data": {
            corpus: {split: _data(plan, corpus, split) for split in ("train", "dev")}
            for corpus in plan.settings.corpora
        },
    }


def _data(plan: Ablation, corpus: str, split: str) -> dict[str, Any]:
    whole = read_guarded(plan.corpora, corpus, split)
    return describe(plan.share_of(whole, split), whole)


def _check(settings: AblationSettings) -> None:
    if not settings.corpora or not settings.seeds:
        raise OpenMedError("An ablation needs at least one corpus and one seed.")
    rates, wanted = settings.learning_rates, {cell.rates for cell in CELLS}
    missing = {name for name in wanted if not rates.get(name)}
    if missing:
        raise OpenMedError(f"[learning_rates] lacks {', '.join(sorted(missing))}.")
    if set(rates) - wanted:
        raise OpenMedError(
            f"[learning_rates] has {', '.join(sorted(set(rates) - wanted))}; it knows "
            f"{', '.join(sorted(wanted))}."
        )
    if any(not 0 < rate < math.inf for listed in rates.values() for rate in listed):
        raise OpenMedError("[learning_rates]: a rate must be above 0.")
    if len(set(settings.seeds)) < len(settings.seeds):
        raise OpenMedError("seeds: one is there twice, which would pass for no spread.")


def _same_plan(path: Path, header: dict[str, Any]) -> None:
    """Results of other settings in the same folder would be mistaken for these."""
    if path.is_file():
        earlier = read_json(path, "Choose another --output.")
        differing = sorted(key for key in header if earlier.get(key) != header[key])
        if differing:
            raise OpenMedError(
                f"{path.parent} has results of an ablation with another "
                f"{', '.join(differing)}. Choose another --output."
            )
        return
    write_json(path, header)
