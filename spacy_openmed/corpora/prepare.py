"""From originals, or from files that are prepared already, to one prepared form.

A prepared dataset is a folder ``ner/ID`` with, for each split, ``.jsonl`` (raw text with
character offsets, nested mentions kept, the corpus's own type names), ``.conll`` (the
published tokens, where there are any) and ``.spacy`` (for spaCy's own tools, with the labels
that users see), and ``prepared.json``, which says where it came from and what is in it.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..about import __version__
from ..backbones import file_sha256
from ..errors import OpenMedError
from ..files import atomic_folder, read_json
from . import originals
from .documents import Document
from .folder import SPLITS, corpus_file
from .formats import conll, docbin, jsonl
from .originals import Split
from .problems import OnError, stop
from .registry import Dataset
from .verify import verify_dataset

RECORD = "prepared.json"
Say = Callable[[str], None]


def prepare(
    dataset: Dataset,
    source: Path,
    output: Path,
    on_error: OnError = stop,
    accept_differences: bool = False,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Prepare one dataset, unless it is prepared from this very source already.

    dataset (Dataset): From the registry.
    source (Path): Holds ``ner/ID`` or ``ID`` with prepared files, or ``ID`` with originals
        (see ``originals``).
    output (Path): Gets ``ner/ID``, whole or not at all.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    accept_differences (bool): Keep what differs from the registry.
    say (Say): Called with what is being done.
    RETURNS (dict): The content of ``prepared.json``.
    RAISES (OpenMedError): No source, a file that cannot be read, or a difference from the
        registry; nothing is written then.
    """
    folder, splits = _find(dataset, source, on_error)
    target = output / "ner" / dataset.id
    if target.resolve() == folder.resolve():
        raise OpenMedError(f"{folder} cannot be prepared in place. Give another --output.")
    _check_downloads(dataset, folder)
    fingerprint = _fingerprint(folder)
    done = _record(target)
    if (
        done
        and done["source_sha256"] == fingerprint
        and done["spacy_openmed"] == __version__
        and (accept_differences or not done["differences"])
    ):
        say(f"{dataset.id}: up to date")
        return done
    _check_target(target)
    say(f"{dataset.id}: from {folder}")
    with atomic_folder(target) as part:
        for split, content in splits().items():
            _write(dataset, split, content, part)
        found, _ = verify_dataset(part, dataset)
        if found.breaches and not accept_differences:
            raise OpenMedError(
                f"{dataset.id} from {folder} is not what the registry has, and was not written:\n"
                + "\n".join(f"  {breach}" for breach in found.breaches)
                + "\nIf you know why, use --accept-differences."
            )
        record = {
            "dataset": dataset.id,
            "edition": found.edition.id,
            "partial": found.edition.partial,
            "about": found.edition.about,
            "spacy_openmed": __version__,
            "source_sha256": fingerprint,
            "differences": found.breaches,
            "splits": {split: s.to_dict() for split, s in found.splits.items()},
            "files": {p.name: file_sha256(p) for p in sorted(part.iterdir())},
        }
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
    return record


def has_source(dataset: Dataset, source: Path) -> bool:
    """Whether a folder holds a dataset, prepared or as originals."""
    return any((source / part / dataset.id).is_dir() for part in (".", "ner"))


def _check_downloads(dataset: Dataset, folder: Path) -> None:
    """Compare files with the sha256 of their source, where the registry has one."""
    for source in dataset.sources:
        name = (source.url or source.path).rsplit("/", 1)[-1]
        for path in folder.rglob(name) if source.sha256 else ():
            found = file_sha256(path)
            if found != source.sha256:
                raise OpenMedError(
                    f"{path} has sha256 {found}, the registry has {source.sha256}. Download it "
                    f"again from {source}."
                )


def _check_target(target: Path) -> None:
    """Replace nothing but what was prepared here."""
    if not target.exists():
        return
    record = target / RECORD
    known = {RECORD}
    if record.is_file():
        known |= set(read_json(record, "Give another --output.").get("files", ()))
    foreign = sorted(path.name for path in target.iterdir() if path.name not in known)
    if foreign:
        raise OpenMedError(
            f"{target} has files that were not prepared here ({', '.join(foreign[:5])}). Move "
            f"them, or give another --output."
        )


def _find(
    dataset: Dataset, source: Path, on_error: OnError
) -> tuple[Path, Callable[[], dict[str, Split]]]:
    for prepared in (source / "ner" / dataset.id, source / dataset.id):
        if (prepared / "train.jsonl").is_file():
            return prepared, partial(_prepared, dataset, prepared, on_error)
    folder = source / dataset.id
    if folder.is_dir() and any(folder.iterdir()):
        return folder, partial(originals.convert, dataset.id, folder, on_error)
    if dataset.user_data:
        how = f"It may not be handed on: download it from {dataset.user_data} yourself"
    elif dataset.demo:
        how = f"It is in assets/{dataset.id} of the source tree: copy it from there"
    else:
        how = f"Download it with 'spacy project assets', or by hand from {dataset.sources[0]}"
    raise OpenMedError(
        f"{dataset.id}: neither prepared files nor originals in {source}. {how}, and put it into "
        f"{folder}."
    )


def _prepared(dataset: Dataset, folder: Path, on_error: OnError) -> dict[str, Split]:
    # Types are checked, not renamed: files keep the corpus's own.
    types = {name: name for name in dataset.types}

    def split(name: str) -> Split:
        tokens = folder / f"{name}.conll"
        return Split(
            raw=jsonl.read(corpus_file(folder, dataset.id, name, ".jsonl"), types, on_error),
            tokenised=conll.read(tokens, types, on_error, "BIO2") if tokens.is_file() else None,
        )

    return {name: split(name) for name in SPLITS}


def _write(dataset: Dataset, split: str, content: Split, folder: Path) -> None:
    progress = tqdm(desc=f"{dataset.id} {split}", unit=" documents", leave=False, disable=None)
    raw = folder / f"{split}.jsonl"
    with progress:
        jsonl.write(_counted(content.raw, progress), raw)
        if content.tokenised is not None:
            conll.write(content.tokenised, folder / f"{split}.conll")
        labelled = jsonl.read(raw, dataset.types)
        docbin.write(_counted(labelled, progress), folder / f"{split}.spacy", dataset.flatten)


def _counted(documents: Iterable[Document], progress: Any) -> Iterator[Document]:
    for document in documents:
        progress.update()
        yield document


def _record(folder: Path) -> dict[str, Any] | None:
    """The record of a prepared folder, None if it is not as it was written."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf8"))
        same = all(file_sha256(folder / name) == digest for name, digest in record["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return record if same else None


def _fingerprint(folder: Path) -> str:
    digest = sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
