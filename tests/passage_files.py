"""Small files in the formats of the pre-training sources, with text of our own."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

_NOTE_COLUMNS = """
ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME STORETIME CATEGORY DESCRIPTION CGID ISERROR TEXT
"""


def citation(
    pmid: int | str,
    abstract: str | Iterable[tuple[str, str]],
    title: str = "A title.",
    version: int = 1,
    more: str = "",
) -> str:
    """A PubmedArticle; title and abstract are XML, sections are (label, XML)."""
    if isinstance(abstract, str):
        texts = f"<AbstractText>{abstract}</AbstractText>"
    else:
        texts = "".join(
            f'<AbstractText Label={quoteattr(label)} NlmCategory="METHODS">{text}</AbstractText>'
            for label, text in abstract
        )
    inside = f"<Abstract>{texts}<CopyrightInformation>© Us</CopyrightInformation></Abstract>"
    return f"""
    <PubmedArticle>
      <MedlineCitation Status="MEDLINE" Owner="NLM">
        <PMID Version="{version}">{pmid}</PMID>
        <DateRevised><Year>2020</Year></DateRevised>
        <Article PubModel="Print">
          <Journal><Title>Journal of Made-up Results</Title></Journal>
          <ArticleTitle>{title}</ArticleTitle>
          {inside if texts else ""}
          <VernacularTitle>Ein Titel.</VernacularTitle>
        </Article>
        <OtherAbstract Type="Publisher" Language="ger">
          <AbstractText>Eine Zusammenfassung.</AbstractText>
        </OtherAbstract>
        <CommentsCorrectionsList>
          <CommentsCorrections RefType="Cites"><PMID Version="1">77</PMID></CommentsCorrections>
        </CommentsCorrectionsList>
        {more}
      </MedlineCitation>
      <PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId></ArticleIdList>
      </PubmedData>
    </PubmedArticle>"""


def pubmed_xml(citations: Iterable[str], deleted: Iterable[int] = ()) -> str:
    gone = "".join(f'<PMID Version="1">{pmid}</PMID>' for pmid in deleted)
    gone = f"<DeleteCitation>{gone}</DeleteCitation>" if gone else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<!DOCTYPE PubmedArticleSet SYSTEM "http://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed.dtd">\n'
        f"<PubmedArticleSet>{''.join(citations)}{gone}</PubmedArticleSet>\n"
    )


def write(path: Path, text: str | bytes) -> Path:
    """Write a file, compressed if its name ends with .gz."""
    data = text.encode("utf8") if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def paper(name: str, abstract: str, categories: str = "q-bio.GN", title: str = "A title") -> str:
    """A line of arXiv's snapshot."""
    row = {
        "id": name,
        "submitter": "A. Author",
        "title": title,
        "abstract": abstract,
        "categories": categories,
        "versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}],
        "authors_parsed": [["Author", "A.", ""]],
    }
    return json.dumps(row)


def notes_csv(notes: Iterable[tuple[str, str, str]]) -> str:
    """NOTEEVENTS.csv of (ROW_ID, ISERROR, TEXT)."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_NOTE_COLUMNS.split())
    for name, is_error, text in notes:
        day = ["2101-01-01", "", ""]
        writer.writerow([name, 1, 2, *day, "Nursing", "Report", "", is_error, text])
    return file.getvalue()


def study(
    name: str, summary: str = "", description: str = "", criteria: str = ""
) -> dict[str, Any]:
    """A study as the API has it; modules without text are left out."""
    protocol: dict[str, Any] = {"identificationModule": {"nctId": name, "briefTitle": "A study"}}
    texts = {"briefSummary": summary, "detailedDescription": description}
    if any(texts.values()):
        protocol["descriptionModule"] = {k: text for k, text in texts.items() if text}
    if criteria:
        protocol["eligibilityModule"] = {"eligibilityCriteria": criteria, "sex": "ALL"}
    return {"protocolSection": protocol, "derivedSection": {"miscInfoModule": {}}}


def page(studies: Iterable[Mapping[str, Any]], token: str | None = None) -> str:
    """A page of the API."""
    found: dict[str, Any] = {"totalCount": 1234, "studies": list(studies)}
    if token:
        found["nextPageToken"] = token
    return json.dumps(found)


def aact(columns: str, rows: Iterable[Iterable[str]]) -> str:
    """A table of AACT."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter="|", lineterminator="\n")
    writer.writerow(columns.split())
    writer.writerows(rows)
    return file.getvalue()
