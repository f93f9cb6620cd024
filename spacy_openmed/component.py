"""The pipeline component ``openmed_ner``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spacy import util
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Optimizer, set_dropout_rate

from . import adapters, backbones, checkpoints
from .alignment import align
from .annotation import annotate
from .config import DEFAULT_CONFIG, OF_ADAPTER, OFF, check_config
from .entities import Entity
from .errors import OpenMedError
from .heads import Head
from .inference import Floats
from .labelling import IGNORED, label_wordpieces, outermost
from .network import tagging_loss
from .tagger import Tagged, TaggerModel, TaggerShim, shim_of
from .windows import Windowing

DEFAULT_BACKBONE = "minilm"
# Of the docs that ``pipe`` works on together: enough to be packed well, and few enough that a
# short stream has a batch to read while the network works on another.
CHARACTERS = 100_000
# Settings that the model is told, too.
_OF_MODEL = ("batch_wordpieces", "window", "overlap", "precision", "compile", "keep_merged")


@Language.factory(
    "openmed_ner",
    default_config=util.load_config_from_str(DEFAULT_CONFIG)["openmed_ner"],
    assigns=[
        "doc.ents",
        "doc.spans",
        "token.ent_iob",
        "token.ent_type",
        "span._.openmed_score",
    ],
    retokenizes=True,
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_openmed_ner(
    nlp: Language,
    name: str,
    model: TaggerModel,
    dataset: str | list[str] | None,
    backbone: str | None,
    adapter: str | Path | None,
    checkpoint: str | Path | None,
    annotate: str,
    spans_key: str,
    threshold: float | dict[str, float],
    consistency: float | str,
    alignment: str,
    edges: str,
    overwrite: bool,
    labels: dict[str, str],
    precision: str,
    compile: bool,
    keep_merged: bool,
    batch_wordpieces: int,
    window: int | None,
    overlap: int | None,
    bundle_backbone: bool,
    scorer: Callable[..., dict[str, Any]] | None,
) -> "OpenMedNER":
    """Make the component; its weights are loaded when they are first needed.

    dataset (str | list[str] | None): One of the 12 dataset ids, or several of them.
    backbone (str | None): Backbone id; None takes the best adapter for the dataset.
    adapter (str | Path | None): Folder of an adapter; wins over ``dataset``.
    checkpoint (str | Path | None): Folder or hub id of a Hugging Face model for token
        classification, which takes the place of backbone and adapter.
    annotate (str): "ents" writes doc.ents, "spans" doc.spans[spans_key], "both" both.
    spans_key (str): Key of doc.spans; its ``attrs["scores"]`` has one score a span. There and in
        doc.ents ``id_`` of a span is the dataset id of the adapter that found it.
    threshold (float | dict[str, float]): Entities with a lower score are dropped; a dict
        gives one per label.
    consistency (float | str): Entities with at least this score are carried to the same words
        elsewhere in the doc; "adapter": from the score on that each adapter says, if it says
        one; "off": none.
    alignment (str): What to do where an entity begins or ends inside a token: "split" the
        token, "expand" the entity, "contract" it, or drop it ("strict").
    edges (str): "word": entities begin and end at words; "wordpiece": anywhere.
    overwrite (bool): False keeps entities that are already there; True replaces those that
        overlap with new ones.
    labels (dict[str, str]): Labels to rename.
    precision (str): What inference computes in: "auto" (bf16 on GPUs, and on processors that
        have it, else fp32), "fp32", "bf16", "fp16" or "int8".
    compile (bool): Have torch.compile fuse what is between the matrix products, which takes its
        time at the first batches.
    keep_merged (bool): Keep the weights into which each adapter was merged, so that several tag one
        short text after another faster, for memory: the layers that LoRA changes once for each
        adapter, which on ``minilm`` are 21 MB in bf16, 42 MB in fp32. Not for a checkpoint.
    batch_wordpieces (int): Wordpieces that are in the network at a time, padding included.
    window, overlap (int | None): Wordpieces; longer texts are read in overlapping windows. None:
        as the adapter was trained, and 256 and 50 for a new one or a checkpoint.
    bundle_backbone (bool): to_disk writes the weights of the backbone or checkpoint, too.
    scorer (Callable | None): The scorer.
    RAISES (OpenMedError): A value that is not possible.
    """
    return OpenMedNER(
        nlp.vocab,
        model,
        name,
        dataset=dataset,
        backbone=backbone,
        adapter=adapter,
        checkpoint=checkpoint,
        annotate=annotate,
        spans_key=spans_key,
        threshold=threshold,
        consistency=consistency,
        alignment=alignment,
        edges=edges,
        overwrite=overwrite,
        labels=labels,
        precision=precision,
        compile=compile,
        keep_merged=keep_merged,
        batch_wordpieces=batch_wordpieces,
        window=window,
        overlap=overlap,
        bundle_backbone=bundle_backbone,
        scorer=scorer,
    )


def _some(stream: Iterator[Doc], most: int) -> list[Doc]:
    """The next docs of a stream: at most so many, and no more once there are ``CHARACTERS``."""
    docs: list[Doc] = []
    characters = 0
    while len(docs) < most and characters < CHARACTERS:
        doc = next(stream, None)
        if doc is None:
            break
        docs.append(doc)
        characters += len(doc.text)
    return docs


class OpenMedNER(TrainablePipe):
    """Biomedical entities from LoRA adapters on a transformer, or from a checkpoint.

    The parameters are those of ``make_openmed_ner``. They are kept in ``cfg`` and may be
    changed there; a saved pipeline takes them from its config.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: TaggerModel,
        name: str = "openmed_ner",
        *,
        dataset: str | Sequence[str] | None = None,
        backbone: str | None = None,
        adapter: str | Path | None = None,
        checkpoint: str | Path | None = None,
        annotate: str = "ents",
        spans_key: str = "openmed",
        threshold: float | Mapping[str, float] = 0.0,
        consistency: float | str = OF_ADAPTER,
        alignment: str = "split",
        edges: str = "word",
        overwrite: bool = False,
        labels: Mapping[str, str] | None = None,
        precision: str = "auto",
        compile: bool = False,
        keep_merged: bool = False,
        batch_wordpieces: int = 4096,
        window: int | None = None,
        overlap: int | None = None,
        bundle_backbone: bool = False,
        scorer: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        self.cfg: dict[str, Any] = {
            "dataset": dataset,
            "backbone": backbone,
            "adapter": str(adapter) if adapter is not None else None,
            "checkpoint": str(checkpoint) if checkpoint is not None else None,
            "annotate": annotate,
            "spans_key": spans_key,
            "threshold": threshold,
            "consistency": consistency,
            "alignment": alignment,
            "edges": edges,
            "overwrite": overwrite,
            "labels": dict(labels or {}),
            "precision": precision,
            "compile": compile,
            "keep_merged": keep_merged,
            "batch_wordpieces": batch_wordpieces,
            "window": window,
            "overlap": overlap,
            "bundle_backbone": bundle_backbone,
        }
        check_config(self.cfg)
        self._tell_model()

    def _tell_model(self) -> None:
        for key in _OF_MODEL:
            self.model.attrs[key] = self.cfg[key]

    @property
    def shim(self) -> TaggerShim:
        """What holds the source of logits and, in training, the network."""
        return shim_of(self.model)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the entities that the component can find; none before it has any."""
        if self._configured:
            # spaCy asks for labels at any time; what is missing is said when it is needed.
            with suppress(OpenMedError):
                self._load()
        return tuple(dict.fromkeys(self._rename(t) for t in self._types()))

    @property
    def label_data(self) -> list[str]:
        """What ``spacy init labels`` writes and ``initialize`` takes."""
        return list(self.labels)

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[list[Entity]]:
        """Find the entities of some docs, which are not changed.

        docs (Iterable[Doc]): The docs.
        RETURNS (list[list[Entity]]): For each doc in text order; those of one head are
            disjoint.
        """
        docs = list(docs)
        return self._decode(docs, self._tag(docs))

    def _tag(self, docs: list[Doc]) -> list[Tagged]:
        self._load()
        tagged: list[Tagged] = self.model.predict(docs)
        return tagged

    def _decode(self, docs: Sequence[Doc], tagged: Sequence[Tagged]) -> list[list[Entity]]:
        texts = [doc.text for doc in docs]
        found: list[list[Entity]] = [[] for _ in docs]
        for index, head in enumerate(self.shim.heads()):
            wanted = replace(
                head,
                types=tuple(map(self._rename, head.types)),
                consistency=self._consistency(head),
            )
            decoded = wanted.decode(
                texts,
                [t.encoding for t in tagged],
                [t.logits[index] for t in tagged],
                self.cfg["edges"],
                self.cfg["threshold"],
            )
            for entities, new in zip(found, decoded, strict=True):
                entities.extend(entity._replace(source=head.dataset) for entity in new)
        return [sorted(entities) for entities in found]

    def _consistency(self, head: Head) -> float | None:
        wanted = self.cfg["consistency"]
        if wanted == OF_ADAPTER:
            return head.consistency
        return None if wanted == OFF else float(wanted)

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Sequence[Entity]]) -> None:
        """Write entities to the docs, as ``annotate``, ``alignment`` and ``overwrite`` say.

        docs (Iterable[Doc]): The docs.
        scores (Sequence[Sequence[Entity]]): What ``predict`` found.
        """
        for doc, entities in zip(docs, scores, strict=True):
            placed = align(doc, entities, self.cfg["alignment"])
            annotate(
                doc,
                placed,
                self.cfg["annotate"],
                self.cfg["spans_key"],
                self.cfg["overwrite"],
            )

    def __call__(self, doc: Doc) -> Doc:
        """Annotate one doc; a failure goes to the error handler."""
        for result in self._one_by_one([doc]):
            return result
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate a stream of docs, in order.

        While the network works on a batch, the one before it is annotated and handed on, and the
        next is read: at most three batches are in memory.

        A doc that fails costs no other: its batch is tried again doc by doc, and only the
        failing one goes to the error handler.

        stream (Iterable[Doc]): The docs.
        batch_size (int): At most so many docs are worked on together; fewer where they are long.
        """
        stream = iter(stream)
        with ThreadPoolExecutor(max_workers=1) as network:
            before: tuple[list[Doc], Future[list[Tagged]]] | None = None
            while docs := _some(stream, batch_size):
                self._encode_ahead(docs)
                # In this thread's context: a GPU that was asked for is noted there.
                tagged = network.submit(copy_context().run, self._tag, docs)
                if before is not None:
                    yield from self._annotated(*before)
                before = docs, tagged
            if before is not None:
                yield from self._annotated(*before)

    def _encode_ahead(self, docs: Sequence[Doc]) -> None:
        """Tokenise while the network is busy with the batch before."""
        # What fails here fails again, and is reported, where the docs are tagged.
        with suppress(Exception):
            self._load()
            self.shim.in_use.encode([doc.text for doc in docs])

    def _annotated(self, docs: Sequence[Doc], tagged: "Future[list[Tagged]]") -> Iterator[Doc]:
        try:
            entities = self._decode(docs, tagged.result())
        except Exception:
            yield from self._one_by_one(docs)
            return
        for doc, its in zip(docs, entities, strict=True):
            yield from self._guarded(doc, partial(list, its))

    def _one_by_one(self, docs: Sequence[Doc]) -> Iterator[Doc]:
        for doc in docs:
            yield from self._guarded(doc, partial(self._predict_one, doc))

    def _predict_one(self, doc: Doc) -> list[Entity]:
        return self.predict([doc])[0]

    def _guarded(self, doc: Doc, entities: Callable[[], Sequence[Entity]]) -> Iterator[Doc]:
        try:
            self.set_annotations([doc], [entities()])
        except Exception as error:
            self.get_error_handler()(self.name, self, [doc], error)
        else:
            yield doc

    # Training

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Prepare for training.

        An adapter that is loaded or configured stays if its labels are the data's. Otherwise
        its LoRA stays and gets a new head; without an adapter, both are new.

        get_examples (Callable): Returns examples; all of them are read for their labels
            unless ``labels`` is given.
        nlp (Language | None): The pipeline.
        labels (Sequence[str] | None): The labels, as ``spacy init labels`` writes them.
        RAISES (OpenMedError): No labels, or a checkpoint, which cannot be trained.
        """
        self._check_trainable()
        validate_get_examples(get_examples, "OpenMedNER.initialize")
        if labels is None:
            labels = sorted({e.label_ for eg in get_examples() for e in eg.reference.ents})
        if not labels:
            raise OpenMedError(
                f"Component '{self.name}' has nothing to learn: no example has an entity. "
                f"Annotate doc.ents in the training data, or give 'labels'."
            )
        original = {new: old for old, new in self.cfg["labels"].items()}
        types = [original.get(label, label) for label in labels]
        if self._configured:
            self._load()
        if not self.shim.loaded:
            self.shim.new_adapter(
                types,
                self.cfg["backbone"] or DEFAULT_BACKBONE,
                Windowing().but(self.cfg["window"], self.cfg["overlap"]),
            )
        elif set(labels) != set(self.labels):
            self.shim.new_head(types)

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from a batch.

        examples (Iterable[Example]): The batch.
        drop (float): Dropout before the head in this update.
        sgd (Optimizer | None): Updates the weights; without it gradients add up.
        losses (dict[str, float] | None): The loss is added under the component's name.
        RETURNS (dict[str, float]): The losses.
        RAISES (OpenMedError): It runs a checkpoint, which cannot be trained.
        """
        self._check_trainable()
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "OpenMedNER.update")
        self._load()
        if not any(len(eg.predicted) for eg in examples):
            return losses
        set_dropout_rate(self.model, drop)
        tagged, backprop = self.model.begin_update([eg.predicted for eg in examples])
        loss, gradients = self.get_loss(examples, tagged)
        backprop(gradients)  # type: ignore[arg-type]  # of the logits, not of whole outputs
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def _check_trainable(self) -> None:
        if self.cfg["checkpoint"] or self.shim.runs_checkpoint:
            raise OpenMedError(
                f"Component '{self.name}' runs a checkpoint as it is and cannot be trained. To "
                f"train on its encoder, give its folder as 'backbone' and leave 'checkpoint' out; "
                f"to train another component, freeze or disable '{self.name}'."
            )

    def get_loss(
        self, examples: Iterable[Example], scores: Sequence[Tagged]
    ) -> tuple[float, list[Floats]]:
        """Label-smoothed cross-entropy over wordpieces, the same as in ``finetune``.

        examples (Iterable[Example]): Gold entities are taken by their characters; tokens
            whose entity annotation is missing do not count.
        scores (Sequence[Tagged]): What the model returned for the predicted docs.
        RETURNS (tuple[float, list[float32[n, labels]]]): Loss and its gradient on the logits.
        """
        ids = {label: i for i, label in enumerate(self.shim.adapters[0].info.labels)}
        gold = [
            self._gold(eg.reference, tagged, ids)
            for eg, tagged in zip(examples, scores, strict=True)
        ]
        logits = torch.from_numpy(np.concatenate([tagged.logits[0] for tagged in scores]))
        logits.requires_grad_()
        targets = torch.from_numpy(np.concatenate(gold))
        if not bool((targets != IGNORED).any()):
            return 0.0, [np.zeros_like(tagged.logits[0]) for tagged in scores]
        loss = tagging_loss(logits, targets, self.model.attrs["settings"]["label_smoothing"])
        (gradient,) = torch.autograd.grad(loss, logits)
        ends = np.cumsum([len(targets) for targets in gold])[:-1]
        return float(loss.detach()), np.split(gradient.numpy(), ends)

    def _gold(self, reference: Doc, tagged: Tagged, ids: dict[str, int]) -> Any:
        encoding = tagged.encoding
        if not reference.has_annotation("ENT_IOB"):
            return np.full(len(encoding), IGNORED, dtype=np.int64)
        original = {new: old for old, new in self.cfg["labels"].items()}
        entities = [
            Entity(e.start_char, e.end_char, original.get(e.label_, e.label_))
            for e in reference.ents
        ]
        unknown = sorted({e.label for e in entities if f"B-{e.label}" not in ids})
        if unknown:
            raise OpenMedError(
                f"Component '{self.name}' cannot learn the label {', '.join(unknown)}: its head "
                f"knows {', '.join(self.labels)}. Initialize it on data with all labels."
            )
        labels = label_wordpieces(encoding, outermost(entities), ids)
        for token in reference:
            if token.ent_iob == 0:
                end = token.idx + len(token)
                labels[(encoding.starts < end) & (encoding.ends > token.idx)] = IGNORED
        return labels

    def add_label(self, label: str) -> int:
        """Not possible once the head exists: it has a row for each label.

        RETURNS (int): 0 if the label is already there.
        RAISES (OpenMedError): It is not.
        """
        if label in self.labels:
            return 0
        raise OpenMedError(
            f"Component '{self.name}' has the labels {', '.join(self.labels)}; '{label}' cannot "
            f"be added. Call nlp.initialize with examples, or labels, that have all of them."
        )

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score examples with the configured scorer."""
        if self.scorer is None:
            return {}
        return self.scorer(
            examples, annotate=self.cfg["annotate"], spans_key=self.cfg["spans_key"], **kwargs
        )

    # Loading and saving

    @property
    def _configured(self) -> bool:
        """Whether the config says what to run, and that is more than to be trained."""
        return any(self.cfg[key] for key in ("dataset", "adapter", "checkpoint"))

    def _load(self) -> None:
        """Read the adapters or the checkpoint that the config asks for, unless that was done.

        RAISES (OpenMedError): None found, or they do not fit.
        """
        self._tell_model()
        self.shim.configure(self.cfg)
        with self.shim.loading:
            if self.shim.loaded:
                return
            if self.cfg["checkpoint"]:
                self.shim.set_checkpoint(checkpoints.read(self.cfg["checkpoint"]))
                return
            folders = self._configured_folders()
            loaded = [adapters.read(folder) for folder in folders]
            if self.cfg["backbone"] is not None:
                ref = backbones.reference(self.cfg["backbone"])
                for folder, adapter in zip(folders, loaded, strict=True):
                    adapters.verify_backbone(adapter, ref, str(folder))
            bundled = next((adapter.bundled for adapter in loaded if adapter.bundled), None)
            self.shim.set_adapters(loaded, bundled=bundled)

    def _configured_folders(self) -> list[Path]:
        if self.cfg["adapter"] is not None:
            return [Path(self.cfg["adapter"])]
        if not self.cfg["dataset"]:
            raise OpenMedError(
                f"Component '{self.name}' has no adapter. Set 'dataset' (adapters here: "
                f"{', '.join(adapters.available()) or 'none'}), 'adapter' or 'checkpoint' in its "
                f"config, or train it (nlp.initialize, spacy train)."
            )
        names = self.cfg["dataset"]
        names = [names] if isinstance(names, str) else names
        return [adapters.find(name, self.cfg["backbone"]) for name in names]

    def _types(self) -> list[str]:
        return [t for types in self.shim.types for t in types]

    def _rename(self, label: str) -> str:
        renamed: str = self.cfg["labels"].get(label, label)
        return renamed

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Adapters, tokenizer and the reference to the backbone or checkpoint.

        exclude (Iterable[str]): "vocab" or "model".
        """
        if self._configured:
            self._load()
        serialize: dict[str, Callable[[], bytes]] = {
            "vocab": lambda: self.vocab.to_bytes(exclude=exclude),
            "model": lambda: self.shim.to_bytes(),
        }
        packed: bytes = util.to_bytes(serialize, exclude)
        return packed

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "OpenMedNER":
        """The inverse of ``to_bytes``."""
        deserialize: dict[str, Callable[[bytes], Any]] = {
            "vocab": lambda b: self.vocab.from_bytes(b, exclude=exclude),
            "model": lambda b: self.shim.from_bytes(b),
        }
        util.from_bytes(bytes_data, deserialize, exclude)
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write a folder: vocab, tokenizer, ``adapter/`` and, if bundled, ``backbone/``; or
        ``checkpoint/``, its weights if bundled.

        path (str | Path): The folder.
        exclude (Iterable[str]): "vocab" or "model".
        """
        if self._configured:
            self._load()
        serialize: dict[str, Callable[[Path], None]] = {
            "vocab": lambda p: self.vocab.to_disk(p, exclude=exclude),
            "model": lambda p: self.shim.write(p.parent, self.cfg["bundle_backbone"]),
        }
        util.to_disk(path, serialize, exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "OpenMedNER":
        """The inverse of ``to_disk``. Large weights are loaded at first use."""
        deserialize: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.from_disk(p, exclude=exclude),
            "model": lambda p: self.shim.read(p.parent),
        }
        util.from_disk(path, deserialize, exclude)
        return self

    def __reduce__(self) -> Any:
        return _unpickle, (self.vocab, self.model, self.name, self.cfg, self.scorer)


def _unpickle(
    vocab: Vocab, model: TaggerModel, name: str, cfg: dict[str, Any], scorer: Any
) -> OpenMedNER:
    return OpenMedNER(vocab, model, name, **cfg, scorer=scorer)
