"""The registered Thinc architecture: docs in, wordpieces and their logits out."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import srsly
import torch
from spacy.tokens import Doc
from thinc.api import Model, Optimizer, PyTorchShim, get_torch_default_device, xp2torch
from tokenizers import Tokenizer

from . import backbones, network, sources
from .adapters import Adapter, AdapterInfo, unfitted
from .checkpoints import Checkpoint
from .errors import OpenMedError
from .heads import Head, of_network
from .inference import Floats, SharedBackbone
from .network import TokenTagger
from .precision import Arithmetic, resolve_unscaled
from .sources import AdapterSource, CheckpointSource, Source
from .windows import Encoding, SpecialTokens, Windowing, cut, owned, pack, pad

# Every linear layer inside the encoder's blocks; not a pooler's, which others may load too.
LINEAR_LAYERS = r".*\.layer\.\d+\..*\.(query|key|value|query_proj|key_proj|value_proj|dense)"


@dataclass
class Tagged:
    """One doc as the network sees it.

    encoding (Encoding): Its n wordpieces.
    logits (list[float32[n, labels]]): One array for each head.
    """

    encoding: Encoding
    logits: list[Floats]


TaggerModel = Model[list[Doc], list[Tagged]]


def PeftTokenTagger(
    rank: int = 32,
    alpha: int = 64,
    lora_dropout: float = 0.05,
    target_modules: str = LINEAR_LAYERS,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    label_smoothing: float = 0.1,
    precision: str = "auto",
) -> TaggerModel:
    """Transformer with LoRA and a linear head over its wordpieces.

    The settings are for training. An adapter that is loaded brings its own rank and targets.

    rank, alpha, lora_dropout, target_modules: Of a new LoRA, see ``LoraSettings``.
    dropout (float): Of the encoder's layers and before the head; spaCy's own
        ``training.dropout`` takes the place of the latter.
    attention_dropout (float): Of attention weights; 0 is much faster.
    label_smoothing (float): Share of the target spread over all labels.
    precision (str): Of the arithmetic in training: "auto", "bf16" or "fp32".
    RETURNS (Model[list[Doc], list[Tagged]])
    """
    settings: dict[str, Any] = {
        "rank": rank,
        "alpha": alpha,
        "lora_dropout": lora_dropout,
        "target_modules": target_modules,
        "dropout": dropout,
        "attention_dropout": attention_dropout,
        "label_smoothing": label_smoothing,
        "precision": precision,
    }
    return Model(
        "openmed_tagger",
        forward,
        attrs={
            "settings": settings,
            "window": None,
            "overlap": None,
            "batch_wordpieces": 4096,
            "precision": "auto",
            "compile": False,
            "keep_merged": False,
            "dropout_rate": None,
        },
        shims=[TaggerShim(settings)],
    )


def forward(
    model: TaggerModel, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Tagged], Callable[[list[Floats]], list[Doc]]]:
    """Encode, cut, run and stitch; in training, remember how to go back."""
    shim = shim_of(model)
    shim.configure(model.attrs)
    windowings = shim.in_use.windowings(model.attrs["window"], model.attrs["overlap"])
    encodings = shim.in_use.encode([doc.text for doc in docs])
    batch = model.attrs["batch_wordpieces"]
    if not is_train:
        scores = shim.tag(encodings, windowings, batch)
        tagged = [
            Tagged(encoding, [logits[i] for logits in scores])
            for i, encoding in enumerate(encodings)
        ]
        return tagged, lambda gradients: []
    shim.set_dropout(model.attrs["dropout_rate"])
    logits, backprop = shim.begin_tagging(encodings, windowings[0], batch)

    def back(gradients: list[Floats]) -> list[Doc]:
        backprop(gradients)
        return []

    tagged = [Tagged(e, [rows]) for e, rows in zip(encodings, logits, strict=True)]
    return tagged, back


def shim_of(model: TaggerModel) -> "TaggerShim":
    """The shim that holds a tagger's weights."""
    shim = model.shims[0]
    assert isinstance(shim, TaggerShim)
    return shim


class TaggerShim(PyTorchShim):
    """The source of logits and, once training has begun, a private network.

    Weights are loaded when they are first needed: spaCy builds every component before it
    reads the component's files.

    settings (dict): Of ``PeftTokenTagger``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(None)
        self.settings = settings
        self.source: Source | None = None
        self._arithmetic = Arithmetic()
        self._keeps = False
        self.loading = threading.RLock()
        # The private network is not thread-safe: training switches its layers' modes.
        self._private = threading.RLock()

    # Loading

    def set_adapters(
        self,
        loaded: Sequence[Adapter],
        tokenizer: Tokenizer | None = None,
        bundled: Path | None = None,
    ) -> None:
        """Use these adapters from now on; see ``AdapterSource``."""
        self._use(AdapterSource(loaded, tokenizer, bundled))

    def set_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Use this checkpoint from now on."""
        self._use(CheckpointSource(checkpoint))

    def _use(self, source: Source | None) -> None:
        self.source = source
        if source is not None:
            source.arithmetic = self._arithmetic
            source.keep_merged(self._keeps)
        self._model = None

    def configure(self, settings: Mapping[str, Any]) -> None:
        """How inference computes; see ``SharedBackbone``. Training has settings of its own.

        settings (Mapping): "precision", "compile" and "keep_merged" of the component's config, or
            the model's attributes of the same names.
        """
        wanted = Arithmetic(settings["precision"], settings["compile"])
        if wanted != self._arithmetic:
            self._arithmetic = wanted
            if self.source is not None:
                self.source.arithmetic = wanted
                self.source.release()
        self._keeps = settings["keep_merged"]
        if self.source is not None:
            self.source.keep_merged(self._keeps)

    def new_adapter(self, types: Sequence[str], backbone: str, windowing: Windowing) -> None:
        """Begin anew: fresh LoRA, fresh head, for texts that are cut like that."""
        from .training.lora import wrap
        from .training.settings import LoraSettings

        ref = backbones.reference(backbone)
        lora = LoraSettings(
            rank=self.settings["rank"],
            alpha=self.settings["alpha"],
            dropout=self.settings["lora_dropout"],
            target_modules=self.settings["target_modules"],
        )
        info = AdapterInfo("", tuple(types), ref, *windowing)
        tagger = TokenTagger(
            wrap(self._private_encoder(backbones.find(ref)), lora),
            len(info.labels),
            self.settings["dropout"],
        )
        self.set_adapters([network.to_adapter(tagger, info)])
        self._set_network(tagger)

    def new_head(self, types: Sequence[str]) -> None:
        """Keep the LoRA, but learn other types with a fresh head."""
        old = self.adapter
        tagger = self._trainable()
        info = AdapterInfo("", tuple(types), old.info.backbone, *old.info.windowing)
        fresh = TokenTagger(tagger.encoder, len(info.labels), self.settings["dropout"])
        self._trained.adapters = [network.to_adapter(fresh, info)]
        self._set_network(fresh)

    @property
    def loaded(self) -> bool:
        return self.source is not None

    @property
    def runs_checkpoint(self) -> bool:
        return isinstance(self.source, CheckpointSource)

    @property
    def types(self) -> list[tuple[str, ...]]:
        """The entity types of each head; none before there is a source."""
        return self.source.types if self.source is not None else []

    @property
    def in_use(self) -> Source:
        """What runs.

        RAISES (OpenMedError): There is nothing yet.
        """
        if self.source is None:
            raise OpenMedError("The tagger has no adapter and no checkpoint yet.")
        return self.source

    @property
    def _trained(self) -> AdapterSource:
        """The adapters, which are what can be trained.

        RAISES (OpenMedError): It runs a checkpoint, or nothing yet.
        """
        source = self.in_use
        if not isinstance(source, AdapterSource):
            raise OpenMedError(
                "A checkpoint is run as it is and cannot be trained. To train on its encoder, give "
                "its folder as 'backbone' and leave 'checkpoint' out."
            )
        return source

    @property
    def adapters(self) -> list[Adapter]:
        """Those that were loaded or trained; none if it runs a checkpoint."""
        return self.source.adapters if isinstance(self.source, AdapterSource) else []

    @property
    def backbone(self) -> SharedBackbone:
        """The shared backbone of the adapters, loaded at first use."""
        return self._trained.backbone

    @property
    def adapter(self) -> Adapter:
        """The one adapter, with the weights that training has made so far.

        RAISES (OpenMedError): There are several, which cannot be trained together.
        """
        source = self._trained
        if len(source.adapters) != 1:
            raise OpenMedError(
                f"This component runs {len(source.adapters)} adapters; only one can be trained. "
                f"Give each dataset a component of its own to train it."
            )
        self._store()
        return source.adapters[0]

    def _store(self) -> None:
        """Put the weights that training has made so far into the adapter."""
        if self._model is not None:
            source = self._trained
            # Without the card and what was fitted on dev, which is not of these weights any more.
            info = unfitted(source.adapters[0].info)
            source.adapters = [network.to_adapter(self._model, info)]

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer saved with the pipeline, else the source's own."""
        return self.in_use.tokenizer

    @property
    def special(self) -> SpecialTokens:
        return self.in_use.special

    # Inference

    def heads(self) -> list[Head]:
        """What is scored, with the weights that training has made so far."""
        if self._model is None:
            return self.in_use.heads()
        # As it would be saved: without what was fitted to the weights before.
        return [of_network(unfitted(self._trained.adapters[0].info), self._run_private)]

    def tag(
        self, encodings: Sequence[Encoding], windowings: Sequence[Windowing], batch: int
    ) -> list[list[Floats]]:
        """For each head, the stitched logits of each text."""
        special = self.special
        return [
            replace(head, windowing=windowing).tag(encodings, special, batch)
            for head, windowing in zip(self.heads(), windowings, strict=True)
        ]

    def _run_private(self, ids: Any, mask: Any) -> Floats:
        tagger = self._model
        with self._private, torch.inference_mode():
            tagger.eval()
            logits = tagger(
                torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
            )
        result: Floats = logits.cpu().numpy()
        return result

    # Training

    def begin_tagging(
        self, encodings: Sequence[Encoding], windowing: Windowing, batch: int
    ) -> tuple[list[Floats], Callable[[list[Floats]], None]]:
        """Run with gradients.

        RETURNS: Stitched logits of each text, and the way back from gradients on them.
        """
        tagger = self._trainable()
        special = self.special
        size = windowing.window - special.count
        cuts = [cut(len(e), size, windowing.overlap) for e in encodings]
        # Where each window's owned wordpieces are: text, first and last in text and window.
        jobs = [
            (text, start, end, begin, stop)
            for text, windows in enumerate(cuts)
            for (start, end), (begin, stop) in zip(windows, owned(windows), strict=True)
        ]
        labels = tagger.head.out_features
        logits = [np.zeros((len(e), labels), dtype=np.float32) for e in encodings]
        outputs = []
        tagger.train()
        precision = resolve_unscaled(self.settings["precision"], self.device.type)
        for indices in pack([end - start + special.count for _, start, end, _, _ in jobs], batch):
            members = [jobs[i] for i in indices]
            ids, mask = pad(
                [encodings[text].ids[start:end] for text, start, end, _, _ in members], special
            )
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                scores = tagger(
                    torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
                )
            outputs.append((members, scores))
            first = len(special.prefix)
            values = scores.detach().cpu().numpy()
            for row, (text, start, _, begin, stop) in enumerate(members):
                logits[text][begin:stop] = values[row, first + begin - start : first + stop - start]

        def backprop(gradients: list[Floats]) -> None:
            for members, scores in outputs:
                gradient = np.zeros(tuple(scores.shape), dtype=np.float32)
                first = len(special.prefix)
                for row, (text, start, _, begin, stop) in enumerate(members):
                    columns = slice(first + begin - start, first + stop - start)
                    gradient[row, columns] = gradients[text][begin:stop]
                scores.backward(torch.from_numpy(gradient).to(scores.device))

        return logits, backprop

    def set_dropout(self, rate: float | None) -> None:
        """Set the rate before the head, which is the one that spaCy's training loop controls."""
        if rate is not None:
            self._trainable().dropout.p = rate

    def _trainable(self) -> TokenTagger:
        if self._model is None:
            adapter = self.adapter
            folder = backbones.find(adapter.info.backbone, self._trained.bundled)
            self._set_network(
                network.from_adapter(
                    self._private_encoder(folder), adapter, self.settings["dropout"]
                )
            )
        tagger: TokenTagger = self._model
        return tagger

    def _private_encoder(self, folder: Path) -> torch.nn.Module:
        """A copy of its own: LoRA changes an encoder in place, others share theirs."""
        encoder = backbones.load_encoder(folder)
        network.set_dropout(encoder, self.settings["dropout"], self.settings["attention_dropout"])
        return encoder

    def _set_network(self, tagger: TokenTagger) -> None:
        self._model = tagger.to(get_torch_default_device())

    def finish_update(self, optimizer: Optimizer) -> None:
        """Step the trained parameters; before any training there is nothing to do."""
        if self._model is not None:
            super().finish_update(optimizer)

    @contextlib.contextmanager
    def use_params(self, params: dict[Any, Any]) -> Iterator[None]:
        """Run with other weights for a while, e.g. an optimizer's averages.

        Thinc's own version looks for keys that its optimizers do not write, and does nothing.
        """
        named = dict(self._model.named_parameters()) if self._model is not None else {}
        mine = {name: params[self.id, name] for name in named if (self.id, name) in params}
        backup = {name: named[name].detach().clone() for name in mine}
        with torch.no_grad():
            for name, value in mine.items():
                named[name].copy_(xp2torch(value, device=named[name].device))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in backup.items():
                    named[name].copy_(value)

    @property
    def device(self) -> torch.device:
        """Of the private network, once there is one."""
        # Which GPU is the default one depends on the thread: a new one begins with the first.
        if self._model is not None:
            found: torch.device = next(self._model.parameters()).device
            return found
        return get_torch_default_device()

    def to_device(self, device_type: str, device_id: int) -> None:
        if self.source is not None:
            self.source.release()
        if self._model is not None:
            super().to_device(device_type, device_id)

    # Serialisation

    def to_bytes(self) -> bytes:
        """Adapters and tokenizer; of the backbone or checkpoint only the reference."""
        self._store()
        packed: bytes = srsly.msgpack_dumps(self.source.to_data() if self.source else {})
        return packed

    def from_bytes(self, bytes_data: bytes) -> "TaggerShim":
        self._use(sources.from_data(srsly.msgpack_loads(bytes_data)))
        return self

    def write(self, folder: Path, bundle: bool) -> None:
        """Write into a component's folder; see ``Source.to_disk``."""
        self._store()
        if self.source is not None:
            self.source.to_disk(folder, bundle)

    def read(self, folder: Path) -> None:
        """Read what ``write`` wrote; a folder without anything changes nothing."""
        source = sources.from_disk(folder)
        if source is not None:
            self._use(source)

    def copy(self) -> "TaggerShim":
        fresh = TaggerShim(dict(self.settings))
        return fresh.from_bytes(self.to_bytes())

    def __reduce__(self) -> Any:
        # Locks and shared weights cannot be pickled; the bytes say all there is to say.
        return _unpickle_shim, (self.settings, self.to_bytes())


def _unpickle_shim(settings: dict[str, Any], data: bytes) -> TaggerShim:
    return TaggerShim(settings).from_bytes(data)
