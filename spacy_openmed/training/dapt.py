"""Domain-adaptive pre-training: masked language modelling with LoRA on a frozen backbone.

Section 3.2 of arXiv 2508.01630. The adapter that comes out is a plain PEFT folder; fine-
tuning can go on from it (``--init-adapter``).

A run may be killed at any moment. What it needs to go on is written whole or not at all, and
in this order: ``run.json`` (what is trained on what), checkpoints of the head, the trained
head, checkpoints of LoRA, those of the head that settles, the adapter.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, TrainerCallback, TrainerState

from .. import backbones, pretraining
from ..about import __version__
from ..adapters import CARD as LORA_CARD
from ..backbones import BackboneRef
from ..errors import OpenMedError
from ..files import atomic_file, atomic_folder
from ..low_rank import LORA_WEIGHTS
from ..precision import resolve_precision
from ..windows import SpecialTokens, special_tokens
from . import begun, lora
from .begun import RUN
from .dapt_checks import check_begun, check_settings, check_warmup, check_window
from .dapt_files import (
    ADAPTER,
    CHECKPOINTS,
    HEAD_CHECKPOINTS,
    HEAD_RECORD,
    SETTLE_CHECKPOINTS,
    is_finished,
    record_file,
    tidy,
    writing,
)
from .energy import ENERGY, Meter, SaveEnergy
from .masked_lm import (
    BASE_HEAD,
    HEAD,
    MIN_WORDPIECES,
    ByLength,
    MaskedLM,
    Masking,
    Windows,
    read_passages,
    windows,
)
from .processes import process_group
from .settings import DaptSettings, OptimSettings, to_dict
from .trainer import (
    STATE,
    Passes,
    Progress,
    TrainableOnlyTrainer,
    checkpoint_to_resume,
    discard_incomplete,
    is_over,
    load_trainable,
    noted,
    training_arguments,
)


def dapt(
    backbone: str,
    texts: Sequence[Path],
    output: Path,
    settings: DaptSettings,
    resume: bool = False,
    tdp_watts: float = 0.0,
) -> dict[str, Any]:
    """Adapt a backbone to a domain.

    A masked-LM head is trained first, on the frozen backbone, where the checkpoint has none;
    then LoRA and head together; then, if a part of the update is taken back
    (``settings.keep``), the head alone again. In several processes (``torchrun``) each takes
    its share of every update, and the first one writes.

    backbone (str): Backbone id or folder.
    texts (Sequence[Path]): Files with one passage a line, ``.gz`` allowed.
    output (Path): Gets ``adapter/`` (see ``pretraining``), and folders of checkpoints for
        each phase.
    settings (DaptSettings): The settings.
    resume (bool): Go on from the last checkpoint in ``output``; what is finished is left
        alone.
    tdp_watts (float): Thermal design power of all devices together, for the energy in the
        record; 0: look it up.
    RETURNS (dict): What was done, also written to ``output/adapter/dapt.json``.
    RAISES (OpenMedError): No usable text; settings that make no sense or do not fit the
        backbone; several GPUs, but one process; a run in ``output`` that is not resumed, or was
        begun with others; a checkpoint or the adapter cannot be written.
    """
    check_settings(settings, texts)
    precision = resolve_precision(settings.optim.precision)
    processes = process_group()
    # Refuses several GPUs in one process, which is better said before hours of tokenising.
    training_arguments(settings.optim, output)
    ref = backbones.reference(backbone)
    folder = backbones.find(ref)
    hashes = {path.name: _sha256(path) for path in texts}
    facts = {
        "spacy_openmed": __version__,
        "backbone": ref.sha256,
        "settings": to_dict(settings),
        "processes": processes.num_processes,
        "precision": precision,
        # In the order they are read in, whatever their names are by now.
        **{f"text {number}": digest for number, digest in enumerate(hashes.values(), 1)},
    }
    check_begun(output, facts, resume)
    if is_finished(output):
        record: dict[str, Any] = json.loads(record_file(output).read_text(encoding="utf8"))
        return record
    torch.manual_seed(settings.optim.seed)
    model = MaskedLM(folder)
    fast = backbones.load_tokenizer(folder)
    special = special_tokens(fast, int(model.config.pad_token_id or 0))
    check_window(settings, special, model.encoder)
    lora.check_targets(model.encoder, settings.lora)
    update = settings.optim.batch_size * settings.optim.accumulation * processes.num_processes
    data = _data(texts, fast, special, settings, update)
    check_warmup(settings.optim, len(data), update)
    if processes.is_main_process:
        with writing(output / RUN):
            tidy(output)
            if not resume:
                # Or this run, once it is resumed, would take the head of another for its own.
                for path in (output / BASE_HEAD, output / HEAD_RECORD):
                    if path.exists():
                        path.unlink()
            begun.write(output / RUN, facts)
    processes.wait_for_everyone()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    with Meter(output / ENERGY, resume, tdp_watts) as meter:
        callbacks = [SaveEnergy(meter)]
        run = _Run(model, data, tokenizer, output, settings, update, resume, processes, callbacks)
        head = run.train_head()
        adaptation = run.train_lora()
        settled = run.settle()
    record = {
        "spacy_openmed": __version__,
        "backbone": ref.to_dict(),
        "settings": to_dict(settings),
        "texts": hashes,
        "processes": processes.num_processes,
        "precision": precision,
        "windows": len(data),
        "wordpieces": data.wordpieces,
        "head": head,
        "adaptation": adaptation,
        "settled": settled,
        "energy": meter.to_dict(),
    }
    if processes.is_main_process:
        _write_adapter(model, ref, output, record)
    processes.wait_for_everyone()
    return record


@dataclass
class _Run:
    """The phases: the head alone on the frozen backbone, LoRA and head, the head that settles.

    Each goes on from a file: a run that is resumed between them continues with the very numbers
    of an unbroken one.

    update (int): Windows of one update, of all processes together.
    """

    model: MaskedLM
    data: Windows
    tokenizer: Any
    output: Path
    settings: DaptSettings
    update: int
    resume: bool
    processes: PartialState
    callbacks: Sequence[TrainerCallback]

    def train_head(self) -> dict[str, Any] | None:
        """Train and keep a head for the plain backbone.

        RETURNS (dict | None): What was done; None where the checkpoint has a head.
        """
        if self.model.has_own_head or self.settings.head_steps == 0:
            return None
        weights, record = self.output / BASE_HEAD, self.output / HEAD_RECORD
        is_done = self.resume and weights.is_file()
        # Or one process would find what another one has written since.
        self.processes.wait_for_everyone()
        if not is_done:
            optim = self._head_optim(self.settings.head_steps)
            report = self._phase("head", optim, self.output / HEAD_CHECKPOINTS)
            if self.processes.is_main_process:
                with writing(weights):
                    with atomic_file(record) as part:
                        part.write_text(json.dumps(report), encoding="utf8")
                    with atomic_file(weights) as part:
                        self.model.save_head(part)
            self.processes.wait_for_everyone()
        self.model.load_head(weights)
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf8"))
        return found

    def train_lora(self) -> dict[str, Any]:
        """Put a fresh LoRA on the encoder and train it together with the head."""
        torch.manual_seed(self.settings.optim.seed)
        self.model.encoder = lora.wrap(self.model.encoder, self.settings.lora)
        return self._phase("LoRA", self.settings.optim, self.output / CHECKPOINTS)

    def settle(self) -> dict[str, Any] | None:
        """Take back a part of the update, and let the head get used to what is kept.

        W0 + keep · s·B·A lies between the backbone and the adapted one, and fine-tunes better
        than either where the update is large: Wortsman et al., arXiv 2109.01903, section 3.

        RETURNS (dict | None): What was done; None where all of the update is kept.
        """
        if self.settings.keep == 1.0:
            return None
        lora.scale(self.model.encoder, self.settings.keep)
        self.model.encoder.requires_grad_(False)
        # The head learns what will be there: without dropout. Checkpoints of a frozen encoder
        # would save nothing.
        lora.without_dropout(self.model.encoder)
        self.model.encoder.gradient_checkpointing_disable()
        if self.settings.settle_steps == 0:
            return None
        optim = self._head_optim(self.settings.settle_steps)
        return self._phase("settle", optim, self.output / SETTLE_CHECKPOINTS)

    def _head_optim(self, steps: int) -> OptimSettings:
        return replace(
            self.settings.optim,
            learning_rate=self.settings.head_learning_rate,
            max_steps=steps,
            warmup_steps=0,
            gradient_checkpointing=False,
        )

    def _phase(self, name: str, optim: OptimSettings, folder: Path) -> dict[str, Any]:
        found = checkpoint_to_resume(folder, self.resume)
        if self.processes.is_main_process:
            discard_incomplete(folder)
        # The phases meet the windows in another order, and with other masks.
        order = ByLength(self.data.lengths(), self.update, f"{optim.seed} {name}")
        state = TrainerState.load_from_json(str(found / STATE)) if found else None
        if found and state and is_over(state):
            # Killed after its last checkpoint: the Trainer would add an update.
            load_trainable(self.model, found)
        else:
            state = self._train(name, optim, folder, order, found)
        return {
            "steps": state.global_step,
            "losses": [row["loss"] for row in state.log_history if "loss" in row],
            "seconds": noted(state.log_history, "seconds"),
            "padding": round(order.padding(optim.batch_size, state.global_step), 4),
        }

    def _train(
        self, name: str, optim: OptimSettings, folder: Path, order: ByLength, found: Path | None
    ) -> TrainerState:
        arguments = training_arguments(
            optim,
            folder,
            save_strategy="steps",
            save_steps=self.settings.save_steps,
            save_total_limit=2,
            logging_steps=20,
            disable_tqdm=True,
        )
        masking = Masking(self.tokenizer, self.settings.mask_probability, order.seed)
        trainer = _LengthGroupedTrainer(
            order,
            model=self.model,
            args=arguments,
            train_dataset=self.data,
            data_collator=masking,
            callbacks=[Passes(order, masking), *self.callbacks],
        )
        Progress(name, masking).attach(trainer)
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        return trainer.state


class _LengthGroupedTrainer(TrainableOnlyTrainer):
    """Trainer that meets the windows in a given order."""

    def __init__(self, order: ByLength, **kwargs: Any) -> None:
        self._order = order
        super().__init__(**kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> ByLength:
        return self._order


def _write_adapter(model: MaskedLM, ref: BackboneRef, output: Path, record: dict[str, Any]) -> None:
    # Names of folders on the training machine mean nothing elsewhere.
    model.encoder.peft_config["default"].base_model_name_or_path = ref.hub_id or None
    with writing(output / ADAPTER), atomic_folder(output / ADAPTER) as part:
        # "auto" would look for the backbone on the hub.
        model.encoder.save_pretrained(str(part), save_embedding_layers=False)
        _to_float16(part / LORA_WEIGHTS)
        (part / LORA_CARD).unlink(missing_ok=True)
        model.save_head(part / HEAD)
        if record["head"] is not None:
            shutil.copyfile(output / BASE_HEAD, part / BASE_HEAD)
        text = json.dumps(record, indent=2) + "\n"
        (part / pretraining.RECORD).write_text(text, encoding="utf8")


def _to_float16(path: Path) -> None:
    """Halve the size of an adapter; the last bits of low-rank matrices change nothing."""
    tensors = {name: tensor.half() for name, tensor in load_file(str(path)).items()}
    save_file(tensors, str(path), metadata={"format": "pt"})


def _data(
    texts: Sequence[Path],
    tokenizer: Any,
    special: SpecialTokens,
    settings: DaptSettings,
    update: int,
) -> Windows:
    found = Windows(
        windows(read_passages(texts), tokenizer, special, settings.window, settings.overlap)
    )
    if len(found) < update:
        raise OpenMedError(
            f"{len(found)} passages of at least {MIN_WORDPIECES} wordpieces in "
            f"{', '.join(map(str, texts))}: fewer than one update takes ({update}). Give more "
            f"text, or lower batch_size or accumulation."
        )
    return found


def _sha256(path: Path) -> str:
    try:
        return backbones.file_sha256(path)
    except OSError as error:
        raise OpenMedError(f"{path}: cannot be read ({error.strerror}).") from error
