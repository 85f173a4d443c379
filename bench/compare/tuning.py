"""One base model tuned whole and by changes of low rank: accuracy, the share of the parameters that is
trained, seconds a step, and peak memory.

    python3 bench/compare/tuning.py --out OUT --data DATA trec
    python3 bench/compare/tuning.py --out OUT --data DATA sst2

The base model learns masked words from the set's own training texts first (`OUT/SET-base`, kept for
the next call). Each way prints one JSON line, with its ratios to full tuning; seconds a step are of
processor time and leave out what a run of one step takes.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Where a set's examples are, and the passes of the pretraining and of the tuning.
SETS = {
    "trec": {"files": ("trec/TREC.train.all", None, "trec/TREC.test.all"), "passes": (20, 12)},
    "sst2": {
        "files": ("sst/stsa.binary.train", "sst/stsa.binary.dev", "sst/stsa.binary.test"),
        "passes": (10, 6),
    },
}
METHODS = ("full", "lora", "adalora")


def run(arguments, *words):
    """The last line of JSON, seconds of processor time, and the peak memory in MiB."""
    command = [arguments.longhand, *map(str, words), "--threads", str(arguments.threads), "--json"]
    with open(arguments.out / "talk", "w+") as talk:
        done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=talk, text=True)
        output = done.stdout.read()
        _, status, usage = os.wait4(done.pid, 0)
        if status != 0:
            talk.seek(0)
            sys.exit(f"{' '.join(command)}: {talk.read().strip()[-400:]}")
    line = json.loads(output.strip().splitlines()[-1])
    return line, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def pretrained(arguments, row):
    """The folder of the base model, trained on the texts of the examples where it is missing."""
    base = arguments.out / f"{arguments.set}-base"
    if (base / "model.safetensors").exists():
        return base
    lines = (arguments.data / row["files"][0]).read_text().split("\n")
    text = arguments.out / f"{arguments.set}.txt"
    text.write_text("".join(f"{line.partition(' ')[2]}\n" for line in lines if line))
    model = ["--preset", arguments.preset, "--tokenizer", "word", *arguments.model]
    budget = ["--epochs", arguments.pretrain_epochs or row["passes"][0]]
    line, seconds, _ = run(
        arguments, "train", text, "--objective", "masked", *model, *budget, "--out", base, "--force"
    )
    print(json.dumps({"base": str(base), "cpu_seconds": seconds, **line}), flush=True)
    return base


def tuned(arguments, row, base, method):
    """What one way of tuning reaches and costs, of the middle one of the seeds by accuracy."""
    train, valid, test = row["files"]
    words = ["finetune", base, "--task", "classify", "--data", arguments.data / train]
    words += ["--format", "labelled", "--pooling", "max", "--batch", arguments.batch]
    words += ["--valid", arguments.data / valid] if valid else []
    words += ["--method", method, "--out", arguments.out / f"{arguments.set}-{method}", "--force"]
    rate = arguments.rate if method == "full" else arguments.low_rank_rate
    words += ["--learning-rate", rate]
    if method != "full":
        words += ["--lora-rank", arguments.rank if method == "lora" else arguments.mean_rank]
    _, start, _ = run(arguments, *words, "--steps", 1)
    words += ["--test", arguments.data / test, "--epochs", arguments.epochs or row["passes"][1]]
    runs = [run(arguments, *words, "--seed", seed) for seed in arguments.seeds]
    accuracies = [line["test"]["accuracy"] for line, _, _ in runs]
    line, seconds, memory = sorted(runs, key=lambda one: one[0]["test"]["accuracy"])[len(runs) // 2]
    return {
        "method": method,
        "accuracy": sum(accuracies) / len(accuracies),
        "accuracies": accuracies,
        "trained_share": line["trainable_parameters"] / line["parameters"],
        "parameters": line["parameters"],
        "steps": line["step"],
        "cpu_ms_per_step": 1e3 * (seconds - start) / line["step"],
        "peak_mib": memory,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--longhand", default=str(ROOT / "target" / "release" / "longhand"))
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("LONGHAND_DATA"))
    parser.add_argument("--out", type=pathlib.Path, default="comparison/tuning")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--preset", default="encoder-nano")
    parser.add_argument("--model", nargs="*", default=[], help="further flags of the base model")
    parser.add_argument("--pretrain-epochs", type=float)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--mean-rank", type=int, default=3, help="of adalora, at the end")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--low-rank-rate", type=float, default=5e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    row, whole = SETS[arguments.set], None
    base = pretrained(arguments, row)
    for method in arguments.methods:
        line = tuned(arguments, row, base, method)
        whole = whole or line
        for field in ("cpu_ms_per_step", "peak_mib"):
            line[f"{field}_ratio"] = line[field] / whole[field]
        print(json.dumps({"set": arguments.set, **line}), flush=True)


if __name__ == "__main__":
    main()
