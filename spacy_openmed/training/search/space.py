"""The space of a search: which settings it may change, and to what."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import OpenMedError
from ..begun import flat
from ..settings import Dimension, FinetuneSettings, SearchSettings, from_dict, to_dict

if TYPE_CHECKING:
    import optuna

Values = dict[str, Any]


def check(settings: SearchSettings, start: FinetuneSettings) -> None:
    """Refuse a space that cannot be searched.

    start (FinetuneSettings): Where the search starts from. It must lie in the space, because
        it is the first trial, and what the gain is counted from.
    RAISES (OpenMedError): Says which setting, and why.
    """
    if not settings.space:
        raise OpenMedError("The search has no [space]: name a setting and what it may be.")
    known = flat(to_dict(start))
    for name in (*settings.space, *settings.fixed):
        if name not in known:
            raise OpenMedError(
                f"There is no setting '{name}' to search. Known: {', '.join(known)}."
            )
    if both := sorted(set(settings.space) & set(settings.fixed)):
        raise OpenMedError(f"In [space] and in [fixed]: {', '.join(both)}. Leave one.")
    for name, dimension in settings.space.items():
        _check_dimension(name, dimension, known[name])
        for value in dimension.choices or (dimension.low, dimension.high):
            # Says what is wrong with a value of the wrong type.
            apply(start, {name: _whole(known[name], value)})
    apply(start, settings.fixed)


def _check_dimension(name: str, dimension: Dimension, start: Any) -> None:
    listed = dimension.choices
    if listed and (dimension.low or dimension.high or dimension.log):
        raise OpenMedError(f"[space] {name}: choices, or low and high, not both.")
    if not listed and not dimension.low < dimension.high:
        raise OpenMedError(f"[space] {name}: low must be below high.")
    if dimension.log and dimension.low <= 0:
        raise OpenMedError(f"[space] {name}: a logarithmic scale begins above 0.")
    if not listed and not isinstance(start, int | float):
        raise OpenMedError(f"[space] {name} is no number: list its choices.")
    if start not in listed if listed else not dimension.low <= start <= dimension.high:
        raise OpenMedError(
            f"[space] {name}: {start!r}, which the search starts from and is compared with, is "
            f"not in it. Widen the space, or start from other settings."
        )


def point(settings: SearchSettings, start: FinetuneSettings) -> Values:
    """Where in the space the settings lie that the search starts from."""
    known = flat(to_dict(start))
    return {name: known[name] for name in settings.space}


def suggest(settings: SearchSettings, start: FinetuneSettings, trial: "optuna.Trial") -> Values:
    """Let a trial choose a value for every dimension.

    RETURNS (dict): Dotted name to value.
    """
    known = flat(to_dict(start))
    return {
        name: _suggest(name, dimension, known[name], trial)
        for name, dimension in settings.space.items()
    }


def _suggest(name: str, dimension: Dimension, start: Any, trial: "optuna.Trial") -> Any:
    if dimension.choices:
        return trial.suggest_categorical(name, dimension.choices)
    if type(start) is int:
        low, high = int(dimension.low), int(dimension.high)
        return trial.suggest_int(name, low, high, log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def apply(start: FinetuneSettings, values: Mapping[str, Any]) -> FinetuneSettings:
    """Settings with some of them changed.

    values (Mapping[str, Any]): Dotted name to value. With "lora.rank" and no "lora.alpha",
        alpha follows the rank, so that the update keeps its scale alpha / rank.
    RAISES (OpenMedError): A value is of the wrong type.
    """
    data = to_dict(start)
    for name, value in values.items():
        *sections, key = name.split(".")
        target = data
        for section in sections:
            target = target[section]
        target[key] = value
    changed = from_dict(FinetuneSettings, data, "search")
    if "lora.rank" in values and "lora.alpha" not in values:
        alpha = round(start.lora.alpha * changed.lora.rank / start.lora.rank)
        changed = replace(changed, lora=replace(changed.lora, alpha=alpha))
    return changed


def most_epochs(settings: SearchSettings, start: FinetuneSettings) -> int:
    """The most epochs that a trial may have."""
    dimension = settings.space.get("optim.epochs")
    listed = [dimension.high, *dimension.choices] if dimension else [start.optim.epochs]
    return max(1, int(max(listed)))


def _whole(start: Any, value: Any) -> Any:
    """A bound of an interval of whole numbers is read as a float."""
    return int(value) if type(start) is int and isinstance(value, float) else value
