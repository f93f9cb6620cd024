"""What a run was begun with: a run that goes on must go on with the same."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import OpenMedError
from ..files import read_json_if_there, write_json

# In the folder of every run.
RUN = "run.json"
_ADVICE = "Nobody can tell what the run there was begun with. Choose another --output."


def write(path: Path, facts: dict[str, Any]) -> None:
    """Note what a run is begun with, whole or not at all.

    path (Path): The file, in the folder of the run.
    facts (dict): Whatever changes the result, as JSON has it; sections may be nested.
    RAISES (OpenMedError, OSError): The file cannot be made, or not be written to its end.
    """
    write_json(path, facts)


def check(path: Path, now: dict[str, Any], free: Collection[str] = ()) -> bool:
    """Refuse to go on with others than a run was begun with.

    path (Path): What ``write`` wrote.
    now (dict): The facts as they are now.
    free (Collection[str]): Facts that may differ: dotted names ("settings.save_steps"), of
        sections, too.
    RETURNS (bool): True where the file is there and its facts are those of now; False where
        there is no such file, so that nothing can be said.
    RAISES (OpenMedError): Names each fact that differs, with both values; or the file cannot be
        read, or is not what ``write`` writes.
    """
    before = read_json_if_there(path, _ADVICE)
    if before is None:
        return False
    if not before.keys() & now.keys():
        raise OpenMedError(f"{path} is broken. {_ADVICE}")
    differing = _differences(before, now, free)
    if differing:
        raise OpenMedError(
            f"The run in {path.parent} was begun with others than it is to go on with: "
            f"{'; '.join(differing)}. Give the same again, or choose another --output."
        )
    return True


def _differences(before: dict[str, Any], now: dict[str, Any], free: Collection[str]) -> list[str]:
    # JSON knows no tuples.
    old, new = flat(before), flat(json.loads(json.dumps(now)))
    return [
        f"{name} was {old.get(name, 'absent')}, is {new.get(name, 'absent')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
        and not any(f"{name}.".startswith(f"{other}.") for other in free)
    ]


_ABSENT = object()


def flat(facts: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Nested sections as dotted names ("settings.optim.seed")."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{section}{key}."))
        else:
            found[f"{section}{key}"] = value
    return found
