r"""What the machinery of ``spacy openmed dapt`` costs: its own training, beside the same model
stepped in a bare PyTorch loop.

Both run in one process, in turns: the training stops after every so many updates, and the bare
loop makes as many with a copy of the model, on the very batches that the training just had. Turns
are short, so that a machine that is busy with something else slows both alike. The bare loop has
nothing to collate, log, save or show; its losses say whether it computes the same.

    python benchmarks/dapt_throughput.py CORPORA/raw/pubmed_abstracts_train.txt.gz \
        --json benchmarks/results/dapt_throughput.json
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

import torch
import transformers
from common import report
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

from spacy_openmed.training import settings
from spacy_openmed.training.dapt import dapt
from spacy_openmed.training.masked_lm import read_passages

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Clock:
    """A moment, and how much this process had computed by then, in seconds."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> "Clock":
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Clock") -> "Clock":
        return Clock(self.wall - other.wall, self.processor - other.processor)


class BareLoop:
    """The least that trains: forward, backward, clip, step, schedule.

    model (Module): A copy of the model that ``dapt`` trains.
    arguments (TrainingArguments): The same numbers as ``dapt``'s.
    """

    def __init__(self, model: torch.nn.Module, arguments: TrainingArguments) -> None:
        self.model = model.train()
        self.arguments = arguments
        if arguments.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=arguments.gradient_checkpointing_kwargs
            )
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in self.trainable if p.ndim > 1]
        others = [p for p in self.trainable if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": arguments.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=arguments.learning_rate,
        )
        self.schedule = get_cosine_schedule_with_warmup(
            self.optimizer, arguments.get_warmup_steps(arguments.max_steps), arguments.max_steps
        )

    def train(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """RETURNS (list[float32[]]): The loss of each batch."""
        losses = []
        accumulation = self.arguments.gradient_accumulation_steps
        for number, batch in enumerate(batches, 1):
            with torch.autocast(
                self.arguments.device.type, torch.bfloat16, enabled=self.arguments.bf16
            ):
                loss = self.model(**batch)["loss"]
            (loss / accumulation).backward()
            losses.append(loss.detach())
            if number % accumulation == 0:
                torch.nn.utils.clip_grad_norm_(self.trainable, self.arguments.max_grad_norm)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
        return losses


@dataclass(frozen=True)
class Turn:
    """As many updates of the one as of the other.

    wordpieces (int): Real ones, padding apart.
    padding (int): What else the batches held.
    losses (float32[batches, 2]): Of ``dapt`` and of the bare loop.
    """

    wordpieces: int
    padding: int
    dapt: Clock
    bare: Clock
    losses: torch.Tensor


class Turns(TrainerCallback):
    """Stops the training after every ``size`` updates for a turn of the bare loop.

    warm_up (int): Updates of either before the first turn that counts.
    """

    def __init__(self, bare: BareLoop, warm_up: int, size: int) -> None:
        self.bare = bare
        self.warm_up = warm_up
        self.size = size
        self.turns: list[Turn] = []
        self.checkpoint = 0.0
        self._batches: list[Batch] = []
        self._losses: list[torch.Tensor] = []
        self._begun = Clock.now()

    def record(self, module: object, args: object, batch: Batch, output: Batch) -> None:
        """A forward hook on the model that is trained."""
        self._batches.append(batch)
        self._losses.append(output["loss"].detach())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        done = state.global_step - self.warm_up
        if done < 0 or done % self.size:
            return
        middle = Clock.now()
        losses = self.bare.train(self._batches)
        end = Clock.now()
        if done:
            masks = [batch["attention_mask"] for batch in self._batches]
            wordpieces = sum(int(mask.sum()) for mask in masks)
            self.turns.append(
                Turn(
                    wordpieces,
                    sum(mask.numel() for mask in masks) - wordpieces,
                    middle - self._begun,
                    end - middle,
                    torch.stack([torch.stack(self._losses), torch.stack(losses)], dim=1).cpu(),
                )
            )
        self._batches, self._losses = [], []
        self._begun = Clock.now()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The only one is after the last turn.
        self.checkpoint = (Clock.now() - self._begun).wall


def measure(
    backbone: str, text: Path, chosen: settings.DaptSettings, warm_up: int, size: int
) -> tuple[Turns, str]:
    """Run ``dapt`` with turns of the bare loop in between.

    RETURNS (tuple[Turns, str]): What was measured, and the precision.
    """
    found: list[tuple[Turns, str]] = []
    train = Trainer.train

    def watched(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        if trainer.args.fp16:
            raise SystemExit("The bare loop scales no losses: take a --config in bf16 or fp32.")
        turns = Turns(BareLoop(deepcopy(trainer.model), trainer.args), warm_up, size)
        trainer.add_callback(turns)
        trainer.model.register_forward_hook(turns.record, with_kwargs=True)
        found.append((turns, "bf16" if trainer.args.bf16 else "fp32"))
        return train(trainer, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder, patch.object(Trainer, "train", watched):
        dapt(backbone, [text], Path(folder), chosen)
    (only,) = found
    return only


def figures(turns: Sequence[Turn], share: float) -> dict[str, Any]:
    """All turns together.

    share (float): Of a checkpoint's time in that of the updates between two.
    RETURNS (dict): Medians of wordpieces/s; and how much of the bare loop's speed is left, the
        median over turns, since the machine's own speed changes from turn to turn: by the clock,
        with checkpoints, and in processor seconds of the process, which say more on a machine
        that is busy, and nothing about a GPU.
    """
    ratios = [turn.bare.wall / turn.dapt.wall for turn in turns]
    processor_ratios = [turn.bare.processor / turn.dapt.processor for turn in turns]
    losses = torch.cat([turn.losses for turn in turns]).double()
    return {
        "wordpieces/s": {
            "dapt": median(turn.wordpieces / turn.dapt.wall for turn in turns),
            "bare": median(turn.wordpieces / turn.bare.wall for turn in turns),
        },
        "wordpieces a processor second": {
            "dapt": median(turn.wordpieces / turn.dapt.processor for turn in turns),
            "bare": median(turn.wordpieces / turn.bare.processor for turn in turns),
        },
        "ratio": median(ratios),
        "ratio, quartiles": quantiles(ratios),
        "ratio with checkpoints": median(ratios) / (1 + share),
        "processor ratio": median(processor_ratios),
        "processor ratio, quartiles": quantiles(processor_ratios),
        "mean loss": dict(zip(("dapt", "bare"), losses.mean(dim=0).tolist(), strict=True)),
        "largest difference in loss": float((losses[:, 0] - losses[:, 1]).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="One passage a line, .gz allowed")
    parser.add_argument("--passages", type=int, default=4000, help="So many from the beginning")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--config", default="dapt-minilm-shipped")
    parser.add_argument("--warm-up", type=int, default=5, help="Updates before the first turn")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--updates", type=int, default=3, help="In a turn, of either")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    base = settings.load(settings.DaptSettings, arguments.config)
    updates = arguments.warm_up + arguments.turns * arguments.updates
    # LoRA's phase alone is measured. Its turns have nothing but updates; the one checkpoint
    # comes after them and is timed apart.
    chosen = replace(
        base,
        head_steps=0,
        keep=1.0,
        save_steps=updates,
        optim=replace(base.optim, max_steps=updates),
    )
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "passages.txt"
        passages = islice(read_passages([arguments.text]), arguments.passages)
        text.write_text("".join(f"{passage}\n" for passage in passages), encoding="utf8")
        found, precision = measure(
            arguments.backbone, text, chosen, arguments.warm_up, arguments.updates
        )
    rows = [
        {
            "turn": number,
            "wordpieces": turn.wordpieces,
            "padding": turn.padding,
            "dapt wordpieces/s": turn.wordpieces / turn.dapt.wall,
            "bare wordpieces/s": turn.wordpieces / turn.bare.wall,
            "ratio": turn.bare.wall / turn.dapt.wall,
            "processor ratio": turn.bare.processor / turn.dapt.processor,
        }
        for number, turn in enumerate(found.turns, 1)
    ]
    seconds = sum(turn.dapt.wall for turn in found.turns)
    between = seconds / (arguments.turns * arguments.updates) * base.save_steps
    facts = {
        "backbone": arguments.backbone,
        "config": Path(arguments.config).stem,
        "windows in a batch": base.optim.batch_size,
        "accumulation": base.optim.accumulation,
        "updates in a turn": arguments.updates,
        "device": found.bare.arguments.device.type,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **figures(found.turns, found.checkpoint / between),
        "seconds a checkpoint": found.checkpoint,
        "updates between checkpoints": base.save_steps,
    }
    report(rows, arguments.json, **facts)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
