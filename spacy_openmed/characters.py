"""What kinds of characters a text has, looked up for all of it at once."""

import numpy as np
import regex
from numpy.typing import NDArray

Codes = NDArray[np.uint32]

# A WordPiece tokenizer gives up on words longer than this (max_input_chars_per_word)
# and calls the whole word unknown, entities inside it included.
LONG_RUN = 100
# Ends of words as WordPiece tokenizers see them: of the symbols only the ASCII ones.
# Emoji, too, stand apart: WordPiece does not split at them and has none in its vocabulary,
# so the word that one is glued to would be unknown.
_EMOJI = r"\p{Emoji_Presentation}[\p{Extended_Pictographic}\p{Emoji_Modifier}\u200d\ufe0f]*"
APART = regex.compile(rf"[^\s\p{{P}}$+<=>^`|~]{{{LONG_RUN + 1},}}|{_EMOJI}")
# Half a surrogate pair, which is no text to a tokenizer; white space that BERT's deletes as
# control characters: the words around a form feed would become one; and control characters
# that SentencePiece deletes at the beginning of a text, which moves all offsets by one.
UNREADABLE = regex.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x85\x8f\x9f\ud800-\udfff]")

# The first emoji, and the end of the white space: characters from here on are looked at one
# by one with the expressions above.
_FIRST_EMOJI = 0x231A
_SPACE_END = 0x3001
_SPACE = np.array([chr(i).isspace() for i in range(_SPACE_END + 1)])
_BREAK = np.zeros(_FIRST_EMOJI, dtype=bool)
_BREAK[:128] = [regex.match(r"[\s\p{P}$+<=>^`|~]", chr(i)) is not None for i in range(128)]
_READABLE = np.array([UNREADABLE.match(chr(i)) is None for i in range(_FIRST_EMOJI)])


def codes(text: str) -> Codes:
    """RETURNS (uint32[len(text)]): The code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def is_space(points: Codes) -> NDArray[np.bool_]:
    """Which characters are white space, as ``str.isspace`` has it."""
    spaces: NDArray[np.bool_] = _SPACE[np.minimum(points, _SPACE_END)]
    return spaces


def is_plain(points: Codes) -> bool:
    """Whether a text can go to any tokenizer as it is, as nearly all can.

    points (uint32[n]): Its characters.
    RETURNS (bool): True only if ``UNREADABLE`` and ``APART`` would find nothing.
    """
    if not len(points):
        return True
    if int(points.max()) >= _FIRST_EMOJI or not _READABLE[points].all():
        return False
    # White space and punctuation beyond ASCII end runs, too: these may be too long, not too short.
    breaks = np.flatnonzero(_BREAK[points])
    longest = np.diff(breaks, prepend=-1, append=len(points)).max() - 1
    return bool(longest <= LONG_RUN)
