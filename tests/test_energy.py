"""Time, energy and carbon of training runs: what is counted, over kills, and what may not happen.

Most tests run as if codecarbon were not installed, or with a stand-in. Those of the real one are
skipped where it is not.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback, TrainingArguments

from spacy_openmed.packaging.cards import energy_facts
from spacy_openmed.training import energy
from spacy_openmed.training.energy import GRID_G_PER_KWH, Meter, SaveEnergy, total
from spacy_openmed.training.trainer import TrainableOnlyTrainer

has_codecarbon = importlib.util.find_spec("codecarbon") is not None
needs_codecarbon = pytest.mark.skipif(not has_codecarbon, reason="needs codecarbon (extra carbon)")
PROCESSES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1e6

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROCESSES, energy.COUNTRY_SETTING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the meters, which then have no codecarbon."""
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    return clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "energy.json"


def killed(path: Path, resume: bool, clock: Clock, saved: float, lost: float) -> None:
    """A run that ends without a word some time after it saved."""
    meter = Meter(path, resume, 100).__enter__()
    clock.now += saved
    meter.save()
    clock.now += lost


# What is counted


def test_tdp_times_hours_times_the_grid(path: Path, clock: Clock) -> None:
    with Meter(path, resume=False, tdp_watts=250) as meter:
        clock.now += 2 * 3600
    clock.now += 3600
    found = meter.to_dict()
    assert found["seconds"] == 7200 and found["parts"] == 1
    assert (found["tdp_watts"], found["tdp_source"]) == (250, "given")
    assert found["tdp_kwh"] == pytest.approx(0.5)
    assert found["tdp_g_co2"] == pytest.approx(121)
    assert found["grid_g_per_kwh"] == GRID_G_PER_KWH == 242
    assert found["codecarbon"] is None and found["warnings"] == []
    assert f"({os.cpu_count()} threads)" in found["device"]
    assert json.loads(path.read_text(encoding="utf8")) == found


def test_figures_of_a_run_that_is_still_going(path: Path, clock: Clock) -> None:
    with Meter(path, resume=False, tdp_watts=1000) as meter:
        clock.now += 36
        assert meter.to_dict()["tdp_kwh"] == pytest.approx(0.01)
        assert not path.exists()
        clock.now += 36
        assert meter.to_dict()["seconds"] == 72


def test_a_clock_that_is_set_back_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with Meter(path, resume=False) as meter:
        monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= meter.to_dict()["seconds"] < 600


# Kills and resumptions


def test_killed_five_times(path: Path, clock: Clock) -> None:
    for part in range(5):
        killed(path, part > 0, clock, saved=600, lost=60)
    with Meter(path, resume=True, tdp_watts=100) as meter:
        clock.now += 600
    found = meter.to_dict()
    assert (found["seconds"], found["parts"]) == (3600, 6)
    assert found["tdp_watts"] == 100 and found["tdp_kwh"] == pytest.approx(0.1)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(1, 10_000))
def test_parts_add_up_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, parts: list[float], watts: int
) -> None:
    path = tmp_path_factory.mktemp("parts") / "energy.json"
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(energy, "time", clock)
        patch.setitem(sys.modules, "codecarbon", None)
        for number, seconds in enumerate(parts):
            with Meter(path, number > 0, watts):
                clock.now += seconds
    found = json.loads(path.read_text(encoding="utf8"))
    assert found["parts"] == len(parts)
    assert found["seconds"] == pytest.approx(sum(parts), abs=0.1 * len(parts))
    assert found["tdp_kwh"] == pytest.approx(watts * sum(parts) / 3.6e6, abs=1e-6)
    assert found["tdp_g_co2"] == pytest.approx(found["tdp_kwh"] * GRID_G_PER_KWH)


def test_resuming_with_nothing_there_begins_at_zero(path: Path, clock: Clock) -> None:
    with Meter(path, resume=True, tdp_watts=100) as meter:
        clock.now += 5
    assert meter.to_dict()["seconds"] == 5 and meter.to_dict()["warnings"] == []


def test_figures_of_an_unrelated_run_are_not_inherited(path: Path, clock: Clock) -> None:
    with Meter(path, resume=False, tdp_watts=100):
        clock.now += 1000
    # Killed before its first checkpoint: what it leaves is its own or nothing.
    Meter(path, resume=False, tdp_watts=100).__enter__()
    with Meter(path, resume=True, tdp_watts=100) as meter:
        clock.now += 5
    assert meter.to_dict()["seconds"] == 5


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seconds": "x"}', "\udcff"])
def test_a_damaged_file_is_a_warning(path: Path, clock: Clock, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content, encoding="utf8", errors="surrogateescape")
    with Meter(path, resume=True, tdp_watts=100) as meter:
        clock.now += 5
    (warning,) = meter.to_dict()["warnings"]
    assert warning.startswith("energy.json: the earlier parts of the run are lost")
    assert meter.to_dict()["seconds"] == 5


def test_resumed_on_another_device(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, names in enumerate((["NVIDIA H200"], ["Tesla T4"] * 2, ["NVIDIA H200"])):
        cuda(monkeypatch, names)
        with Meter(path, part > 0) as meter:
            clock.now += 3600
    found = meter.to_dict()
    assert found["device"] == "1 × NVIDIA H200; 2 × Tesla T4"
    assert found["tdp_watts"] is None and found["tdp_source"] == "table"
    assert found["tdp_kwh"] == pytest.approx(0.7 + 2 * 0.07 + 0.7)


def test_one_part_without_tdp_leaves_the_sum_open(path: Path, clock: Clock) -> None:
    with Meter(path, resume=False, tdp_watts=100):
        clock.now += 5
    with Meter(path, resume=True) as meter:
        clock.now += 5
    found = meter.to_dict()
    assert found["seconds"] == 10
    assert found["tdp_kwh"] is None and found["tdp_g_co2"] is None
    assert "extra carbon" in found["tdp_note"]


def test_an_interrupted_run_keeps_what_it_used(path: Path, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), Meter(path, resume=False, tdp_watts=100) as meter:
        meter.save()
        clock.now += 30
        raise KeyboardInterrupt
    assert json.loads(path.read_text(encoding="utf8"))["seconds"] == 30


def test_a_run_that_is_refused_leaves_no_folder(path: Path, clock: Clock) -> None:
    with pytest.raises(ValueError), Meter(path, resume=False):
        raise ValueError
    assert not path.parent.exists()


def test_an_unwritable_file_is_a_warning(path: Path, clock: Clock) -> None:
    path.mkdir(parents=True)
    with Meter(path, resume=False, tdp_watts=100) as meter:
        clock.now += 5
        meter.save()
    assert meter.to_dict()["seconds"] == 5
    assert any(f"saving: {path} is a folder" in text for text in meter.to_dict()["warnings"])


def test_saved_at_each_checkpoint(path: Path, clock: Clock) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.now += 10
            if state.global_step == 5:
                raise KeyboardInterrupt

    class Model(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"loss": super().forward(x).sum()}

    arguments = TrainingArguments(
        output_dir=str(path.parent / "checkpoints"),
        per_device_train_batch_size=1,
        max_steps=6,
        save_steps=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    meter = Meter(path, resume=False, tdp_watts=100).__enter__()
    trainer = TrainableOnlyTrainer(
        model=Model(2, 1),
        args=arguments,
        train_dataset=[{"x": torch.ones(2)}] * 6,  # type: ignore[arg-type]
        callbacks=[SaveEnergy(meter), Stop()],
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert json.loads(path.read_text(encoding="utf8"))["seconds"] == 40


# Devices


def cuda(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: names[i])


@pytest.mark.parametrize(
    ("names", "device", "watts"),
    [
        (["NVIDIA H200"], "1 × NVIDIA H200", 700),
        (["NVIDIA A100-SXM4-80GB"] * 4, "4 × NVIDIA A100-SXM4-80GB", 1600),
        (["Tesla T4", "NVIDIA L4"], "1 × Tesla T4, 1 × NVIDIA L4", 142),
        (["NVIDIA A10G"], "1 × NVIDIA A10G", None),
        (["NVIDIA H100 80GB HBM3 MIG 1g.10gb"], "1 × NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
    ],
)
def test_gpus(
    path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    device: str,
    watts: float | None,
) -> None:
    cuda(monkeypatch, names)
    with Meter(path, resume=False) as meter:
        pass
    found = meter.to_dict()
    assert (found["device"], found["tdp_watts"]) == (device, watts)
    assert found["tdp_source"] == ("table" if watts else None)
    assert (found["tdp_note"] is None) == (watts is not None)


def test_devices_of_all_processes_count(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines with eight GPUs each, of which torchrun uses four."""
    cuda(monkeypatch, ["NVIDIA H200"] * 8)
    for name, value in zip(PROCESSES, (0, 0, 8, 4), strict=True):
        monkeypatch.setenv(name, str(value))
    with Meter(path, resume=False) as meter:
        pass
    assert meter.to_dict()["device"] == "8 × NVIDIA H200"
    assert meter.to_dict()["tdp_watts"] == 5600


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_other_processes_measure_nothing(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with Meter(path, resume=False, tdp_watts=100):
        clock.now += 5
    before = path.read_bytes()
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(energy, "_gpu_names", pytest.fail)
    monkeypatch.setattr(energy, "_Codecarbon", pytest.fail)
    monkeypatch.delitem(sys.modules, "codecarbon")
    with Meter(path, resume=False, tdp_watts=100) as meter:
        clock.now += 50
        meter.save()
    assert path.read_bytes() == before
    assert meter.to_dict()["seconds"] == 50 and meter.to_dict()["tdp_kwh"] is None


def test_a_device_that_cannot_be_named_is_a_warning(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(monkeypatch, ["NVIDIA H200"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: [][i])
    with Meter(path, resume=False) as meter:
        clock.now += 5
    found = meter.to_dict()
    assert found["device"] is None and found["seconds"] == 5
    assert "finding the devices" in found["warnings"][0]


# A codecarbon that fails


def stand_in(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> None:
    module = ModuleType("codecarbon")
    module.__spec__ = SimpleNamespace(name="codecarbon")  # type: ignore[assignment]
    module.OfflineEmissionsTracker = tracker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecarbon", module)


class Tracker:
    """Swallows what goes wrong, as codecarbon does."""

    _hardware = ()

    def __init__(self, output_handlers: list[Any], **options: Any) -> None:
        self.handler = output_handlers[0]
        self.broken = False
        self.kwh = 0.0

    def start(self) -> None:
        pass

    def stop(self) -> float | None:
        return self.flush()

    def flush(self) -> float | None:
        if self.broken:
            try:
                raise RuntimeError("the counter is gone")
            except RuntimeError:
                logging.getLogger("codecarbon").warning("stopping", exc_info=True)
            return None
        self.kwh += 1
        self.handler.out(emissions(self.kwh), None)
        return self.kwh


def emissions(kwh: float) -> SimpleNamespace:
    return SimpleNamespace(
        codecarbon_version="0",
        duration=10 * kwh,
        energy_consumed=kwh,
        cpu_energy=kwh,
        gpu_energy=0.0,
        ram_energy=0.0,
        emissions=kwh / 2,
        country_iso_code="FRA",
        country_name="France",
        region=None,
        tracking_mode="machine",
        pue=1.0,
    )


def test_a_codecarbon_that_raises(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise OSError("no counter")

    stand_in(monkeypatch, refuse)
    with Meter(path, resume=False, tdp_watts=100) as meter:
        pass
    assert meter.to_dict()["codecarbon"] is None
    assert meter.to_dict()["warnings"] == ["codecarbon: OSError('no counter')"]
    assert logging.getLogger("codecarbon").filters == []


def test_a_codecarbon_that_keeps_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Tracker):
        def start(self) -> None:
            self.broken = True

    stand_in(monkeypatch, Broken)
    with Meter(path, resume=False, tdp_watts=100) as meter:
        pass
    assert meter.to_dict()["codecarbon"] is None
    (warning,) = meter.to_dict()["warnings"]
    assert warning == "codecarbon: no figures (RuntimeError('the counter is gone'))"
    assert capfd.readouterr() == ("", "")


def test_a_codecarbon_that_breaks_on_the_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, Tracker)
    with Meter(path, resume=False, tdp_watts=100) as meter:
        meter.save()
        before = meter.to_dict()["codecarbon"]
        assert meter._codecarbon is not None
        meter._codecarbon._tracker.broken = True
        meter.save()
    found = meter.to_dict()
    assert found["codecarbon"] == before and before["kwh"] > 0
    assert before["g_co2"] == 500 * before["kwh"]
    assert len(found["warnings"]) == 1 and "the counter is gone" in found["warnings"][0]
    assert capfd.readouterr() == ("", "")


def test_codecarbon_over_resumptions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, Tracker)
    with Meter(path, resume=False, tdp_watts=100) as meter:
        pass
    first = meter.to_dict()["codecarbon"]
    with Meter(path, resume=True, tdp_watts=100) as meter:
        meter.save()
    found = meter.to_dict()["codecarbon"]
    assert found["kwh"] == json.loads(path.read_text(encoding="utf8"))["codecarbon"]["kwh"]
    assert found["kwh"] > first["kwh"]
    assert found["seconds"] == 10 * found["kwh"] and found["g_co2"] == 500 * found["kwh"]
    assert (found["country"], found["version"], found["pue"]) == ("FRA", "0", 1.0)
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with Meter(path, resume=True, tdp_watts=100) as meter:
        pass
    assert meter.to_dict()["codecarbon"] == found


# The real one

# Refuses the network and notes whoever asks for it, and every file opened to be written.
GUARD = """
    import json, os, sys, threading, warnings
    asked, written = [], []
    def guard(event, details):
        if event.startswith("socket."):
            asked.append(event)
            raise OSError("no network here")
        if event == "open" and isinstance(details[0], str) and details[2] & os.O_ACCMODE:
            written.append(details[0])
    from pathlib import Path
    from spacy_openmed.training.energy import Meter
    warnings.simplefilter("error")
    before = set(threading.enumerate())
    sys.addaudithook(guard)
    folder = Path(sys.argv[1])
    with Meter(folder / "a.json", False) as first, Meter(folder / "b.json", False) as second:
        sum(range(3_000_000))
        first.save()
    left = [t.name for t in set(threading.enumerate()) - before]
    reports = [m.to_dict() for m in (first, second)]
    json.dump({"asked": asked, "written": written, "left": left, "reports": reports}, sys.stdout)
"""


def run_guarded(tmp_path: Path, **variables: str) -> dict[str, Any]:
    places = {name: tmp_path / name for name in ("home", "temporary", "current", "output")}
    for place in places.values():
        place.mkdir()
    config = "[codecarbon]\nemissions_endpoint = http://localhost:1\nsave_to_api = true\n"
    (places["home"] / ".codecarbon.config").write_text(config)
    (places["temporary"] / ".codecarbon.lock").touch()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GUARD), str(places["output"])],
        cwd=places["current"],
        env={
            **os.environ,
            "HOME": str(places["home"]),
            "TMPDIR": str(places["temporary"]),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["asked"] == [] and found["left"] == []
    own = str(places["output"])
    assert [n for n in found["written"] if not n.startswith((own, os.devnull))] == []
    assert list(places["current"].iterdir()) == []
    assert [p.name for p in places["temporary"].iterdir()] == [".codecarbon.lock"]
    return found


@needs_codecarbon
def test_codecarbon_stays_off_network_disk_and_terminal(tmp_path: Path) -> None:
    """Two meters at once, over another's lock file, in a process that would send figures."""
    found = run_guarded(
        tmp_path,
        CODECARBON_COUNTRY_ISO_CODE="fra",
        CODECARBON_OUTPUT_METHODS="csv,api,logger",
        CODECARBON_ALLOW_MULTIPLE_RUNS="false",
        CODECARBON_ELECTRICITYMAPS_API_TOKEN="none",
        CODECARBON_CO2_SIGNAL_API_TOKEN="none",
        CODECARBON_LOG_LEVEL="debug",
    )
    for report in found["reports"]:
        seen = report["codecarbon"]
        assert seen is not None, report["warnings"]
        assert report["warnings"] == []
        assert seen["kwh"] == pytest.approx(seen["cpu_kwh"] + seen["gpu_kwh"] + seen["ram_kwh"])
        assert 0 < seen["g_co2"] < 200 * seen["kwh"], "France has little carbon in its grid"
        assert seen["country"] == "FRA"
        assert seen["country_setting"] == "CODECARBON_COUNTRY_ISO_CODE=FRA"
        assert "ram" in seen["estimated"] and {"cpu"} <= {*seen["measured"], *seen["estimated"]}
        assert seen["seconds"] >= 0 and report["seconds"] >= 0
        assert report["tdp_source"] == "codecarbon" and report["tdp_watts"] > 0


@needs_codecarbon
@pytest.mark.parametrize("country", ["", "XYZ"])
def test_without_a_country_the_average_of_the_world(
    path: Path, monkeypatch: pytest.MonkeyPatch, country: str
) -> None:
    monkeypatch.setenv(energy.COUNTRY_SETTING, country)
    with Meter(path, resume=False, tdp_watts=100) as meter:
        pass
    found = meter.to_dict()
    assert found["codecarbon"]["country"] is None
    assert found["codecarbon"]["g_co2"] == pytest.approx(475 * found["codecarbon"]["kwh"])
    assert bool(found["warnings"]) == bool(country)


@needs_codecarbon
@pytest.mark.parametrize(
    ("model", "sockets", "watts", "note"),
    [
        ("AMD EPYC 9124 16-Core Processor", 2, 400, "2 × 200 W"),
        ("Home-made CPU", 1, 4 * (os.cpu_count() or 1), "4 W a thread"),
    ],
)
def test_tdp_of_cpus(
    path: Path, monkeypatch: pytest.MonkeyPatch, model: str, sockets: int, watts: int, note: str
) -> None:
    from codecarbon.core import cpu, util

    monkeypatch.setattr(cpu, "detect_cpu_model", lambda: model)
    monkeypatch.setattr(util, "count_physical_cpus", lambda: sockets)
    with Meter(path, resume=False) as meter:
        pass
    found = meter.to_dict()
    assert (found["tdp_watts"], found["tdp_source"]) == (watts, "codecarbon")
    assert found["tdp_note"].startswith(note)


@needs_codecarbon
def test_a_wrong_setting_of_codecarbon_is_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODECARBON_TRACKING_MODE", "planet")
    with Meter(path, resume=False, tdp_watts=100) as meter:
        pass
    assert meter.to_dict()["codecarbon"] is None
    assert "no figures" in meter.to_dict()["warnings"][0]
    assert capfd.readouterr() == ("", "")


# Cards


def test_a_card_shows_both_figures(path: Path, clock: Clock) -> None:
    with Meter(path, resume=False, tdp_watts=250) as meter:
        clock.now += 2 * 3600
    report = {**meter.to_dict(), "device": "1 × NVIDIA H200", "parts": 3}
    facts = energy_facts({"energy": report})
    assert facts["Time and device"] == "2.00 hours on 1 × NVIDIA H200, in 3 parts"
    text = facts["Energy and carbon by TDP"]
    assert "0.5 kWh, 121 g CO2" in text and "250 W" in text and "242 g CO2 a kWh" in text
    assert "Energy and carbon by codecarbon" not in facts
    seen = {
        "version": "3.3.2",
        "seconds": 7199.0,
        "kwh": 1234.5,
        "g_co2": 1.5,
        "country": "FRA",
        "tracking_mode": "machine",
        "measured": ["gpu"],
        "estimated": ["cpu", "ram"],
    }
    text = energy_facts({"energy": {**report, "codecarbon": seen}})[
        "Energy and carbon by codecarbon"
    ]
    assert text == (
        "1,234 kWh, 1.5 g CO2 with the grid of FRA; measured: GPU; estimated: CPU, RAM; "
        "the whole machine; codecarbon 3.3.2"
    )
    seen |= {"country": None, "seconds": 3600.0, "measured": []}
    text = energy_facts({"energy": {**report, "codecarbon": seen}})[
        "Energy and carbon by codecarbon"
    ]
    assert "no country set" in text and "over 1.00 of the hours" in text and "measured:" not in text


def test_a_card_says_why_a_figure_is_missing(path: Path, clock: Clock) -> None:
    with Meter(path, resume=False) as meter:
        clock.now += 3600
    facts = energy_facts({"energy": meter.to_dict()})
    assert facts["Energy and carbon by TDP"].startswith("not known: the TDP of CPUs is looked up")


@pytest.mark.parametrize("record", [{}, {"energy": None}])
def test_a_card_of_an_older_record_shows_nothing(record: dict[str, Any]) -> None:
    assert energy_facts(record) == {}


def test_total_of_several_runs(path: Path, clock: Clock) -> None:
    reports = []
    for _ in range(3):
        with Meter(path, resume=False, tdp_watts=100) as meter:
            clock.now += 1200
        reports.append(meter.to_dict())
    found = total(reports)
    assert (found["seconds"], found["parts"]) == (3600, 3)
    assert found["tdp_kwh"] == pytest.approx(0.1) and found["tdp_watts"] == 100
