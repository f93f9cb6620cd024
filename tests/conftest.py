"""Fixtures that several test files share: backbones and corpora."""

import os
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: the first call of a test loads weights. In CI the same examples every time,
# so that a red run is about the change and not about luck.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Whole words, and pieces that others split into; what is left falls apart into letters.
WORDS = (
    "a an and are by cancer cell cells disease drug expression factor for from gene genes human "
    "in induced is kinase mice mutation of or patient patients protein receptor syndrome the "
    "therapy to treatment tumor was were with anti breast brca cardi cyp hepat hyper il inter "
    "leuk mening nephr neur onco ovarian p toxic"
)
PIECES = (
    "##s ##al ##ase ##carcin ##cyte ##emia ##gen ##ic ##ine ##ing ##itis ##kin ##leuk ##oma "
    "##opathy ##osis ##otoxic ##tension ##tion ##um ##y ##53"
)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Matrices this small are slower on many threads, far slower beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of random weights, always the same, and a WordPiece tokenizer.

    It has every file a real backbone has, a pooler too, and takes milliseconds to run.
    """
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-backbone")
    tokenizer = _wordpiece_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        # BERT's own 0.02 gives near-uniform attention in so small a model: no logit would
        # depend on its neighbours, and tests about windows would pass for nothing.
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    return folder


def _wordpiece_tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = string.ascii_lowercase + string.digits + "αβγδκμ"
    pieces = [*SPECIAL, *letters, *string.punctuation, *(f"##{c}" for c in letters)]
    pieces += [*WORDS.split(), *PIECES.split()]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


@pytest.fixture(scope="session")
def corpora_dir() -> Path:
    """The folder of the annotated corpora, which are not part of the project."""
    folder = os.environ.get("OPENMED_CORPORA")
    if not folder:
        pytest.skip("needs the corpora: set OPENMED_CORPORA to their folder")
    if not Path(folder).is_dir():
        pytest.skip(f"needs the corpora: OPENMED_CORPORA={folder} is no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the embedded backbone."""
    from spacy_openmed import backbones
    from spacy_openmed.errors import OpenMedError

    try:
        return backbones.find(backbones.reference("minilm"))
    except OpenMedError as error:
        pytest.skip(f"needs the embedded backbone (extra 'embedded'): {error}")


@pytest.fixture(params=["file/out.json", "folder"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A place where no file can be written: below a file, and that of a folder."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    place: Path = tmp_path / request.param
    return place
