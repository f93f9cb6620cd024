"""What a run is asked for."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import OpenMedError

# A process that is killed loses a part at most, and a part is what is in memory.
PART_DOCUMENTS = 256
PART_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Options:
    """The options of ``spacy openmed annotate``.

    input (Path): A file, or a folder of files of one format.
    output (Path): A file or folder, as its format is.
    datasets (tuple[str, ...]): Each is annotated with its best installed adapter.
    adapters (tuple[Path, ...]): Adapter folders, besides.
    checkpoints (tuple[str, ...]): Hugging Face models for token classification, besides: folders
        or ids on the hub.
    backbone (str | None): Only adapters of ``datasets`` on this one are taken.
    input_format, output_format (str | None): Names; None goes by the suffix.
    text_field, id_field (str): Names of fields (jsonl) or columns (csv, parquet).
    lines (bool): Every line of a .txt file is a document.
    part_documents (int): The largest number of documents and skipped rows of a part.
    workers (int): Processes on Ray; 1 without an address is this process, without Ray.
    threads (int): Of each worker; 0 divides those there are.
    precision (str): See ``precision.resolve_inference``.
    gpu_id (int | None): Which GPU; -1 for the CPU, None for a GPU where this machine has one. On
        Ray, which hands GPUs out, any number means that.
    address (str): Of a Ray cluster; "" for this machine.
    resume, overwrite, strict (bool): What to do about an unfinished run, about an output that
        is there, and about rows that cannot be annotated.
    """

    input: Path
    output: Path
    datasets: tuple[str, ...] = ()
    adapters: tuple[Path, ...] = ()
    checkpoints: tuple[str, ...] = ()
    backbone: str | None = None
    input_format: str | None = None
    output_format: str | None = None
    text_field: str = "text"
    id_field: str = "id"
    lines: bool = False
    part_documents: int = PART_DOCUMENTS
    workers: int = 1
    threads: int = 0
    precision: str = "auto"
    gpu_id: int | None = None
    address: str = ""
    resume: bool = False
    overwrite: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        if not (self.datasets or self.adapters or self.checkpoints):
            raise OpenMedError("Give --dataset, --adapter or --checkpoint: what to look for.")
        if self.resume and self.overwrite:
            raise OpenMedError("--resume goes on, --overwrite starts anew: give one of them.")

    def absolute(self) -> "Options":
        """The same for a process that runs elsewhere."""
        return replace(
            self,
            input=self.input.absolute(),
            output=self.output.absolute(),
            adapters=tuple(folder.absolute() for folder in self.adapters),
            checkpoints=tuple(
                str(Path(name).absolute()) if Path(name).is_dir() else name
                for name in self.checkpoints
            ),
        )

    @property
    def on_ray(self) -> bool:
        return self.workers > 1 or bool(self.address)
