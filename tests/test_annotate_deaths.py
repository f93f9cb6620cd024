"""Bulk annotation of documents that kill the process, and of parts whose process was killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_annotate_runs import Stop, options
from test_annotate_runs import adapter as adapter
from test_annotate_runs import source as source

from spacy_openmed.bulk import annotator, deaths, run
from spacy_openmed.bulk.deaths import DIED, Deaths
from spacy_openmed.bulk.ledger import folder_of
from spacy_openmed.bulk.records import Part, Skipped
from spacy_openmed.bulk.results import Result
from spacy_openmed.corpora.documents import Document

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DEADLY = "This text is deadly."
# Annotates in a process that ends as the kernel ends it when memory runs out.
PROCESS = f"""
import json, os, signal, sys
from pathlib import Path
from spacy_openmed.bulk.annotator import Annotator
from spacy_openmed.bulk.options import Options
from spacy_openmed.bulk.run import annotate

original = Annotator.__call__

def call(self, texts):
    if {DEADLY!r} in texts:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, texts)

Annotator.__call__ = call
source, output, adapter = map(Path, sys.argv[1:])
summary = annotate(Options(
    source, output, adapters=(adapter,), part_documents=4, threads=1, precision="fp32", resume=True
))
named = [one.where for one in summary.named["{DIED}"]]
print(json.dumps([summary.documents, summary.reasons, named]))
"""


def test_of_a_part_that_kills_only_the_document_that_does_is_left_out(
    adapter: Path, source: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    # In the same part as the row that has no text.
    rows[6]["text"] = DEADLY
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run.annotate(options(source, whole, adapter))
    command = [sys.executable, "-c", PROCESS, str(source), str(output), str(adapter)]
    for parts in (1, 1, 1):
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert len(list(folder_of(output).glob("*.part"))) == parts
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [21, {"no field 'text'": 1, DIED: 1}, ["document 'd6'"]]
    expected = whole.read_text().splitlines(keepends=True)
    assert json.loads(expected.pop(6))["id"] == "d6"
    assert output.read_text() == "".join(expected)


class Died(BaseException):
    """Stands for the end of a process."""


class Remembering(Deaths):
    """Of a process that ends without a word."""

    def release(self, source: int, number: int) -> None:
        pass


class StandIn:
    """Annotates, unless that kills.

    deadly (set[str]): Texts that kill.
    room (int): Documents that fit into memory.
    outside (list[int]): Annotations after which the process is killed from outside.
    """

    def __init__(self, deadly: set[str], room: int, outside: Sequence[int] = ()) -> None:
        self.deadly, self.room, self.outside = deadly, room, outside
        self.begun = 0

    def annotate(self, part: Part, writer: Any, together: bool = True) -> Result:
        self.begun += 1
        texts = [document.text for document in part.documents]
        if (
            self.begun in self.outside
            or self.deadly & set(texts)
            or (together and len(texts) > self.room)
        ):
            raise Died
        payload = json.dumps([together, texts]).encode()
        return Result(0, part.number, part.last, len(texts), 0, {}, part.skipped, payload)


def annotate(stand_in: StandIn, part: Part, path: Path) -> tuple[Result, int]:
    """RETURNS (tuple): The result, and how many processes died on the way."""
    died = 0
    while True:
        try:
            # Each process reads what those before it noted.
            notes = Remembering(path)
            return deaths.annotate(stand_in, part, None, notes), died  # type: ignore[arg-type]
        except Died:
            died += 1


def part_of(texts: Sequence[str]) -> Part:
    documents = [Document(f"d{text}", text, []) for text in texts]
    return Part(0, 3, documents, [Skipped("in.jsonl:1", "bad")], True)


@given(texts=st.sets(st.integers(0, 9).map(str)).map(sorted), data=st.data())
def test_documents_that_kill_are_found_whichever_they_are(
    texts: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    deadly = data.draw(st.sets(st.sampled_from(texts))) if texts else set()
    path = tmp_path_factory.mktemp("run") / "begun.json"
    result, died = annotate(StandIn(deadly, 10), part_of(texts), path)
    assert json.loads(result.payload) == [True, [text for text in texts if text not in deadly]]
    lost = [(f"document 'd{text}'", DIED) for text in texts if text in deadly]
    assert result.skipped == [("in.jsonl:1", "bad"), *lost]
    assert died == (1 + 2 * len(deadly) if deadly else 0)
    assert not path.exists()


@pytest.mark.parametrize("first", range(1, 8))
@pytest.mark.parametrize("second", range(2, 9))
def test_processes_killed_from_outside_cost_no_document(
    first: int, second: int, tmp_path: Path
) -> None:
    stand_in = StandIn(set(), 10, (first, second))
    result, died = annotate(stand_in, part_of("abcd"), tmp_path / "begun.json")
    # As if nothing had been: also the batches are the same.
    assert json.loads(result.payload) == [True, list("abcd")]
    assert [one.reason for one in result.skipped] == ["bad"] and died <= 2


def test_a_part_for_which_memory_has_no_room_is_annotated_one_by_one(tmp_path: Path) -> None:
    result, died = annotate(StandIn({"c"}, 2), part_of("abcde"), tmp_path / "begun.json")
    assert json.loads(result.payload) == [False, list("abde")]
    # As a whole, the document twice, and what is left of the part twice.
    assert [one.where for one in result.skipped] == ["in.jsonl:1", "document 'dc'"] and died == 5


def test_what_ends_in_order_is_no_death(tmp_path: Path) -> None:
    path = tmp_path / "begun.json"
    for _ in range(4):
        with pytest.raises(Died):
            deaths.annotate(StandIn(set(), 10, [1]), part_of("ab"), None, Deaths(path))  # type: ignore[arg-type]
        assert not path.exists()
    with pytest.raises(Died):
        deaths.annotate(StandIn({"b"}, 10), part_of("ab"), None, Remembering(path))  # type: ignore[arg-type]
    # Ctrl-C while "b" is tried, again and again: what is known already is kept.
    for _ in range(4):
        with pytest.raises(Died):
            deaths.annotate(StandIn({"b"}, 10), part_of("ab"), None, Deaths(path))  # type: ignore[arg-type]
        assert json.loads(path.read_text())["parts"][0]["at"] == 1
    assert deaths.annotate(StandIn(set(), 10), part_of("ab"), None, Deaths(path)).documents == 2  # type: ignore[arg-type]


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "begun.json"
    for text in ("", "{", "{}", '{"parts": [{"source": 0}]}', '{"parts": 1}'):
        path.write_text(text)
        result, died = annotate(StandIn(set(), 10), part_of("ab"), path)
        assert result.documents == 2 and died == 0


def test_deaths_are_counted_until_something_is_done() -> None:
    notes = Deaths()
    notes.begin(0, 0, 2)
    notes.mark(0, 0, -1)
    for expected, at in ((1, 0), (2, 0), (3, 1)):
        begun = notes.begin(0, 0, 2)
        assert (notes.in_a_row(), begun.at) == (expected, at)
        notes.mark(0, 0, begun.at)
    # The second document lives.
    notes.mark(0, 0, 2)
    assert notes.in_a_row() == 0 and notes.begin(0, 0, 2).lost == [0]
    notes.end(0, 0)
    assert notes.in_a_row() == 0 and notes.begin(0, 0, 2) == deaths.Begun()


def test_a_run_that_starts_anew_knows_of_no_deaths(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"

    def stop(*args: Any, **kwargs: Any) -> Result:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(annotator.Annotator, "annotate", stop)
        patch.setattr(Deaths, "release", lambda *args: None)
        with pytest.raises(Stop):
            run.annotate(options(source, output, adapter))
    begun = folder_of(output) / "begun.json"
    row = {"source": 0, "number": 0, "at": 1, "times": 2, "lost": [0]}
    assert json.loads(begun.read_text()) == {"parts": [{**row, "at": -1, "times": 1, "lost": []}]}
    begun.write_text(json.dumps({"parts": [row]}))
    summary = run.annotate(options(source, output, adapter, overwrite=True))
    assert summary is not None and summary.documents == 22
