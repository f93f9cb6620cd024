"""Name and version, importable without importing anything else."""

__title__ = "spacy-openmed"
__version__ = "0.1.0"
