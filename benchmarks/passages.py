"""Memory, time and repeatability of ``spacy openmed passages mix``, on synthetic text in the
real formats: a tenth of the mix and the whole of it, the whole twice.

The text has planted repetitions, near repetitions and runs of held-out words; the script
fails if any of them is in the mix.
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from common import report

from spacy_openmed.passages.mix import ORIGINS, PASSAGES, mix
from spacy_openmed.passages.settings import PassageSettings, Quotas

WANTED = {"pubmed": 100_000, "arxiv": 100_000, "mimic": 100_000, "clinicaltrials": 50_000}
# Of every hundred passages of a source that are different, so many are planted besides.
KINDS = ("original", "exact", "near", "held out")
PLANTED = {"exact": 4, "near": 4, "held out": 2}
SURPLUS = 2.5
HELD_OUT = 2_000
CITATIONS_A_FILE = 30_000
STUDIES_A_PAGE = 1_000
PARTS_OF_A_NOTE = 4
PASSAGES_A_NOTE = 3

SYLLABLES = [a + b for a in "bcdfghlmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "in")]


def vocabulary() -> list[str]:
    rng = np.random.default_rng(0)
    return [
        "".join(SYLLABLES[i] for i in rng.integers(len(SYLLABLES), size=2 + n % 3))
        for n in range(40_000)
    ]


VOCABULARY = vocabulary()


def words(source: int, number: int) -> list[str]:
    """The words of a text, always the same; as rare and frequent as in a language, about."""
    rng = np.random.default_rng((source, number))
    count = int(rng.integers(70, 220))
    found = [VOCABULARY[i] for i in (len(VOCABULARY) * rng.random(count) ** 3).astype(int)]
    for end in range(11, count, 12):
        found[end] += "."
        if end + 1 < count:
            found[end + 1] = found[end + 1].capitalize()
    found[-1] = found[-1].rstrip(".") + "."
    return [found[0].capitalize(), *found[1:]]


def texts(source: int, count: int) -> Iterator[tuple[int, int, str]]:
    """Kind, number and text of each passage of a source."""
    for number in range(count):
        original = words(source, number)
        yield 0, number, " ".join(original)
        if number % 100 < PLANTED["exact"]:
            yield 1, number, " ".join(original)
        elif number % 100 < PLANTED["exact"] + PLANTED["near"]:
            near = list(original)
            near[len(near) // 2] = "altered"
            yield 2, number, " ".join(near)
        elif number % 100 < sum(PLANTED.values()):
            held = words(9, number % HELD_OUT)[:20]
            yield 3, number, " ".join([*words(8, number)[:60], *held, *original[:60]])


def write_pubmed(folder: Path, count: int) -> None:
    citations = texts(0, count)
    number_of_file = 1
    while batch := list(islice(citations, CITATIONS_A_FILE)):
        name = folder / f"pubmed25n{number_of_file:04d}.xml.gz"
        number_of_file += 1
        with gzip.open(name, "wt", 1, "utf8") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
            for kind, number, text in batch:
                title, _, abstract = text.partition(". ")
                file.write(
                    f'<PubmedArticle><MedlineCitation Status="MEDLINE">'
                    f'<PMID Version="1">{kind * 10_000_000 + number + 1}</PMID>'
                    f"<Article><Journal><Title>A journal</Title></Journal>"
                    f"<ArticleTitle>{title}.</ArticleTitle><Abstract>"
                    f"<AbstractText>{abstract}</AbstractText></Abstract>"
                    f"<AuthorList><Author><LastName>A</LastName></Author></AuthorList></Article>"
                    f"<MeshHeadingList><MeshHeading><DescriptorName>X</DescriptorName>"
                    f"</MeshHeading></MeshHeadingList></MedlineCitation></PubmedArticle>\n"
                )
            file.write("</PubmedArticleSet>\n")


def write_arxiv(folder: Path, count: int) -> None:
    with (folder / "arxiv-metadata-oai-snapshot.json").open("w", encoding="utf8") as file:
        for kind, number, text in texts(1, count):
            title, _, abstract = text.partition(". ")
            row = {
                "id": f"{kind}.{number}",
                "title": title,
                "abstract": abstract.replace(". ", ".\n"),
                "categories": "q-bio.GN cs.LG",
            }
            file.write(json.dumps(row) + "\n")


def write_mimic(folder: Path, count: int) -> None:
    """Notes of several passages; repeated ones, and ones in error, come as whole notes."""
    columns = "ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME STORETIME CATEGORY DESCRIPTION CGID"
    with gzip.open(folder / "NOTEEVENTS.csv.gz", "wt", 1, "utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns.split(), "ISERROR", "TEXT"])
        for number in range(count // PASSAGES_A_NOTE):
            parts = [words(2, PARTS_OF_A_NOTE * number + i) for i in range(PARTS_OF_A_NOTE)]
            text = "\n\n".join(" ".join(part) for part in parts)
            text = f"Seen on [**2101-1-{number % 28 + 1}**].\n" + text.replace(" ", "\n", 3)
            date = ["2101-01-01", "", ""]
            kinds = [0, 1] if number % 100 < PLANTED["exact"] else [0]
            for kind in kinds:
                name = kind * 10_000_000 + number
                writer.writerow([name, 1, 1, *date, "Nursing", "Report", "", "", text])
            if number % 100 == 50:
                bad = " ".join(words(7, number))
                writer.writerow([f"error {number}", 1, 1, *date, "Nursing", "Report", "", 1, bad])


def write_clinicaltrials(folder: Path, count: int) -> None:
    studies: list[dict[str, Any]] = []
    pages = 0

    def flush(last: bool) -> None:
        nonlocal pages
        page: dict[str, Any] = {"studies": studies}
        if not last:
            page["nextPageToken"] = f"token{pages}"
        (folder / f"page{pages:04d}.json").write_text(json.dumps(page), encoding="utf8")
        pages += 1
        studies.clear()

    for kind, number, text in texts(3, count):
        studies.append(
            {
                "protocolSection": {
                    "identificationModule": {"nctId": f"NCT{kind}{number:07d}"},
                    "descriptionModule": {"detailedDescription": text},
                }
            }
        )
        if len(studies) == STUDIES_A_PAGE:
            flush(last=False)
    flush(last=True)


def write_sources(folder: Path, scale: float) -> dict[str, list[Path]]:
    """Files of all sources, with far more than is wanted of each."""
    writers = {
        "pubmed": write_pubmed,
        "arxiv": write_arxiv,
        "mimic": write_mimic,
        "clinicaltrials": write_clinicaltrials,
    }
    for name, write in writers.items():
        (folder / name).mkdir(parents=True)
        write(folder / name, int(WANTED[name] * scale * SURPLUS))
    splits = folder / "corpora" / "ner" / "synthetic"
    splits.mkdir(parents=True)
    with (splits / "dev.jsonl").open("w", encoding="utf8") as file:
        for number in range(HELD_OUT):
            row = {"id": str(number), "text": " ".join(words(9, number)), "entities": []}
            file.write(json.dumps(row) + "\n")
    return {name: [folder / name] for name in WANTED}


def run(sources: Path, output: Path, scale: float) -> None:
    """One mix, in a process of its own."""
    quotas = Quotas(**{name: int(count * scale) for name, count in WANTED.items()})
    settings = PassageSettings(quotas=quotas)
    mix({name: [sources / name] for name in WANTED}, output, settings, sources / "corpora")


def measure(sources: Path, output: Path, scale: float) -> tuple[dict[str, Any], list[int]]:
    """Run a mix and look at its memory five times a second.

    RETURNS (tuple[dict, list[int]]): Figures, and RSS in MB at 20 times, evenly spread.
    """
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--run", str(sources), str(output), str(scale)]
    process = subprocess.Popen(command)
    watched = psutil.Process(process.pid)
    memory = []
    processor = 0.0
    while process.poll() is None:
        try:
            memory.append(watched.memory_info().rss / 2**20)
            processor = sum(watched.cpu_times()[:2])
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - begun
    manifest = json.loads((output / "manifest.json").read_text("utf8"))
    check(output)
    total = {
        stage: sum(count[stage] for count in manifest["counts"].values())
        for stage in ("texts", "passages", "exact_duplicates", "near_duplicates", "held_out")
    }
    row = {
        "taken": manifest["outputs"][PASSAGES]["lines"],
        **total,
        "input MB": sum(p.stat().st_size for p in sources.rglob("*") if p.is_file()) / 2**20,
        "seconds": seconds,
        "processor seconds": processor,
        "peak RSS MB": max(memory),
        "sha256": manifest["outputs"][PASSAGES]["sha256"],
        "sha256 of sources": manifest["outputs"][ORIGINS]["sha256"],
    }
    return row, [round(memory[i * len(memory) // 20]) for i in range(20)]


def check(output: Path) -> None:
    """Of an original and what was planted for it one at most is there; nothing held out."""
    seen: set[tuple[str, str]] = set()
    with gzip.open(output / ORIGINS, "rt", encoding="utf8") as file:
        for line in file:
            source, name = line.rstrip("\n").split("\t")
            kind, number = split_name(source, name)
            assert KINDS[kind] != "held out", f"{source} {name} is held out"
            assert (source, number) not in seen, f"{source} {name} is there twice"
            seen.add((source, number))


def split_name(source: str, name: str) -> tuple[int, str]:
    """Kind, and the original's number with the part of the text."""
    if source == "arxiv":
        kind, _, number = name.partition(".")
        return int(kind), number
    if source == "clinicaltrials":
        return int(name[3]), name[4:]
    whole, _, part = name.partition("#")
    kind, number = divmod(int(whole) - (source == "pubmed"), 10_000_000)
    return kind, f"{number}#{part}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is a mix of 350,000")
    parser.add_argument("--scratch", type=Path, help="Where some 3 GB may be written")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        sources, output, scale = arguments.run
        run(Path(sources), Path(output), float(scale))
        return
    rows: list[dict[str, Any]] = []
    over_time = []
    with TemporaryDirectory(dir=arguments.scratch) as scratch:
        for scale, repeats in ((0.1 * arguments.scale, 1), (arguments.scale, 2)):
            sources = Path(scratch) / f"sources-{scale}"
            write_sources(sources, scale)
            for i in range(repeats):
                row, memory = measure(sources, Path(scratch) / f"mix-{scale}-{i}", scale)
                rows.append(row)
                over_time.append(memory)
    assert rows[1]["sha256"] == rows[2]["sha256"], "two runs with one seed differ"
    assert rows[1]["sha256 of sources"] == rows[2]["sha256 of sources"]
    report(rows, arguments.json, **{"RSS MB over time": over_time})


if __name__ == "__main__":
    main()
