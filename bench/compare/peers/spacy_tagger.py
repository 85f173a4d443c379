"""spaCy's entity recogniser alone (a blank English pipeline with `ner`), trained briefly on CoNLL
columns, and its speed on the words of another file.

The words are given: no tokeniser runs. Of `--batches` the fastest counts. `--model` is a folder that
keeps the trained pipeline for the next call.
"""

import pathlib
import random
import statistics
import time

from measuring import flags, machine_busy, own_busy, report


def main():
    parser = flags(__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512, 2048])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    import spacy

    if arguments.model.exists():
        nlp = spacy.load(arguments.model)
    else:
        nlp = spacy.blank("en")
        nlp.add_pipe("ner")
        learn(nlp, sentences(arguments.train), arguments.epochs)
        nlp.to_disk(arguments.model)
    test = sentences(arguments.test)
    f1 = nlp.evaluate([example(nlp, *one) for one in test])["ents_f"]
    tried = [(speed(nlp, test, size), size) for size in arguments.batches]
    best, size = max(tried, key=lambda pair: pair[0]["words_per_s"])
    report(
        "spacy tagger",
        spacy=spacy.__version__,
        **{key: str(value) for key, value in vars(arguments).items()},
        batch=size,
        by_batch={size: round(one["words_per_s"]) for one, size in tried},
        f1=f1,
        **best,
    )


def sentences(path):
    """Words and tags (IOB1 as in the file) of each sentence."""
    from spacy.training import iob_to_biluo

    found, words, tags = [], [], []
    with open(path) as file:
        for line in [*file, ""]:
            columns = line.split()
            if columns and columns[0] != "-DOCSTART-":
                words.append(columns[0])
                tags.append(columns[-1])
            elif words:
                found.append((words, iob_to_biluo(begun(tags))))
                words, tags = [], []
    return found


def begun(tags):
    """IOB1 to IOB2: the first tag of each entity begins with B."""
    before, result = "O", []
    for tag in tags:
        inside = tag.startswith("I-") and before[2:] == tag[2:] and before != "O"
        result.append(tag if tag == "O" or inside else "B-" + tag[2:])
        before = tag
    return result


def example(nlp, words, tags):
    from spacy.tokens import Doc
    from spacy.training import Example

    doc = Doc(nlp.vocab, words)
    return Example.from_dict(doc, {"words": words, "entities": tags})


def learn(nlp, pairs, epochs):
    from spacy.util import fix_random_seed, minibatch

    fix_random_seed(1)
    examples = [example(nlp, *pair) for pair in pairs]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(epochs):
        random.shuffle(examples)
        for batch in minibatch(examples, 128):
            nlp.update(batch, sgd=optimizer, drop=0.1)


def speed(nlp, pairs, batch):
    """Words a second, the median of the windows; a window reads the whole text."""
    from spacy.tokens import Doc

    recogniser, count = nlp.get_pipe("ner"), sum(len(words) for words, _ in pairs)
    rates, cpu_rates = [], []
    machine, own, began = machine_busy(), own_busy(), time.perf_counter()
    # A pass before the windows warms up.
    for window in range(3 + 1):
        start, cpu_start = time.perf_counter(), own_busy()
        docs = (Doc(nlp.vocab, words) for words, _ in pairs)
        for _ in recogniser.pipe(docs, batch_size=batch):
            pass
        if window > 0:
            rates.append(count / (time.perf_counter() - start))
            cpu_rates.append(count / max(1e-9, own_busy() - cpu_start))
    spent = time.perf_counter() - began
    others = (machine_busy() - machine) - (own_busy() - own)
    return {
        "words_per_s": statistics.median(rates),
        "words_per_cpu_s": statistics.median(cpu_rates),
        "other_cpus_busy": max(0.0, others / spent),
    }


if __name__ == "__main__":
    main()
