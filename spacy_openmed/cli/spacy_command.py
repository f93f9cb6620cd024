"""Adds ``openmed`` to spaCy's own command line; spaCy imports this by entry point."""

from spacy.cli._util import app as spacy_app

from .app import app

spacy_app.add_typer(app, name="openmed")
