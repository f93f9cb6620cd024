"""``python -m spacy_openmed …``: the commands on a machine without spaCy."""

from .cli.app import run

if __name__ == "__main__":
    run()
