r"""Write what the other benchmarks measured of speed and scale into the README.

python benchmarks/speed.py
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from peers import HUGGING_FACE, OWN

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
NAMES = {
    OWN: "`openmed_ner`",
    HUGGING_FACE: "transformers, pipeline",
    "openmed": "OpenMed",
    "spacy-ner": "spaCy `ner`, other weights",
    "spacy-transformers": "spacy-transformers, no entities",
    "forward": "the network alone, no entities",
}
SETS = ("sentences", "abstracts", "papers")
# From this many percent on a number format finds what fp32 finds.
SAME_ENTITIES = 99.5


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf8"))
    return found


def table() -> str:
    """Every call and number format of the peers, each in the batch size that is fastest."""
    found = result("peers.json")
    rows = [
        ["", "setting", *(f"{name}, words/s" for name in SETS), "same entities", "memory", "load"],
        ["---"] * 8,
    ]
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found["rows"]:
        if "failed" in row:
            continue
        # Whatever is run in batches: which size is best differs.
        kind = row["peer"], re.sub(r"(^|, )batch \d+", "", row["setting"])
        speed = row["sets"]["abstracts"]["words_per_second"]
        if kind not in best or speed > best[kind]["sets"]["abstracts"]["words_per_second"]:
            best[kind] = row
    for row in best.values():
        same = row["sets"]["abstracts"].get("agreement_percent")
        rows.append(
            [
                NAMES.get(row["peer"], row["peer"]),
                row["setting"],
                *(_speed(row["sets"][name]) for name in SETS),
                "–" if same is None else f"{same:.1f} %",
                f"{row['peak_mb']:,.0f} MB",
                f"{row['load_seconds']:.1f} s",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _speed(figures: dict[str, Any]) -> str:
    times = (figures["times_transformers_fp32"], figures["times_transformers"])
    return f"{figures['words_per_second']:,.0f} ({times[0]:.1f}×, {times[1]:.1f}×)"


def _beside_the_pipeline() -> str:
    rows = [row for row in result("peers.json")["rows"] if "failed" not in row]

    def speed(row: dict[str, Any]) -> float:
        return float(row["sets"]["abstracts"]["words_per_second"])

    def same(row: dict[str, Any]) -> float:
        return float(row["sets"]["abstracts"]["agreement_with_transformers_percent"])

    ours = next(row for row in rows if (row["peer"], row["setting"]) == (OWN, "bf16"))
    kept = float(ours["sets"]["abstracts"]["agreement_percent"])
    if kept < SAME_ENTITIES:
        raise ValueError(f"bf16 finds {kept} % of what fp32 finds: there is nothing to compare")
    theirs = [row for row in rows if row["peer"] == HUGGING_FACE]
    fastest = max(theirs, key=speed)
    exact = max((row for row in theirs if same(row) >= SAME_ENTITIES), key=speed)
    return (
        f"On abstracts `openmed_ner` in bf16, which finds {kept:.1f} % of what it finds in fp32, "
        f"is {speed(ours) / speed(exact):.1f} times as fast as the fastest setting of the pipeline "
        f"of which as much can be said ({exact['setting']}; at least {SAME_ENTITIES} %, as F1), "
        f"and {speed(ours) / speed(fastest):.1f} times as fast as the pipeline's fastest setting "
        f"({fastest['setting']}, with {same(fastest):.1f} %)."
    )


def _percents(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())


def _of_the_machine() -> str:
    engine = result("engine.json")
    shares = _percents(engine["pipe_of_forward"])
    tops = _percents(engine["forward_of_matrix_product"])
    return (
        f"`nlp.pipe`, from text to `doc.ents`, as a share of the network alone: {shares}; the "
        f"network as a share of the machine's matrix products: {tops}."
    )


def _on_a_slower_machine() -> str:
    here, there = result("engine.json"), result("engine-slower.json")

    def times(found: dict[str, Any]) -> str:
        (row,) = (row for row in found["rows"] if row["what"] == "nlp.pipe bf16")
        return f"{row['transformers = 1']:.1f}"

    def products(found: dict[str, Any]) -> str:
        return f"{found['matrix_product_gflops']['bf16']['engine']:.0f}"

    shares = _percents(there["pipe_of_forward"])
    return (
        f"How far ahead that is depends on the machine. On one that makes {products(there)} "
        f"instead of {products(here)} GFLOP/s of matrix products in bf16, `nlp.pipe` in bf16 is "
        f"{times(there)} times as fast as the pipeline in fp32, measured alone in one process "
        f"({times(here)} here), and has as a share of the network alone: {shares}."
    )


def _compiled() -> str:
    rows = {row["what"]: row["words/s"] for row in result("engine-compiled.json")["rows"]}
    names = [what for what in rows if what.endswith(", compiled")]
    times = ", ".join(
        f"{what.removesuffix(', compiled').removeprefix('nlp.pipe ')} "
        f"{rows[what] / rows[what.removesuffix(', compiled')]:.2f}"
        for what in names
    )
    return (
        f"With `compile`, once everything is compiled, `nlp.pipe` on abstracts is so many times as "
        f"fast as without: {times}."
    )


def _scores() -> str:
    scores = ", ".join(
        f"{name} {result(path)['raw']['f1']:.2f}"
        for name, path in (
            ("fp32", "suite/results/ncbi-test.json"),
            ("bf16", "precision/ncbi-bf16.json"),
            ("int8", "precision/ncbi-int8.json"),
        )
    )
    return f"F1 on the test split of `ncbi`: {scores}."


def _many_adapters() -> str:
    many = result("many_adapters.json")
    ms, memory = many["sentence_ms"], many["sentences_memory_ratio"]
    return (
        f"{many['adapters']} adapters in one pipeline: {many['memory_ratio']:.2f} times the memory "
        f"and {many['time_ratio']:.1f} times the time of one. A sentence at a time, median: "
        f"{ms['one']:.0f} ms with one adapter, {ms['all']:.0f} ms with all, {ms['all, kept']:.0f} "
        f"ms with `keep_merged`; memory {memory['all']:.2f} and {memory['all, kept']:.2f} times "
        f"that with one (on the slower machine)."
    )


def _long_texts() -> str:
    rows = result("linear_time.json")["rows"]
    ratios = [row["ratio to first"] for row in rows]
    return (
        f"Time per word on texts of {rows[0]['words']:,} to {rows[-1]['words']:,} words: "
        f"{min(ratios):.2f} to {max(ratios):.2f} of that on the shortest."
    )


def _memory() -> str:
    flat = result("flat_memory.json")
    return (
        f"Memory over {flat['rows'][-1]['documents']:,} abstracts ({flat['words']:,} words): "
        f"{flat['after_first_mb']:,.0f} MB after the first thousand, {flat['last_mb']:,.0f} MB at "
        f"the end, {flat['most_mb']:,.0f} MB at most."
    )


def _workers() -> str:
    ratio = result("annotate_workers.json")["ratio"]
    return (
        f"`annotate` with two Ray workers, one thread each: {ratio:.2f} times as fast as with one."
    )


def _kills() -> str:
    kills = result("annotate_kills.json")
    same = "that" if kills["identical"] else "not that"
    return (
        f"`annotate` killed {len(kills['kills'])} times and resumed: its output is {same} of an "
        f"unbroken run."
    )


FACTS = (
    _beside_the_pipeline,
    _of_the_machine,
    _on_a_slower_machine,
    _compiled,
    _scores,
    _many_adapters,
    _long_texts,
    _memory,
    _workers,
    _kills,
)


def facts() -> Iterator[str]:
    """What the other benchmarks found, a line each; of those that were not run, nothing."""
    for fact in FACTS:
        with suppress(FileNotFoundError):
            yield f"- {fact()}"


def written(readme: str) -> str:
    """The README with the figures of now."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    block = "\n".join([table(), "", *facts()])
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf8")), encoding="utf8")
