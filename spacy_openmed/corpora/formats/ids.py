"""Ids of documents, each of which names one."""

from ...errors import OpenMedError


class UniqueIds:
    """Sees that no id of a file comes twice. The empty id, which names nothing, may.

    unit (str): What the numbers count: "line", "document", "row".
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._first: dict[str, int] = {}

    def check(self, identifier: str, number: int, where: str) -> None:
        """Remember an id.

        number (int): Where it stands, in units.
        where (str): The same with the file, for the message.
        RAISES (OpenMedError): It was seen before; names both places.
        """
        if identifier and self._first.setdefault(identifier, number) != number:
            raise OpenMedError(
                f"{where}: id '{identifier}' is that of {self._unit} "
                f"{self._first[identifier]}, too."
            )
