"""Time, energy and carbon of a training run.

Two figures side by side. One is that of arXiv 2508.01630: thermal design power (TDP) of the
devices × hours × a fixed carbon intensity of the grid. The other is codecarbon's (extra
``carbon``), which reads the counters that a machine has and estimates the rest. Both are a
report and no condition: what fails here becomes a warning in the record, never an error.

codecarbon is kept off the network, off the disk and off the terminal. It takes the country whose
grid it reckons with from its own setting ``CODECARBON_COUNTRY_ISO_CODE`` (three letters, such as
FRA); without one it takes the average of the world, and never looks up where the machine is.
"""

import importlib
import importlib.util
import json
import logging
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..errors import OpenMedError
from ..files import atomic_file

# In the folder of every run: what its parts have used so far.
ENERGY = "energy.json"
# The carbon intensity that arXiv 2508.01630 reckons with.
GRID_G_PER_KWH = 242
COUNTRY_SETTING = "CODECARBON_COUNTRY_ISO_CODE"

# Watts, from the vendor's data sheets, by the name that PyTorch reports without "NVIDIA" and
# "Tesla". Whole names: an "A10G" is no A10, and a slice of a card (MIG) has no TDP.
GPU_TDP_WATTS = {
    "B200": 1000,
    "H200": 700,
    "H200 NVL": 600,
    "H100 80GB HBM3": 700,
    "H100 NVL": 400,
    "H100 PCIe": 350,
    "A100-SXM4-40GB": 400,
    "A100-SXM4-80GB": 400,
    "A100-PCIE-40GB": 250,
    "A100 80GB PCIe": 300,
    "A40": 300,
    "A30": 165,
    "A10": 150,
    "L40S": 350,
    "L40": 300,
    "L4": 72,
    "T4": 70,
    "V100-SXM2-16GB": 300,
    "V100-SXM2-32GB": 300,
    "V100-PCIE-16GB": 250,
    "V100-PCIE-32GB": 250,
    "V100S-PCIE-32GB": 250,
    "P100-SXM2-16GB": 300,
    "P100-PCIE-16GB": 250,
    "RTX 6000 Ada Generation": 300,
    "RTX A6000": 300,
    "GeForce RTX 5090": 575,
    "GeForce RTX 4090": 450,
    "GeForce RTX 4080": 320,
    "GeForce RTX 3090 Ti": 450,
    "GeForce RTX 3090": 350,
}

# How codecarbon reads a CPU where it does not estimate.
_CPU_COUNTERS = ("intel_rapl", "intel_power_gadget", "windows_emi")
_JOIN_SECONDS = 5.0


class Meter:
    """Time and energy of a training run, over all its resumptions.

    A context manager around the training. Of several processes only the main one (rank 0)
    measures and writes; all devices count. What was used between the last ``save`` and a kill
    is not counted.

    path (Path): JSON file with what the earlier parts of the run used. Read only to resume;
        otherwise a file that is there is another run's, and goes.
    resume (bool): Whether the run goes on with an earlier one.
    tdp_watts (float): TDP of all devices of the run together; 0: look it up.
    """

    def __init__(self, path: Path, resume: bool, tdp_watts: float = 0.0) -> None:
        self.path = path
        self._resume = resume
        self._main = _variable("RANK", _variable("LOCAL_RANK", 0)) == 0
        self._earlier: dict[str, Any] | None = None
        self._device = {"device": None, **_tdp(note="not measured")}
        self._tdp_watts = tdp_watts
        self._codecarbon: _Codecarbon | None = None
        self._used: dict[str, Any] | None = None
        self._warnings: list[str] = []
        self._begun: float | None = None
        self._seconds = 0.0

    def __enter__(self) -> "Meter":
        if self._main:
            self._start()
        # Looking the machine up takes seconds, which are not the training's.
        self._begun = time.monotonic()
        return self

    def _start(self) -> None:
        if self._resume:
            self._earlier = self._read()
        else:
            # A run that is killed before its first checkpoint must not leave it to its heir.
            self._try("removing an earlier run's figures", self.path.unlink, missing_ok=True)
        self._device = self._find_device()
        if importlib.util.find_spec("codecarbon") is not None:
            self._codecarbon = self._try("codecarbon", _Codecarbon)
        if self._codecarbon is not None:
            for text in self._try("codecarbon", self._codecarbon.warnings) or []:
                self._warn(text)

    def __exit__(self, *exc: Any) -> None:
        if self._codecarbon is not None:
            self._try("codecarbon", self._codecarbon.stop)
        self._seconds = self._elapsed()
        self._begun = None
        # A run that was refused at once leaves no folder behind.
        if not any(exc) or self.path.parent.is_dir():
            self.save()

    def save(self) -> None:
        """Write what the run has used so far; an unwritable file is a warning in the record."""
        if self._main:
            self._try("saving", self._write)

    def to_dict(self) -> dict[str, Any]:
        """What the run has used so far.

        RETURNS (dict): "seconds": wall time of all parts of the run; "parts": 1 and one more
            for each resumption; "device": names and numbers; "tdp_watts": of all devices
            together, null where it is unknown or differs between the parts, "tdp_source":
            "given", "table" (``GPU_TDP_WATTS``) or "codecarbon" (its table of CPUs), "tdp_note":
            why there is none, or what it is worth; "tdp_kwh": watts × hours / 1000, null where
            the TDP of a part is unknown; "tdp_g_co2": times "grid_g_per_kwh"; "codecarbon": null
            without it, else "version", "seconds" that it saw, "kwh" ("cpu_kwh", "gpu_kwh" and
            "ram_kwh" together), "g_co2", "country" (null: average of the world), "region",
            "country_setting": the setting as it was, "tracking_mode": "machine" or "process",
            "pue": what cooling and the like multiply the energy by, "measured" and "estimated":
            of "cpu", "gpu" and "ram"; "warnings": what failed.
        """
        if self._codecarbon is not None:
            self._used = self._try("codecarbon", self._codecarbon.used) or self._used
        seconds = self._elapsed()
        watts = self._device["tdp_watts"]
        kwh = None if watts is None else watts * seconds / 3600 / 1000
        part = {
            "seconds": round(seconds, 1),
            "parts": 1,
            **self._device,
            "tdp_kwh": kwh,
            "tdp_g_co2": None if kwh is None else kwh * GRID_G_PER_KWH,
            "grid_g_per_kwh": GRID_G_PER_KWH,
            "codecarbon": self._used,
            "warnings": list(self._warnings),
        }
        return part if self._earlier is None else total([self._earlier, part])

    def _find_device(self) -> dict[str, Any]:
        gpus = self._try("finding the devices", _gpu_names)
        if self._tdp_watts > 0:
            tdp = _tdp(float(self._tdp_watts), "given")
        elif gpus is None:
            tdp = _tdp(note="the devices were not found")
        else:
            tdp = self._try("finding the TDP", _find_tdp, gpus) or _tdp(note="it was not found")
        return {"device": None if gpus is None else _description(gpus), **tdp}

    def _elapsed(self) -> float:
        return self._seconds if self._begun is None else time.monotonic() - self._begun

    def _write(self) -> None:
        with atomic_file(self.path) as part:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf8")

    def _read(self) -> dict[str, Any] | None:
        try:
            earlier: dict[str, Any] = json.loads(self.path.read_text(encoding="utf8"))
            return total([earlier])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._warn(f"{self.path.name}: the earlier parts of the run are lost ({error!r})")
            return None

    def _try(self, task: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        # Anything at all: hours of training are worth more than a figure about them.
        except Exception as error:
            reason = error if isinstance(error, OpenMedError | _CodecarbonError) else repr(error)
            self._warn(f"{task}: {reason}")
            return None

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)


class SaveEnergy(TrainerCallback):
    """Saves a meter whenever the Trainer has saved a checkpoint.

    meter (Meter): The meter of the run.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self.meter.save()


def portion(report: dict[str, Any], share: float) -> dict[str, Any]:
    """What a run has used of a machine that several shared; the time stays its own.

    report (dict): As ``Meter.to_dict`` gives it: of the whole machine.
    share (float): Of the run.
    """
    found = report["codecarbon"]
    return {
        **_times(report, share, ("tdp_kwh", "tdp_g_co2")),
        "codecarbon": found
        and _times(found, share, ("kwh", "cpu_kwh", "gpu_kwh", "ram_kwh", "g_co2")),
    }


def _times(values: dict[str, Any], factor: float, names: Sequence[str]) -> dict[str, Any]:
    scaled = {n: values[n] * factor for n in names if values[n] is not None}
    return {**values, **scaled}


def total(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of what several runs, or parts of one, have used.

    reports (Sequence[dict]): At least one, each as ``Meter.to_dict`` gives it.
    RETURNS (dict): The same for all of them together.
    """
    watts = _distinct(report["tdp_watts"] for report in reports)
    kwh = _sum(report["tdp_kwh"] for report in reports)
    seen = [report["codecarbon"] for report in reports if report["codecarbon"] is not None]
    return {
        "seconds": round(sum(report["seconds"] for report in reports), 1),
        "parts": sum(report["parts"] for report in reports),
        "device": _joined(report["device"] for report in reports),
        "tdp_watts": watts[0] if len(watts) == 1 else None,
        "tdp_source": _joined(report["tdp_source"] for report in reports),
        "tdp_note": _joined(report["tdp_note"] for report in reports),
        "tdp_kwh": kwh,
        "tdp_g_co2": _sum(report["tdp_g_co2"] for report in reports),
        "grid_g_per_kwh": GRID_G_PER_KWH,
        "codecarbon": _total_codecarbon(seen) if seen else None,
        "warnings": _distinct(text for report in reports for text in report["warnings"]),
    }


def _total_codecarbon(seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sums = ("seconds", "kwh", "cpu_kwh", "gpu_kwh", "ram_kwh", "g_co2")
    names = ("version", "country", "region", "country_setting", "tracking_mode")
    pue = _distinct(one["pue"] for one in seen)
    return {
        **{key: sum(one[key] for one in seen) for key in sums},
        **{key: _joined(one[key] for one in seen) for key in names},
        "pue": pue[0] if len(pue) == 1 else None,
        "measured": sorted({part for one in seen for part in one["measured"]}),
        "estimated": sorted({part for one in seen for part in one["estimated"]}),
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _joined(values: Iterable[str | None]) -> str | None:
    # A value may be such a sum itself.
    return (
        "; ".join(_distinct(one for value in values if value for one in value.split("; "))) or None
    )


def _sum(values: Iterable[float | None]) -> float | None:
    numbers = list(values)
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _variable(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


# Devices


def _machines() -> int:
    world = _variable("WORLD_SIZE", 1)
    return max(1, world // _variable("LOCAL_WORLD_SIZE", world))


def _gpu_names() -> list[str]:
    """The GPUs of all processes; none: the run is on CPUs."""
    if not torch.cuda.is_available():
        return []
    world, seen = _variable("WORLD_SIZE", 1), torch.cuda.device_count()
    # A process has a device to itself, but one alone trains on all that it sees.
    used = seen if world == 1 else min(seen, _variable("LOCAL_WORLD_SIZE", world))
    return [torch.cuda.get_device_name(i) for i in range(used)] * _machines()


def _description(gpus: Sequence[str]) -> str:
    if gpus:
        return ", ".join(f"{number} × {name}" for name, number in Counter(gpus).items())
    cpu = f"{cpu_name()} ({os.cpu_count()} threads)"
    return f"{_machines()} × {cpu}" if _machines() > 1 else cpu


def _tdp(
    watts: float | None = None, source: str | None = None, note: str | None = None
) -> dict[str, Any]:
    return {"tdp_watts": watts, "tdp_source": source, "tdp_note": note}


def _find_tdp(gpus: Sequence[str]) -> dict[str, Any]:
    return _gpu_tdp(gpus) if gpus else _cpu_tdp()


def _gpu_tdp(names: Sequence[str]) -> dict[str, Any]:
    watts = [
        GPU_TDP_WATTS.get(name.removeprefix("NVIDIA ").removeprefix("Tesla ")) for name in names
    ]
    known = [number for number in watts if number is not None]
    if len(known) == len(names):
        return _tdp(float(sum(known)), "table")
    unknown = _distinct(name for name, number in zip(names, watts, strict=True) if number is None)
    return _tdp(note=f"no TDP is known of {', '.join(unknown)}")


def _cpu_tdp() -> dict[str, Any]:
    if importlib.util.find_spec("codecarbon") is None:
        return _tdp(
            note="the TDP of CPUs is looked up in codecarbon (extra carbon), which is not installed"
        )
    with _Quiet():
        cpu: Any = importlib.import_module("codecarbon.core.cpu")
        util: Any = importlib.import_module("codecarbon.core.util")
        watts = cpu.TDP().tdp
        guess = cpu.DEFAULT_POWER_PER_CORE * util.count_cpus()
        sockets = util.count_physical_cpus()
    if watts is None:
        return _tdp(note="codecarbon did not recognise the CPU")
    if watts == guess:
        note = f"{cpu.DEFAULT_POWER_PER_CORE} W a thread: codecarbon has no TDP of this CPU"
        return _tdp(float(watts * _machines()), "codecarbon", note)
    # Of a virtual machine this is the processor's, however little of it the machine has.
    note = f"{sockets} × {watts:g} W, of whole processors"
    return _tdp(float(watts * sockets * _machines()), "codecarbon", note)


def cpu_name() -> str:
    """What the processor calls itself, where that is known."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


# codecarbon


class _CodecarbonError(Exception):
    """codecarbon gave no figures."""


class _Quiet(logging.Filter):
    """Keeps codecarbon's log off the terminal, and the first exception in it.

    codecarbon swallows what it meets and logs it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None and not self.reason:
            self.reason = f"({record.exc_info[1]!r})"
        return False

    def __enter__(self) -> "_Quiet":
        logging.getLogger("codecarbon").addFilter(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        logging.getLogger("codecarbon").removeFilter(self)


class _Codecarbon:
    """codecarbon's offline tracker, with no files, no network, no lock and no output.

    All that could write or send is set here, for codecarbon would take it from files and
    variables of the user's; what describes the machine (country, region, PUE, watts) is left
    to these.

    RAISES (_CodecarbonError): It did not start.
    """

    def __init__(self) -> None:
        self._quiet = _Quiet().__enter__()
        self._emissions: Any = None
        self._stopped = False
        try:
            codecarbon: Any = importlib.import_module("codecarbon")
            country = os.environ.get(COUNTRY_SETTING, "").strip().upper()
            self._tracker: Any = codecarbon.OfflineEmissionsTracker(
                **({"country_iso_code": country} if country else {}),
                output_methods=[],
                output_handlers=[self],
                emissions_endpoint=None,
                # None would make it look for a token under the option's older name.
                electricitymaps_api_token="",
                allow_multiple_runs=True,
                output_dir=tempfile.gettempdir(),
                log_level="warning",
                # What macOS has instead of an estimate asks for root.
                force_mode_cpu_load=sys.platform == "darwin",
            )
            self._tracker.start()
            self.used()
        except BaseException:
            self.stop()
            raise

    def used(self) -> dict[str, Any]:
        """What it has counted so far, as ``Meter.to_dict`` describes it."""
        # stop() leaves the final figures.
        failed = not self._stopped and self._tracker.flush() is None
        found = self._emissions
        if failed or found is None:
            raise _CodecarbonError(f"no figures {self._quiet.reason}".strip())
        parts = [_part(hardware) for hardware in self._tracker._hardware]
        return {
            "version": found.codecarbon_version,
            "seconds": round(found.duration, 1),
            "kwh": found.energy_consumed,
            "cpu_kwh": found.cpu_energy,
            "gpu_kwh": found.gpu_energy,
            "ram_kwh": found.ram_energy,
            "g_co2": 1000 * found.emissions,
            # A code that codecarbon does not know counts as none.
            "country": found.country_iso_code if found.country_name else None,
            "region": found.region or None,
            "country_setting": f"{COUNTRY_SETTING}={found.country_iso_code or ''}",
            "tracking_mode": found.tracking_mode,
            "pue": found.pue,
            "measured": sorted({name for name, measured in parts if measured}),
            "estimated": sorted({name for name, measured in parts if not measured}),
        }

    def warnings(self) -> list[str]:
        """What should be known of its figures."""
        used, machines = self.used(), _machines()
        unknown = used["country"] is None and not used["country_setting"].endswith("=")
        return [
            *([f"codecarbon does not know the country: {used['country_setting']}"] * unknown),
            *([f"codecarbon saw one machine of {machines}"] if machines > 1 else []),
        ]

    def stop(self) -> None:
        """Stop its threads and give the log back."""
        self._stopped = True
        tracker = getattr(self, "_tracker", None)
        names = ("_scheduler", "_scheduler_monitor_power")
        schedulers = [s for s in (getattr(tracker, name, None) for name in names) if s is not None]
        try:
            if tracker is not None:
                tracker.stop()
            for scheduler in schedulers:
                # A timer that goes off while it is stopped would start the next one.
                scheduler.stop()
            for thread in threading.enumerate():
                owner = getattr(getattr(thread, "function", None), "__self__", None)
                if any(owner is scheduler for scheduler in schedulers):
                    thread.join(_JOIN_SECONDS)
        finally:
            self._quiet.__exit__()

    # What codecarbon calls on an output handler.

    def out(self, total: Any, delta: Any) -> None:
        self._emissions = total

    def live_out(self, total: Any, delta: Any) -> None:
        self._emissions = total

    def task_out(self, data: Any, experiment_name: str) -> None:
        pass

    def exit(self) -> None:
        pass


def _part(hardware: Any) -> tuple[str, bool]:
    """ "cpu", "gpu" or "ram", and whether codecarbon measures or else estimates it."""
    kind = type(hardware).__name__
    if kind == "CPU":
        return "cpu", hardware._mode in _CPU_COUNTERS
    # Chips that hold several parts name the one they stand for, and are always measured.
    return getattr(hardware, "chip_part", kind).lower(), kind != "RAM"
