"""What the scripts of all peers do: load, warm up, time every set, write down what was found.

Each runs in its peer's own Python, so nothing outside the standard library is imported here.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Before the imports of the peer, which its users wait for, too.
BEGUN = time.perf_counter()
WARM_UP = {"sentences": 8, "abstracts": 8, "papers": 1}
SENTENCE = "Mutations of this gene cause colorectal cancer."

Entity = tuple[int, int, str]
# The entities of each text; None from what finds none.
Run = Callable[[], Sequence[Sequence[Entity]] | None]
# Only the run is timed: what is asked of texts beforehand is not the peer's work.
Prepare = Callable[[Sequence[str]], Run]


def serve(
    load: Callable[[dict[str, Any]], Prepare],
    packages: Sequence[str],
    before: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Do the job that the JSON file in the first argument describes.

    load (Callable): Takes the job, gives what annotates.
    packages (Sequence[str]): Whose versions are noted.
    before (Callable | None): Called first, not timed.
    """
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    begun = BEGUN
    if before is not None:
        before(job)
        begun = time.perf_counter()
    prepare = load(job)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(job["threads"])
    # Some load at the first text only.
    prepare([SENTENCE])()
    load_seconds = time.perf_counter() - begun
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf8"))
    sets = {name: every[: job["share"]] for name, every in texts.items()}
    for name, some in sets.items():
        prepare(some[: WARM_UP[name]])()
    seconds, found = {}, {}
    for name, some in sets.items():
        run = prepare(some)
        begun = time.perf_counter()
        entities = run()
        seconds[name] = time.perf_counter() - begun
        found[name] = entities
    result = {
        "load_seconds": load_seconds,
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "entities": found,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    Path(job["output"]).write_text(json.dumps(result), encoding="utf8")


def peak_mb() -> float:
    """The most memory that this process had at once, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux lets a process that another one started inherit that one's ru_maxrss.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    # In bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
