"""Settings of a pre-training mix (``configs/passages.toml``)."""

from dataclasses import dataclass, field, fields

from ..errors import OpenMedError
from .mimic import PLACEHOLDERS

ALL = -1


@dataclass(frozen=True)
class Quotas:
    """Passages wanted of each source, -1 for all there are."""

    pubmed: int = 100_000
    arxiv: int = 100_000
    mimic: int = 100_000
    clinicaltrials: int = 50_000
    text: int = ALL

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) < ALL:
                raise OpenMedError(f"[quotas] {one.name} must be a number of passages, or -1.")


@dataclass(frozen=True)
class PassageSettings:
    """What is taken of the sources, and what is taken out (arXiv 2508.01630, Section 3.2).

    quotas (Quotas): Passages wanted of each source.
    min_tokens, max_tokens (int): Length of a passage. Longer texts are cut at ends of
        sentences, shorter ones are left out.
    titles (bool): Texts of PubMed and arXiv begin with their titles.
    arxiv_categories (list[str]): Papers in any of these are taken; empty: all. The paper does
        not name any.
    mimic_placeholders (str): What becomes of [** … **]: "mask" ("___"), "strip", "keep".
    near_duplicate_words (int): Length of the runs of words that two texts are compared by.
    near_duplicate_threshold (float): Jaccard similarity from which on one of two passages is
        left out, in (0, 1].
    held_out_runs (int): Runs of 13 words in common with held-out text from which on a passage
        is left out.
    seed (int): Of what is sampled and of the order.
    """

    quotas: Quotas = field(default_factory=Quotas)
    min_tokens: int = 50
    max_tokens: int = 256
    titles: bool = True
    arxiv_categories: list[str] = field(default_factory=lambda: ["q-bio"])
    mimic_placeholders: str = "mask"
    near_duplicate_words: int = 5
    near_duplicate_threshold: float = 0.8
    held_out_runs: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        names = self.arxiv_categories
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise OpenMedError(f"arxiv_categories must be a list of names, not {names!r}.")
        if self.mimic_placeholders not in PLACEHOLDERS:
            raise OpenMedError(
                f"Unknown mimic_placeholders '{self.mimic_placeholders}'. "
                f"Known: {', '.join(PLACEHOLDERS)}."
            )
        if not 0 < self.min_tokens <= self.max_tokens:
            raise OpenMedError(
                f"min_tokens ({self.min_tokens}) must be above 0 and not above max_tokens "
                f"({self.max_tokens})."
            )
        if not 0 < self.near_duplicate_threshold <= 1:
            raise OpenMedError("near_duplicate_threshold must lie in (0, 1].")
        if self.near_duplicate_words < 1 or self.held_out_runs < 1:
            raise OpenMedError("near_duplicate_words and held_out_runs must be above 0.")
