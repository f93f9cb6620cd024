"""Fine-tuning in several processes, with the real command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from spacy_openmed import adapters, backbones
from spacy_openmed.cli.app import guarded
from spacy_openmed.corpora import own
from spacy_openmed.decoding import bio_labels
from spacy_openmed.errors import OpenMedError
from spacy_openmed.low_rank import LORA_WEIGHTS
from spacy_openmed.training.finetune import finetune
from spacy_openmed.training.processes import one_voice, process_group
from spacy_openmed.training.samples import BatchSampler, samples
from spacy_openmed.training.settings import FinetuneSettings, load
from spacy_openmed.training.trainer import TRAINABLE, is_write_error, last_checkpoint
from spacy_openmed.windows import special_tokens

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:mtime may not be reliable"),
]

# Batches of few windows, of which two make an update.
CONFIG = r"""
window = 32
overlap = 8
sentences = false
dropout = 0.0
attention_dropout = 0.0
label_smoothing = 0.0
patience = 12

[lora]
rank = 4
alpha = 8
dropout = 0.0
target_modules = 'encoder\.layer\..*\.(query|key|value|dense)'

[optim]
batch_size = 1
accumulation = 2
learning_rate = 1e-2
max_grad_norm = 0.3
epochs = 12
precision = "fp32"
"""
TEXTS = (
    "The [breast cancer] of the patients was from a mutation of the human gene.",
    "A toxic drug induced [hepatitis] in mice, and therapy was with a receptor.",
    "[Leukemia].",
    "Expression of the kinase in a [tumor] is for treatment of [ovarian cancer] by the drug.",
    "Patients with a [nephritis] or a [hyper syndrome] were in therapy. The mice were human.",
    "No cell was toxic.",
    "The [neuropathy] of mice is a factor.",
    "An anti [carditis] drug for the patients with a mutation of the p53 gene was in treatment, "
    "and the protein of cells from mice is a factor for expression of the kinase by a receptor.",
    "In [meningitis] a drug is toxic.",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings, and a corpus of an odd number of documents."""
    folder = tmp_path_factory.mktemp("processes")
    rows = []
    for number, text in enumerate(TEXTS):
        plain, spans = "", []
        for part in text.split("["):
            inside, closed, rest = part.partition("]")
            if closed:
                spans.append([len(plain), len(plain) + len(inside), "DISEASE"])
            plain += inside + rest
        rows.append(json.dumps({"id": str(number), "text": plain, "entities": spans}) + "\n")
    (folder / "train.jsonl").write_text("".join(rows[:-1]), encoding="utf8")
    (folder / "dev.jsonl").write_text("".join(rows[-5:]), encoding="utf8")
    (folder / "own.toml").write_text(CONFIG, encoding="utf8")
    return folder


def start(*arguments: object) -> subprocess.Popen[str]:
    """The real command in two processes."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "spacy_openmed", "train", *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def options(folder: Path, backbone: Path, output: Path) -> list[object]:
    return [
        *("--train", folder / "train.jsonl", "--dev", folder / "dev.jsonl"),
        *("--backbone", backbone, "--config", folder / "own.toml", "--output", output),
    ]


def read(output: Path) -> Any:
    """What a run wrote: its record, the adapter, and the newest checkpoint in full precision."""
    adapter = output / "adapter"
    newest = last_checkpoint(output / "checkpoints")
    assert newest is not None
    return SimpleNamespace(
        record=json.loads((adapter / adapters.TRAINING).read_text(encoding="utf8")),
        adapter={**load_file(adapter / LORA_WEIGHTS), **load_file(adapter / adapters.HEAD)},
        newest=load_file(newest / TRAINABLE),
    )


@pytest.fixture(scope="module")
def two(folder: Path, tiny_backbone: Path) -> Any:
    """A run of two processes, and what they printed."""
    output = folder / "two"
    process = start(*options(folder, tiny_backbone, output))
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return SimpleNamespace(output=output, stdout=stdout, stderr=stderr, **vars(read(output)))


def test_two_processes_do_what_one_does(two: Any, folder: Path, tiny_backbone: Path):
    settings = load(FinetuneSettings, folder / "own.toml")
    train, dev = (own.load(folder / f"{name}.jsonl") for name in ("train", "dev"))
    finetune(train, dev, str(tiny_backbone), folder / "one", settings)
    one = read(folder / "one")
    assert (one.record["processes"], two.record["processes"]) == (1, 2)
    assert two.record["steps"] == one.record["steps"]
    assert two.record["epochs"] == one.record["epochs"]
    assert two.record["dev"] == one.record["dev"]
    assert len({row["dev_f1"] for row in one.record["epochs"]}) > 2
    learned = max(float(one.newest[n].abs().max()) for n in one.newest if "lora_B" in n)
    assert learned > 1e-2
    assert one.newest.keys() == two.newest.keys()
    for name, tensor in one.newest.items():
        assert torch.allclose(two.newest[name], tensor, rtol=0, atol=1e-4), name
    assert one.adapter.keys() == two.adapter.keys()
    for name, tensor in one.adapter.items():
        # Or one unit in the last place of float16, in which it is written.
        found = two.adapter[name].float()
        assert torch.allclose(found, tensor.float(), rtol=2**-10, atol=1e-4), name


def test_some_batches_had_a_window_for_one_process_only(folder: Path, tiny_backbone: Path):
    tokenizer = backbones.load_tokenizer(tiny_backbone)
    ids = {label: i for i, label in enumerate(bio_labels(["DISEASE"]))}
    train = own.load(folder / "train.jsonl")
    found = samples(train, tokenizer, special_tokens(tokenizer, 0), ids, 32, 8, False)
    order = BatchSampler([len(sample["input_ids"]) for sample in found], 32, 1)
    assert {1, 2} <= {len(batch) for batch in order}
    assert len(order) % 2 == 1


def test_only_one_of_them_writes_and_speaks(two: Any):
    assert two.stdout.count("adapter in ") == two.stdout.count("pre-training adapter") == 1
    assert two.stdout.count("train: 8 documents") == 1
    assert "unused parameters" not in two.stderr
    assert [path.name for path in two.output.iterdir() if path.name.startswith(".")] == []
    for checkpoint in (two.output / "checkpoints").iterdir():
        # What only one of them knows is kept by each: the state of its random numbers.
        names = {path.name for path in checkpoint.iterdir()}
        assert {"rng_state_0.pth", "rng_state_1.pth", TRAINABLE} <= names


def test_a_killed_run_goes_on_as_if_nothing_had_been(two: Any, folder: Path, tiny_backbone: Path):
    output = folder / "killed"
    process = start(*options(folder, tiny_backbone, output))
    while last_checkpoint(output / "checkpoints") is None:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    # Not only torchrun, which its processes would survive.
    for part in (*psutil.Process(process.pid).children(recursive=True), process):
        part.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (output / "adapter").exists()

    with pytest.raises(OpenMedError, match="processes was 2, is 1"):
        settings = load(FinetuneSettings, folder / "own.toml")
        train, dev = (own.load(folder / f"{name}.jsonl") for name in ("train", "dev"))
        finetune(train, dev, str(tiny_backbone), output, settings, resume=True)

    process = start(*options(folder, tiny_backbone, output), "--resume")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    found = read(output)
    assert found.record["resumed"] is True
    assert found.record["epochs"] == two.record["epochs"]
    for before, after in ((two.adapter, found.adapter), (two.newest, found.newest)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_all_refuse_is_said_once(folder: Path):
    process = start("--train", folder / "train.jsonl", "--output", folder / "refused")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert stderr.count("✘ --train and --dev come together") == 1
    assert not (folder / "refused").exists()


def test_what_another_process_alone_refuses_is_said_later(monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(OpenMedError), one_voice():
            raise OpenMedError("no")
    assert len(waited) == 1 and waited[0] > 1


@pytest.mark.parametrize("fails", [False, True])
def test_who_is_done_parts_from_the_others_unless_it_failed(fails: bool, tmp_path: Path):
    """Else gloo's threads outlive Python, and now and then the process aborts at its end."""

    def command() -> str:
        # No torchrun: a group of one, with a file for a meeting point.
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
        )
        if fails:
            raise OpenMedError("no")
        return "done"

    try:
        if fails:
            with pytest.raises(SystemExit):
                guarded(command)()
        else:
            assert guarded(command)() == "done"
        assert torch.distributed.is_initialized() == fails
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_a_lost_process_is_no_full_disk():
    lost = "[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:15002"
    assert not is_write_error(RuntimeError(lost))
    assert is_write_error(
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos")
    )


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(OpenMedError, match="--nproc-per-node 2"):
        process_group()
