"""Entities, found on characters, put on the tokens of a spaCy Doc.

spaCy's tokenizer cannot express every entity ("CYP" in "CYP)-induced"). ``align`` says what
happens then; ``split_tokens`` mends the tokens in place and carries along everything that is
attached to them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc, Span
from thinc.api import get_array_module

from .entities import Entity
from .errors import OpenMedError

ALIGNMENTS = ("split", "expand", "contract", "strict")

# What a token carries besides its text. SENT_START is written twice, see _write_annotations.
_ANNOTATIONS = (
    "NORM",
    "LEMMA",
    "TAG",
    "POS",
    "MORPH",
    "HEAD",
    "DEP",
    "ENT_IOB",
    "ENT_TYPE",
    "ENT_KB_ID",
    "ENT_ID",
    "SENT_START",
)
# What Doc.__init__ resets and a new tokenization does not touch.
_UNTOUCHED = (
    "_vector",
    "cats",
    "has_unknown_spaces",
    "noun_chunks_iterator",
    "sentiment",
    "user_data",
    "user_hooks",
    "user_span_hooks",
    "user_token_hooks",
)
_IOB_INSIDE, _IOB_BEGIN = 1, 3


def align(doc: Doc, entities: Sequence[Entity], mode: str) -> list[tuple[Span, float]]:
    """Put entities on the tokens of a doc.

    White space at an entity's ends is never part of the span; an entity of white space only
    is dropped.

    doc (Doc): The doc. Changed in place by "split" where an entity begins or ends inside a
        token, see ``split_tokens``; left alone by the other modes.
    entities (Sequence[Entity]): Entities on the characters of ``doc.text``, in any order.
    mode (str): One of ``ALIGNMENTS``.
        "split": tokens are split at entity edges, so that every entity is exactly on tokens.
        "expand": the fewest tokens that cover the entity. Of entities that then share a
            token the one with the higher score stays, then the longer, then the earlier.
        "contract": the most tokens inside the entity, white space tokens at the ends left out;
            the entity is dropped if there are none.
        "strict": an entity that is not exactly on tokens is dropped.
    RETURNS (list[tuple[Span, float]]): The spans, with labels and, as ids, their entities' sources;
        and their entities' scores; ordered by start, then end.
    RAISES (OpenMedError): Unknown mode, or an entity that is empty or reaches outside of the
        text; the doc is unchanged then.
    """
    if mode not in ALIGNMENTS:
        raise OpenMedError(f"Unknown alignment {mode!r}: choose one of {', '.join(ALIGNMENTS)}.")
    if not entities:
        return []
    found = _trim(doc, entities)
    if mode == "split":
        split_tokens(doc, (edge for entity in found for edge in (entity.start, entity.end)))
    placed = _place(doc, found, mode)
    if mode == "expand":
        placed = _without_overlaps(placed, len(doc))
    return [
        (Span(doc, first, last, label=entity.label, span_id=entity.source), entity.score)
        for entity, first, last in placed
    ]


def split_tokens(doc: Doc, cuts: Iterable[int]) -> None:
    """Split tokens, in place, so that every cut is a token edge.

    What is attached to the doc goes on meaning the same characters: text, white space,
    sentences, ``doc.ents``, ``doc.spans`` (the same SpanGroup objects), extension values,
    ``doc.tensor`` (a split token's row stands for each of its parts) and ``doc.user_data``.
    The first part keeps the token's place in the parse and the others attach to it as "dep";
    all parts keep tag, part of speech and morphology; the lemma of a part is its text.
    Annotation that the doc does not have is not invented.

    Token and Span objects (and groups outside of ``doc.spans``) that the caller took from the
    doc before, and extension values that count tokens (such as a transformer's alignment), can
    not be mended: take them anew. Nothing happens if every cut is a token edge already.

    doc (Doc): The doc.
    cuts (Iterable[int]): Character offsets into ``doc.text``, in any order. Those outside of
        the text change nothing.
    """
    parts = _parts(doc, np.unique(np.fromiter(cuts, dtype=np.int64)))
    if len(parts.origin) > len(doc):
        _rebuild(doc, parts)


class _Parts(NamedTuple):
    """New tokens in terms of old ones.

    starts, ends (int64[new]): Character offsets of the new tokens.
    origin (int64[new]): The old token that each new one is, or is a part of.
    first (int64[old + 1]): The first part of each old token; at the end, the number of new
        tokens, so that ``first`` maps the edges of old token ranges to those of new ones.
    """

    starts: NDArray[Any]
    ends: NDArray[Any]
    origin: NDArray[Any]
    first: NDArray[Any]

    @property
    def is_later(self) -> NDArray[Any]:
        """RETURNS (bool[new]): Whether the token is a part, but not the first one."""
        later: NDArray[Any] = self.first[self.origin] < np.arange(len(self.origin))
        return later

    @property
    def is_part(self) -> NDArray[Any]:
        """RETURNS (bool[new]): Whether the token is a part of a split token."""
        split: NDArray[Any] = np.diff(self.first)[self.origin] > 1
        return split


def _token_edges(doc: Doc) -> tuple[NDArray[Any], NDArray[Any]]:
    """RETURNS (tuple): Character offsets of the tokens' starts and ends, int64[tokens] each."""
    table = doc.to_array(["IDX", "LENGTH"]).astype(np.int64)
    return table[:, 0], table[:, 0] + table[:, 1]


def _parts(doc: Doc, cuts: NDArray[Any]) -> _Parts:
    """Where the new tokens lie.

    doc (Doc): The doc.
    cuts (int64[n]): Character offsets, ascending, each once.
    RETURNS (_Parts): The new tokens.
    """
    starts, ends = _token_edges(doc)
    # The last token that starts before the cut is the only one that the cut can lie in.
    owner = np.searchsorted(starts, cuts, side="left") - 1
    cuts, owner = cuts[owner >= 0], owner[owner >= 0]
    inside = cuts < ends[owner]
    cuts, owner = cuts[inside], owner[inside]
    counts = 1 + np.bincount(owner, minlength=len(starts))
    return _Parts(
        starts=np.sort(np.concatenate([starts, cuts])),
        ends=np.sort(np.concatenate([ends, cuts])),
        origin=np.repeat(np.arange(len(starts)), counts),
        first=np.concatenate([[0], np.cumsum(counts)]),
    )


def _rebuild(doc: Doc, parts: _Parts) -> None:
    """Give the doc its new tokens and put everything back onto them.

    ``doc.retokenize`` is of no use here: each split moves all later tokens, one by one
    (28 ms in a doc of 200,000 tokens, however many splits share a context), leaves
    ``doc.spans`` where they were and ``doc.tensor`` a row too long. ``Doc.__init__`` on the
    same object costs the same for one split and for thousands.

    doc (Doc): The doc.
    parts (_Parts): Its new tokens.
    """
    words = _words(doc, parts)
    spaces = _spaces(doc, parts)
    columns = _annotations(doc, parts, words)
    groups = doc.spans
    group_spans = {key: list(group) for key, group in groups.items()}
    tensor = _repeat_rows(doc.tensor, parts.origin, len(doc))
    untouched = {name: getattr(doc, name) for name in _UNTOUCHED}
    memory = doc.mem

    Doc.__init__(doc, doc.vocab, words=words, spaces=spaces)
    # A Token object that the caller still holds points into the old memory: without this,
    # reading it could crash the process.
    doc.mem.own_pyref(memory)
    for name, value in untouched.items():
        setattr(doc, name, value)
    doc.tensor = tensor
    _write_annotations(doc, columns)
    # The caller may hold doc.spans as well as its groups.
    doc.spans.data = groups.data
    for key, spans in group_spans.items():
        _replace_spans(doc, doc.spans[key], spans, parts.first)


def _words(doc: Doc, parts: _Parts) -> list[str]:
    """RETURNS (list[str]): The new tokens' texts."""
    text = doc.text
    edges = zip(parts.starts.tolist(), parts.ends.tolist(), strict=True)
    return [text[start:end] for start, end in edges]


def _spaces(doc: Doc, parts: _Parts) -> list[bool]:
    """RETURNS (list[bool]): Whether a space follows each new token."""
    spaces = np.zeros(len(parts.origin), dtype=bool)
    spaces[parts.first[1:] - 1] = doc.to_array("SPACY").astype(bool)
    flags: list[bool] = spaces.tolist()
    return flags


def _annotations(doc: Doc, parts: _Parts, words: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The new tokens' annotations.

    doc (Doc): The doc, its tokens still the old ones.
    parts (_Parts): The new tokens.
    words (Sequence[str]): Their texts.
    RETURNS (dict[str, uint64[new]]): Values by attribute name, as ``Doc.from_array`` takes
        them. 0 is unset.
    """
    table = doc.to_array(list(_ANNOTATIONS))
    columns: dict[str, NDArray[Any]] = {
        name: table[parts.origin, column] for column, name in enumerate(_ANNOTATIONS)
    }
    later = parts.is_later
    columns["NORM"][parts.is_part] = 0
    columns["LEMMA"] = _lemmas(doc, columns["LEMMA"], parts, words)
    columns["HEAD"] = _heads(columns["HEAD"], columns["DEP"], parts)
    columns["DEP"][later & (columns["DEP"] != 0)] = doc.vocab.strings.add("dep")
    # Begin without a type is spaCy's "blocked", which its parts stay.
    begins = (columns["ENT_IOB"] == _IOB_BEGIN) & (columns["ENT_TYPE"] != 0)
    columns["ENT_IOB"][later & begins] = _IOB_INSIDE
    columns["SENT_START"] = _sent_starts(columns["SENT_START"], later, len(doc))
    return columns


def _lemmas(doc: Doc, lemmas: NDArray[Any], parts: _Parts, words: Sequence[str]) -> NDArray[Any]:
    """RETURNS (uint64[new]): The lemmas; a part of a token that had one gets its own text."""
    lemmas = lemmas.copy()
    for i in np.flatnonzero(parts.is_part & (lemmas != 0)).tolist():
        lemmas[i] = doc.vocab.strings.add(words[i])
    return lemmas


def _heads(heads: NDArray[Any], deps: NDArray[Any], parts: _Parts) -> NDArray[Any]:
    """Heads in terms of the new tokens.

    heads (uint64[new]): The old tokens' heads, as offsets between old tokens, repeated.
    deps (uint64[new]): Their dependency labels, repeated; 0 where there is no parse.
    parts (_Parts): The new tokens.
    RETURNS (uint64[new]): Offsets between new tokens.
    """
    here = np.arange(len(parts.origin))
    # spaCy keeps negative offsets in unsigned columns.
    head = parts.first[parts.origin + heads.astype(np.int64)]
    beside = np.where(deps != 0, parts.first[parts.origin], here)
    absolute = np.where(parts.is_later, beside, head)
    return (absolute - here).astype(np.uint64)


def _sent_starts(values: NDArray[Any], later: NDArray[Any], n_tokens: int) -> NDArray[Any]:
    """Sentence starts: a part starts none, which is said only where the doc says such things.

    values (uint64[new]): The old tokens' values (1 yes, -1 no, 0 unknown), repeated.
    later (bool[new]): Which are parts, but not the first ones.
    n_tokens (int): How many tokens there were.
    RETURNS (uint64[new]): The new tokens' values.
    """
    # To spaCy the first token starts a sentence whatever its value: that says nothing about
    # the doc, unless it has no other token.
    first_token = np.cumsum(~later) == 1
    known = (values != 0) | first_token
    if n_tokens > 1 and not known[~first_token].any():
        known[:] = False
    values = values.copy()
    values[later] = np.where(known, np.int64(-1), 0).astype(np.uint64)[later]
    return values


def _repeat_rows(tensor: Any, origin: NDArray[Any], n_tokens: int) -> Any:
    """A tensor for the new tokens.

    tensor (Any): ``doc.tensor``: of NumPy or CuPy, one row an old token; anything else, such
        as the empty default, is returned as it is.
    origin (int64[new]): The old token of each new one.
    n_tokens (int): How many tokens there were.
    RETURNS (Any): One row a new token.
    """
    if tensor is None or tensor.ndim == 0 or tensor.shape[0] != n_tokens:
        return tensor
    return tensor[get_array_module(tensor).asarray(origin)]


def _write_annotations(doc: Doc, columns: dict[str, NDArray[Any]]) -> None:
    """Write annotations onto a doc without any.

    doc (Doc): The doc.
    columns (dict[str, uint64[tokens]]): Values by attribute name.
    """
    names: list[int | str] = [name for name, values in columns.items() if values.any()]
    if names:
        table: Any = np.stack([columns[str(name)] for name in names], axis=1)
        doc.from_array(names, table)
    # From a parse, from_array has just derived sentence starts: ours may know better.
    sent_starts: Any = columns["SENT_START"]
    doc.from_array(["SENT_START"], sent_starts)


def _replace_spans(doc: Doc, group: Any, spans: Sequence[Span], first: NDArray[Any]) -> None:
    """Put the spans of a group, which stays the same object, onto the new tokens.

    doc (Doc): The doc.
    group (SpanGroup): The group.
    spans (Sequence[Span]): Its spans, their token offsets those of the old tokens.
    first (int64[old + 1]): See ``_Parts``.
    """
    for i, span in enumerate(spans):
        start, end = int(first[span.start]), int(first[span.end])
        group[i] = Span(doc, start, end, label=span.label, kb_id=span.kb_id, span_id=span.id)


def _trim(doc: Doc, entities: Sequence[Entity]) -> list[Entity]:
    """Entities without white space at their ends.

    doc (Doc): The doc they are on.
    entities (Sequence[Entity]): Entities, in any order.
    RETURNS (list[Entity]): In text order; without those of white space only.
    RAISES (OpenMedError): An entity that is empty or reaches outside of the text.
    """
    starts, _ = _token_edges(doc)
    length = int(starts[-1]) + len(doc[-1].text_with_ws) if len(doc) else 0
    trimmed = []
    for entity in entities:
        if not 0 <= entity.start < entity.end <= length:
            raise OpenMedError(
                f"{entity} is empty or outside of the text of {length} characters: check "
                "that its offsets count characters (not bytes) of this very text."
            )
        # The tokens around it, rather than doc.text, which is put together at every call.
        first = int(np.searchsorted(starts, entity.start, side="right")) - 1
        last = int(np.searchsorted(starts, entity.end, side="left"))
        around = "".join(token.text_with_ws for token in doc[first:last])
        base = int(starts[first])
        inner = around[entity.start - base : entity.end - base]
        start = entity.end - len(inner.lstrip())
        end = entity.start + len(inner.rstrip())
        if start < end:
            trimmed.append(entity._replace(start=start, end=end))
    return sorted(trimmed, key=lambda entity: (entity.start, entity.end))


class _Placed(NamedTuple):
    """An entity, its first token and the one after its last."""

    entity: Entity
    first: int
    last: int


def _place(doc: Doc, entities: Sequence[Entity], mode: str) -> list[_Placed]:
    """Find the tokens of entities.

    doc (Doc): The doc.
    entities (Sequence[Entity]): Entities that neither begin nor end in white space.
    mode (str): One of ``ALIGNMENTS``; "split" needs the tokens split already.
    RETURNS (list[_Placed]): The entities that the mode does not drop, in the order given.
    """
    starts, ends = _token_edges(doc)
    begin = np.array([entity.start for entity in entities], dtype=np.int64)
    stop = np.array([entity.end for entity in entities], dtype=np.int64)
    if mode == "contract":
        first = np.searchsorted(starts, begin, side="left")
        last = np.searchsorted(ends, stop, side="right")
    else:
        first = np.searchsorted(ends, begin, side="right")
        last = np.searchsorted(starts, stop, side="left")
    rows = zip(entities, first.tolist(), last.tolist(), strict=True)
    placed = [_Placed(*row) for row in rows]
    if mode == "strict":
        exact = (starts[first] == begin) & (ends[last - 1] == stop)
        placed = [each for each, kept in zip(placed, exact, strict=True) if kept]
    if mode == "contract":
        inner = [_without_space(doc, each) for each in placed]
        placed = [each for each in inner if each.first < each.last]
    return placed


def _without_space(doc: Doc, placed: _Placed) -> _Placed:
    """RETURNS (_Placed): The same without the white space tokens at its ends."""
    entity, first, last = placed
    while first < last and doc[first].text.isspace():
        first += 1
    while first < last and doc[last - 1].text.isspace():
        last -= 1
    return _Placed(entity, first, last)


def _without_overlaps(placed: Sequence[_Placed], n_tokens: int) -> list[_Placed]:
    """Of entities that share a token, the best one.

    placed (Sequence[_Placed]): Entities and their tokens, in text order.
    n_tokens (int): Length of the doc.
    RETURNS (list[_Placed]): Those that stay, in text order.
    """

    def rank(i: int) -> tuple[float, int, int]:
        entity = placed[i].entity
        return (-entity.score, entity.start - entity.end, i)

    taken = np.zeros(n_tokens, dtype=bool)
    kept = []
    for i in sorted(range(len(placed)), key=rank):
        tokens = slice(placed[i].first, placed[i].last)
        if not taken[tokens].any():
            taken[tokens] = True
            kept.append(i)
    return [placed[i] for i in sorted(kept)]
