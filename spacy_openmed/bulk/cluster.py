"""A run on Ray Data, on this machine or on a cluster.

The driver keeps the ledger. A reader cuts sources into parts, workers annotate them, and the
driver takes what comes in whatever order it comes: every part is named.

    sources ─▶ reader (an actor) ─▶ parts ─▶ workers (actors) ─▶ results ─▶ driver
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import OpenMedError
from ..ray_session import connect, gpu_share
from . import deaths, readers, writers
from .annotator import Models, limit_threads
from .options import Options
from .records import Part, parts
from .results import Result
from .sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

    from .run import Run

# Deaths for each worker with nothing done between them, until the run ends: four documents in a
# row may well kill.
_DEATHS = 10
# Parts that may be all that is left of a run, and have nothing but documents that kill.
_FEW = 3
_WORKERS_OF_A_READER = 16
_HOPELESS = (
    "The workers on Ray die without annotating anything. Memory may be short: try fewer "
    "--workers; --resume goes on."
)


def annotate_on_ray(run: "Run") -> None:
    """Annotate what is missing.

    A part whose worker dies is tried again, and documents that kill are skipped; see ``deaths``.
    Parts that waited for the same worker lose nothing.

    RAISES (OpenMedError): Ray is not installed, not reachable or lost; or no worker does
        anything.
    """
    ray = _imported()
    options = run.options
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.workers)
    connect(ray, options.address, options.workers * threads + _readers(options))
    before = run.summary.documents
    lost = []
    try:
        with _context(ray):
            for result in _results(ray, run, threads):
                if any(one.reason == deaths.DIED for one in result.skipped):
                    lost.append(result)
                else:
                    run.keep(result)
    except ray.exceptions.RayError as error:
        raise OpenMedError(
            f"Ray ended before the work did: {_first_line(error)} What is done is kept; "
            f"the same command with --resume goes on."
        ) from error
    finally:
        ray.shutdown()
    # Some texts may be what kills, but hardly every one.
    nothing_new = run.summary.documents + sum(one.documents for one in lost) == before
    if lost and nothing_new and (before == 0 or len(lost) > _FEW):
        raise OpenMedError(_HOPELESS)
    # Last, so that a run that is stopped before tries them again.
    for result in lost:
        run.keep(result)


def _imported() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise OpenMedError(
            "Several workers need Ray Data: pip install 'spacy-openmed[ray]'."
        ) from error
    return ray


@contextmanager
def _context(ray: Any) -> Iterator[None]:
    """Ray Data's settings, which are those of a process, for the time of a run."""
    context = ray.data.DataContext.get_current()
    wanted = {
        # Every part is a block: the next worker that is free gets the next part.
        "target_max_block_size": 1,
        "enable_progress_bars": False,
    }
    before = {name: getattr(context, name) for name in wanted}
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # That some workers have nothing to do, before it knows how many parts there are.
            warnings.filterwarnings("ignore", "The minimum number of concurrent actors")
            yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


def _results(ray: Any, run: "Run", threads: int) -> Iterator[Result]:
    """Annotate what is missing.

    YIELDS (Result): In any order.
    RAISES (OpenMedError): Workers do nothing but die; or they are to have GPUs, and there is none.
    """
    options = run.options
    missing = run.missing()
    wanted = {index: (run.sources[index], run.ledger.done(index)) for index in missing}
    share = 0.0
    if run.models.device_kind == "cuda":
        share = gpu_share(options.workers, ray.cluster_resources().get("GPU", 0))
        if not share:
            raise OpenMedError("The machines of Ray have no GPU. --gpu-id -1 takes their CPUs.")
    # Outlives the workers, whose machines may not have the folder of the output.
    notes = ray.remote(num_cpus=0)(deaths.Deaths).remote()
    pool = ray.data.ActorPoolStrategy
    read = ray.data.from_items(
        [{"source": index} for index in missing], override_num_blocks=min(len(missing), 1000)
    ).map_batches(
        _Reader,
        fn_constructor_args=(options, wanted),
        batch_size=1,
        batch_format="pyarrow",
        compute=pool(size=_readers(options)),
        num_cpus=1,
    )
    annotated = read.map_batches(
        _Worker,
        fn_constructor_args=(options, run.models, run.format, threads, notes),
        batch_size=1,
        batch_format="pyarrow",
        # One to work on, one that waits.
        compute=pool(size=options.workers, max_tasks_in_flight_per_actor=2),
        num_cpus=threads,
        num_gpus=share or None,
    )
    for batch in annotated.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in batch.to_pylist():
            if row["result"] is None:
                raise OpenMedError(_HOPELESS)
            yield Result.from_bytes(row["result"])


def _readers(options: Options) -> int:
    return 1 + options.workers // _WORKERS_OF_A_READER


class _Notes:
    """What remembers where workers died, for a worker.

    handle (ActorHandle): Of ``Deaths``.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def begin(self, source: int, number: int, documents: int) -> deaths.Begun:
        begun: deaths.Begun = _wait(self.handle.begin.remote(source, number, documents))
        return begun

    def mark(self, source: int, number: int, at: int) -> None:
        _wait(self.handle.mark.remote(source, number, at))

    def release(self, source: int, number: int) -> None:
        _wait(self.handle.release.remote(source, number))

    def end(self, source: int, number: int) -> None:
        _wait(self.handle.end.remote(source, number))

    def in_a_row(self) -> int:
        return int(_wait(self.handle.in_a_row.remote()))


def _wait(answer: Any) -> Any:
    import ray

    return ray.get(answer)


class _Reader:
    """Cuts sources into parts, in a process of Ray's.

    wanted (Mapping[int, tuple[Source, set[int]]]): Sources, and the parts of each that are done.
    """

    def __init__(self, options: Options, wanted: Mapping[int, tuple[Source, set[int]]]) -> None:
        self.options = options
        self.wanted = wanted

    def __call__(self, batch: "pa.Table") -> "Iterator[pa.Table]":
        import pyarrow as pa

        for index in batch["source"].to_pylist():
            source, done = self.wanted[index]
            rows = readers.read(source, self.options)
            for part in parts(rows, index, self.options.part_documents):
                if part.number not in done:
                    yield pa.table({"part": pa.array([part.to_bytes()], pa.binary())})


class _Worker:
    """Annotates parts, in a process of Ray's.

    notes (ActorHandle): Of ``Deaths``.
    """

    def __init__(
        self,
        options: Options,
        models: Models,
        format: str,
        threads: int,
        notes: Any,
    ) -> None:
        limit_threads(threads)
        self.annotator = models.load()
        self.writer = writers.writer(format, options.output)
        self.notes = _Notes(notes)
        self.deaths = _DEATHS * options.workers

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        # None says that it is of no use.
        results: list[bytes | None] = []
        for content in batch["part"].to_pylist():
            if self.notes.in_a_row() >= self.deaths:
                results.append(None)
                continue
            part = Part.from_bytes(content)
            result = deaths.annotate(self.annotator, part, self.writer, self.notes)
            results.append(result.to_bytes())
        return pa.table({"result": pa.array(results, pa.binary())})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]
