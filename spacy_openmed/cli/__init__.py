"""Command line: ``spacy openmed …``, or ``python -m spacy_openmed …`` without spaCy."""
