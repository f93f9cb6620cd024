"""Likely ends of sentences, by rule: where a long text may be cut into passages."""

import re

# The end of a sentence before a capital, a digit or an opening mark; a blank line; the line
# end before an item of a list. Other line ends are taken for wrapping.
_END = re.compile(
    r"(?P<stop>(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\W_a-z]))"
    r"|\n\s*\n"
    r"|\n\s*(?=(?:[-*•]|\d{1,2}[.)])\s)"
)
_LAST_WORD = re.compile(r"[^\s(\[]+$")
# What ends in a full stop before a capital or a digit without ending a sentence.
_ABBREVIATED = """
    al. approx. b.i.d. ca. cf. dr. e.g. eq. fig. figs. i.e. i.m. i.v. mr. mrs. ms. no. nos. p.o.
    prof. q.d. ref. refs. resp. sp. spp. ssp. st. subsp. suppl. t.i.d. tab. var. viz. vol. vs.
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())


def split(text: str) -> list[str]:
    """Cut a text at likely ends of sentences.

    RETURNS (list[str]): Without blanks around them and with single blanks inside; together
        they have every word of the text, in order.
    """
    found = []
    start = 0
    for match in _END.finditer(text):
        if match["stop"] is not None and _abbreviated(text[start : match.start()]):
            continue
        found.append(text[start : match.end()])
        start = match.end()
    found.append(text[start:])
    return [sentence for part in found if (sentence := " ".join(part.split()))]


def _abbreviated(before: str) -> bool:
    word = _LAST_WORD.search(before[-20:])
    if word is None:
        return False
    # An initial ("E. coli"), but neither a number nor a word of one small letter.
    initial = len(word[0]) == 2 and word[0][0].isupper()
    return initial or word[0].lower() in _ABBREVIATIONS
