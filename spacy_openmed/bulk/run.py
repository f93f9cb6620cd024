"""A run of bulk annotation, from the files of the input to the output."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

from ..about import __version__
from ..corpora.documents import Document
from ..errors import OpenMedError
from ..files import only_one
from . import deaths, readers, sources, writers
from .annotator import Models, limit_threads
from .ledger import Ledger
from .options import Options
from .progress import Progress
from .records import Skipped, parts
from .results import Result, Summary
from .sources import Source
from .writers import Writer

_LOCK = ".lock"


@dataclass
class Run:
    """What the ways to annotate, with Ray and without, share.

    options (Options): What is asked for.
    sources (list[Source]): The input.
    models (Models): What finds it.
    format (str), writer (Writer): Of the output.
    ledger (Ledger): What is done.
    begun, ended (float): When the first part was begun by this command, and the last one done.
    """

    options: Options
    sources: list[Source]
    models: Models
    format: str
    writer: Writer
    ledger: Ledger
    summary: Summary = field(default_factory=Summary)
    progress: Progress | None = None
    begun: float = math.inf
    ended: float = 0.0

    def keep(self, result: Result) -> None:
        """Take a part that was annotated.

        RAISES (OpenMedError): Rows were skipped, and the user wants none to be.
        """
        self.ledger.add(result)
        self.note(result)
        if self.progress is not None:
            self.progress.add(result)
        if result.ended:
            self.begun = min(result.begun, self.begun)
            self.ended = max(result.ended, self.ended)

    def note(self, result: Result) -> None:
        """Count a part."""
        self.summary.add(result)
        if self.options.strict and result.skipped:
            raise _too_strict(result.skipped[0])

    def missing(self) -> list[int]:
        """The sources that are not done."""
        return [i for i in range(len(self.sources)) if not self.ledger.is_complete(i)]


def annotate(options: Options, say: Callable[[str], object] = lambda line: None) -> Summary | None:
    """Annotate an input.

    say (Callable): Told what is computed on.
    RETURNS (Summary | None): None where a run is to be resumed that has ended.
    RAISES (OpenMedError): What is wrong with options, input or output; Ray is not to be had; or
        with ``strict`` the first row that is skipped.
    """
    started = time.time()
    options = options.absolute()
    ledger = Ledger(options.output)
    format_name = writers.format_of(options)
    found = sources.find(options)
    if not _to_do(options, ledger):
        return None
    writer = writers.writer(format_name, options.output)
    run = Run(options, found, Models.find(options), format_name, writer, ledger)
    facts = {
        "spacy-openmed": __version__,
        "input": sources.facts(found),
        "input format": found[0].format,
        "output format": format_name,
        "text field": options.text_field,
        "id field": options.id_field,
        "documents of a part": options.part_documents,
        **run.models.hashes(),
        "precision": run.models.precision,
        # Another kind of device rounds in another way.
        "device": run.models.device_kind,
    }
    say(f"Using {run.models.device} in {run.models.precision}")
    with only_one(ledger.folder / _LOCK, "annotation"):
        try:
            if options.resume and ledger.is_begun:
                for result in ledger.go_on(facts):
                    run.note(result)
            else:
                _check_readable(found, options)
                ledger.begin(facts)
            _annotate(run, started)
        except OSError as error:
            raise OpenMedError(
                f"{error}. What is done is kept; the same command with --resume goes on."
            ) from error
        finally:
            if not ledger.is_begun:
                ledger.remove()
    return run.summary


def _annotate(run: Run, started: float) -> None:
    if run.missing():
        with Progress(run.sources, run.summary.rows) as run.progress:
            if run.options.on_ray:
                from .cluster import annotate_on_ray

                annotate_on_ray(run)
            else:
                _here(run)
    if run.missing():
        raise OpenMedError(
            f"Parts are missing in {run.ledger.folder}: files may have been removed. --resume "
            f"makes them."
        )
    joining = time.time()
    skipped = run.ledger.join(run.writer)
    run.summary.skip(skipped)
    run.summary.documents -= len(skipped)
    run.ledger.put_in_place()
    begun = min(run.begun, joining)
    run.summary.seconds = {
        "start": begun - started,
        "annotate": max(run.ended - begun, 0.0),
        "join": time.time() - joining,
    }


def _here(run: Run) -> None:
    """Annotate in this process."""
    if run.options.threads:
        limit_threads(run.options.threads)
    annotator = run.models.load()
    notes = deaths.Deaths(run.ledger.begun)
    for index in run.missing():
        rows = readers.read(run.sources[index], run.options)
        done = run.ledger.done(index)
        for part in parts(rows, index, run.options.part_documents):
            if part.number not in done:
                run.keep(deaths.annotate(annotator, part, run.writer, notes))


def _to_do(options: Options, ledger: Ledger) -> bool:
    """Whether there is anything to do.

    RAISES (OpenMedError): It would replace what the user has not said may be replaced.
    """
    output = options.output
    if output.resolve().is_relative_to(options.input.resolve()):
        raise OpenMedError(f"{output} lies in the input, {options.input}. Choose another place.")
    if options.overwrite:
        return True
    if options.resume:
        return ledger.is_begun or not output.exists()
    if ledger.is_begun:
        raise OpenMedError(
            f"{ledger.folder} has the parts of an unfinished run. --resume goes on with it, "
            f"--overwrite starts anew."
        )
    if output.exists():
        raise OpenMedError(f"{output} is there already. --overwrite replaces it.")
    return True


def _check_readable(found: list[Source], options: Options) -> None:
    """Refuse an input in which nothing can be read, before a backbone is loaded.

    RAISES (OpenMedError): Every row is skipped; names the first. Or one is, with ``strict``.
    """
    first = None
    for row in chain.from_iterable(readers.read(source, options) for source in found):
        if isinstance(row, Document):
            return
        if options.strict:
            raise _too_strict(row)
        first = first or row
    if first is not None:
        raise OpenMedError(
            f"Nothing in {options.input} can be annotated, beginning with {first.where}: "
            f"{first.reason}. --text-field and --id-field name fields and columns, "
            f"--input-format says what the files are."
        )


def _too_strict(skipped: Skipped) -> OpenMedError:
    return OpenMedError(
        f"{skipped.where}: {skipped.reason}. With --strict every row has to be annotated: mend "
        f"it, or leave out --strict to have such rows counted and left out."
    )
