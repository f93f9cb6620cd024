r"""How much faster two workers on Ray annotate than one, each on one thread.

Runs ``spacy openmed annotate`` in processes of its own. The time of annotation, from the first
part that is begun to the last that is done, is apart from that of starting and of joining.

    python benchmarks/annotate_workers.py --json benchmarks/results/annotate_workers.json

Without --input the text is that of the corpus that comes with the project, repeated.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import report

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "assets" / "sample" / "ner" / "sample"


def write_input(path: Path, documents: int) -> Path:
    """JSONL of so many documents, the corpus again and again."""
    lines = [
        line
        for name in ("train", "dev")
        for line in (CORPUS / f"{name}.jsonl").read_text(encoding="utf8").splitlines()
    ]
    texts = [json.loads(line)["text"] for line in lines]
    with path.open("w", encoding="utf8") as out:
        for number in range(documents):
            row = {"id": str(number), "text": texts[number % len(texts)]}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def command(source: Path, output: Path, workers: int, summary: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "spacy_openmed", "annotate", str(source), str(output)),
        *("--dataset", "ncbi", "--workers", str(workers), "--threads", "1"),
        *("--json", str(summary)),
    ]


def measure(source: Path, folder: Path, workers: int) -> dict[str, Any]:
    """The whole command."""
    output, summary = folder / f"{workers}.jsonl", folder / f"{workers}.json"
    done = subprocess.run(command(source, output, workers, summary), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    result = json.loads(summary.read_text(encoding="utf8"))
    seconds = result["seconds"]
    return {
        "workers": workers,
        "documents": result["documents"],
        "entities": sum(result["entities"].values()),
        "start": seconds["start"],
        "annotate": seconds["annotate"],
        "join": seconds["join"],
        "words/s": result["words"] / seconds["annotate"],
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest()[:12],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, help="Any input of 'annotate'")
    parser.add_argument("--documents", type=int, default=20_000, help="Without --input")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = arguments.input or write_input(folder / "in.jsonl", arguments.documents)
        rows = [measure(source, folder, workers) for workers in (1, arguments.workers)]
    ratio = rows[0]["annotate"] / rows[1]["annotate"]
    report(
        rows,
        arguments.json,
        cores=os.cpu_count(),
        ratio=round(ratio, 3),
        identical=rows[0]["sha256"] == rows[1]["sha256"],
    )
    print(f"ratio: {ratio:.3f}")


if __name__ == "__main__":
    main()
