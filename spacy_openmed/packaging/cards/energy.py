"""What a training run has used, as text."""

from typing import Any


def energy_facts(record: dict[str, Any]) -> dict[str, str]:
    """Rows of a card: time, device, energy and carbon; none where the record has no "energy".

    record (dict): Of a training run; "energy" is described at ``training.energy.Meter``.
    RETURNS (dict): Name to text.
    """
    used = record.get("energy")
    if not used:
        return {}
    parts = f", in {used['parts']} parts" if used["parts"] > 1 else ""
    if used["tdp_kwh"] is None:
        by_tdp = f"not known: {used['tdp_note']}"
    else:
        watts = "TDP" if used["tdp_watts"] is None else f"TDP of {used['tdp_watts']:g} W"
        note = f" ({used['tdp_note']})" if used["tdp_note"] else ""
        by_tdp = (
            f"{_amount(used['tdp_kwh'])} kWh, {_amount(used['tdp_g_co2'])} g CO2: {watts}{note} × "
            f"hours × {used['grid_g_per_kwh']} g CO2 a kWh, as arXiv 2508.01630 reckons"
        )
    device = used["device"] or "an unknown device"
    facts = {
        "Time and device": f"{_hours(used)} hours on {device}{parts}",
        "Energy and carbon by TDP": by_tdp,
    }
    if used["codecarbon"]:
        facts["Energy and carbon by codecarbon"] = _codecarbon(used["codecarbon"], _hours(used))
    return facts


def _codecarbon(found: dict[str, Any], hours: str) -> str:
    country = found["country"]
    grid = f"the grid of {country}" if country else "an average grid of the world, no country set"
    whose = {"machine": "the whole machine", "process": "this process"}
    return "; ".join(
        [
            f"{_amount(found['kwh'])} kWh, {_amount(found['g_co2'])} g CO2 with {grid}",
            *(
                f"{kind}: {', '.join(found[kind]).upper()}"
                for kind in ("measured", "estimated")
                if found[kind]
            ),
            whose.get(found["tracking_mode"], found["tracking_mode"]),
            *([] if _hours(found) == hours else [f"over {_hours(found)} of the hours"]),
            f"codecarbon {found['version']}",
        ]
    )


def _hours(used: dict[str, Any]) -> str:
    return f"{used['seconds'] / 3600:.2f}"


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
