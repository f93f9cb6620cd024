r"""Whether annotation that was killed several times ends with the output of an unbroken run.

Runs ``spacy openmed annotate`` in processes of its own: unbroken, and killed by SIGKILL at random
moments and started again with --resume each time.

    python benchmarks/annotate_kills.py --json benchmarks/results/annotate_kills.json

Without --input the text is that of the corpus that comes with the project, repeated.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotate_workers import command, write_input
from common import report


@dataclass
class Run:
    """An annotation.

    arguments (list[str]): The command.
    output (Path): What it makes.
    kills (list[dict]): Where it was killed: parts done, and the share of the next.
    """

    arguments: list[str]
    output: Path
    kills: list[dict[str, Any]] = field(default_factory=list)

    def start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def finish(self) -> float:
        """RETURNS (float): Seconds."""
        begun = time.monotonic()
        if self.start().wait():
            raise SystemExit(f"The annotation failed: {' '.join(self.arguments)}")
        return time.monotonic() - begun

    def kill(self, parts: int, share: float, seconds: float) -> None:
        """Start, and kill once so many parts are done, when about a share of a part is over."""
        process = self.start()
        while self.parts() < parts:
            if process.poll() is not None:
                raise SystemExit("The annotation ended before it was to be killed.")
            time.sleep(0.005)
        time.sleep(share * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills.append({"parts": self.parts(), "share of the next": round(share, 3)})
        print(self.kills[-1], flush=True)

    def parts(self) -> int:
        folder = self.output.parent / f".{self.output.name}.parts"
        return len(list(folder.glob("*.part")))

    def sha256(self) -> str:
        digest = hashlib.sha256()
        files = sorted(p for p in self.output.rglob("*") if p.is_file()) or [self.output]
        for file in files:
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, help="Any input of 'annotate'")
    parser.add_argument("--documents", type=int, default=10_000, help="Without --input")
    parser.add_argument("--output-name", default="out.jsonl", help="Its suffix is the format")
    parser.add_argument("--part", type=int, default=256, help="Documents of a part")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="Of the moments")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = arguments.input or write_input(folder / "in.jsonl", arguments.documents)
        runs = []
        for name in ("whole", "killed"):
            output = folder / name / arguments.output_name
            own = command(source, output, arguments.workers, folder / f"{name}.json")
            runs.append(Run([*own, "--resume", "--part", str(arguments.part)], output))
        whole, killed = runs
        rows = [{"run": "unbroken", "kills": 0, "seconds": whole.finish()}]
        summary = json.loads((folder / "whole.json").read_text(encoding="utf8"))
        parts = -(-summary["documents"] // arguments.part)
        # The last part may be over before its share of the time is.
        moments = range(parts - 1)
        if len(moments) < arguments.kills:
            raise SystemExit(f"{parts} parts are too few for {arguments.kills} kills.")
        seconds = summary["seconds"]["annotate"] / parts
        for number in sorted(draw.sample(moments, arguments.kills)):
            killed.kill(number, draw.random(), seconds)
        rows.append({"run": "killed", "kills": len(killed.kills), "seconds": killed.finish()})
        again = json.loads((folder / "killed.json").read_text(encoding="utf8"))
        hashes = [run.sha256() for run in runs]
        for row, sha256 in zip(rows, hashes, strict=True):
            row["sha256"] = sha256[:12]
        counts = ("documents", "words", "entities", "skipped")
        report(
            rows,
            arguments.json,
            input="given" if arguments.input else "the sample corpus, repeated",
            format=arguments.output_name,
            workers=arguments.workers,
            documents=summary["documents"],
            parts=parts,
            kills=killed.kills,
            identical=hashes[0] == hashes[1],
            same_summary=all(summary[name] == again[name] for name in counts),
        )
        print(f"identical: {hashes[0] == hashes[1]}")


if __name__ == "__main__":
    main()
