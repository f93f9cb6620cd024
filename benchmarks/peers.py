r"""How fast others are on the same weights, and whether they find the same.

The adapter is merged into its backbone and written as a checkpoint for transformers, which every
peer reads in a Python of its own: one new process for each setting and round, in turns, with the
same number of threads. Every process loads, annotates a few texts to warm up, then all texts of
each set once; medians over the rounds count. What a peer finds is compared with ``openmed_ner`` in
fp32 before any speed is shown.

    python benchmarks/peers.py CORPORA --work runs/peers --threads 2 \
        --spacy-ner runs/spacy-ner/ncbi/model-best \
        --json benchmarks/results/peers.json --plot benchmarks/results/peers.png
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "peers"
# Texts of each set; sentences are those of the abstracts.
SETS = {"sentences": 400, "abstracts": 200, "papers": 3}
ABSTRACTS, PAPERS = "bc5cdr-disease", "linnaeus"
OWN, HUGGING_FACE = "openmed_ner", "transformers"
REFERENCE = (OWN, "fp32")
# Peers whose requirements differ from ours.
APART = ("spacy-huggingface-pipelines", "openmed")
# Below this many percent of the same entities, two do not do the same work.
SAME_WORK = 90
# What a network of 512 positions has read when it reads no further.
POSITIONS = 512
PLOTS = (".png", ".svg", ".pdf")
TIMEOUT = 1800
SAME, NONE, OTHER = "same weights", "no entities", "other weights"
UNLIKE, DECODING = "not the same work", "decodes as transformers does"

Texts = dict[str, list[str]]
# By set and text; an entity is [start, end, label].
Found = Mapping[str, Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    script (str): In ``peers/``.
    options (dict): What the script is told.
    weights (str): Whether its entities are those of the same weights, of others, or none.
    share (int | None): Only so many texts of each set, for what takes too long for all.
    """

    peer: str
    name: str
    script: str
    options: Mapping[str, Any] = field(hash=False)
    weights: str = SAME
    share: int | None = None

    def __str__(self) -> str:
        return f"{self.peer}, {self.name}"

    @property
    def file(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in str(self))


def settings(spacy_ner: Path | None) -> list[Setting]:
    """All rows, in the order in which they take turns.

    spacy_ner (Path | None): Pipeline that ``spacy train`` wrote.
    """
    shp, openmed, trf = "spacy-huggingface-pipelines", "openmed", "spacy-transformers"
    every = [
        *(
            Setting(OWN, precision, "run_spacy.py", {"precision": precision})
            for precision in ("fp32", "bf16", "int8")
        ),
        *(
            Setting(
                "forward",
                precision,
                "run_forward.py",
                {"precision": precision, "batch_wordpieces": 4096},
                NONE,
            )
            for precision in ("fp32", "bf16")
        ),
        *(
            Setting(
                HUGGING_FACE,
                f"{precision}, batch {size}",
                "run_transformers.py",
                {"precision": precision, "batch_size": size},
            )
            for precision, sizes in (("fp32", (1, 4, 8)), ("bf16", (1, 8)))
            for size in sizes
        ),
        *(Setting(shp, f"batch {size}", "run_shp.py", {"batch_size": size}) for size in (1, 4)),
        Setting(openmed, "analyze_text", "run_openmed.py", {"call": "analyze_text"}, share=10),
        *(
            Setting(openmed, name, "run_openmed.py", {"call": "BatchProcessor", "lean": lean})
            for name, lean in (("BatchProcessor", False), ("BatchProcessor, lean", True))
        ),
        *(
            Setting(openmed, f"OnnxModel, {variant}", "run_openmed.py", {"onnx": variant})
            for variant in ("fp32", "int8")
        ),
        Setting(trf, "features only", "run_spacy_transformers.py", {}, NONE),
    ]
    if spacy_ner is not None:
        options = {"pipeline": str(spacy_ner.absolute())}
        every.append(Setting("spacy-ner", "CNN", "run_spacy.py", options, OTHER))
    return every


PEERS = tuple(dict.fromkeys(setting.peer for setting in settings(Path())))


# Input


def read_texts(corpora: Path, limit: int | None) -> Texts:
    """Texts of dev splits.

    limit (int | None): At most so many of each set.
    """
    from spacy_openmed.corpora.folder import read_split
    from spacy_openmed.training.samples import split_sentences

    abstracts = read_split(corpora, ABSTRACTS, "dev")
    sentences = (text.strip() for d in abstracts for text, _ in split_sentences(d.text, d.entities))
    papers = (d.text for d in read_split(corpora, PAPERS, "dev"))
    every = {"sentences": sentences, "abstracts": (d.text for d in abstracts), "papers": papers}
    return {
        name: list(islice(texts, SETS[name] if limit is None else min(limit, SETS[name])))
        for name, texts in every.items()
    }


def export(adapter: str, folder: Path) -> list[str]:
    """The checkpoint that all peers read, with its ONNX graph; what is missing in it."""
    from spacy_openmed import adapters
    from spacy_openmed.errors import OpenMedError
    from spacy_openmed.packaging.hf_export import export_checkpoint

    found = adapters.read(adapters.find(adapter))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        export_checkpoint(found, folder, onnx=True)
    except OpenMedError as error:
        export_checkpoint(found, folder)
        return [f"No ONNX graph: {error}"]
    return []


def first_positions(texts: Sequence[str], checkpoint: Path) -> list[int]:
    """The character of each text at which ``POSITIONS`` wordpieces end."""
    from spacy_openmed import backbones
    from spacy_openmed.windows import encode_batch

    encodings = encode_batch(texts, backbones.load_tokenizer(checkpoint))
    return [
        int(encoding.starts[POSITIONS]) if len(encoding) > POSITIONS else len(text)
        for text, encoding in zip(texts, encodings, strict=True)
    ]


# Processes


class Failed(Exception):
    """A peer did not do its job; the message is what it said last."""


def command(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Run a command, what it says in a file.

    RAISES (Failed): It ended with an error, did not end, or could not be started.
    """
    try:
        with log.open("wb") as stream:
            subprocess.run(
                arguments,
                check=True,
                stdout=stream,
                stderr=stream,
                timeout=TIMEOUT,
                env=environment,
            )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"took more than {TIMEOUT} seconds") from error
    except subprocess.CalledProcessError as error:
        lines = log.read_text(encoding="utf8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        raise Failed(said[-1] if said else f"exit status {error.returncode}") from error
    except OSError as error:
        raise Failed(str(error)) from error


def interpreter(peer: str, venvs: Path) -> str:
    """The Python that runs a peer; its environment is made if it is not there.

    RAISES (Failed): pip cannot install what the peer needs.
    """
    if peer not in APART:
        return sys.executable
    folder = venvs / peer
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not folder.exists():
        print(f"{peer}: making {folder}", flush=True)
        try:
            venv.create(folder, with_pip=True)
            pins = HERE / f"requirements-{peer}.txt"
            install = [str(python), "-m", "pip", "install", "-r", str(pins)]
            command(install, venvs / f"{peer}.log", os.environ)
        except BaseException:
            # What is there is taken for whole the next time.
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return str(python)


def _once(known: dict[str, str | Failed], peer: str, venvs: Path) -> str:
    """``interpreter`` for all settings of a peer: what failed for one is not tried for the next."""
    if peer not in known:
        try:
            known[peer] = interpreter(peer, venvs)
        except Failed as error:
            known[peer] = error
    found = known[peer]
    if isinstance(found, Failed):
        raise found
    return found


def environment(threads: int) -> dict[str, str]:
    """Of every peer: the same threads, and nothing from the network."""
    pools = ("OMP", "MKL", "OPENBLAS", "RAYON")
    return {
        **os.environ,
        **{f"{pool}_NUM_THREADS": str(threads) for pool in pools},
        "HF_HUB_OFFLINE": "1",
        "PYTHONNOUSERSITE": "1",
    }


@dataclass
class Measured:
    """What the rounds of a setting gave, or why it has none."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None

    @property
    def first(self) -> dict[str, Any]:
        return self.rounds[0]

    def median(self, *keys: str) -> float:
        values: list[float] = []
        for result in self.rounds:
            value: Any = result
            for key in keys:
                value = value[key]
            values.append(value)
        return statistics.median(values)


def measure(setting: Setting, python: str, job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One process of one peer.

    folder (Path): Gets the job, the result and the log.
    RAISES (Failed): It gave no result.
    """
    place = folder / setting.file
    output = place.with_suffix(".json")
    output.unlink(missing_ok=True)
    told = {**job, "options": setting.options, "share": setting.share, "output": str(output)}
    description = place.with_suffix(".job.json")
    description.write_text(json.dumps(told, indent=2), encoding="utf8")
    script = str(HERE / setting.script)
    command(
        [python, script, str(description)], place.with_suffix(".log"), environment(job["threads"])
    )
    try:
        result: dict[str, Any] = json.loads(output.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise Failed(f"ended without a result ({error})") from error
    return result


def take_turns(
    chosen: Sequence[Setting], rounds: int, venvs: Path, job: Mapping[str, Any], work: Path
) -> dict[Setting, Measured]:
    """Measure all settings in every round: a machine that grows slower is so for all.

    RAISES (SystemExit): Without ``openmed_ner`` in fp32 there is nothing to compare with.
    """
    measured = {setting: Measured() for setting in chosen}
    pythons: dict[str, str | Failed] = {}
    for number in range(1, rounds + 1):
        folder = work / f"round-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        for setting, results in measured.items():
            if results.failed is not None:
                continue
            print(f"round {number} of {rounds}: {setting}", flush=True)
            try:
                python = _once(pythons, setting.peer, venvs)
                results.rounds.append(measure(setting, python, job, folder))
            except Failed as error:
                results.failed = str(error)
                print(f"  failed: {error}", flush=True)
                if (setting.peer, setting.name) == REFERENCE:
                    raise SystemExit(f"{setting}, with which all are compared, failed.") from error
    return measured


# Figures


def agreement(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> float:
    """Percent of the entities of two that both have, as F1; 100 where neither has any."""
    pairs = [(set(map(tuple, a)), set(map(tuple, b))) for a, b in zip(one, other, strict=True)]
    total = sum(len(a) + len(b) for a, b in pairs)
    return 200 * sum(len(a & b) for a, b in pairs) / total if total else 100.0


def beyond(entities: Sequence[Sequence[Any]], limits: Sequence[int]) -> int:
    """How many entities begin at some character of their text or later.

    limits (Sequence[int]): One a text; there may be more.
    """
    return sum(
        start >= limit
        for some, limit in zip(entities, limits, strict=False)
        for start, _, _ in some
    )


def row(
    setting: Setting,
    measured: Measured,
    ours: Found,
    pipeline: Found | None,
    words: Mapping[str, Sequence[int]],
    limits: Sequence[int],
) -> dict[str, Any]:
    """The figures of a setting.

    ours (Mapping): The entities of ``openmed_ner`` in fp32, by set and text.
    pipeline (Mapping | None): Those of the pipeline of transformers in fp32.
    words (Mapping): How many words each text has, by set.
    limits (Sequence[int]): See ``beyond``; of the papers.
    """
    about = {"peer": setting.peer, "setting": setting.name, "weights": setting.weights}
    if measured.failed is not None:
        return {**about, "failed": measured.failed}
    share = slice(setting.share)
    sets: dict[str, dict[str, Any]] = {}
    for name, counts in words.items():
        speed = sum(counts[share]) / measured.median("seconds", name)
        sets[name] = {"words_per_second": speed}
        found = measured.first["entities"][name]
        if found is not None:
            sets[name]["entities"] = sum(map(len, found))
        if setting.weights == SAME:
            sets[name]["agreement_percent"] = agreement(ours[name][share], found)
            if pipeline is not None:
                same = agreement(pipeline[name][share], found)
                sets[name]["agreement_with_transformers_percent"] = same
    result: dict[str, Any] = {
        **about,
        "sets": sets,
        "peak_mb": measured.median("peak_mb"),
        "load_seconds": measured.median("load_seconds"),
        "versions": measured.first["versions"],
    }
    if setting.weights == SAME:
        result["papers_beyond_512_wordpieces"] = {
            "found": beyond(measured.first["entities"]["papers"], limits),
            OWN: beyond(ours["papers"][share], limits),
        }
    return {**result, "notes": notes(result, setting.share)}


def notes(figures: Mapping[str, Any], share: int | None) -> list[str]:
    """What a reader has to know beside the figures of a row."""
    said = []
    if figures["weights"] != SAME:
        said.append(figures["weights"])
    else:
        if least(figures, "agreement_percent") < SAME_WORK:
            as_pipeline = least(figures, "agreement_with_transformers_percent") >= SAME_WORK
            said.append(DECODING if as_pipeline else UNLIKE)
        late = figures["papers_beyond_512_wordpieces"]
        if 2 * late["found"] < late[OWN]:
            said.append("drops the rest of papers")
    if share is not None:
        said.append(f"the first {share} texts of each set")
    return said


def least(figures: Mapping[str, Any], key: str) -> float:
    """The lower of the agreements on sentences and abstracts; 0 if there are none."""
    return min(float(figures["sets"][name].get(key, 0)) for name in ("sentences", "abstracts"))


def compare(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Put every speed beside that of the pipeline of transformers, and of that in fp32.

    rows (Sequence[dict]): Get "times_transformers" and "times_transformers_fp32" in each set.
    RETURNS (dict[str, dict[str, str]]): Its fastest settings on each set, under the same two
        names; without what failed.
    """
    best: dict[str, dict[str, str]] = {}
    measured = [r for r in rows if "sets" in r]
    for key, start in (("times_transformers", ""), ("times_transformers_fp32", "fp32")):
        for name in SETS:
            speeds = {
                r["setting"]: r["sets"][name]["words_per_second"]
                for r in measured
                if r["peer"] == HUGGING_FACE and r["setting"].startswith(start)
            }
            if speeds:
                fastest = max(speeds, key=lambda setting: speeds[setting])
                best.setdefault(key, {})[name] = fastest
                for r in measured:
                    figures = r["sets"][name]
                    figures[key] = figures["words_per_second"] / speeds[fastest]
    return best


# Output


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: words/s of every set and what multiple of the pipeline's best; agreement by set."""
    head = ["peer", "setting", *(f"{name}, words/s" for name in SETS)]
    head += ["same entities, %", "as transformers, %", "peak MB", "load s", "versions", "notes"]
    lines = [head, ["---"] * len(head)]
    for r in rows:
        if "failed" in r:
            said = r["failed"].replace("|", "\\|")
            lines.append([r["peer"], r["setting"], *[""] * 8, f"failed: {said}"])
            continue
        speeds = []
        for name in SETS:
            figures = r["sets"][name]
            speed = f"{figures['words_per_second']:,.0f}"
            if "times_transformers" in figures:
                speed += f" ({figures['times_transformers']:.2f}×)"
            speeds.append(speed)
        lines.append(
            [
                r["peer"],
                r["setting"],
                *speeds,
                _agreements(r["sets"], "agreement_percent"),
                _agreements(r["sets"], "agreement_with_transformers_percent"),
                f"{r['peak_mb']:.0f}",
                f"{r['load_seconds']:.1f}",
                ", ".join(f"{name} {version}" for name, version in r["versions"].items()),
                "; ".join(r["notes"]),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _agreements(sets: Mapping[str, Mapping[str, float]], key: str) -> str:
    return " / ".join(f"{figures[key]:.1f}" for figures in sets.values() if key in figures)


def draw(rows: Sequence[Mapping[str, Any]], path: Path, threads: int) -> None:
    """Words per second of every setting on every set, the fastest on top."""
    from matplotlib.figure import Figure

    from spacy_openmed.files import atomic_file

    shown = [r for r in rows if "sets" in r]
    figure = Figure(figsize=(17, 1.4 + 0.3 * len(shown)), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(SETS)), SETS, strict=True):
        ordered = sorted(shown, key=lambda r: r["sets"][name]["words_per_second"])
        speeds = [r["sets"][name]["words_per_second"] for r in ordered]
        bars = axes.barh(
            [f"{r['peer']}, {r['setting']}" for r in ordered],
            speeds,
            color=["#1b6ca8" if r["peer"] == OWN else "#999999" for r in ordered],
        )
        for bar, r in zip(bars, ordered, strict=True):
            if {UNLIKE, NONE, OTHER} & set(r["notes"]):
                bar.set_alpha(0.4)
        axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=3, fontsize=8)
        axes.margins(x=0.16, y=0.01)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_title(name)
        axes.set_xlabel("words per second")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"Threads: {threads}; pale: no entities, other weights, or not the same work", fontsize=10
    )
    with atomic_file(path) as part:
        figure.savefig(part, format=path.suffix.lower().lstrip("."), dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--adapter", default="ncbi")
    parser.add_argument("--work", type=Path, required=True, help="Gets checkpoint, texts, results")
    parser.add_argument("--venvs", type=Path, help="Environments of peers; WORK/venvs if not given")
    parser.add_argument("--spacy-ner", type=Path, help="Pipeline that spacy_ner.py trained")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=int, help=f"At most so many texts of each set; {SETS}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    for name in ("rounds", "threads", "limit"):
        if (number := getattr(arguments, name)) is not None and number < 1:
            parser.error(f"--{name} {number}: choose 1 or more")
    if arguments.plot is not None and arguments.plot.suffix.lower() not in PLOTS:
        parser.error(f"--plot {arguments.plot}: choose a name that ends in {', '.join(PLOTS)}")
    from spacy_openmed import adapters
    from spacy_openmed.files import check_writable, write_json
    from spacy_openmed.training.energy import cpu_name

    for path in (arguments.json, arguments.plot):
        if path is not None:
            # Before the rounds take their time.
            check_writable(path)
    every = settings(arguments.spacy_ner)
    chosen = [s for s in every if s.peer in arguments.peers or (s.peer, s.name) == REFERENCE]
    for peer in sorted(set(arguments.peers) - {s.peer for s in every}):
        print(f"{peer}: left out, for want of --spacy-ner")
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    texts = read_texts(arguments.corpora, arguments.limit)
    (work / "texts.json").write_text(json.dumps(texts), encoding="utf8")
    for line in export(arguments.adapter, work / "checkpoint"):
        print(line)
    info = adapters.read(adapters.find(arguments.adapter)).info
    job = {
        "texts": str(work / "texts.json"),
        "checkpoint": str(work / "checkpoint"),
        "adapter": arguments.adapter,
        "threads": arguments.threads,
        "window": info.window,
        "overlap": info.overlap,
    }
    venvs = (arguments.venvs or work / "venvs").absolute()
    measured = take_turns(chosen, arguments.rounds, venvs, job, work)
    own, pipeline = (
        next((m for s, m in measured.items() if (s.peer, s.name) == wanted), Measured(failed="-"))
        for wanted in (REFERENCE, (HUGGING_FACE, "fp32, batch 1"))
    )
    words = {name: [len(text.split()) for text in some] for name, some in texts.items()}
    limits = first_positions(texts["papers"], work / "checkpoint")
    theirs = pipeline.first["entities"] if pipeline.failed is None else None
    rows = [
        row(setting, results, own.first["entities"], theirs, words, limits)
        for setting, results in measured.items()
    ]
    for r in rows:
        if UNLIKE in r.get("notes", ()):
            print(f"{r['peer']}, {r['setting']}: less than {SAME_WORK} % of the same entities")
    best = compare(rows)
    print(table(rows))
    for key, fastest in best.items():
        print(f"{key} is 1 for: {fastest}")
    if arguments.json is not None:
        facts = {
            "machine": platform.machine(),
            "processor": cpu_name(),
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "adapter": arguments.adapter,
            "texts": {name: len(some) for name, some in texts.items()},
            "words": {name: sum(counts) for name, counts in words.items()},
            "best_of_transformers": best,
        }
        write_json(arguments.json, {**facts, "rows": rows})
    if arguments.plot is not None:
        draw(rows, arguments.plot, arguments.threads)


if __name__ == "__main__":
    main()
