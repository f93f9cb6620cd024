"""Which document is a sentence from? Published token files seldom say.

Sentences and documents are compared by keys, in which typography plays no part. The sentences
of a document stand together, in order: a document is found by its beginning, and then the
keys of its sentences make up its key exactly. Where the makers of a token file rewrote
characters beyond recognition, the length and the beginning of the next document decide.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from pathlib import Path

from ...entities import Entity
from ...errors import OpenMedError
from ..documents import Document
from ..formats.lines import numbered_lines
from ..problems import OnError, stop
from ..token_offsets import ascii_spelling

# So many characters of a key tell the beginning of a document from other sentences.
_HEAD = 24
# Rewritten characters change the length of a key by less than this.
_TOLERANCE = 0.03
_NO_KEY = re.compile(r"[^a-z0-9]+")


def key(text: str) -> str:
    """What is left of a text without its typography: ASCII letters and digits.

    Lower-case, with Greek letters and the like spelled out. Equal for a text and its tokens,
    whatever either does with blanks, quotes and dashes.
    """
    spelled = text if text.isascii() else "".join(map(ascii_spelling, text))
    return _NO_KEY.sub("", spelled.lower())


def match(
    published: Iterable[Document],
    originals: Sequence[Document],
    path: Path,
    on_error: OnError = stop,
) -> list[Document]:
    """Put the sentences of a token file together to documents, with the ids of the originals.

    published (Iterable[Document]): What ``conll.read`` yields: a sentence each, or several.
    originals (Sequence[Document]): With text and id; each is found once at most. Of several
        with the same text it is the one with the most equal entities.
    path (Path): The file, for messages.
    on_error (OnError): Called with a sentence that is from none of the originals, which is
        then left out.
    RETURNS (list[Document]): In the order of the file, without concepts and passages.
    RAISES (OpenMedError): Names file and line.
    """
    sentences = list(chain.from_iterable(map(_sentences, published)))
    matcher = _Matcher(sentences, originals)
    matched = []
    position = 0
    while position < len(sentences):
        found = matcher.document_at(position)
        if found is None:
            on_error(_from_nowhere(path, sentences[position]))
            position += 1
            continue
        index, end = found
        members = []
        for n in range(position, end):
            if matcher.is_part(n, index):
                members.append(sentences[n])
            else:
                on_error(_from_nowhere(path, sentences[n]))
        matcher.unused.remove(index)
        matched.append(joined(members, originals[index].id))
        position = end
    return matched


class _Matcher:
    """Finds the original that begins at a sentence.

    unused (set[int]): Originals without sentences so far.
    """

    def __init__(self, sentences: Sequence[Document], originals: Sequence[Document]) -> None:
        self._sentences = sentences
        self._originals = originals
        self._keys = [key(sentence.text) for sentence in sentences]
        self._wholes = [key(original.text) for original in originals]
        self._order = sorted(range(len(originals)), key=self._wholes.__getitem__)
        self.unused = set(range(len(originals)))

    def document_at(self, position: int) -> tuple[int, int] | None:
        """The original, and the position after its last sentence; None if none begins here."""
        candidates = self._beginning_at(position)
        ends = {i: self._exact_end(i, position) for i in candidates}
        longest = max(ends.values(), default=position)
        if longest > position:
            same = [i for i, end in ends.items() if end == longest]
            return self._best_annotated(same, position, longest), self._after_marks(longest)
        near = [found for i in candidates for found in self._near_ends(i, position)]
        if not near:
            return None
        _, index, end = min(near)
        return index, end

    def is_part(self, position: int, index: int) -> bool:
        """Whether a sentence has anything in common with the original it is taken for."""
        own = self._keys[position]
        size = _HEAD // 2
        # Shorter ones may consist of rewritten characters.
        return len(own) < _HEAD or any(
            own[start : start + size] in self._wholes[index] for start in range(len(own) - size + 1)
        )

    def _beginning_at(self, position: int) -> list[int]:
        head = self._keys[position][:_HEAD]
        if not head:
            return []
        first = bisect_left(self._order, head, key=self._wholes.__getitem__)
        found = []
        for n in range(first, len(self._order)):
            if not self._wholes[self._order[n]].startswith(head):
                break
            found.append(self._order[n])
        return [i for i in found or self._second_at(position + 1) if i in self.unused]

    def _second_at(self, position: int) -> list[int]:
        # For a first sentence that was rewritten: the next one stands where it should.
        own = self._keys[position] if position < len(self._keys) else ""
        if len(own) < _HEAD:
            return []
        first = len(self._keys[position - 1])
        return [
            i
            for i in self.unused
            if own in self._wholes[i][max(1, first - _HEAD) : first + _HEAD + len(own)]
        ]

    def _exact_end(self, index: int, position: int) -> int:
        """The position after the last sentence if keys are equal, else the given one."""
        whole = self._wholes[index]
        done = 0
        for n in range(position, len(self._keys)):
            if not whole.startswith(self._keys[n], done):
                break
            done += len(self._keys[n])
            if done == len(whole):
                return n + 1
        return position

    def _near_ends(self, index: int, position: int) -> list[tuple[int, int, int]]:
        """Where the original may end: difference in length, index, position after it."""
        length = len(self._wholes[index])
        allowed = int(_TOLERANCE * length)
        found = []
        lengths = accumulate(map(len, self._keys[position:]))
        for end, done in enumerate(lengths, position + 1):
            if done > length + allowed:
                break
            if done >= length - allowed and self._may_end(end):
                found.append((abs(done - length), index, end))
        return found

    def _may_end(self, end: int) -> bool:
        return end == len(self._keys) or bool(self._beginning_at(end))

    def _after_marks(self, position: int) -> int:
        # Sentences of punctuation alone have no key and go with the one before.
        while position < len(self._keys) and not self._keys[position]:
            position += 1
        return position

    def _best_annotated(self, candidates: list[int], first: int, end: int) -> int:
        if len(candidates) == 1:
            return candidates[0]
        found = joined(self._sentences[first:end], "")
        entities = _entity_keys(found)

        def likeness(index: int) -> tuple[bool, int]:
            original = self._originals[index]
            same_text = "".join(original.text.split()) == "".join(found.text.split())
            shared = (entities & _entity_keys(original)).total()
            return same_text, shared

        return max(sorted(candidates), key=likeness)


def _entity_keys(document: Document) -> Counter[tuple[int, int, str]]:
    """Entities with their places in the key of the text."""
    text = document.text
    return Counter(
        (len(key(text[: e.start])), len(key(text[: e.end])), e.label) for e in document.entities
    )


def _sentences(document: Document) -> Iterable[Document]:
    if len(document.sentences) == 1:
        yield document
        return
    for first, end in document.sentences:
        start, stop_ = document.tokens[first][0], document.tokens[end - 1][1]
        yield Document(
            document.id,
            document.text[start:stop_],
            [
                e._replace(start=e.start - start, end=e.end - start)
                for e in document.entities
                if start <= e.start and e.end <= stop_
            ],
            tokens=[(a - start, b - start) for a, b in document.tokens[first:end]],
            sentences=[(0, end - first)],
        )


def joined(sentences: Sequence[Document], name: str) -> Document:
    """Sentences as one document, with a blank between them."""
    entities: list[Entity] = []
    tokens: list[tuple[int, int]] = []
    ranges: list[tuple[int, int]] = []
    start = 0
    for sentence in sentences:
        entities += [
            e._replace(start=e.start + start, end=e.end + start) for e in sentence.entities
        ]
        ranges.append((len(tokens), len(tokens) + len(sentence.tokens)))
        tokens += [(a + start, b + start) for a, b in sentence.tokens]
        start += len(sentence.text) + 1
    text = " ".join(sentence.text for sentence in sentences)
    return Document(name, text, entities, tokens=tokens, sentences=ranges)


def _from_nowhere(path: Path, sentence: Document) -> OpenMedError:
    tokens = [sentence.text[a:b] for a, b in sentence.tokens]
    shown = " ".join(tokens[:12]) + (" …" if len(tokens) > 12 else "")
    return OpenMedError(f"{_where(path, tokens)}: this is from none of the originals: {shown}")


def _where(path: Path, tokens: list[str]) -> str:
    """File and line of a sentence. Only looked for when there is something to complain of."""
    seen: list[str] = []
    begins = str(path)
    for where, line in chain(numbered_lines(path), [("", "")]):
        if line.strip():
            if not seen:
                begins = where
            seen.append(line.split("\t")[0])
        else:
            if seen == tokens:
                return begins
            seen = []
    return str(path)
