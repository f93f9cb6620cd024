"""A SentencePiece model of DeBERTa's kind, trained on sentences of our own."""

from pathlib import Path

SENTENCES = (
    "Germline BRCA1 mutations predispose carriers to breast cancer and to ovarian cancer.",
    "The patient was treated with cisplatin for a tumour of the lung.",
    "IL-2-induced proliferation of T cells depends on the receptor of the cytokine.",
    "Loss of TP53 is the most common mutation in human cancers.",
    "Hypertension and diabetes mellitus were found in 12 of 40 patients.",
    "CYP3A4 metabolises many drugs; grapefruit juice inhibits the enzyme.",
    "Expression of the gene rose 5-fold after 24 h (p < 0.01).",
    "β-catenin accumulates in the nucleus, while TNF-α stays in the cytosol.",
    "No toxicity was seen at doses below 10 mg/kg in mice.",
    "Familial adenomatous polyposis is caused by mutations of the APC gene.",
    "We report a kindred with muscular dystrophy and a deletion of exon 45.",
    "Acute lymphoblastic leukaemia relapsed within two years of remission.",
    "Escherichia coli and Saccharomyces cerevisiae were grown in rich medium.",
    "Levels of glucose, insulin and cortisol were measured every morning.",
    "The HeLa cell line was infected with adenovirus at a low multiplicity.",
    "Renal failure developed after exposure to the contrast agent.",
    "Nephropathy, neuropathy and retinopathy are complications of diabetes.",
    "A missense mutation, c.68_69delAG, was found in three unrelated families.",
    "Aspirin lowers the risk of stroke but raises that of bleeding.",
    "Anti-inflammatory drugs such as ibuprofen may cause gastric ulcers.",
)


def train_sentencepiece(path: Path) -> Path:
    """Write an spm.model: Unigram, NFKC, bytes for what is unknown, DeBERTa's special pieces.

    The [MASK] of DeBERTa is none of its pieces: transformers adds it.
    """
    import sentencepiece

    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 3),
            model_writer=file,
            model_type="unigram",
            vocab_size=520,
            hard_vocab_limit=False,
            character_coverage=1.0,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc",
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece="[PAD]",
            bos_piece="[CLS]",
            eos_piece="[SEP]",
            unk_piece="[UNK]",
            minloglevel=2,
        )
    return path
