"""The project: what its workflows run, what its steps keep, and what its document says."""

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import srsly
from networks import write_pretraining
from test_search import START
from test_search import corpus as corpus
from test_select import write_adapter
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.about import __version__
from spacy_openmed.cli import recipe as recipe_commands
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.ledger import LEDGER, default_path
from spacy_openmed.packaging import install as install_module
from spacy_openmed.packaging.install import Tried, install_and_try
from spacy_openmed.runs import Runs
from spacy_openmed.training import finetune as finetune_module
from spacy_openmed.training import recipe, settings
from spacy_openmed.training.settings import (
    DaptSettings,
    FinetuneSettings,
    LoraSettings,
    OptimSettings,
    SearchSettings,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROOT = Path(__file__).parents[1]
STEPS = [
    "corpora", "dapt", "search", "train", "select", "evaluate", "report", "package", "install",
]  # fmt: skip
VARIABLE = r"\$\{vars\.(\w+)\}"


DAPT = DaptSettings(
    lora=LoraSettings(rank=2, alpha=4, dropout=0.0, target_modules=r".*\.query"),
    optim=OptimSettings(batch_size=2, max_steps=2, precision="fp32"),
    window=32,
    head_steps=2,
)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return srsly.read_yaml(ROOT / "project.yml")  # type: ignore[return-value]


def command(project: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in project["commands"] if one["name"] == name)


# --- project.yml -----------------------------------------------------------------------------


def test_quickstart_is_all_with_other_variables(project: dict[str, Any]) -> None:
    assert project["workflows"]["all"] == STEPS
    (name,) = project["workflows"]["quickstart"]
    (line,) = command(project, name)["script"]
    words = shlex.split(line)
    assert words[:6] == ["python", "-m", "weasel", "run", "all", "."]
    names, values = words[6::2], words[7::2]
    assert all(name.startswith("--vars.") for name in names)
    changed = dict(zip((name.removeprefix("--vars.") for name in names), values, strict=True))
    assert set(changed) <= set(project["vars"])
    assert changed["datasets"] == "sample" and changed["trials"] == "4"
    assert project["vars"]["again"] == ""
    for file in ("corpora", "text", "heldout", "try"):
        assert (ROOT / changed[file]).exists()
    settings.load(DaptSettings, changed["dapt"])
    space = settings.load(SearchSettings, changed["search"])
    settings.load(FinetuneSettings, space.finetune)


def test_the_quickstart_pretrains_for_fifty_updates() -> None:
    assert settings.load(DaptSettings, "dapt-sample").optim.max_steps >= 50


def test_every_step_says_what_it_makes_and_is_made_from(project: dict[str, Any]) -> None:
    """A step without outputs runs every time; a dependency must be made by an earlier one."""
    made = set()
    for name in STEPS:
        step = command(project, name)
        assert step["outputs"], name
        for dependency in step.get("deps", []):
            from_run = dependency.startswith(("${vars.runs}", "${vars.packages}", "${vars.ledger}"))
            assert not from_run or dependency in made, f"{name}: {dependency}"
        assert step.get("deps") or name == "corpora"
        made |= set(step["outputs"])


def test_the_search_may_run_on_a_cluster(project: dict[str, Any]) -> None:
    words = shlex.split(command(project, "search")["script"][0])
    assert words[words.index("--ray") + 1] == "${vars.ray}"
    assert project["vars"]["ray"] == ""


def test_the_record_of_looks_at_test_is_not_in_the_run(
    project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other runs, or none, test was looked at all the same."""
    assert "runs" not in Path(project["vars"]["ledger"]).parts
    for name in ("evaluate", "report"):
        words = shlex.split(command(project, name)["script"][0])
        assert words[words.index("--ledger") + 1] == "${vars.ledger}", name
    assert "${vars.ledger}" in command(project, "evaluate")["outputs"]
    assert "${vars.ledger}" in command(project, "report")["deps"]
    # By hand, test is looked at on the same record.
    monkeypatch.delenv(LEDGER, raising=False)
    assert str(default_path()) == project["vars"]["ledger"]


def test_lists_of_a_step_survive_the_interpolation(project: dict[str, Any]) -> None:
    """weasel makes one entry of two, where different variables meet in a list."""
    from weasel.util import load_project_config

    loaded = load_project_config(ROOT)
    for step, raw in zip(loaded["commands"], project["commands"], strict=True):
        for key in ("deps", "outputs"):
            assert len(step.get(key, [])) == len(raw.get(key, [])), f"{step['name']}: {key}"


def test_what_a_variable_says_is_one_word_of_a_step(project: dict[str, Any]) -> None:
    """Folders may have blanks in their names, and lists after their commas."""
    from weasel.util import load_project_config

    given = {f"vars.{name}": f"my {name}, etc" for name in project["vars"]}
    loaded = load_project_config(ROOT, overrides=given)
    said = {step["name"]: step["script"] for step in loaded["commands"]}
    used = set()
    for name in STEPS:
        raw = command(project, name)["script"]
        for line, lines in zip(said[name], raw, strict=True):
            words = shlex.split(lines)
            assert shlex.split(line) == [re.sub(VARIABLE, r"my \1, etc", word) for word in words]
            used |= set(re.findall(VARIABLE, lines))
    assert used == set(project["vars"])


def test_every_command_of_the_project_exists(project: dict[str, Any]) -> None:
    """Its words are a command's name and options that the command has."""
    for name in STEPS:
        for line in command(project, name)["script"]:
            words = shlex.split(re.sub(VARIABLE, "1", line))
            # The second spelling imports no spaCy, for what runs every time.
            first = 4 if words[2] == "spacy" else 3
            assert words[:first] in (
                ["python", "-m", "spacy", "openmed"],
                ["python", "-m", "spacy_openmed"],
            )
            depth = first + (2 if words[first] == "recipe" else 1)
            shown = CliRunner().invoke(app, [*words[first:depth], "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0, shown.output
            for option in (word for word in words[depth:] if word.startswith("--")):
                assert option in shown.output, f"{name}: {option}"


def test_the_readme_has_the_project_s_document(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "project", "document", str(ROOT)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tables = re.findall(r"^\| .*", done.stdout, re.M)
    assert len(tables) > len(STEPS)
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    missing = [line for line in tables if line.strip() not in readme]
    assert not missing, missing


# --- the steps -------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path, tiny_backbone: Path) -> Runs:
    """A run whose pre-training and search are done."""
    import tomli_w

    runs = Runs(tmp_path / "runs")
    write_pretraining(tiny_backbone, runs.dapt(str(tiny_backbone)) / "adapter", 1)
    folder = runs.search("ncbi", str(tiny_backbone))
    folder.mkdir(parents=True)
    (folder / "best.toml").write_text(tomli_w.dumps(settings.to_dict(START)))
    return runs


def train(runs: Runs, backbone: Path, corpus: Path) -> list[str]:
    said: list[str] = []
    recipe.train_all(runs, [("ncbi", str(backbone))], corpus, 3, said.append)
    return said


def test_what_was_noted_is_not_calibrated_later(
    runs: Runs, tiny_backbone: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been chosen, and looked at, under its hash."""
    asked: list[Path] = []
    monkeypatch.setattr(recipe, "calibrate_new", lambda folder, *_: asked.append(folder))
    train(runs, tiny_backbone, corpus)
    assert asked == [runs.train("ncbi", str(tiny_backbone)) / "adapter"]
    noted = runs.made("train").read_text(encoding="utf8")
    asked.clear()
    train(runs, tiny_backbone, corpus)
    assert not asked
    # Killed before it was noted.
    runs.made("train").unlink()
    train(runs, tiny_backbone, corpus)
    assert asked == [runs.train("ncbi", str(tiny_backbone)) / "adapter"]
    assert runs.made("train").read_text(encoding="utf8") == noted


def test_a_final_run_is_made_once_and_again_when_the_search_finds_better(
    runs: Runs, tiny_backbone: Path, corpus: Path
) -> None:
    assert any("dev F1" in line for line in train(runs, tiny_backbone, corpus))
    folder = runs.train("ncbi", str(tiny_backbone)) / "adapter"
    record = json.loads((folder / "training.json").read_text())
    assert record["settings"]["optim"]["seed"] == 3
    made = json.loads(runs.made("train").read_text())
    assert list(made.values()) == [adapters.content_hash(adapters.read(folder))]
    assert train(runs, tiny_backbone, corpus) == [f"ncbi x {tiny_backbone}: trained before"]

    best = runs.search("ncbi", str(tiny_backbone)) / "best.toml"
    best.write_text(best.read_text().replace("learning_rate = 0.001", "learning_rate = 0.002"))
    assert any("dev F1" in line for line in train(runs, tiny_backbone, corpus))
    record = json.loads((folder / "training.json").read_text())
    assert record["settings"]["optim"]["learning_rate"] == 0.002
    assert json.loads(runs.made("train").read_text()) != made


def test_training_waits_for_the_search(runs: Runs, tiny_backbone: Path, corpus: Path) -> None:
    (runs.search("ncbi", str(tiny_backbone)) / "best.toml").unlink()
    with pytest.raises(OpenMedError, match="let the search come to its end"):
        train(runs, tiny_backbone, corpus)


def test_the_corpora_step_refuses_what_differs_from_the_registry(
    tmp_path: Path, corpus: Path
) -> None:
    given = ["recipe", "corpora", "--datasets", "ncbi", "--corpus", str(corpus)]
    done = CliRunner().invoke(app, [*given, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1 and "ncbi" in done.output
    sample = ["recipe", "corpora", "--datasets", "sample", "--corpus", str(ROOT / "assets/sample")]
    done = CliRunner().invoke(app, [*sample, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "runs" / "corpora.json").is_file()


def sample(folder: Path) -> Path:
    return Path(shutil.copytree(ROOT / "assets" / "sample", folder / "sample"))


def test_the_corpora_step_sees_what_was_edited(tmp_path: Path) -> None:
    """It runs every time: what it writes is the same as long as its inputs are."""
    folder, runs = sample(tmp_path), Runs(tmp_path / "runs")
    heldout = folder / "raw" / "heldout.txt"
    given = ["recipe", "corpora", "--datasets", "sample", "--corpus", str(folder)]
    given += ["--text", f"{folder / 'raw' / 'train.txt'},{ROOT / 'README.md'}"]
    given += ["--heldout", str(heldout), "--runs", str(runs.folder)]

    def step() -> tuple[Result, bytes, bytes]:
        done = CliRunner().invoke(app, given)
        return done, runs.made("corpora").read_bytes(), runs.made("texts").read_bytes()

    done, corpora, texts = step()
    assert done.exit_code == 0 and "reading sample" in done.output, done.output
    assert list(json.loads(texts)["text"]) == ["train.txt", "README.md"]
    done, *again = step()
    assert done.exit_code == 0 and again == [corpora, texts]
    assert "as verified before: sample" in done.output
    runs.made("corpora").unlink()
    done = CliRunner().invoke(app, given)
    assert runs.made("corpora").read_bytes() == corpora

    heldout.write_text(heldout.read_text() + "One more passage.\n")
    done, *now = step()
    assert done.exit_code == 0 and now[0] == corpora and now[1] != texts
    train = folder / "ner" / "sample" / "train.jsonl"
    lines = train.read_text().splitlines(keepends=True)
    train.write_text("".join(lines[1:]))
    for _ in range(2):  # what failed is no reason to pass
        done, *now = step()
        assert done.exit_code == 1 and now[0] != corpora
    train.write_text("".join(lines))
    done, *now = step()
    assert done.exit_code == 0 and now[0] == corpora
    heldout.unlink()
    done, *now = step()
    assert done.exit_code == 1 and "heldout.txt: cannot be read" in done.output


def test_texts_are_looked_for_before_corpora_are_prepared(tmp_path: Path) -> None:
    given = ["recipe", "corpora", "--datasets", "ncbi", "--corpus", str(tmp_path / "corpora")]
    given += ["--from", str(tmp_path / "originals"), "--runs", str(tmp_path / "runs")]
    given += ["--heldout", str(ROOT / "README.md"), "--text"]
    done = CliRunner().invoke(app, [*given, str(tmp_path / "text.txt")])
    assert done.exit_code == 1 and "text.txt: cannot be read" in done.output
    assert "one passage a line" in done.output and "'spacy openmed passages'" in done.output
    done = CliRunner().invoke(app, [*given, str(ROOT / "README.md")])
    assert done.exit_code == 1 and "originals" in done.output


def test_a_final_run_of_another_corpus_or_backbone_is_made_again(
    runs: Runs, tiny_backbone: Path, corpus: Path, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    train(runs, tiny_backbone, corpus)
    folder = runs.train("ncbi", str(tiny_backbone))
    record = folder / "adapter" / "training.json"
    for split in ("train", "dev"):
        (file,) = corpus.rglob(f"{split}.jsonl")
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:-1]))
        assert any("dev F1" in line for line in train(runs, tiny_backbone, corpus)), split
        assert train(runs, tiny_backbone, corpus) == [f"ncbi x {tiny_backbone}: trained before"]
    trained = json.loads(record.read_text())
    trained["backbone"]["sha256"] = "0" * 64
    record.write_text(json.dumps(trained))
    assert any("dev F1" in line for line in train(runs, tiny_backbone, corpus))


def unfinished(runs: Runs, backbone: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A final run that was killed before it wrote its adapter."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune_module.network, "to_adapter", interrupted)
        train(runs, backbone, corpus)
    folder = runs.train("ncbi", str(backbone))
    assert list(folder.glob("checkpoints/*")) and not (folder / "adapter").exists()
    return folder


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_unfinished_run_goes_on_or_is_made_anew(
    runs: Runs, tiny_backbone: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = unfinished(runs, tiny_backbone, corpus, monkeypatch) / "adapter" / "training.json"
    train(runs, tiny_backbone, corpus)
    assert json.loads(record.read_text())["resumed"]

    shutil.rmtree(record.parents[1])
    folder = unfinished(runs, tiny_backbone, corpus, monkeypatch)
    best = runs.search("ncbi", str(tiny_backbone)) / "best.toml"
    best.write_text(best.read_text().replace("learning_rate = 0.001", "learning_rate = 0.002"))
    train(runs, tiny_backbone, corpus)
    trained = json.loads(record.read_text())
    assert not trained["resumed"] and trained["settings"]["optim"]["learning_rate"] == 0.002

    shutil.rmtree(folder)
    unfinished(runs, tiny_backbone, corpus, monkeypatch)
    begun = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**begun, "processes": 2}))
    with pytest.raises(OpenMedError, match=f"processes was 2, is 1.*remove {folder}"):
        train(runs, tiny_backbone, corpus)
    (folder / "run.json").write_text("{")
    train(runs, tiny_backbone, corpus)
    assert not json.loads(record.read_text())["resumed"]


@pytest.fixture
def pretraining(tmp_path: Path) -> Callable[..., list[str]]:
    """Pre-training of a few updates, and perplexity, on a few lines."""
    import tomli_w

    config = tmp_path / "dapt.toml"
    config.write_text(tomli_w.dumps(settings.to_dict(DAPT)))
    text, heldout = tmp_path / "text.txt", tmp_path / "heldout.txt"
    text.write_text(f"{'the treatment of the tumor in mice and patients ' * 3}\n" * 8)
    heldout.write_text(f"{'the cancer of patients was from a mutation ' * 3}\n" * 3)

    def run(runs: Runs, *names: Path, limit: int | None = None) -> list[str]:
        said: list[str] = []
        backbones = list(map(str, names))
        recipe.pretrain(runs, backbones, [text], heldout, str(config), limit, said.append)
        return said

    return run


def test_pretraining_is_done_once(
    pretraining: Callable[..., list[str]],
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, name = Runs(tmp_path / "runs"), str(tiny_backbone)
    other = Path(shutil.copytree(tiny_backbone, tmp_path / "other"))
    said = pretraining(runs, tiny_backbone, other)
    # Nothing is measured before all is trained.
    steps = [line.removeprefix(f"{name}: ").removeprefix(f"{other}: ").split()[0] for line in said]
    assert steps == ["pre-training"] * 2 + ["measuring", "perplexity"] * 2
    made = runs.made("dapt").read_bytes()
    folder = runs.dapt(name)
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "perplexity", interrupted)
        patch.setattr(recipe, "dapt", interrupted)
        # Made by others than would go on with it: by two processes.
        for file in (folder / "run.json", folder / "adapter" / "dapt.json"):
            file.write_text(json.dumps({**json.loads(file.read_text()), "processes": 2}))
        before = [f"{one}: pre-trained before" for one in (name, other)]
        assert pretraining(runs, tiny_backbone, other) == before
    assert runs.made("dapt").read_bytes() == made

    # Fewer passages, then others.
    assert any("measuring" in line for line in pretraining(runs, tiny_backbone, limit=2))
    assert json.loads((folder / "perplexity.json").read_text())["passages"] == 2
    assert json.loads(runs.made("dapt").read_text())[name] != json.loads(made)[name]
    assert not any("measuring" in line for line in pretraining(runs, tiny_backbone, limit=2))
    with (tmp_path / "heldout.txt").open("a") as file:
        file.write(f"{'the syndrome of human patients ' * 5}\n")
    assert any("measuring" in line for line in pretraining(runs, tiny_backbone, limit=2))

    (tmp_path / "text.txt").write_text((tmp_path / "heldout.txt").read_text() * 3)
    with pytest.raises(OpenMedError, match=f"text 1 was .*remove {folder} to make anew"):
        pretraining(runs, tiny_backbone)


def test_a_search_of_others_says_what_to_remove(
    runs: Runs, tiny_backbone: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OpenMedError("Begun with others. Choose another --output.")

    monkeypatch.setattr(recipe, "search", refused)
    folder = runs.search("ncbi", str(tiny_backbone))
    with pytest.raises(OpenMedError, match=f"with others.*remove {folder}"):
        recipe.search_all(
            runs, [("ncbi", str(tiny_backbone))], corpus, "search-sample", 1, 1, 1, "", print
        )


def test_more_trials_show_in_what_the_search_has_made(
    runs: Runs, tiny_backbone: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(plan: Any, trials: int, *_: object, **__: object) -> dict[str, Any]:
        result = {"best": {"dev_f1": 1.0}, "finished": trials}
        (plan.output / "search.json").write_text(json.dumps(result))
        return result

    monkeypatch.setattr(recipe, "search", found)
    made = []
    for trials in (1, 1, 2):
        recipe.search_all(
            runs, [("ncbi", str(tiny_backbone))], corpus, "search-sample", 1, trials, 1, "", print
        )
        made.append(runs.made("search").read_bytes())
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("given", "alone", "shared"),
    [("0", "0", "0"), ("-1", "", ""), ("1,0", "1", "1,0"), ("0, 2", "0", "0,2")],
)
def test_gpus(given: str, alone: str, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for several, wanted in ((False, alone), (True, shared)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        recipe_commands._use_gpu(given, several)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == wanted
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    recipe_commands._use_gpu(given)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize("given", ["-2", "0,-1", "first", "1.5"])
def test_no_gpu(given: str) -> None:
    with pytest.raises(OpenMedError, match="--gpu-id"):
        recipe_commands._use_gpu(given)


def test_select_ranks_what_is_named(tiny_backbone: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_backbone, tmp_path / "other"))
    train = tmp_path / "runs" / "train"
    write_adapter(train / "ncbi" / "a" / "adapter", tiny_backbone, f1=80.0)
    write_adapter(train / "ncbi" / "b" / "adapter", other, f1=90.0)
    write_adapter(train / "linnaeus" / "a" / "adapter", tiny_backbone, "linnaeus", 70.0)

    def select(*arguments: str) -> dict[str, str]:
        with chdir(tmp_path):
            done = CliRunner().invoke(app, ["select", *arguments])
            assert done.exit_code == 0, done.output
            chosen = json.loads(Path("runs", "selection.json").read_text())["datasets"]
        return {name: Path(one["adapter"]).parent.name for name, one in chosen.items()}

    assert select() == select("--dataset", "", "--backbone", "") == {"ncbi": "b", "linnaeus": "a"}
    assert select("--dataset", "ncbi", "--backbone", f"{tiny_backbone}/") == {"ncbi": "a"}
    assert select("--dataset", "linnaeus, ncbi") == {"ncbi": "b", "linnaeus": "a"}
    for wrong in (["--dataset", "ncbi,s800"], ["--backbone", "minilm"]):
        done = CliRunner().invoke(app, ["select", str(train), *wrong])
        assert done.exit_code == 1 and f"No adapter for {wrong[0][2:]}" in done.output


def test_names_are_needed(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["recipe", "train", "--datasets", " ,", "--backbones", "minilm"])
    assert done.exit_code == 1 and "names nothing" in done.output


@pytest.mark.parametrize("step", ["dapt", "search", "train"])
def test_backbones_of_one_name_are_refused(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second would go on with what the first has made, or overwrite it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which the steps set
    given = ["recipe", step, "--runs", str(tmp_path)]
    given += ["--text", "t", "--heldout", "h"] if step == "dapt" else ["--datasets", "ncbi"]
    done = CliRunner().invoke(app, [*given, "--backbones", "minilm,one/bert,other/bert/"])
    assert done.exit_code == 1 and "named 'bert' (one/bert, other/bert/)" in done.output


def selected(folder: Path, *datasets: str) -> Path:
    chosen = {name: {"adapter": "adapter", "sha256": ""} for name in datasets}
    path = folder / "selection.json"
    path.write_text(json.dumps({"datasets": chosen}))
    return path


def install(folder: Path, *datasets: str, text: str = "A text.") -> list[Tried]:
    (folder / "text.txt").write_text(text)
    chosen = selected(folder, *datasets)
    return list(install_and_try(folder, chosen, folder / "text.txt", folder / "out.json"))


def write_wheel(folder: Path, dataset: str, content: str) -> Path:
    name, info = f"en_openmed_{dataset}", f"en_openmed_{dataset}-{__version__}.dist-info"
    digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=")
    files = {
        f"{name}/__init__.py": content,
        f"{info}/METADATA": f"Name: {name}\nVersion: {__version__}\n",
        f"{info}/RECORD": f"{name}/__init__.py,sha256={digest.decode()},{len(content)}\n",
    }
    path = folder / f"{name}-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(zipfile.ZipInfo(file), text)  # without a time: the same bytes again
    return path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages are installed, in place of this environment; ``asked`` has what was run."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def run(arguments: list[str]) -> str:
        with (tmp_path / "asked").open("a") as asked:
            asked.write(f"{arguments[0]}\n")
        for word in arguments:
            if word.endswith(".whl"):
                zipfile.ZipFile(word).extractall(site)
        return '[["gene", "GENE", 0.5]]'

    monkeypatch.setattr(install_module, "_run", run)
    return site


def was_asked(folder: Path) -> list[str]:
    """What was run since this was asked."""
    file = folder / "asked"
    words = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return words


def test_what_is_installed_is_left_alone(tmp_path: Path, environment: Path) -> None:
    write_wheel(tmp_path, "ncbi", "one = 1")
    write_wheel(tmp_path, "s800", "one = 1")
    anew = ["-m", "-c"]

    assert [one.before for one in install(tmp_path, "ncbi")] == [False]
    assert was_asked(tmp_path) == anew
    noted = (tmp_path / "out.json").read_bytes()
    (one,) = install(tmp_path, "ncbi")
    assert one.before and one.entities == [["gene", "GENE", 0.5]]
    assert was_asked(tmp_path) == [] and (tmp_path / "out.json").read_bytes() == noted

    # One more of the selection: the first is not installed again.
    assert [one.before for one in install(tmp_path, "ncbi", "s800")] == [True, False]
    assert was_asked(tmp_path) == anew
    # Another text.
    install(tmp_path, "ncbi", text="Another text.")
    assert was_asked(tmp_path) == anew
    # Another wheel of the same version.
    write_wheel(tmp_path, "ncbi", "one = 2")
    install(tmp_path, "ncbi")
    assert was_asked(tmp_path) == anew
    # Of which another was installed here since.
    noted = (tmp_path / "out.json").read_bytes()
    with zipfile.ZipFile(write_wheel(tmp_path, "ncbi", "one = 1")) as other:
        other.extractall(environment)
    write_wheel(tmp_path, "ncbi", "one = 2")
    install(tmp_path, "ncbi")
    assert was_asked(tmp_path) == anew and (tmp_path / "out.json").read_bytes() == noted
    # Another environment.
    shutil.rmtree(environment)
    environment.mkdir()
    assert [one.before for one in install(tmp_path, "ncbi")] == [False]
    assert was_asked(tmp_path) == anew
    for broken in ("{", "[]", '{"en_openmed_ncbi": 1}'):
        (tmp_path / "out.json").write_text(broken)
        install(tmp_path, "ncbi")
        assert was_asked(tmp_path) == anew


def test_that_it_is_installed_is_seen_without_spacy_and_torch(
    tmp_path: Path, environment: Path
) -> None:
    """The step runs every time."""
    write_wheel(tmp_path, "ncbi", "one = 1")
    install(tmp_path, "ncbi")
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'spacy', 'torch'} & set(sys.modules)))\n"
        "from spacy_openmed.cli.app import run\n"
        "run()\n"
    )
    given = [tmp_path, "--selection", tmp_path / "selection.json", "--text", tmp_path / "text.txt"]
    given += ["--output", tmp_path / "out.json"]
    path = os.pathsep.join([str(ROOT), str(environment)])
    done = subprocess.run(
        [sys.executable, "-c", program, "recipe", "install", *map(str, given)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(installed before)" in done.stdout and done.stdout.endswith("set()\n")


def test_a_pipeline_that_finds_nothing_is_said(
    tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path, "ncbi", "one = 1")
    (tmp_path / "text.txt").write_text("A text.")
    given = [tmp_path, "--selection", selected(tmp_path, "ncbi")]
    given += ["--text", tmp_path / "text.txt", "--output", tmp_path / "out.json"]
    command = ["recipe", "install", *map(str, given)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "finds nothing" not in done.stderr
    (tmp_path / "out.json").unlink()
    monkeypatch.setattr(install_module, "_run", lambda arguments: "[]")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "en_openmed_ncbi finds nothing in" in done.stderr
    (tmp_path / "text.txt").unlink()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and "text.txt: cannot be read" in done.stderr


def test_wheels_are_needed(tmp_path: Path) -> None:
    (tmp_path / "en_openmed_ncbi-0.0.1-py3-none-any.whl").touch()
    with pytest.raises(OpenMedError, match=f"0 wheels en_openmed_ncbi-{__version__}"):
        install(tmp_path, "ncbi")


def test_the_wheels_of_the_selection_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(arguments: list[str]) -> str:
        commands.append(arguments)
        return "[]"

    monkeypatch.setattr(install_module, "_run", run)
    wheels = [
        tmp_path / f"en_openmed_{name}-py3-none-any.whl"
        for name in (f"bc5cdr_chem-{__version__}", f"ncbi-{__version__}", "ncbi-0.0.1", "s800-9")
    ]
    for wheel in wheels:
        wheel.touch()
    assert len(install(tmp_path, "bc5cdr-chem", "ncbi")) == 2
    assert [word for word in commands[0] if word.endswith(".whl")] == list(map(str, wheels[:2]))
    installed = json.loads((tmp_path / "out.json").read_text())
    assert list(installed) == ["en_openmed_bc5cdr_chem", "en_openmed_ncbi"]


def test_a_wheel_that_pip_refuses_is_shown(tmp_path: Path) -> None:
    (tmp_path / f"en_openmed_ncbi-{__version__}-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(OpenMedError, match="pip install' failed"):
        install(tmp_path, "ncbi")
