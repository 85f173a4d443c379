"""Whole tasks beside the Python package that one would pick, in turns: n-gram classification beside
fastText, tagging beside spaCy, classification by an LSTM beside PyTorch.

Set up as compare.py says, and besides:

    PEERS/bin/pip install spacy fasttext-wheel

Then, with the data folder that recipes read:

    python3 bench/compare/tasks.py --python PEERS/bin/python --data DATA --threads 1
    python3 bench/compare/tasks.py --python PEERS/bin/python --data DATA --only tagging

Each comparison prints one JSON line: the median of the ratios of the turns, above 1 where ours is
faster, by the clock and by processor time (which others on the machine disturb less), and what each
turn measured. Ours is the whole program, with the time it takes to load a model or read a file.
"""

import argparse
import gzip
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE / "peers"))
from measuring import machine_busy  # noqa: E402

# What longhand takes for words: letters and digits with apostrophes between them, or one sign.
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|\S")
# A character of a script without spaces is a word of its own.
HAN = re.compile(r"([\u3400-\u9fff])")
# Reviews that are classified, and those that the vocabulary and the weights come from.
REVIEWS, LEARNT = 1000, 3000


class Machine:
    """Runs programs, ours and theirs."""

    def __init__(self, arguments):
        self.arguments, self.out = arguments, pathlib.Path(arguments.out).absolute()
        self.out.mkdir(parents=True, exist_ok=True)
        self.data = pathlib.Path(arguments.data).absolute()

    def ours(self, *words, reads=None):
        """Seconds by the clock and of processor time, how busy others were, and what it printed."""
        command = [self.arguments.longhand, *map(str, words)]
        machine, began, before = machine_busy(), time.perf_counter(), os.times()
        with open(reads or os.devnull) as source:
            done = subprocess.run(command, stdin=source, capture_output=True, text=True)
        seconds, after = time.perf_counter() - began, os.times()
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
        own = after.children_user + after.children_system
        own -= before.children_user + before.children_system
        others = max(0.0, (machine_busy() - machine - own) / seconds)
        measured = {"seconds": seconds, "cpu_seconds": own, "other_cpus_busy": others}
        return measured, done.stdout

    def theirs(self, program, *words):
        command = [self.arguments.python, str(HERE / "peers" / program), *map(str, words)]
        command += ["--threads", str(self.arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def threads(self):
        return ["--threads", self.arguments.threads]

    def learnt(self, name, *words):
        """The folder of a model that is trained where it is missing."""
        folder = self.out / name
        if not (folder / "task.json").exists():
            self.ours("finetune", *words, "--out", folder, "--force", *self.threads())
        return folder


def text_of(path):
    opened = gzip.open(path, "rt", newline="\n") if path.suffix == ".gz" else open(path, newline="\n")
    with opened as file:
        yield from (line.rstrip("\n") for line in file)


def words(text):
    """Words in lower case with spaces between them, the same for both programs."""
    return " ".join(WORD.findall(HAN.sub(r" \1 ", text.lower())))


def labelled(machine, name, rows):
    """A file of fastText's lines."""
    path = machine.out / f"{name}.txt"
    if not path.exists():
        path.write_text("".join(f"__label__{label} {words(text)}\n" for label, text in rows))
    return path


def imdb(machine, part):
    for line in text_of(machine.data / "imdb" / f"{part}.tsv.gz"):
        label, _, _, text = line.split("\t")
        yield label, text


def titles(machine, part):
    for line in text_of(machine.data / "thucnews-titles" / f"{part}.txt"):
        text, label = line.split("\t")
        yield label, text


def ngrams(machine, name, parts, epochs):
    """Both learn from the same lines with the same settings, by one thread each."""
    train, test = (labelled(machine, f"{name}-{part}", rows) for part, rows in parts)
    theirs_settings = ["--epochs", epochs, "--ngrams", 2, "--width", 16, "--learning-rate", 0.5]
    ours_settings = ["--epochs", epochs, "--ngrams", 2, "--learning-rate", 0.5]
    ours_settings += ["--set", "baseline.width=16", "--set", "baseline.buckets=2000000"]
    # fastText counts the end of a line as a word.
    ours_settings += ["--set", "baseline.bounds=true", *machine.arguments.extra]
    folder = machine.out / f"{name}-ngram-linear"

    def ours():
        flags = ["--baseline", "ngram-linear", "--valid-fraction", 0, "--out", folder, "--force"]
        trained, _ = machine.ours(
            "finetune", "--task", "classify", "--data", train, *flags, *ours_settings, *machine.threads()
        )
        _, line = machine.ours("eval", folder, "--data", test, "--json", *machine.threads())
        return {**trained, "accuracy": json.loads(line.splitlines()[-1])["accuracy"]}

    def theirs():
        return machine.theirs(
            "fasttext_classifier.py", "--train", train, "--test", test, *theirs_settings
        )

    return ours, theirs, "seconds", "cpu_seconds", False


def imdb_ngrams(machine):
    parts = [(part, imdb(machine, part)) for part in ("train", "test")]
    return ngrams(machine, "imdb", parts, 5)


def title_ngrams(machine):
    parts = [(part, titles(machine, part)) for part in ("dev", "test")]
    return ngrams(machine, "titles", parts, 25)


def tagging(machine):
    """Both are trained on the same sentences; ours reads the test text four times, as one stream."""
    folder, cycle = machine.data / "conll2003-en", 4
    train, test = machine.out / "eng.train", machine.out / "eng.test"
    if not test.exists():
        train.write_text("".join(f"{line}\n" for line in text_of(folder / "eng.train.gz")))
        test.write_text((folder / "eng.testb").read_text() * cycle)
    count = sum(1 for line in text_of(test) if line and not line.startswith("-DOCSTART-"))
    recipe = ["--recipe", ROOT / "recipes" / "conll2003.toml", "--steps", 100]
    model, spacy = machine.learnt("tagger", *recipe), machine.out / "spacy"

    def ours():
        measured, _ = machine.ours("predict", model, *machine.threads(), reads=test)
        return with_speeds(measured, "words", count)

    def theirs():
        return machine.theirs(
            "spacy_tagger.py", "--train", train, "--test", folder / "eng.testb", "--model", spacy
        )

    return ours, theirs, "words_per_s", "words_per_cpu_s", True


def classifying(machine, alone=False):
    """Reviews a second: ours reads text, theirs reads ids; `alone` leaves our attention out."""
    name = "imdb-lstm" if alone else "imdb-both"
    names = ("learnt.tsv", "held.tsv", "reviews", "lengths")
    learnt, held, reviews, lengths = (machine.out / name for name in names)
    if not lengths.exists():
        rows = [row for _, row in zip(range(LEARNT), imdb(machine, "train"))]
        rows = [f"{label}\t0\t0\t{text}\n" for label, text in rows]
        learnt.write_text("".join(rows))
        held.write_text("".join(rows[:20]))
        rows = [text for _, (_, text) in zip(range(REVIEWS), imdb(machine, "test"))]
        reviews.write_text("".join(f"{text}\n" for text in rows))
        lengths.write_text("".join(f"{len(WORD.findall(text))}\n" for text in rows))
    recipe = (HERE / "reviews.toml").read_text()
    if alone:
        recipe = re.sub(r"working = .*\n", "", recipe)
    path = machine.out / f"{name}.toml"
    path.write_text(recipe)
    few = ["--data", learnt, "--valid", held, "--test", held, "--steps", 5]
    model = machine.learnt(name, "--recipe", path, *few)

    def ours():
        measured, _ = machine.ours("predict", model, *machine.threads(), reads=reviews)
        return with_speeds(measured, "texts", REVIEWS)

    # Torch's own loop over time (--onednn-off) takes longer in f32, and ten times as long in bf16.
    settings = [
        ["--batch", batch, "--precision", precision]
        for precision, batches in (("f32", [32]), ("bf16", [32, 64, 128]))
        for batch in batches
    ]
    base = ["lstm_classifier.py", "--lengths", lengths]
    tried = [(machine.theirs(*base, *one)["texts_per_cpu_s"], one) for one in settings]
    best = max(tried, key=lambda pair: pair[0])[1]
    return ours, lambda: machine.theirs(*base, *best), "texts_per_s", "texts_per_cpu_s", True


def with_speeds(measured, unit, count):
    measured[f"{unit}_per_s"] = count / measured["seconds"]
    measured[f"{unit}_per_cpu_s"] = count / measured["cpu_seconds"]
    return measured


COMPARISONS = {
    "imdb-ngrams": imdb_ngrams,
    "title-ngrams": title_ngrams,
    "tagging": tagging,
    "classifying": classifying,
    "classifying-lstm-alone": lambda machine: classifying(machine, alone=True),
}


def compare(name, machine):
    ours, theirs, clock, processor, more = COMPARISONS[name](machine)
    turns = [{"theirs": theirs(), "ours": ours()} for _ in range(machine.arguments.turns)]

    def ratio(field):
        of = [turn["ours"][field] / turn["theirs"][field] for turn in turns]
        return statistics.median(of if more else [1 / one for one in of])

    line = {"comparison": name, "threads": machine.arguments.threads, "ratio": ratio(clock)}
    for side in ("theirs", "ours"):
        for field in (clock, processor, "accuracy"):
            if field in turns[0][side]:
                line[f"{side}_{field}"] = statistics.median(turn[side][field] for turn in turns)
    print(json.dumps({**line, "cpu_ratio": ratio(processor), "turns": turns}), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="the interpreter that has the peers")
    parser.add_argument("--longhand", default=str(ROOT / "target" / "release" / "longhand"))
    parser.add_argument("--data", default=os.environ.get("LONGHAND_DATA", "../shared/data"))
    parser.add_argument("--out", default="comparison/tasks", help="the folder of files and models")
    parser.add_argument("--only", nargs="*", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="flags for our n-grams")
    arguments = parser.parse_args()
    os.environ["LONGHAND_DATA"] = str(pathlib.Path(arguments.data).absolute())
    machine = Machine(arguments)
    for name in arguments.only:
        compare(name, machine)


if __name__ == "__main__":
    main()
