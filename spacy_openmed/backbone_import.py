"""Backbones as the hub has them, made into folders that ``backbones`` loads.

Many repositories hold pickled weights with the heads of pre-training, and a vocabulary
without a tokenizer.json. The import reads them once, under PyTorch's restricted unpickler,
and writes safetensors and JSON; nothing else ever reads a pickle. Nothing here imports spaCy.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import backbones
from .backbones import CONFIG, FILES, HOME, WEIGHTS, file_sha256
from .errors import OpenMedError
from .files import atomic_folder

if TYPE_CHECKING:
    import torch

PICKLE = "pytorch_model.bin"
TOKENIZER = "tokenizer.json"
# The first version whose restricted unpickler keeps what it promises (CVE-2025-32434).
_SAFE_TORCH = "2.6"
# How checkpoints converted from TensorFlow name the parameters of a layer norm.
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


def import_backbone(name: str, source: Path, output: Path | None = None) -> Path:
    """Write a backbone folder from what was downloaded.

    The encoder's weights keep their values and number format, heads of pre-training are left
    out; config.json is copied as it is.

    name (str): Id. One that ``backbones.json`` knows is held against what is recorded there.
    source (Path): Folder with config.json; model.safetensors or pytorch_model.bin; and
        tokenizer.json, vocab.txt or spm.model.
    output (Path | None): Folder to write; None for ``$OPENMED_HOME/backbones/<name>``.
    RETURNS (Path): The folder written, whole or not at all.
    RAISES (OpenMedError): A file is missing or damaged, or not that backbone's; the folder to
        write exists already.
    """
    target = _target(name, output)
    if not (source / CONFIG).is_file():
        raise OpenMedError(
            f"{source} has no {CONFIG}: give the folder that holds the files of one model."
        )
    recorded = backbones.registry().get(name, {})
    _check_config(name, source, recorded.get("config", {}))
    weights = _weights_file(source)
    _check_source(name, weights, recorded)
    tokenizer = backbones.load_tokenizer(source)
    vocabulary, rows = tokenizer.get_vocab_size(), _config(source).vocab_size
    if vocabulary > rows:
        raise OpenMedError(
            f"The tokenizer in {source} has {vocabulary} entries, but {CONFIG} says {rows}: "
            f"they are not of the same model."
        )
    tensors = _encoder(source, weights)
    with atomic_folder(target) as part:
        for file in FILES:
            if file != WEIGHTS and (source / file).is_file():
                shutil.copyfile(source / file, part / file)
        if not (part / TOKENIZER).is_file():
            tokenizer.save(str(part / TOKENIZER))
        _save(tensors, part / WEIGHTS)
    return target


def _target(name: str, output: Path | None) -> Path:
    if name != Path(name).name or name in ("", ".", ".."):
        raise OpenMedError(f"'{name}' is no name for a backbone: it becomes that of a folder.")
    if output is None:
        home = os.environ.get(HOME)
        if not home:
            raise OpenMedError(
                f"${HOME} is not set. Set it to the folder where backbones are to be found "
                f"(in its subfolder 'backbones'), or give --output."
            )
        output = Path(home) / "backbones" / name
    if output.exists():
        raise OpenMedError(
            f"{output} exists, and adapters may need the weights in it. Remove it, or give another "
            f"--output."
        )
    return output


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and json each have their own kinds
        raise OpenMedError(f"{folder / CONFIG} cannot be read: {error}") from error


def _check_config(name: str, source: Path, recorded: dict[str, Any]) -> None:
    """Compare as transformers reads them: "p2c|c2p" and ["p2c", "c2p"] are the same.

    RAISES (OpenMedError): Names the fields that differ.
    """
    if not recorded:
        return
    from transformers import AutoConfig

    wanted, found = AutoConfig.for_model(**recorded), _config(source)
    differing = [
        f"{key} is {getattr(found, key, None)!r}, not {getattr(wanted, key)!r}"
        for key in recorded
        if getattr(found, key, None) != getattr(wanted, key)
    ]
    if differing:
        raise OpenMedError(
            f"{source / CONFIG} is not that of '{name}': {'; '.join(differing)}. To use another "
            f"model, import it under a name of its own."
        )


def _weights_file(source: Path) -> Path:
    for file in (WEIGHTS, PICKLE):
        if (source / file).is_file():
            return source / file
    raise OpenMedError(
        f"{source} has neither {WEIGHTS} nor {PICKLE}: download the weights, in one file, too."
    )


def _check_source(name: str, weights: Path, recorded: dict[str, Any]) -> None:
    wanted = recorded.get("source_sha256", {}).get(weights.name)
    if wanted and (actual := file_sha256(weights)) != wanted:
        raise OpenMedError(
            f"{weights} has sha256 {actual}, but {weights.name} of '{name}' has {wanted} at "
            f"revision {recorded['revision']} of {recorded['hub_id']}. Download it again, or "
            f"import another model under a name of its own."
        )


def _read(weights: Path) -> "dict[str, torch.Tensor]":
    import torch
    from safetensors.torch import load_file

    if weights.suffix == ".bin" and torch.__version__ < _SAFE_TORCH:
        raise OpenMedError(
            f"{weights} is a pickle, which PyTorch reads safely from version {_SAFE_TORCH} on; "
            f"this is {torch.__version__}. Upgrade torch, or get the weights as safetensors."
        )
    try:
        if weights.suffix == ".bin":
            loaded = torch.load(weights, map_location="cpu", weights_only=True)
        else:
            loaded = load_file(str(weights))
    except Exception as error:  # pickle, zipfile and safetensors each have their own kinds
        raise OpenMedError(
            f"{weights} cannot be read as weights and nothing else: {error}. It may be truncated, "
            f"or hold objects that would run code when loaded."
        ) from error
    if not isinstance(loaded, dict):
        raise OpenMedError(f"{weights} holds no weights by name but a {type(loaded).__name__}.")
    return {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def _encoder(source: Path, weights: Path) -> "dict[str, torch.Tensor]":
    """The tensors of the encoder alone, by the names that ``AutoModel`` knows them.

    RAISES (OpenMedError): One is missing or has another shape than the config asks for.
    """
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        model: Any = AutoModel.from_config(_config(source), trust_remote_code=False)
    prefix = f"{model.base_model_prefix}."
    found = {}
    for name, tensor in _read(weights).items():
        for old, new in _OLD_NAMES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        found[name.removeprefix(prefix)] = tensor
    kept = {}
    for name, wanted in model.state_dict().items():
        if name not in found:
            # Not read by us, and some checkpoints lack it.
            if name.startswith("pooler."):
                continue
            raise OpenMedError(f"{weights} has no {name}: it is not the model of {CONFIG}.")
        if found[name].shape != wanted.shape:
            raise OpenMedError(
                f"{weights}: {name} is {tuple(found[name].shape)}, but {CONFIG} asks for "
                f"{tuple(wanted.shape)}: it is not the model of {CONFIG}."
            )
        kept[name] = found[name]
    return kept


def _save(tensors: "dict[str, torch.Tensor]", path: Path) -> None:
    from safetensors.torch import save_file

    # Tensors of a pickle may share memory, which safetensors refuses.
    own = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    save_file(own, str(path), metadata={"format": "pt"})


def installed_here() -> list[str]:
    """Names of the folders under ``$OPENMED_HOME/backbones`` that ``backbones.json`` lacks."""
    home = os.environ.get(HOME)
    if not home:
        return []
    known = backbones.registry()
    found = (path.parent.name for path in Path(home, "backbones").glob(f"*/{CONFIG}"))
    return sorted(name for name in found if name not in known)
