"""``spacy openmed show``"""

from pathlib import Path

import typer


def show(
    file: Path = typer.Argument(..., help="A text file"),
    dataset: list[str] = typer.Option(["ncbi"], help="Dataset id; several times for several"),
) -> None:
    """Find the entities of a text file and print them."""
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("openmed_ner", config={"dataset": list(dataset)})
    doc = nlp(file.read_text(encoding="utf8"))
    for ent in doc.ents:
        text = " ".join(ent.text.split())
        typer.echo(f"{ent.start_char:6} {ent.label_:12} {ent._.openmed_score:.2f}  {text}")
    typer.echo(f"{len(doc.ents)} entities")
