"""The network that is trained: an encoder with live LoRA layers, and a linear head.

For inference the LoRA is merged instead (``inference.py``).
"""

import inspect
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils import get_peft_model_state_dict

from . import pretraining
from .adapters import Adapter, AdapterInfo
from .labelling import IGNORED
from .pretraining import Pretraining


class TokenTagger(torch.nn.Module):
    """Encoder with LoRA, dropout and a linear layer: the paper's Section 3.3.

    encoder (Module): Frozen backbone with LoRA (a PeftModel); or a plain encoder, to compare.
    labels (int): BIO labels.
    dropout (float): Before the head.
    pretraining (Pretraining | None): What was merged into the backbone before.
    """

    def __init__(
        self,
        encoder: Any,
        labels: int,
        dropout: float = 0.1,
        pretraining: Pretraining | None = None,
    ) -> None:
        super().__init__()
        self.pretraining = pretraining
        self.encoder = encoder
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(encoder.config.hidden_size, labels)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Score wordpieces.

        input_ids, attention_mask (int64[batch, length]): Special tokens included.
        RETURNS (float32[batch, length, labels]): Logits.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        logits: torch.Tensor = self.head(self.dropout(hidden))
        return logits.float()


def tagging_loss(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """Label-smoothed cross-entropy (Szegedy et al. 2016), the mean over labelled wordpieces.

    logits (float32[…, labels]); labels (int64[…]): -100 marks what has no label.
    RETURNS (float32[]): 0 if nothing is labelled, where PyTorch's own mean is NaN.
    """
    total: torch.Tensor = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total / (labels != IGNORED).sum().clamp(min=1)


def set_dropout(encoder: torch.nn.Module, hidden: float, attention: float) -> None:
    """Set the dropout of a backbone's own layers, without touching its config.

    hidden (float): Of embeddings and layer outputs.
    attention (float): Of attention weights; 0 lets PyTorch use its fast attention kernel.
    """
    for name, module in encoder.named_modules():
        in_attention = name.endswith("attention.self")
        if in_attention and isinstance(getattr(module, "dropout_prob", None), float):
            module.dropout_prob = attention  # type: ignore[assignment]
        if isinstance(module, torch.nn.Dropout) and ".lora_" not in name:
            module.p = attention if ".attention.self." in name else hidden


def from_adapter(encoder: torch.nn.Module, adapter: Adapter, dropout: float = 0.1) -> TokenTagger:
    """A trainable network that continues from an adapter.

    encoder (Module): A private copy of the backbone; it is changed in place.
    """
    if adapter.pretraining is not None:
        pretraining.merge(encoder, adapter.pretraining)
    # Keys that another version of PEFT wrote are left out: only plain LoRA gets this far.
    known = inspect.signature(LoraConfig).parameters
    config = {key: value for key, value in adapter.lora_config.items() if key in known}
    # As saved, the config says "inference", and PEFT would freeze the LoRA.
    config["inference_mode"] = False
    peft_model = get_peft_model(encoder, LoraConfig(**config))
    load_lora(peft_model, adapter.lora)
    network = TokenTagger(peft_model, len(adapter.info.labels), dropout, adapter.pretraining)
    with torch.no_grad():
        network.head.weight.copy_(adapter.weight)
        network.head.bias.copy_(adapter.bias)
    return network


def load_lora(model: PeftModel, tensors: dict[str, torch.Tensor]) -> None:
    """Put LoRA weights, named as PEFT saves them, into a model with fresh ones."""
    set_peft_model_state_dict(model, {name: t.float() for name, t in tensors.items()})


def to_adapter(
    network: TokenTagger,
    info: AdapterInfo,
    dtype: torch.dtype = torch.float32,
    card: dict[str, str] | None = None,
) -> Adapter:
    """A copy of the trained weights of a network with LoRA.

    dtype (torch.dtype): Of the LoRA matrices; float16 halves an adapter's size.
    """
    config: dict[str, Any] = network.encoder.peft_config["default"].to_dict()
    config = {key: _plain(value) for key, value in config.items()}
    # Names of folders on the training machine mean nothing elsewhere.
    config["base_model_name_or_path"] = info.backbone.hub_id or None
    config["inference_mode"] = True
    base = network.pretraining
    return Adapter(
        info=replace(info, pretraining=base.sha256 if base else ""),
        lora_config=config,
        lora={
            name: tensor.detach().to("cpu", dtype).contiguous().clone()
            for name, tensor in get_peft_model_state_dict(network.encoder).items()
        },
        weight=network.head.weight.detach().cpu().float().clone(),
        bias=network.head.bias.detach().cpu().float().clone(),
        card=dict(card or {}),
        pretraining=base,
    )


def _plain(value: Any) -> Any:
    """PEFT's config as JSON has it: enums by value, sets sorted."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value) if not isinstance(value, (dict, list, str)) else value
