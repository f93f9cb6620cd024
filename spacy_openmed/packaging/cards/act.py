"""What the EU AI Act asks of those who build or use a high-risk system with an adapter.

Article numbers are those of Regulation (EU) 2024/1689. A card states facts about an adapter; what
a provider or a deployer does with them is theirs, and named beside them.
"""

from collections.abc import Iterator

from .figures import mentions
from .material import Material, where
from .text import Section, bullets

_HERE = "**This adapter.** "
_YOURS = "**Left to you.** "


def sections(material: Material) -> Iterator[Section]:
    """One part for each article, facts first, then what is left to do."""
    yield Section(
        "Headings of the EU AI Act",
        [
            "Facts under the headings of Chapter III of Regulation (EU) 2024/1689, for those who "
            "build this adapter into a system. It is a component and no system. Whether a system "
            "with it is high-risk (Article 6), and who is its provider and who its deployer "
            "(Articles 3 and 25), depends on the purpose and on who puts it into service.",
            "This card is no legal assessment, and claims no conformity with anything. Articles "
            "are named as they were published; amendments are yours to follow.",
        ],
    )
    for title, article, here, yours in (
        ("Risk management system", 9, _risks(material), _RISKS),
        ("Data and data governance", 10, _data(material), _DATA),
        ("Technical documentation", 11, _DOCUMENTED, _DOCUMENTATION),
        ("Record-keeping", 12, _RECORDED, _RECORDS),
        ("Transparency and provision of information to deployers", 13, _TOLD, _TELLING),
        ("Human oversight", 14, _overseen(material), _OVERSIGHT),
        ("Accuracy, robustness and cybersecurity", 15, _accurate(material), _ACCURACY),
    ):
        yield Section(f"{title} (Article {article})", [_HERE + here, _YOURS + yours], level=3)
    yield Section(
        "Obligations of deployers (Article 26)",
        [
            "Of a high-risk system, with what this card has for each:",
            bullets(_deployers(material)),
        ],
        level=3,
    )


def _risks(material: Material) -> str:
    text = (
        "It can miss a mention, find one that is none, or get the place or the label of one "
        "wrong; it does so more often with names and on texts unlike those of its training. "
        "Downstream, a mention may be taken for a fact, and silence for absence: foreseeable "
        'misuse, see "Out-of-scope use". "Limits" has what is known of how often.'
    )
    if main := material.main:
        raw = main.content["raw"]
        text += (
            f" On {where(main.content)}, {raw['recall']:.2f} % of the annotated mentions are "
            f"found, and {raw['precision']:.2f} % of what is found is annotated ({main})."
        )
    return f"{text} Against it: a score with every entity, and a threshold for each label."


_RISKS = (
    "The process that runs over the whole life of your system: which harm to health, safety or "
    "fundamental rights an error of either kind can do in your use; what you accept, laid down "
    "before you measure; tests on your own text (`spacy openmed evaluate --file`); and a new round "
    "when the text, the adapter or the purpose changes."
)


def _data(material: Material) -> str:
    if material.dataset is None:
        return (
            "Training and development data are those of the user who trained it; their hashes are "
            'under "Data and licences". Where they are from, whom they are about and how they were '
            "annotated is known to that user only."
        )
    return (
        "Training, development and test data are the splits of a public corpus; who made it, its "
        'edition, what was dropped, which sentences repeat and the hashes are under "Data and '
        'licences". Its annotations were taken as they are. Known gaps: one language; texts that '
        "its makers chose; nothing on whom a text is about, so that bias between groups of people "
        "was not examined."
    )


_DATA = (
    "Whether these data are relevant to your purpose and representative enough of your setting, "
    "its people and its way of writing. Where they are not: annotate text of your own, measure on "
    "it, and train on it (`spacy openmed train --train --dev`)."
)
_DOCUMENTED = (
    'This card; the record of the training; the files of figures, each with its hash under "Audit '
    'trail"; and the source code of the version named there, whose commands give the figures again.'
)
_DOCUMENTATION = (
    "The technical documentation of your system (Annex IV), kept up to date. This card can be a "
    "part of it, and does not replace it."
)
_RECORDED = (
    "Neither it nor the package keeps a log of texts, or of what is found in them. What was done "
    "in development is recorded: settings and seeds of the training, and every look at test. See "
    '"Audit trail".'
)
_RECORDS = (
    "Automatic logs of your system. To be able to trace an entity: the time, an id of the text, "
    "the hash of the adapter, the versions, threshold and other settings, the entities with their "
    "scores, and what people changed. Logs of clinical text are health data."
)
_TOLD = (
    'Purpose: "Intended use" and "Out-of-scope use". Accuracy and where it ends: "Figures", '
    '"Limits" and "What was not measured". Output: places in the text with a label and a score '
    "between zero and one, meant as the probability that the entity is right. Resources: it runs "
    "on a CPU, and needs the backbone that is named here, and no other."
)
_TELLING = (
    "Instructions for use of your system that carry this on to those who use it, with the "
    "threshold that you set, how its output is to be read, and who answers for it."
)


def _overseen(material: Material) -> str:
    text = (
        "It decides and triggers nothing: entities are marked in the text, where a person can "
        "check, change or remove each, and entities that people set stay (`overwrite = False`). "
        "Two things work against oversight. Missed mentions show nowhere, so that whoever checks "
        "only what was found sees none of them"
    )
    if main := material.main:
        raw = main.content["raw"]
        text += f": {raw['fn']} of {mentions(raw)} in {where(main.content)} ({main})"
    return f"{text}. And a high score invites trust where it is wrong (automation bias)."


_OVERSIGHT = (
    "Persons who know the field and these limits, who see the whole text, may overrule and switch "
    "off the system, and have the time for it; and a look at samples of texts in which nothing was "
    "found."
)


def _accurate(material: Material) -> str:
    if main := material.main:
        score = main.content["raw"]
        text = f"Exact match on raw text: F1 {score['f1']:.2f} on {where(main.content)} ({main})."
    else:
        text = "No accuracy was measured on data of its own."
    if (found := material.main_robustness) and found.content["disturbed"]:
        forms = found.content["disturbed"]
        text += (
            f" F1 undisturbed is {found.content['clean']['f1']:.2f}, and at worst "
            f"{min(one['f1'] for one in forms.values()):.2f} in the forms that were tried "
            f"({found})."
        )
    else:
        text += " Robustness was not measured."
    return (
        f"{text} Weights are safetensors and JSON, and loading them runs no code of theirs; a "
        f"backbone with another hash is refused. Texts stay on the machine. Text made to mislead "
        f"was not tried, and the corpora and checkpoints of others were not searched for poisoning."
    )


_ACCURACY = (
    "What accuracy your purpose needs, declared in your instructions; measuring it in operation, "
    "since text changes; the safety of the machine and of these files; and no training on the "
    "system's own output that nobody checked."
)


def _deployers(material: Material) -> Iterator[str]:
    language = "English biomedical text" if material.dataset else "text like that of its training"
    yield (
        "Use as the instructions say (26(1)): those of your system's provider. What this part was "
        'made for is under "Intended use".'
    )
    yield (
        "Oversight by people with competence, training, authority and support (26(2)), see "
        "above; and AI literacy of staff (Article 4)."
    )
    yield (
        f"Input data that are relevant and representative, where you control them (26(4)): for "
        f"this adapter {language}, whole documents or sentences."
    )
    yield (
        "Monitoring; at a risk, telling the provider and the authority and suspending use; at a "
        "serious incident, telling them at once (26(5)). The hash of the adapter says which one it "
        "was."
    )
    yield "Keeping the logs for at least six months (26(6)): of your system, see Article 12."
    yield (
        "Telling workers and their representatives before use at the workplace (26(7)), and the "
        "people about whom a system of Annex III decides or helps to decide (26(11))."
    )
    yield (
        "A data protection impact assessment where the law asks for one, with what the provider "
        "tells under Article 13 (26(9)); a fundamental rights impact assessment where Article 27 "
        "does; registration by public authorities (26(8)); cooperation with the authorities "
        "(26(12))."
    )
