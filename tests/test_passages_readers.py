"""Readers of the pre-training sources: what each format is really like, and bad input."""

import gzip
import itertools
import json
import os
import random
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passage_files import (
    aact,
    citation,
    notes_csv,
    page,
    paper,
    pubmed_xml,
    study,
    write,
)

from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.errors import OpenMedError
from spacy_openmed.passages import arxiv, clinicaltrials, mimic, plain, pubmed, sources
from spacy_openmed.passages.pubmed import PmidSet
from spacy_openmed.passages.records import Record
from spacy_openmed.passages.settings import PassageSettings


def texts(records: Iterator[Record]) -> dict[str, str]:
    found = list(records)
    assert len({r.id for r in found}) == len(found)
    return {r.id: r.text for r in found}


# PubMed


def read_pubmed(tmp_path: Path, *files: str) -> dict[str, str]:
    paths = [
        write(tmp_path / f"pubmed25n{i:04d}.xml.gz", content) for i, content in enumerate(files)
    ]
    return texts(pubmed.read(paths))


def test_pubmed_has_title_and_abstract_and_nothing_else(tmp_path: Path) -> None:
    found = read_pubmed(tmp_path, pubmed_xml([citation(11, "One result.", "On mice.")]))
    assert found == {"11": "On mice. One result."}
    paths = [tmp_path / "pubmed25n0000.xml.gz"]
    assert texts(pubmed.read(paths, titles=False)) == {"11": "One result."}


def test_pubmed_sections_keep_their_labels(tmp_path: Path) -> None:
    sections = [
        ("BACKGROUND", "We asked."),
        ("METHODS & MATERIALS", "We\n   looked."),
        ("UNLABELLED", "We thought."),
        ("RESULTS", ""),
    ]
    assert read_pubmed(tmp_path, pubmed_xml([citation(1, sections)])) == {
        "1": "A title. BACKGROUND: We asked. METHODS & MATERIALS: We looked. We thought."
    }


def test_pubmed_markup_is_flattened_and_its_content_stays(tmp_path: Path) -> None:
    math = (
        '<mml:math xmlns:mml="http://www.w3.org/1998/Math/MathML"><mml:msub><mml:mi>k</mml:mi>'
        "<mml:mn>1</mml:mn></mml:msub></mml:math>"
    )
    abstract = f"H<sub>2</sub>O, <i>E. <b>coli</b></i> &lt; 5 &#x3bc;M; {math} rose<sup>a</sup>."
    found = read_pubmed(tmp_path, pubmed_xml([citation(1, abstract, "The <i>lac</i> operon.")]))
    assert found == {"1": "The lac operon. H2O, E. coli < 5 μM; k1 rosea."}


def test_pubmed_note_of_truncation_is_taken_out(tmp_path: Path) -> None:
    found = read_pubmed(
        tmp_path, pubmed_xml([citation(1, "It was long.(ABSTRACT TRUNCATED AT 250 WORDS)")])
    )
    assert found == {"1": "A title. It was long."}


def test_pubmed_without_abstract_is_left_out(tmp_path: Path) -> None:
    found = read_pubmed(
        tmp_path, pubmed_xml([citation(1, ()), citation(2, "Here."), citation(3, " ")])
    )
    assert list(found) == ["2"]


def test_pubmed_later_files_replace_and_delete(tmp_path: Path) -> None:
    first = pubmed_xml([citation(n, f"First {n}.") for n in (1, 2, 3, 4, 5)])
    second = pubmed_xml([citation(2, "Second 2."), citation(6, "Second 6.")], deleted=[3, 99])
    third = pubmed_xml([citation(3, "Third 3."), citation(4, ())], deleted=[6])
    found = read_pubmed(tmp_path, first, second, third)
    assert {name: text.removeprefix("A title. ") for name, text in found.items()} == {
        "1": "First 1.",
        "2": "Second 2.",  # revised
        "3": "Third 3.",  # deleted, and added again later
        "5": "First 5.",  # 4 lost its abstract, 6 was deleted
    }


def test_pubmed_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    for i, folder in enumerate(["updates", "baseline"]):
        write(
            tmp_path / folder / f"pubmed25n000{2 - i}.xml",
            pubmed_xml([citation(1, f"In {folder}.")]),
        )
    paths = sorted(tmp_path.rglob("*.xml"))
    for order in itertools.permutations(paths):
        assert texts(pubmed.read(order)) == {"1": "A title. In updates."}


def test_pubmed_highest_version_in_a_file_stands(tmp_path: Path) -> None:
    versions = [citation(1, f"Version {n}.", version=n) for n in (1, 10, 9)]
    again = [citation(2, "Before."), citation(2, "After.")]
    found = read_pubmed(tmp_path, pubmed_xml([*versions, *again]))
    assert found == {"1": "A title. Version 10.", "2": "A title. After."}


def test_pubmed_file_of_deletions_only(tmp_path: Path) -> None:
    assert read_pubmed(tmp_path, pubmed_xml([citation(1, "Was.")]), pubmed_xml([], [1])) == {}


def test_pubmed_files_before_2017_have_no_article_around_the_citation(tmp_path: Path) -> None:
    xml = pubmed_xml([citation(1, "Old.")]).replace("PubmedArticleSet", "MedlineCitationSet")
    xml = xml.replace("<PubmedArticle>", "").replace("</PubmedArticle>", "")
    assert read_pubmed(tmp_path, xml) == {"1": "A title. Old."}


@given(st.lists(st.integers(0, 5000)), st.lists(st.integers(0, 5000)))
def test_pmid_set_is_a_set(added: list[int], asked: list[int]) -> None:
    found = PmidSet()
    for pmid in added:
        found.add(pmid)
    assert [pmid in found for pmid in asked + added] == [p in set(added) for p in asked + added]


# arXiv


def test_arxiv_unwraps_and_ends_the_title(tmp_path: Path) -> None:
    lines = [
        paper("0704.0001", "  We count\ncells. They\n  grow.\n", title="Counting\n  of cells"),
        paper("q-bio/0703001", "Old id.", "cs.LG q-bio.NC", "Is it so?"),
        "",
    ]
    path = write(tmp_path / "arxiv.json", "\r\n".join(lines))
    assert texts(arxiv.read([path])) == {
        "0704.0001": "Counting of cells. We count cells. They grow.",
        "q-bio/0703001": "Is it so? Old id.",
    }
    assert texts(arxiv.read([path], titles=False))["0704.0001"] == "We count cells. They grow."


def test_arxiv_takes_archives_and_categories(tmp_path: Path) -> None:
    listed = ["q-bio.GN", "cs.CL stat.ML", "stat.AP q-bio", "q-biology.X", "cs.CLX"]
    lines = [paper(f"1.{i}", "Text.", names) for i, names in enumerate(listed)]
    path = write(tmp_path / "arxiv.jsonl.gz", "\n".join(lines))

    def taken(*categories: str) -> str:
        return "".join(name[2:] for name in texts(arxiv.read([path], categories)))

    assert taken("q-bio") == "02"
    assert taken("cs.CL") == "1"
    assert taken("q-bio.GN", "stat") == "012"
    assert taken() == "01234"


# MIMIC-III


def test_mimic_notes_have_line_ends_quotes_and_commas(tmp_path: Path) -> None:
    text = 'Pt said "no", twice.\n\nPlan:\n- rest, fluids\n'
    path = write(tmp_path / "NOTEEVENTS.csv.gz", notes_csv([("7", "", text), ("8", "", "b,c")]))
    assert texts(mimic.read([path])) == {"7": text, "8": "b,c"}


def test_mimic_notes_in_error_are_dropped(tmp_path: Path) -> None:
    notes = [("1", "", "good"), ("2", "1", "bad"), ("3", "0", "good")]
    path = write(tmp_path / "NOTEEVENTS.csv", notes_csv(notes))
    assert list(texts(mimic.read([path]))) == ["1", "3"]


def test_mimic_columns_are_found_by_name(tmp_path: Path) -> None:
    content = "\ufefftext,extra,iserror,row_id\r\nA note,x,,5\r\n"
    path = write(tmp_path / "noteevents.csv", content)
    assert texts(mimic.read([path])) == {"5": "A note"}


@pytest.mark.parametrize(
    ("placeholders", "expected"),
    [
        ("mask", "Seen on ___ by Dr. ___ at ___. a[1] *b*"),
        ("strip", "Seen on   by Dr.   at  . a[1] *b*"),
        (
            "keep",
            "Seen on [**2101-3-4**] by Dr. [**Last Name (STitle) 7**] at "
            "[**Hospital1\n18**]. a[1] *b*",
        ),
    ],
)
def test_mimic_placeholders(placeholders: str, expected: str, tmp_path: Path) -> None:
    text = (
        "Seen on [**2101-3-4**] by Dr. [**Last Name (STitle) 7**] at [**Hospital1\n18**]. a[1] *b*"
    )
    path = write(tmp_path / "NOTEEVENTS.csv", notes_csv([("1", "", text)]))
    assert texts(mimic.read([path], placeholders)) == {"1": expected}


def test_mimic_drawn_rules_are_taken_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "NOTEEVENTS.csv", notes_csv([("1", "", "FINAL\n_______\n-- ok ... 1.5")])
    )
    assert texts(mimic.read([path])) == {"1": "FINAL\n \n-- ok ... 1.5"}


# ClinicalTrials.gov

STUDIES = [
    study("NCT01", "We test.", "At length.", "Inclusion Criteria:\n\n* Age \\>= 18\n* \\[sic\\]"),
    study("NCT02", "Another."),
    study("NCT03"),
]
FROM_API = {
    "NCT01/briefSummary": "We test.",
    "NCT01/detailedDescription": "At length.",
    "NCT01/eligibilityCriteria": "Inclusion Criteria:\n\n* Age >= 18\n* [sic]",
    "NCT02/briefSummary": "Another.",
}


@pytest.mark.parametrize(
    "content",
    [
        page(STUDIES),
        json.dumps(STUDIES, indent=1),
        "\n".join(map(json.dumps, STUDIES)),
        "\ufeff \n" + page(STUDIES),
    ],
    ids=["page", "array", "a study a line", "byte order mark"],
)
def test_clinicaltrials_json_in_its_forms(content: str, tmp_path: Path) -> None:
    for name in ("trials.json", "trials.json.gz"):
        assert texts(clinicaltrials.read([write(tmp_path / name, content)])) == FROM_API


def test_clinicaltrials_one_study_a_file(tmp_path: Path) -> None:
    for one in STUDIES:
        name = one["protocolSection"]["identificationModule"]["nctId"]
        write(tmp_path / "trials" / f"{name}.json", json.dumps(one))
    found = sources.read("clinicaltrials", [tmp_path / "trials"], PassageSettings())
    assert texts(found) == FROM_API


def test_clinicaltrials_pages_follow_one_another(tmp_path: Path) -> None:
    pages = [page(STUDIES[:1], "abc"), page(STUDIES[1:2], "def"), page(STUDIES[2:])]
    paths = [write(tmp_path / f"{i}.json", content) for i, content in enumerate(pages)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(clinicaltrials.read(paths)) == FROM_API
    with pytest.warns(UserWarning, match="each of 2 pages has a nextPageToken"):
        list(clinicaltrials.read(paths[:2]))


def test_clinicaltrials_aact_tables(tmp_path: Path) -> None:
    long = 'A "new" drug | placebo.\n\nTwo arms.'
    rows = [["1", "NCT01", "Short."], ["2", "NCT02", long]]
    write(tmp_path / "brief_summaries.txt", aact("id nct_id description", rows))
    criteria = "Inclusion Criteria:~* Age \\> 18~* dose (~5 mg) of ~7 days~Exclusion:~1. \\~ none"
    write(
        tmp_path / "eligibilities.txt",
        aact(
            "id nct_id gender criteria", [["1", "NCT01", "ALL", criteria], ["2", "NCT03", "", ""]]
        ),
    )
    write(tmp_path / "sponsors.txt", "id|nct_id|name\n1|NCT01|Us\n")
    found = texts(sources.read("clinicaltrials", [tmp_path], PassageSettings()))
    assert found == {
        "NCT01/brief_summaries": "Short.",
        "NCT02/brief_summaries": long,
        "NCT01/eligibilities": "Inclusion Criteria:\n* Age > 18\n* dose (~5 mg) of ~7 days\n"
        "Exclusion:\n1. ~ none",
        "NCT03/eligibilities": "",
    }


# Plain text


def test_plain_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", "\ufeffOne passage.\r\n\r\n\x0cAnother β.\n")
    assert texts(plain.read([path])) == {
        "a.txt.gz:1": "One passage.",
        "a.txt.gz:3": "\x0cAnother β.",
    }


def test_shared_text_is_read(corpora_dir: Path) -> None:
    found = plain.read([corpora_dir / "raw" / "plos_starter.txt.gz"])
    assert sum(1 for _ in found) == 6541


# All sources

NAMES = {
    "pubmed": "pubmed25n0001.xml",
    "arxiv": "snapshot.json",
    "mimic": "NOTEEVENTS.csv",
    "clinicaltrials": "studies.json",
    "text": "passages.txt",
}
GOOD = {
    "pubmed": pubmed_xml([citation(n, f"Result {n}.") for n in (1, 2, 3)]),
    "arxiv": "\n".join(paper(f"1.{n}", f"Result {n}.") for n in (1, 2, 3)) + "\n",
    "mimic": notes_csv([(str(n), "", f"Result {n}.") for n in (1, 2, 3)]),
    "clinicaltrials": page([study(f"NCT0{n}", f"Result {n}.") for n in (1, 2, 3)]),
    "text": "".join(f"Result {n}.\n" for n in (1, 2, 3)),
}
every_source = pytest.mark.parametrize("source", sources.SOURCES)


def read(source: str, path: Path, on_error: Any = None) -> list[str]:
    extra = [] if on_error is None else [on_error]
    found = sources.read(source, [path], PassageSettings(), *extra)
    return [record.text.removeprefix("A title. ") for record in found]


RESULTS = ["Result 1.", "Result 2.", "Result 3."]


@every_source
def test_files_are_plain_or_gzip_whatever_their_names(source: str, tmp_path: Path) -> None:
    plain_file = tmp_path / f"{NAMES[source]}.gz"
    plain_file.write_bytes(GOOD[source].encode())
    compressed = tmp_path / NAMES[source]
    compressed.write_bytes(gzip.compress(GOOD[source].encode()))
    assert read(source, plain_file) == read(source, compressed) == RESULTS


@every_source
def test_memory_is_flat(source: str, tmp_path: Path) -> None:
    """For PubMed but for a bit and a small entry a citation of one file."""
    count, text = 1000, "We measured again. " * 400
    content = {
        "pubmed": lambda: pubmed_xml(citation(n, text) for n in range(1, count + 1)),
        "arxiv": lambda: "\n".join(paper(str(n), text) for n in range(count)),
        "mimic": lambda: notes_csv((str(n), "", text) for n in range(count)),
        "clinicaltrials": lambda: page(study(f"NCT{n}", text) for n in range(count)),
        "text": lambda: f"{text}\n" * count,
    }[source]()
    assert len(content) > 7_500_000
    path = write(tmp_path / f"{NAMES[source]}.gz", content)
    read(source, write(tmp_path / NAMES[source], GOOD[source]))  # imports and caches
    tracemalloc.start()
    assert sum(1 for _ in sources.read(source, [path], PassageSettings())) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@every_source
def test_streaming_through_datasets(source: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"{NAMES[source]}.gz", GOOD[source])
    stream = sources.stream(source, [path])
    rows = list(stream)
    assert rows == list(stream)
    records = sources.read(source, [path], PassageSettings())
    assert rows == [record._asdict() for record in records]
    assert stream.column_names == ["source", "id", "text"]
    assert len(list(stream.take(2))) == 2


def test_streaming_never_divides_the_files_of_pubmed(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"pubmed25n000{i}.xml", pubmed_xml([citation(1, f"Revision {i}.")]))
    stream = sources.stream("pubmed", [tmp_path])
    assert stream.num_shards == 1
    assert [row["text"] for row in stream] == ["A title. Revision 2."]


@every_source
def test_zip_where_text_was_expected(source: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES[source]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside", GOOD[source])
    with pytest.raises(OpenMedError, match=f"{path}, line 1: a zip archive"):
        read(source, path)
    skipped = Skipped()
    assert read(source, path, skipped) == []
    assert skipped.count == 1


@every_source
def test_truncated_gzip(source: str, tmp_path: Path) -> None:
    # What does not compress, so that the first records come before the break.
    path = write(tmp_path / f"{NAMES[source]}.gz", GOOD[source])
    noise = random.Random(1).randbytes(1 << 18).hex()
    content = GOOD[source].replace("Result 3.", noise)
    path.write_bytes(gzip.compress(content.encode())[:-1000])
    with pytest.raises(
        OpenMedError, match=rf"{path}, .*(line|citation|study) \d+.*truncated or damaged"
    ):
        read(source, path)
    skipped = Skipped()
    read(source, path, skipped)
    assert skipped.count == 1
    assert str(path) in skipped.messages[0]


@every_source
def test_damaged_gzip(source: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"{NAMES[source]}.gz", GOOD[source])
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF  # in the checksum
    path.write_bytes(data)
    with pytest.raises(OpenMedError, match="truncated or damaged"):
        read(source, path)


@every_source
def test_missing_file_and_empty_folder(source: str, tmp_path: Path) -> None:
    for on_error in (None, Skipped()):
        with pytest.raises(OpenMedError, match="no such file or folder"):
            read(source, tmp_path / "nowhere", on_error)
        with pytest.raises(OpenMedError, match="no file named"):
            read(source, tmp_path, on_error)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
@every_source
def test_unreadable_file(source: str, tmp_path: Path) -> None:
    path = write(tmp_path / NAMES[source], GOOD[source])
    path.chmod(0)
    with pytest.raises(OpenMedError, match="cannot be read"):
        read(source, path)


@every_source
def test_folders_are_searched(source: str, tmp_path: Path) -> None:
    write(tmp_path / "deep" / f"{NAMES[source]}.gz", GOOD[source])
    write(tmp_path / "deep" / f".{NAMES[source]}", "hidden")
    write(tmp_path / "README.md", "Not data.")
    assert read(source, tmp_path) == RESULTS


def test_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"Unknown source 'pubmad'.*pubmed"):
        sources.files("pubmad", [])


# One bad record in the middle: source, how it gets there, where the message says it is

BAD: dict[str, tuple[str, Callable[[str], str | bytes], str]] = {
    "pubmed: no PMID": (
        "pubmed",
        lambda s: s.replace('<PMID Version="1">2</PMID>', ""),
        "citation 2: no PMID",
    ),
    "pubmed: PMID of letters": (
        "pubmed",
        lambda s: s.replace('<PMID Version="1">2</PMID>', '<PMID Version="1">x2</PMID>'),
        "citation 2: PMID 'x2'",
    ),
    "pubmed: enormous PMID": (
        "pubmed",
        lambda s: s.replace('<PMID Version="1">2</PMID>', '<PMID Version="1">99999999999</PMID>'),
        "citation 2: PMID",
    ),
    "pubmed: version": (
        "pubmed",
        lambda s: s.replace('"1">2</PMID>', '"new">2</PMID>'),
        "citation 2: version 'new'",
    ),
    "arxiv: not JSON": (
        "arxiv",
        lambda s: s.replace('"Result 2."', '"Result 2.'),
        "line 2: not an",
    ),
    "arxiv: no abstract": ("arxiv", lambda s: s.replace('"Result 2."', "null"), "line 2: not an"),
    "arxiv: not UTF-8": (
        "arxiv",
        lambda s: s.encode().replace(b"Result 2.", b"R\xe9sultat"),
        "line 2: not UTF-8",
    ),
    "arxiv: half a surrogate pair": (
        "arxiv",
        lambda s: s.replace("Result 2.", r"\ud83d"),
        "line 2: not UTF-8, or half a surrogate pair",
    ),
    "mimic: a field too many": (
        "mimic",
        lambda s: s.replace("Result 2.", "Result, 2."),
        "line 3: 12 fields instead of 11",
    ),
    "mimic: a field too few": (
        "mimic",
        lambda s: s.replace(",Result 2.", ""),
        "line 3: 10 fields instead of 11",
    ),
    "mimic: quotation mark": (
        "mimic",
        lambda s: s.replace("Result 2.", '"Result" 2.'),
        "line 3: .*expected after",
    ),
    "mimic: not UTF-8": (
        "mimic",
        lambda s: s.encode().replace(b"Result 2.", b'"R\xe9sul\ntat"'),
        "line 3: not UTF-8",
    ),
    "clinicaltrials: not a study": (
        "clinicaltrials",
        lambda s: s.replace('"nctId": "NCT02"', '"id": "NCT02"'),
        "study 2: not a study",
    ),
    "clinicaltrials: text is none": (
        "clinicaltrials",
        lambda s: s.replace('"Result 2."', "2"),
        "study 2: not a study",
    ),
    "text: not UTF-8": (
        "text",
        lambda s: s.encode().replace(b"Result 2.", b"R\xe9sultat"),
        "line 2: not UTF-8",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_record_is_named_or_skipped(case: str, tmp_path: Path) -> None:
    source, spoil, message = BAD[case]
    content = spoil(GOOD[source])
    assert content not in (GOOD[source], GOOD[source].encode())
    path = write(tmp_path / NAMES[source], content)
    with pytest.raises(OpenMedError, match=message) as caught:
        read(source, path)
    assert str(caught.value).startswith(f"{path}, ")
    skipped = Skipped()
    assert read(source, path, skipped) == ["Result 1.", "Result 3."]
    assert skipped.count == 1


# What makes the rest of a file unreadable

BROKEN: dict[str, tuple[str, str | bytes, str]] = {
    "pubmed: tag left open": ("pubmed", GOOD["pubmed"].replace("</PubmedArticleSet>", ""), "line"),
    "pubmed: wrong tag": (
        "pubmed",
        GOOD["pubmed"].replace("</Title>", "</Titel>", 1),
        "line 9: not",
    ),
    "pubmed: not UTF-8": ("pubmed", GOOD["pubmed"].encode().replace(b" 2.", b" \xe9"), "line"),
    "pubmed: an error page": (
        "pubmed",
        "<html><p>503</p></html>",
        "<html> where <PubmedArticleSet>",
    ),
    "pubmed: empty": ("pubmed", "", "line 1: not well-formed"),
    "mimic: no column": ("mimic", GOOD["mimic"].replace("ISERROR", "ERROR"), "no column iserror"),
    "mimic: TAB for comma": (
        "mimic",
        GOOD["mimic"].replace(",", "\t"),
        "no column row_id, iserror",
    ),
    "mimic: empty": ("mimic", "", "no column"),
    "mimic: quotation mark left open": (
        "mimic",
        GOOD["mimic"].replace("Result 3.", '"Result 3.'),
        "line 4: .*unexpected end of data",
    ),
    "mimic: header left open": ("mimic", '"ROW_ID,ISERROR', "line 1: no header"),
    "clinicaltrials: breaks off": (
        "clinicaltrials",
        GOOD["clinicaltrials"][:-3],
        "study 3: not JSON",
    ),
    "clinicaltrials: a comma too many": (
        "clinicaltrials",
        GOOD["clinicaltrials"].replace('"studies":', '\n"studies":,'),
        "study 1: not JSON",
    ),
    "clinicaltrials: more brackets": ("clinicaltrials", "[]]", "study 1: not JSON"),
    "clinicaltrials: not UTF-8": (
        "clinicaltrials",
        GOOD["clinicaltrials"].encode().replace(b" 2.", b" \xe9"),
        r"study 2: not JSON \(lexical error: invalid bytes in UTF8 string",
    ),
    "clinicaltrials: an error of the API": ("clinicaltrials", '{"error": "503"}', "no studies"),
    "clinicaltrials: empty": ("clinicaltrials", " \n", "empty file"),
    "clinicaltrials: commas for pipes": (
        "clinicaltrials",
        "id,nct_id,description\n1,NCT01,Text\n",
        r"no column nct_id, description or criteria.*between '\|'",
    ),
    "clinicaltrials: other table": (
        "clinicaltrials",
        "id|nct_id|name\n1|NCT01|X\n",
        "no column desc",
    ),
    "text: UTF-16": ("text", GOOD["text"].encode("utf-16"), "line 1: UTF-16"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file_is_named_or_skipped(case: str, tmp_path: Path) -> None:
    source, content, message = BROKEN[case]
    path = write(tmp_path / "2" / NAMES[source], content)
    with pytest.raises(OpenMedError, match=message) as caught:
        read(source, path)
    assert str(path) in str(caught.value)
    write(tmp_path / "1" / NAMES[source], GOOD[source])
    write(tmp_path / "3" / NAMES[source], GOOD[source].replace("Result", "Later"))
    skipped = Skipped()
    found = read(source, tmp_path, skipped)
    assert skipped.count == 1
    assert {"Later 1.", "Later 2.", "Later 3."} <= set(found)
    if source != "pubmed":
        assert set(RESULTS) <= set(found)


def test_pubmed_file_that_breaks_off_is_left_out_whole(tmp_path: Path) -> None:
    """Its deletions come last: what it replaces may not be known either."""
    write(tmp_path / "pubmed25n0001.xml", pubmed_xml([citation(1, "Old.")]))
    update = pubmed_xml([citation(1, "New."), citation(2, "New.")])
    write(tmp_path / "pubmed25n0002.xml", update[: update.rindex("</PubmedArticle>")])
    skipped = Skipped()
    assert read("pubmed", tmp_path, skipped) == ["Old."]
    assert skipped.count == 1


def test_a_missing_quotation_mark_does_not_swallow_a_large_table(tmp_path: Path) -> None:
    good = notes_csv((str(n), "", f"Result {n}.") for n in range(1, 20_000))
    path = write(tmp_path / "NOTEEVENTS.csv", good.replace("Result 5.", '"Result 5.'))
    with pytest.raises(OpenMedError, match=r"line 6: .*field limit"):
        read("mimic", path)
    skipped = Skipped()
    found = read("mimic", path, skipped)
    assert skipped.count >= 1
    assert found[:4] == [f"Result {n}." for n in range(1, 5)]
    assert found[-1] == "Result 19999."
    assert len(found) > 15_000
