"""Checks that sacrebleu and rouge-score measure texts as Longhand does.

    python scripts/check_metrics.py FOLDER

Each file of FOLDER but `stems.json` holds outputs, their references, and Longhand's scores of the
whole corpus and of each output by every setting: BLEU, chrF and TER, which sacrebleu computes here
anew with its signature, ROUGE, which rouge-score does, and distinct-n, which is counted here.
`stems.json` holds words and their stems, which nltk (that rouge-score uses) finds anew.

`cargo run --package longhand-metrics --example metrics_sample -- FOLDER` writes it.
"""

import itertools
import json
import logging
import pathlib
import sys

from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.bleu import _get_tokenizer

# Sums of floats may differ in their last bits.
TOLERANCE = 1e-9
# Every n-th output is scored by sacrebleu alone as well, which is slow.
EVERY = {"bleu": 5, "chrf": 3, "ter": 7}


class Characters:
    """Characters but white space, as a tokeniser of rouge-score."""

    def tokenize(self, text):
        return [c for c in text.lower() if not c.isspace()]


def flat(value):
    """The numbers of nested lists, tuples and dictionaries, in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flat(value[key])]
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in flat(part)]
    return [float(value)]


def differ(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    return len(ours) != len(theirs) or any(
        abs(a - b) > TOLERANCE for a, b in zip(ours, theirs)
    )


def sacrebleu_differences(sample, setting, metric, digits, single, every):
    """Yields a line for the corpus, for its signature and for each output that differ."""
    streams = list(itertools.zip_longest(*sample["references"]))
    score = metric.corpus_score(sample["outputs"], streams)
    if differ(setting["corpus"], digits(score)):
        yield f"corpus: {digits(score)} in sacrebleu, {setting['corpus']} in Longhand"
    theirs = str(metric.get_signature()).rsplit("|", 1)[0]
    ours, version = setting["signature"].rsplit("|", 1)
    if ours != theirs or not version.startswith("version:longhand-"):
        yield f"signature: {theirs} in sacrebleu, {setting['signature']} in Longhand"
    if setting.get("name", score.name) != score.name:
        yield f"name: {score.name} in sacrebleu, {setting['name']} in Longhand"
    texts = zip(sample["outputs"], sample["references"], setting["sentences"])
    for output, references, ours in itertools.islice(texts, 0, None, every):
        theirs = single(metric.sentence_score(output, references))
        if differ(ours, theirs):
            yield f"{output!r}, {references!r}: {theirs} in sacrebleu, {ours} in Longhand"


def bleu_differences(sample, setting):
    def digits(score):
        return {
            "score": score.score,
            "precisions": score.precisions,
            "brevity_penalty": score.bp,
            "lengths": [score.sys_len, score.ref_len],
        }

    metric = BLEU(
        lowercase=setting["lowercase"],
        tokenize=setting["tokenizer"],
        smooth_method=setting["smoothing"].split("[")[0],
        effective_order=setting["effective_order"],
        force=True,
    )
    return sacrebleu_differences(
        sample, setting, metric, digits, lambda score: score.score, EVERY["bleu"]
    )


def chrf_differences(sample, setting):
    metric = CHRF(
        word_order=setting["word_order"],
        lowercase=setting["lowercase"],
        whitespace=setting["whitespace"],
        eps_smoothing=setting["epsilon_smoothing"],
    )

    def digits(score):
        return score.score

    return sacrebleu_differences(sample, setting, metric, digits, digits, EVERY["chrf"])


def ter_differences(sample, setting):
    metric = TER(case_sensitive=setting["case_sensitive"])

    def digits(score):
        return [score.score, score.num_edits, score.ref_length]

    return sacrebleu_differences(sample, setting, metric, digits, digits, EVERY["ter"])


def rouge_differences(sample, setting):
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    tokenizer = Characters() if setting["tokens"] == "characters" else None
    scorer = RougeScorer(kinds, setting["tokens"] == "stems", tokenizer=tokenizer)
    sums = {kind: [0.0] * 3 for kind in kinds}
    texts = zip(sample["outputs"], sample["references"], setting["sentences"])
    for output, references, ours in texts:
        theirs = scorer.score_multi(references, output)
        theirs = {kind: list(theirs[kind]) for kind in kinds}
        sums = {kind: [a + b for a, b in zip(sums[kind], theirs[kind])] for kind in kinds}
        if differ(ours, theirs):
            yield f"{output!r}, {references!r}: {theirs} in rouge-score, {ours} in Longhand"
    means = {kind: [part / len(sample["outputs"]) for part in sums[kind]] for kind in kinds}
    if differ(setting["corpus"], means):
        yield f"corpus: {means} in rouge-score, {setting['corpus']} in Longhand"


def distinct_differences(sample, setting):
    tokenize = _get_tokenizer(setting["tokenizer"])()
    outputs = [tokenize(output.rstrip()).split() for output in sample["outputs"]]
    tokens = sum(map(len, outputs))
    for n in range(1, 4):
        ngrams = [tuple(o[i : i + n]) for o in outputs for i in range(len(o) - n + 1)]
        theirs = [len(set(ngrams)) / tokens, len(set(ngrams)) / len(ngrams)]
        ours = [setting["per_token"][n - 1], setting["per_ngram"][n - 1]]
        if differ(ours, theirs):
            yield f"distinct-{n}: {theirs} counted here, {ours} in Longhand"


METRICS = {
    "bleu": bleu_differences,
    "chrf": chrf_differences,
    "ter": ter_differences,
    "rouge": rouge_differences,
    "distinct": distinct_differences,
}


def differences(path):
    """Yields a line for each number of a file on which the programs disagree."""
    sample = json.loads(path.read_text(encoding="utf-8"))
    for metric, compare in METRICS.items():
        for setting in sample[metric]:
            name = setting.get("signature") or setting.get("tokens") or setting.get("tokenizer")
            if len({tuple(flat(part)) for part in setting.get("sentences", [0, 1])}) < 2:
                yield f"{path.name}, {metric} {name}: the sample tells nothing apart"
            for line in compare(sample, setting):
                yield f"{path.name}, {metric} {name}: {line}"


def stem_differences(path):
    stemmer = PorterStemmer()
    for ours, word in json.loads(path.read_text())["stems"]:
        if stemmer.stem(word) != ours:
            yield f"{word}: {stemmer.stem(word)} in nltk, {ours} in Longhand"


def main():
    logging.disable(logging.WARNING)
    folder = pathlib.Path(sys.argv[1])
    paths = sorted(set(folder.glob("*.json")) - {folder / "stems.json"})
    if not paths:
        sys.exit("no samples to check")
    found = list(stem_differences(folder / "stems.json"))
    found += [line for path in paths for line in differences(path)]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(paths)} samples agree")


if __name__ == "__main__":
    main()
