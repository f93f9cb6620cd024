"""Figures as cells of a table."""

from collections.abc import Sequence
from typing import Any

from .parts import Cell, Code

Row = dict[str, Any]
ABSENT = "–"
# Heads of columns whose cells ``prf`` and ``energy`` give.
PRF = ("P", "R", "F1", "mentions")
ENERGY = ("kWh by TDP", "g CO2 by TDP", "kWh by codecarbon")


def number(value: float | None, digits: int, sign: str = "") -> str:
    """A figure, or the sign that says it is not known."""
    # "z": what is rounded to nothing has no sign.
    return ABSENT if value is None else f"{value:{sign}z.{digits}f}"


def interval(ends: Sequence[float] | None) -> str:
    """An interval after its figure, with a blank before it; nothing where there is none."""
    return f" [{ends[0]:z.1f}, {ends[1]:z.1f}]" if ends else ""


def with_interval(score: Row | None) -> str:
    """F1 of a score with its interval."""
    if not score:
        return ABSENT
    return number(score["f1"], 2) + interval(score["f1_ci"])


def probability(p: float | None) -> str:
    """A probability; one that so few shuffles cannot tell from 0 as a bound."""
    if p is None:
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(amount: int | None) -> str:
    """A number of things."""
    return ABSENT if amount is None else f"{amount:,}"


def percent(share: float | None) -> str:
    """A share, in percent."""
    return ABSENT if share is None else f"{100 * share:.3g} %"


def minutes(row: Row) -> str:
    """The time that a step took."""
    return ABSENT if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"


def prf(score: Row) -> list[Cell]:
    """What stands under ``PRF``, of a score."""
    figures = [number(score[key], 2) for key in ("precision", "recall", "f1")]
    return [*figures, score["tp"] + score["fn"]]


def dataset(row: Row) -> Cell:
    """The id of a dataset, and that it is a part where it is one."""
    code = Code(row["dataset"])
    return (code, " (a part)") if row.get("partial") else code


def energy(row: Row) -> list[str]:
    """What stands under ``ENERGY``, of a step."""
    return [amount(one) for one in amounts(row)]


def amounts(row: Row) -> list[float | None]:
    """The figures under ``ENERGY``, of a step."""
    used = row["energy"] or {}
    measured = used.get("codecarbon") or {}
    return [used.get("tdp_kwh"), used.get("tdp_g_co2"), measured.get("kwh")]


def amount(used: float | None) -> str:
    """An amount of energy or carbon."""
    return ABSENT if used is None else f"{used:.3g}"


def get(row: Row | None, key: str) -> Any:
    """A value of a row, None where there is no row."""
    return row[key] if row else None
