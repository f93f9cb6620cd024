"""Biomedical named-entity recognition for spaCy: the OpenMed NER recipe.

Importing the package imports neither spaCy nor torch: spaCy finds the component
through entry points, and the training code runs where spaCy is not installed.
"""

from .about import __version__

__all__ = ["__version__"]
