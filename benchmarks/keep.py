"""How much of the pre-training's update should be kept when it is merged into the backbone?

The shipped adapter keeps half of what was trained. Here other shares of the same update are
merged, and a LoRA is fine-tuned on each: F1 on dev of a share of some corpora, a seed or more.

    python benchmarks/keep.py --corpora ncbi jnlpba --json benchmarks/results/keep.json
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import common
from safetensors.torch import load_file, save_file

from spacy_openmed import backbones, pretraining
from spacy_openmed.low_rank import LORA_WEIGHTS
from spacy_openmed.training.ablation import Ablation, Cell, Run, train_one
from spacy_openmed.training.settings import AblationSettings, load


def scaled(folder: Path, factor: float, output: Path) -> Path:
    """A copy of a pre-training adapter whose update is multiplied."""
    shutil.copytree(folder, output)
    weights = load_file(str(folder / LORA_WEIGHTS))
    for name, tensor in weights.items():
        if ".lora_B." in name or name.endswith("lora_embedding_B"):
            weights[name] = (tensor.float() * factor).half()
    save_file(weights, str(output / LORA_WEIGHTS), metadata={"format": "pt"})
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--corpora", nargs="+", default=["ncbi", "jnlpba"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.3, 0.5, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--config", default="ablation-minilm")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = pretraining.find(backbones.reference(arguments.backbone))
    if folder is None:
        raise SystemExit(f"No pre-training adapter ships for {arguments.backbone}.")
    record = json.loads((folder / pretraining.RECORD).read_text(encoding="utf8"))
    kept = record["settings"]["keep"]
    settings = load(AblationSettings, arguments.config)
    rate = settings.learning_rates["lora"][0]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for share in arguments.shares:
            adapter = scaled(folder, share / kept, Path(temporary) / f"keep-{share}")
            plan = Ablation(
                arguments.backbone, adapter, None, Path(temporary) / f"runs-{share}", settings
            )
            cell = Cell("merge" if share else "none", "lora")
            for corpus in arguments.corpora:
                for seed in arguments.seeds:
                    row = train_one(plan, Run(corpus, cell, rate, seed))
                    rows.append(
                        {"kept": share, "corpus": corpus, "seed": seed, "dev_f1": row["dev_f1"]}
                    )
    facts = {"pretraining_sha256": pretraining.read(folder).sha256, "learning_rate": rate}
    common.report(
        rows,
        arguments.json,
        **facts,
        train_characters=settings.train_characters,
        dev_characters=settings.dev_characters,
    )


if __name__ == "__main__":
    main()
