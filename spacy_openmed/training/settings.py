"""Settings of a training run, read from TOML files (``configs/``) and checked."""

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from ..errors import OpenMedError

S = TypeVar("S")

# Where configs/ lies in a source tree, and where setup.cfg puts it in an installed package.
_FOLDERS = (Path(__file__).parents[2] / "configs", Path(__file__).parents[1] / "configs")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al., arXiv 2106.09685).

    rank (int): r of W0 + alpha / r · B·A.
    alpha (int): Scale.
    dropout (float): On the input of A, in training.
    target_modules (str): Regular expression that a module's whole path must match.
    embedding_rank (int): Rank for the word embeddings, 0 to leave them alone. They have a
        row for every wordpiece: a vocabulary of another domain is where much is to learn,
        and where a full rank costs most.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: str = r".*\.(query|value|query_proj|value_proj)"
    embedding_rank: int = 0


@dataclass(frozen=True)
class OptimSettings:
    """AdamW with a linear warm-up and a cosine decay.

    batch_size (int): Windows a step: in pre-training of each process, in fine-tuning of all
        together.
    accumulation (int): Steps whose gradients are averaged for an update.
    learning_rate (float): Peak.
    weight_decay (float): Decoupled, not on biases and norms.
    warmup_ratio (float): Share of all updates spent warming up.
    warmup_steps (int): Updates spent warming up, whatever their share; 0 for the ratio.
    epochs (float): Passes over the data.
    max_steps (int): Stop after this many updates, -1 for no limit but ``epochs``.
    max_grad_norm (float): Gradients are clipped to this norm.
    precision (str): "auto" (bf16 or fp16 where the hardware has it), "bf16", "fp16", "fp32".
    gradient_checkpointing (bool): Trade time for memory.
    seed (int): Of everything random.
    """

    batch_size: int = 8
    accumulation: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    warmup_steps: int = 0
    epochs: float = 10.0
    max_steps: int = -1
    max_grad_norm: float = 1.0
    precision: str = "auto"
    gradient_checkpointing: bool = False
    seed: int = 1


@dataclass(frozen=True)
class DaptSettings:
    """Domain-adaptive pre-training (Gururangan et al., arXiv 2004.10964) with LoRA.

    window, overlap (int): As in fine-tuning, wordpieces.
    mask_probability (float): Share of wordpieces to predict.
    head_steps (int): Updates of the masked-LM head alone, on the frozen backbone, before
        LoRA starts: many encoders are published without a usable head.
    head_learning_rate (float): Peak in those updates, which warm up by ``warmup_ratio``.
    keep (float): Share of the low-rank update that is kept at the end, above 0. What lies
        between the backbone and the adapted one fine-tunes better where the update is large.
    settle_steps (int): Updates of the head alone after that, at ``head_learning_rate``.
    save_steps (int): Updates between two checkpoints.
    """

    lora: LoraSettings = field(default_factory=LoraSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    window: int = 256
    overlap: int = 0
    mask_probability: float = 0.15
    head_steps: int = 200
    head_learning_rate: float = 2e-3
    keep: float = 1.0
    settle_steps: int = 300
    save_steps: int = 200


@dataclass(frozen=True)
class FinetuneSettings:
    """LoRA fine-tuning with a new linear head: Section 3.3 of arXiv 2508.01630.

    window, overlap (int): Wordpieces, special tokens included; as at run time.
    sentences (bool): Train on the sentences of every document as well as on the document:
        a model that saw one length only loses points on the other.
    head_learning_rate (float): Peak for the head, which starts from nothing; 0 for that of
        all else.
    label_smoothing (float): Share of the target spread over all labels.
    dropout (float): Of the encoder's layers and before the head.
    attention_dropout (float): Of attention weights.
    patience (int): Stop after this many epochs without a better F1 on dev.
    init (str): How a pre-training adapter enters: "continue", its LoRA goes on, as in the
        paper; or "merge", it is added to the frozen backbone and a fresh LoRA is trained.
    """

    lora: LoraSettings = field(default_factory=LoraSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    window: int = 256
    overlap: int = 50
    sentences: bool = True
    head_learning_rate: float = 0.0
    label_smoothing: float = 0.1
    dropout: float = 0.1
    attention_dropout: float = 0.0
    patience: int = 3
    init: str = "continue"


@dataclass(frozen=True)
class AblationSettings:
    """Which variants of pre-training and fine-tuning are compared, and on what.

    corpora (list[str]): Dataset ids; the first one chooses learning rates.
    seeds (list[int]): Of initialisation, order and dropout; the first one chooses rates.
    train_characters, dev_characters (int): Share of each split, in characters of whole
        documents drawn at random; 0 for all of it.
    learning_rates (dict[str, list[float]]): To choose from, for "lora", "continue" (LoRA
        that goes on from pre-training), "full" and "head".
    finetune (FinetuneSettings): All else; its learning rate, seed and init are overridden.
    """

    corpora: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    train_characters: int = 0
    dev_characters: int = 0
    learning_rates: dict[str, list[float]] = field(default_factory=dict)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)


@dataclass(frozen=True)
class Dimension:
    """What a search may choose a setting from: an interval, or a list.

    low, high (float): Bounds of the interval, both included.
    log (bool): Uniform on a logarithmic scale.
    choices (list): Instead of an interval.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class SearchSettings:
    """A search for the settings of fine-tuning, as in arXiv 2508.01630.

    finetune (str): Settings that the search starts from, and that it is compared with: a TOML
        file, or a name in ``configs/``; "" for those of the backbone.
    space (dict[str, Dimension]): Dotted name of a setting ("optim.learning_rate") to what it
        may be. Where "lora.rank" is searched and "lora.alpha" is not, alpha / rank stays.
    fixed (dict): Dotted names to values that hold in the search alone, such as fewer epochs.
    train_characters, dev_characters (int): Share of each split, in characters of whole
        documents drawn at random; 0 for all of it.
    pruner (str): "median", "hyperband" or "none": which trials end early.
    startup_trials (int): Drawn at random before TPE begins to model what is good.
    pruner_startup_trials (int): Trials that "median" lets run to their end before it judges.
    pruner_warmup_epochs (int): Epochs that every trial has.
    """

    finetune: str = ""
    space: dict[str, Dimension] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    train_characters: int = 0
    dev_characters: int = 0
    pruner: str = "median"
    startup_trials: int = 10
    pruner_startup_trials: int = 5
    pruner_warmup_epochs: int = 1


def load(settings_type: type[S], source: str | Path) -> S:
    """Read settings from a TOML file.

    settings_type (type): The dataclass to fill; what the file leaves out keeps its default.
    source (str | Path): A file, or the name of one in ``configs/`` without ``.toml``.
    RAISES (OpenMedError): No such file, not TOML, unknown key or wrong type.
    """
    path = _locate(source)
    try:
        data = tomllib.loads(path.read_text(encoding="utf8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OpenMedError(f"Settings file {path} is not TOML: {error}") from error
    return from_dict(settings_type, data, str(path))


def choose(kind: str, backbone: str, given: str | None = None) -> str:
    """Which settings to load: those given, those of the backbone, or the general ones.

    kind (str): "dapt", "finetune", …: how their names in ``configs/`` begin.
    RETURNS (str): For ``load``.
    """
    own = f"{kind}-{backbone}"
    return given or (own if exists(own) else kind)


def exists(name: str) -> bool:
    """Whether ``configs/`` has settings of that name."""
    return any((folder / f"{name}.toml").is_file() for folder in _FOLDERS)


def _locate(source: str | Path) -> Path:
    tried = [Path(source), *(folder / f"{source}.toml" for folder in _FOLDERS)]
    for path in tried:
        if path.is_file():
            return path
    raise OpenMedError(f"No settings '{source}'. Tried: {', '.join(map(str, tried))}.")


def from_dict(settings_type: type[S], data: dict[str, Any], where: str) -> S:
    """Fill a settings dataclass from nested dicts, refusing what it does not know."""
    known = {f.name: f for f in fields(settings_type)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise OpenMedError(
            f"{where}: unknown setting {', '.join(unknown)}. Known: {', '.join(known)}."
        )
    values: dict[str, Any] = {}
    for name, value in data.items():
        kind = known[name].type
        if _is_section(kind) and not isinstance(value, dict):
            raise OpenMedError(f"{where}: {name} must be a section [{name}].")
        try:
            values[name] = _typed(value, kind, f"{where} [{name}]")
        except TypeError:
            wanted = kind.__name__ if type(kind) is type else kind
            raise OpenMedError(f"{where}: {name} = {value!r} must be of type {wanted}.") from None
    return settings_type(**values)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


def _typed(value: Any, kind: Any, where: str) -> Any:
    """A value of TOML as the type of a setting, with floats for whole numbers where it has some.

    kind (type): A class, a dataclass of settings, or a list or dict of such.
    RAISES (TypeError): It is of another type.
    """
    if kind is Any:
        return value
    if _is_section(kind) and isinstance(value, dict):
        return from_dict(kind, value, where)
    arguments = get_args(kind)
    if get_origin(kind) is list and isinstance(value, list):
        return [_typed(each, arguments[0], where) for each in value]
    if get_origin(kind) is dict and isinstance(value, dict):
        return {
            _typed(key, arguments[0], where): _typed(each, arguments[1], f"{where} [{key}]")
            for key, each in value.items()
        }
    if kind is float and type(value) is int:
        return float(value)
    # Python takes True for 1.
    if not isinstance(value, get_origin(kind) or kind) or (kind is int and type(value) is bool):
        raise TypeError
    return value


def to_dict(settings: Any) -> dict[str, Any]:
    """The inverse of ``from_dict``, for cards and checkpoints."""
    return asdict(settings)
