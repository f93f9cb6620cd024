"""Adapters: LoRA weights, linear head and labels for one (dataset, backbone).

An adapter is a folder in PEFT's own format, which ``PeftModel.from_pretrained`` loads, with
the head and a description beside it:

    adapter_config.json, adapter_model.safetensors    PEFT's
    head.safetensors                                  weight, bias
    openmed.json                                      dataset, types, backbone, windows
    README.md, training.json                          the card

Nothing here imports spaCy.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import backbones, lineage, low_rank, pretraining
from .backbones import BackboneRef
from .corpora import registry
from .decoding import bio_labels
from .errors import OpenMedError
from .files import atomic_folder
from .low_rank import LORA_CONFIG, LORA_WEIGHTS
from .pretraining import Pretraining
from .windows import Windowing

if TYPE_CHECKING:
    import torch

HEAD = "head.safetensors"
INFO = "openmed.json"
CARD = "README.md"
TRAINING = "training.json"
# Format 2 adds "pretraining", 3 "consistency"; adapters without them stay readable by what knows
# only the format before.
FORMATS = (1, 2, 3)
_PRETRAINING = "pretraining/"
# Folder of the (first) adapter inside a saved component.
ADAPTER_IN_PIPE = "adapter"
BACKBONE_IN_PIPE = "backbone"

SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class AdapterInfo:
    """What ``openmed.json`` says.

    dataset (str): Id of the corpus, or "" for the user's own data.
    types (tuple[str, ...]): Entity types in the order of the head's labels.
    backbone (BackboneRef): What the LoRA was trained on.
    window, overlap (int): Wordpieces, as in training.
    temperature (float): The logits are divided by it.
    pretraining (str): sha256 of the pre-training adapter that was merged into the backbone
        before, "" if none was.
    consistency (float | None): Mentions with at least this score are carried to the same words
        elsewhere in the text; None if none are. See ``repeats``.
    """

    dataset: str
    types: tuple[str, ...]
    backbone: BackboneRef
    window: int = Windowing().window
    overlap: int = Windowing().overlap
    temperature: float = 1.0
    pretraining: str = ""
    consistency: float | None = None

    @property
    def labels(self) -> list[str]:
        return bio_labels(self.types)

    @property
    def windowing(self) -> Windowing:
        return Windowing(self.window, self.overlap)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 3 if self.consistency is not None else 2 if self.pretraining else 1,
            "dataset": self.dataset,
            "types": list(self.types),
            "backbone": self.backbone.to_dict(),
            "window": self.window,
            "overlap": self.overlap,
            "temperature": self.temperature,
            **({"pretraining": self.pretraining} if self.pretraining else {}),
            **({} if self.consistency is None else {"consistency": self.consistency}),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "AdapterInfo":
        return cls(
            dataset=str(data["dataset"]),
            types=tuple(data["types"]),
            backbone=BackboneRef.from_dict(data["backbone"]),
            window=int(data["window"]),
            overlap=int(data["overlap"]),
            temperature=float(data.get("temperature", 1.0)),
            pretraining=str(data.get("pretraining", "")),
            consistency=float(data["consistency"]) if "consistency" in data else None,
        )


def unfitted(info: AdapterInfo) -> AdapterInfo:
    """The same without what was fitted on dev to the scores of one set of weights."""
    return replace(info, temperature=1.0, consistency=None)


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter in memory. Compared by identity: two loads are two adapters.

    info (AdapterInfo): The description.
    lora_config (dict): PEFT's adapter_config.json.
    lora (dict[str, Tensor]): PEFT's names to A (rank, in) and B (out, rank) matrices.
    weight (Tensor[labels, hidden]), bias (Tensor[labels]): The head.
    card (dict[str, str]): File name to text of what else the folder held (card, records).
    pretraining (Pretraining | None): Belongs into the backbone first, if info names one.
    bundled (Path | None): The backbone's folder, if the pipeline that it was read from has one.
    """

    info: AdapterInfo
    lora_config: dict[str, Any]
    lora: "dict[str, torch.Tensor]"
    weight: "torch.Tensor"
    bias: "torch.Tensor"
    card: dict[str, str] = field(default_factory=dict)
    pretraining: Pretraining | None = None
    bundled: Path | None = None

    def find_backbone(self) -> Path:
        """The verified folder of the backbone.

        RAISES (OpenMedError): See ``backbones.find``.
        """
        return backbones.find(self.info.backbone, self.bundled)

    def deltas(self) -> Iterator[low_rank.Delta]:
        """What the LoRA adds to which weight of the encoder."""
        return low_rank.deltas(self.lora_config, self.lora)


def read(folder: Path) -> Adapter:
    """Read an adapter folder.

    RAISES (OpenMedError): A file is missing, truncated, or does not fit the others.
    """
    names = [INFO, LORA_CONFIG, LORA_WEIGHTS, HEAD, CARD, TRAINING]
    names += [f"{_PRETRAINING}{path.name}" for path in folder.glob(f"{_PRETRAINING}*")]
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    return replace(from_files(files, str(folder)), bundled=backbone_beside(folder))


def backbone_beside(folder: Path) -> Path | None:
    """The backbone that a saved pipeline carries beside the folder of its adapter, if it does."""
    beside = folder.parent / BACKBONE_IN_PIPE
    return beside if (beside / backbones.CONFIG).is_file() else None


def from_files(files: Mapping[str, bytes], source: str) -> Adapter:
    """Make an adapter from the contents of its files; the inverse of ``to_files``.

    files (Mapping[str, bytes]): File name to content.
    source (str): Where they come from, for messages.
    RAISES (OpenMedError): A file is missing, truncated, or does not fit the others.
    """
    from safetensors.torch import load

    required = (INFO, LORA_CONFIG, LORA_WEIGHTS, HEAD)
    missing = [name for name in required if name not in files]
    if missing:
        raise OpenMedError(
            f"{source} is not an adapter: it has no {', '.join(missing)}. "
            f"'spacy openmed train' writes such folders."
        )
    contents: dict[str, Any] = {}
    for name in required:
        try:
            contents[name] = (
                json.loads(files[name]) if name.endswith(".json") else load(files[name])
            )
        except Exception as error:  # json and safetensors each have their own kinds
            raise OpenMedError(
                f"{name} in {source} cannot be read, it may be truncated: {error}. "
                f"Get the adapter again."
            ) from error
    for name in (INFO, LORA_CONFIG):
        if not isinstance(contents[name], dict):
            raise OpenMedError(f"{name} in {source} is not a JSON object. Get the adapter again.")
    if contents[INFO].get("format") not in FORMATS:
        raise OpenMedError(
            f"{INFO} in {source} has format {contents[INFO].get('format')}; this version of "
            f"spacy-openmed reads formats {', '.join(map(str, FORMATS))}. Upgrade spacy-openmed."
        )
    for name, keys in ((LORA_CONFIG, ("r", "lora_alpha")), (HEAD, ("weight", "bias"))):
        absent = [key for key in keys if key not in contents[name]]
        if absent:
            raise OpenMedError(f"{name} in {source} has no {', '.join(absent)}.")
    try:
        info = AdapterInfo.from_dict(contents[INFO])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OpenMedError(
            f"{INFO} in {source} lacks an entry or has a wrong one: {error!r}. "
            f"Get the adapter again."
        ) from error
    own = {n.removeprefix(_PRETRAINING): c for n, c in files.items() if n.startswith(_PRETRAINING)}
    adapter = Adapter(
        info=info,
        lora_config=contents[LORA_CONFIG],
        lora=contents[LORA_WEIGHTS],
        weight=contents[HEAD]["weight"],
        bias=contents[HEAD]["bias"],
        card={
            name: content.decode("utf8", errors="replace")
            for name, content in files.items()
            if name not in required and not name.startswith(_PRETRAINING)
        },
        pretraining=_pretraining(info, own, source),
    )
    _check(adapter, source)
    return adapter


def _pretraining(info: AdapterInfo, own: Mapping[str, bytes], source: str) -> Pretraining | None:
    """What the adapter builds on: from its own folder, else what is installed."""
    if not info.pretraining:
        return None
    if not own:
        found = pretraining.with_sha256(info.pretraining, source)
    else:
        found = pretraining.from_files(own, f"{source}/{_PRETRAINING}")
        if found.sha256 != info.pretraining:
            raise OpenMedError(
                f"{INFO} in {source} names a pre-training adapter with sha256 {info.pretraining}, "
                f"but the one beside it has {found.sha256}. Get the adapter again."
            )
    pretraining.verify_backbone(found, info.backbone, source)
    return found


def _check(adapter: Adapter, source: str) -> None:
    labels = len(adapter.info.labels)
    weight, bias = tuple(adapter.weight.shape), tuple(adapter.bias.shape)
    if len(weight) != 2 or weight[0] != labels or bias != (labels,):
        raise OpenMedError(
            f"{HEAD} in {source} has weight {weight} and bias {bias}, but the types "
            f"{', '.join(adapter.info.types)} need {labels} rows. {HEAD} and {INFO} are not of "
            f"the same adapter."
        )
    low_rank.check(adapter.lora_config, adapter.lora, source)


def write(adapter: Adapter, folder: Path) -> None:
    """Write an adapter folder, whole or not at all."""
    with atomic_folder(folder) as part:
        for name, content in to_files(adapter).items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(content)


def to_files(adapter: Adapter) -> dict[str, bytes]:
    """The files of an adapter folder by name.

    A pre-training adapter is among them, unless every installation has it.
    """
    from safetensors.torch import save

    own: dict[str, bytes] = {}
    if adapter.pretraining is not None and not adapter.pretraining.is_shipped:
        own = {f"{_PRETRAINING}{name}": data for name, data in adapter.pretraining.files.items()}
    return {
        **own,
        INFO: _json(adapter.info.to_dict()),
        LORA_CONFIG: _json(adapter.lora_config),
        LORA_WEIGHTS: save(adapter.lora, metadata={"format": "pt"}),
        HEAD: save({"weight": adapter.weight, "bias": adapter.bias}, metadata={"format": "pt"}),
        **{name: text.encode("utf8") for name, text in adapter.card.items()},
    }


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode("utf8")


def content_hash(adapter: Adapter) -> str:
    """sha256 over weights and description; the card does not count."""
    digest = hashlib.sha256()
    for name, content in sorted(to_files(adapter).items()):
        # The description has the hash of the pre-training adapter.
        if name not in adapter.card and not name.startswith(_PRETRAINING):
            digest.update(f"{name} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def trained_on(adapter: Adapter) -> list[str]:
    """Ids of the datasets whose train an adapter has seen, see ``lineage.datasets``.

    RETURNS (list[str]): Its own first; of an adapter without a record only that. The user's own
        data has no id.
    """
    record = json.loads(adapter.card.get(TRAINING, "{}"))
    names = [adapter.info.dataset, *lineage.datasets({"dataset": "", **record})]
    return [name for name in dict.fromkeys(names) if name]


def package_name(dataset: str) -> str:
    """Name of the model package of a dataset: bc5cdr-chem → en_openmed_bc5cdr_chem."""
    return "en_openmed_" + dataset.replace("-", "_")


def find(dataset: str, backbone: str | None = None) -> Path:
    """The folder of the adapter for a dataset.

    Looks in installed model packages (``en_openmed_<dataset>``), then among the adapters
    that ship with spacy_openmed.

    dataset (str): One of the 12 ids.
    backbone (str | None): Backbone id; None takes the best adapter, by F1 on dev.
    RETURNS (Path): Adapter folder.
    RAISES (OpenMedError): Unknown dataset, or no adapter; lists what was tried.
    """
    described = registry.dataset(dataset)
    tried = []
    for folder, place in _candidates(dataset):
        if not (folder / INFO).is_file():
            tried.append(place)
            continue
        own = _backbone_id(folder)
        if backbone is None or own == backbone:
            return folder
        tried.append(f"{place} (for backbone {own})")
    hint = (
        f" The corpus may not be handed on: get it from {described.user_data}."
        if described.user_data
        else ""
    )
    raise OpenMedError(
        f"No adapter for dataset '{dataset}'"
        + (f" and backbone '{backbone}'" if backbone else "")
        + f". Tried: {'; '.join(tried)}. Datasets with an adapter here: "
        f"{', '.join(available()) or 'none'}. Train one with 'spacy openmed train --dataset "
        f"{dataset}' and pass its folder as config={{'adapter': …}}.{hint}"
    )


def _backbone_id(folder: Path) -> str:
    backbone = _json_object(folder / INFO).get("backbone")
    return str(backbone.get("id", "")) if isinstance(backbone, dict) else ""


def _json_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise OpenMedError(
            f"{path} cannot be read, it may be truncated: {error}. Get the adapter again."
        ) from error
    return data if isinstance(data, dict) else {}


def _candidates(dataset: str) -> Iterator[tuple[Path, str]]:
    name = package_name(dataset)
    installed = _installed_package(name)
    if installed is None:
        yield Path(name), f"package {name} (not installed)"
    else:
        for pipe_info in sorted(installed.glob(f"*/*/{ADAPTER_IN_PIPE}/{INFO}")):
            yield pipe_info.parent, f"package {name}: {pipe_info.parent}"
    shipped = sorted((SHIPPED / dataset).glob("*/" + INFO), key=_dev_f1, reverse=True)
    for info in shipped:
        yield info.parent, f"shipped {info.parent.name}"
    if not shipped:
        yield SHIPPED / dataset, "adapters that ship with spacy_openmed (none)"


def _installed_package(name: str) -> Path | None:
    if not any(p.name == name for p in importlib.metadata.entry_points(group="spacy_models")):
        return None
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _dev_f1(info: Path) -> float:
    training = info.with_name(TRAINING)
    if not training.is_file():
        return 0.0
    return float(_json_object(training).get("dev", {}).get("f1", 0.0))


def available() -> list[str]:
    """Ids of the datasets that have an adapter on this machine."""
    return [
        name
        for name in registry.with_demos()
        if any((folder / INFO).is_file() for folder, _ in _candidates(name))
    ]


def verify_backbone(adapter: Adapter, ref: BackboneRef, source: str) -> None:
    """Refuse to run an adapter on another backbone than its own.

    ref (BackboneRef): The backbone; without a hash while its weights are not on this machine.
    RAISES (OpenMedError): The hashes differ, or the names where there is no hash yet.
    """
    own = adapter.info.backbone
    if own.sha256 != ref.sha256 if ref.sha256 else own.id != ref.id:
        raise OpenMedError(
            f"The adapter in {source} was trained on backbone '{own.id}' (sha256 {own.sha256}), "
            f"not on '{ref.id}' (sha256 {ref.sha256}). Choose an adapter for that backbone, or "
            f"leave 'backbone' out."
        )


def verify_types(adapter: Adapter, dataset: str, source: str) -> None:
    """Refuse to call an adapter by the name of a dataset with other entity types.

    RAISES (OpenMedError): They have no label in common.
    """
    labels = set(registry.dataset(dataset).types.values())
    if labels.isdisjoint(adapter.info.types):
        raise OpenMedError(
            f"The adapter in {source} finds {', '.join(adapter.info.types)}, but the labels of "
            f"dataset '{dataset}' are {', '.join(sorted(labels))}. Choose another of the two."
        )
