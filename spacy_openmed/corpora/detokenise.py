"""Tokens to text as people write it, for corpora that have nothing but tokens.

A sentence is written with a blank between any two tokens; each rule then takes some blanks away
or puts them back, and the last that has a say on a place decides. The rules are for English
biomedical text and for tokens as most corpora have them: hyphens, slashes and brackets apart.
They were chosen on the train splits of the 11 corpora for which both tokens and text are known;
``benchmarks/detokenise.py`` counts how often they are right. What only knowledge can tell is
written in the way that is right more often: "IL - 2" is IL-2, though a dash may stand there.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import regex

from .documents import Document


class _Rule(NamedTuple):
    """Blanks between tokens, and whether they stay.

    pattern (regex.Pattern[str]): Matches the blank, or has it in its groups.
    stays (bool): Whether it is written.
    """

    pattern: regex.Pattern[str]
    stays: bool


def _rule(pattern: str, stays: bool) -> _Rule:
    """« and » stand for the start and the end of a token."""
    token_edges = pattern.replace("«", r"(?<!\S)").replace("»", r"(?!\S)")
    return _Rule(regex.compile(token_edges), stays)


def _join(pattern: str) -> _Rule:
    return _rule(pattern, False)


def _part(pattern: str) -> _Rule:
    return _rule(pattern, True)


# In the comments what the tokens are, with "_" for the blanks that a rule is about. How far a
# rule looks is bounded, or long lists of numbers or quotation marks would take forever.
_RULES = (
    # cells_, | 5_% | (_IL-2_) | ``_early_''
    _join(r" (?=(?:[.,;:?!)\]}%®™*]|'')»)"),
    _join(r"(?<=«(?:[(\[{$#~]|``)) "),
    # IL_-_2 | and_/_or | 10_^_5
    _join(r" (?=(?:[-/^_‐‑–−]|--)»)|(?<=«(?:[-/^_‐‑–−]|--)) "),
    # drug_-induced | patient_'s | CD4_-2
    _join(r" (?=[-/']\p{L})|(?<=[\p{Lu}\d)\]]) (?=-\d)"),
    # pre -_and post | 5 -_to
    _part(r"(?<=[\w)] -) (?=(?:and|or)»)|(?<=\d -) (?=to»)"),
    # to_- 5 | and_- 2 | =_- 5
    _part(r"(?<=«(?:to|from|between|at|the|of|than|was|is|were|positions?)) (?=- \d)"),
    _part(r"(?<=«(?:and|or|[,=<>])) (?=-)"),
    # 5_+ / -_2
    _part(r"(?<!\() (?=\+ / - )|(?<=[\w%)] \+ / -) (?=\w)"),
    # 0 ._5 | 1 :_10 | A :_T | <_= | HLA-B *_27
    _join(r"(?<=\d [.:]) (?=\d)|(?<=«\p{L} :) (?=\p{L}»)"),
    _join(r"(?<=«[<>]) (?==»)|(?<=«=) (?=[<>]»)|(?<=«\*) (?=\d)"),
    # of 1 ,_500 | 2 ,_000
    _join(r"(?<=«(?:\p{Ll}+|[=:]) \d{1,3} ,) (?=\d{3}»)|(?<=«\d{1,3} ,) (?=000»)"),
    # 2 ,_4 ,_6 - trichlorophenol
    _join(r"(?<=\d ,) (?=(?:\d{1,2} , ){0,9}\d{1,2} - \p{L})"),
    # i ._e . | U ._S .
    _join(r"(?<=«\p{Ll} \.) (?=\p{Ll} \.)|(?<=«\p{Lu} \.) (?=\p{Lu} \.)"),
    # patients_' | Crohn '_s | a_'_good_' one | a "_good_" one
    _join(r" (?='»)|(?<=\p{L} ') (?=s»)"),
    _join(r"«'( )(?!s »)[^'\s][^']{0,300}[^'\ss]( )'»"),
    _part(r"(?<=«\p{Ll}*[^\P{Ll}s])( )' (?!s»)\w[^']{0,300} '"),
    _join(r"«\"( )[^\"]{0,300}( )\"»"),
    # CD4_+ cells | Ca_+ | Ca ( 2_+ ) | +_/_+ | to +_5
    _join(r"(?<=«(?:\p{Lu}\w*\d|Na|K|Ca|Mg|H|Li)) (?=\+»)|(?<=\d) (?=\+ \))"),
    _join(r"(?<=«[(/+-]) (?=\+»)|(?<=«\+) (?=[-/+]»)|(?<=\p{Ll} \+) (?=\d)"),
    # C_( 2 ) | SO_( 4 ) | p53_( + ) | Galpha_( 12 ) | gene_( s ) | Ca_( 2+ ) | Cu_( II )
    _join(
        r"«(?:\p{L}|\p{Lu}+|\p{Lu}\p{Ll}|\w*\d\p{Lu}*|\w+\p{Lu})( )"
        r"\( (?:\d{1,2}|[-+]|\p{L}) \)»"
    ),
    _join(r"(?<=\p{Lu}\w*) (?=\( \d \))|(?<=\w) (?=\( (?:I{1,3}|I?V|VI{1,3}) \))"),
    _join(r"(?<=(?:alpha|beta|gamma|delta|kappa)) (?=\( (?:\d+|\p{Ll}|null) \))"),
    _join(r"(?<=\p{Ll}) (?=\( s \))|(?<=«\p{Lu}|\p{L}\d+) (?=\( \p{Ll}+ \))"),
    _join(r"(?<=\w) (?=\( \d? ?[-+] ?\d* \))|(?<=[\p{Lu}\d]\w*) (?=\( [-+] / [-+] \))"),
    # C ( 2 )_H | ( methyl )_phenol | poly_( ethylene ) | thieno_[ 2 , 3 - b ]_pyridine
    _join(r"(?<=\w \( (?:\d{1,2}|\p{L}|I+) \)) (?=\p{Lu}\p{Ll}?\d*»)"),
    _join(r"(?<=(?:yl|oxy|oxo|amino|nitro|chloro|fluoro|thio) \)) (?=\p{Ll}{3,})"),
    _join(r"(?<=(?:[Pp]oly|bis|tris|di|tri)) (?=\()"),
    _join(r"«\p{Ll}+o( )\[ [^\[\]]{0,80} \]( )\p{L}"),
    # ( 14 )_C | [ 3H ]_thymidine
    _join(
        r"(?<=«[(\[] \d{1,3} [)\]]) (?=\p{Lu}»)"
        r"|(?<=\[ (?:\d{1,3}\p{Lu}\p{Ll}?|\( \d+ \) \w+) \]) (?=\w)"
    ),
)


def detokenise(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Write the tokens of a sentence as people write.

    tokens (Sequence[str]): In order; whatever they are, they stay as they are.
    RETURNS (tuple[str, list[tuple[int, int]]]): The text, and the character range of each
        token in it.
    """
    line = " ".join(tokens)
    blanks = {end: i for i, end in enumerate(accumulate(len(token) + 1 for token in tokens))}
    stays = [True] * len(tokens)
    for rule in _RULES:
        for match in rule.pattern.finditer(line):
            for group in range(1, rule.pattern.groups + 1) or (0,):
                number = blanks.get(match.end(group))
                if number is not None:
                    stays[number] = rule.stays
    if stays:
        stays[-1] = False
    text = "".join(token + " " * blank for token, blank in zip(tokens, stays, strict=True))
    starts = accumulate((len(t) + b for t, b in zip(tokens, stays, strict=True)), initial=0)
    return text, [(start, start + len(t)) for start, t in zip(starts, tokens, strict=False)]


def on_written_text(document: Document) -> Document:
    """Give a document that has nothing but tokens a text as people write it.

    document (Document): Its text is its tokens with a blank between any two.
    RETURNS (Document): A new one, everything moved to its text, in which sentences have a
        blank between them; the same one, if it has no tokens or a text of its own.
    """
    words = [document.text[start:end] for start, end in document.tokens]
    if not words or document.text != " ".join(words):
        return document
    text = ""
    tokens: list[tuple[int, int]] = []
    for first, stop in pairwise(sorted({0, len(words), *chain(*document.sentences)})):
        sentence, spans = detokenise(words[first:stop])
        text += " " * bool(text)
        tokens += [(start + len(text), end + len(text)) for start, end in spans]
        text += sentence
    # For every place in the old text, and its end, that in the new one.
    places = [place for start, end in tokens for place in range(start, end + 1)]
    return replace(
        document,
        text=text,
        entities=[e._replace(start=places[e.start], end=places[e.end]) for e in document.entities],
        tokens=tokens,
        concepts={
            (places[start], places[end], label): concept
            for (start, end, label), concept in document.concepts.items()
        },
        passages=[(places[start], places[end], name) for start, end, name in document.passages],
    )
