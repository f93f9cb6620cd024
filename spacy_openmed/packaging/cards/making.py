"""How an adapter was made: what the record of its training says."""

from collections.abc import Iterator
from typing import Any

from ... import lineage
from ...tables import markdown
from .energy import energy_facts
from .material import Material
from .source import cited
from .text import Section, listed

# What became of the pre-training's LoRA.
_INITS = {"continue": "continued", "merge": "merged into the backbone"}


def sections(material: Material) -> Iterator[Section]:
    """The training, and what it used."""
    record = material.record
    facts = {
        "Trained parameters": f"{record['trainable_parameters']:,}",
        "Pre-training adapter": _pretraining(record),
        **({"Warm start": warm} if (warm := _warm_start(record)) else {}),
        "Epochs": "; ".join(
            f"{len(run['epochs'])}, the best on dev kept ({max(_f1s(run)):.2f})"
            for run in lineage.runs(record)
        ),
        "Average": _average(record),
        "Scores": _scores(material.adapter.info.temperature, record.get("calibration")),
        **_consistency(material.adapter.info.consistency, record.get("consistency")),
        **({"Precision": record["precision"]} if "precision" in record else {}),
        "Duration": f"{record['seconds'] / 60:.0f} minutes{_before(record)}",
        "Made with": f"spacy-openmed {record['spacy_openmed']}",
    }
    each = "; ".join(", ".join(f"{f1:.2f}" for f1 in _f1s(run)) for run in lineage.runs(record))
    yield Section(
        "Training",
        [
            markdown(["", ""], list(facts.items())),
            f"F1 on dev, raw, after each epoch: {each}.",
            cited([material.training]),
        ],
    )
    yield _energy(material)


def _f1s(run: dict[str, Any]) -> list[float]:
    return [epoch["dev_f1"] for epoch in run["epochs"]]


def _pretraining(record: dict[str, Any]) -> str:
    if not record["init_adapter"]:
        return "none"
    init = record["settings"].get("init", "continue")
    return f"sha256 `{record['init_adapter']}`, {_INITS[init]}"


def _warm_start(record: dict[str, Any]) -> str:
    return "; ".join(
        f"an adapter for `{one['dataset']}`, hash `{one['adapter']}`"
        for one in lineage.starts(record)
    )


def _average(record: dict[str, Any]) -> str:
    if "averaged" not in record:
        return "no, one run"
    own = lineage.runs(record)
    shares = [run.get("share", 1 / len(own)) for run in own]
    parts = f" and shares {', '.join(f'{share:.3g}' for share in shares)}" * (len(set(shares)) > 1)
    return (
        f"of {len(own)} runs with seeds {', '.join(str(run['seed']) for run in own)}{parts}; "
        f"{record['outside_bias']} added to the logit of O, chosen on dev"
    )


def _scores(temperature: float, fitted: dict[str, Any] | None) -> str:
    """How an entity's score was made a probability of being right."""
    if fitted is None or fitted["temperature"] != temperature:
        return f"temperature {temperature:g}, not fitted"
    before, after = (100 * fitted["ece"][when] for when in ("before", "after"))
    return (
        f"temperature {temperature:g}, fitted on {fitted['entities']:,} entities of dev; expected "
        f"calibration error there {before:.1f} % before, {after:.1f} % after"
    )


def _consistency(least: float | None, fitted: dict[str, Any] | None) -> dict[str, str]:
    """Whether mentions are carried to the same words elsewhere; of older adapters nothing."""
    if fitted is None or fitted["least"] != least:
        return (
            {} if least is None else {"Repeated mentions": f"carried from {least:g} on, not fitted"}
        )
    f1 = fitted["f1"]
    without = f"F1 there {f1['off']:.2f} without"
    tried = [value for key, value in f1.items() if key != "off"]
    if least is None:
        text = f"not carried, chosen on dev: {without}, at best {max(tried):.2f} with it"
    else:
        text = (
            f"those with a score of at least {least:g} are carried to the same words elsewhere in "
            f"the text, chosen on dev: {without}, {f1[str(least)]:.2f} with it"
        )
    return {"Repeated mentions": text}


def _before(record: dict[str, Any]) -> str:
    """The time of the runs before, as far as it is known."""
    found = lineage.earlier(record)
    if found is None:
        return ""
    times = listed([f"{run['seconds'] / 60:.0f}" for run in found.runs])
    counted = f", after runs of {times} minutes" if found.runs else ""
    if found.whole:
        return counted
    own = " that are not parts of this average" if "averaged" in record else ""
    return f"{counted}, without those of what it went on from{own}, which the record does not have"


def _energy(material: Material) -> Section:
    """Of this run, of those before it and, where it is known, of the pre-training."""
    own = energy_facts(material.record)
    runs = lineage.earlier(material.record)
    before = material.pretraining
    earlier = energy_facts(before.content) if before else {}
    rows = [
        *([name, text] for name, text in own.items()),
        *(
            [f"A run before: {name[0].lower()}{name[1:]}", text]
            for run in (runs.runs if runs else ())
            for name, text in energy_facts(run).items()
        ),
        *([f"Pre-training: {name[0].lower()}{name[1:]}", text] for name, text in earlier.items()),
    ]
    used = [material.training, *([before] if before and earlier else [])]
    lacking = [] if own else ["the training"]
    if runs and not runs.whole:
        lacking.append("the runs of what it went on from, or some of them")
    if material.record["init_adapter"] and not earlier:
        lacking.append("the pre-training")
    return Section(
        "Energy and carbon",
        [
            markdown(["", ""], rows) if rows else "",
            cited(used) if rows else "",
            f"Not recorded for {listed(lacking)}." if lacking else "",
            "A search of settings that went before the training is not in these figures."
            if own
            else "",
        ],
    )
