"""fastText's supervised classifier, learning from lines of `__label__L TEXT` and tested on others.

`seconds` are those of `train_supervised`, which reads the file, trains and keeps the model in memory.
"""

import time

from measuring import flags, machine_busy, own_busy, report


def main():
    parser = flags(__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--ngrams", type=int, default=2)
    parser.add_argument("--buckets", type=int, default=2_000_000)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    arguments = parser.parse_args()
    import fasttext

    machine, own, began = machine_busy(), own_busy(), time.perf_counter()
    model = fasttext.train_supervised(
        arguments.train,
        dim=arguments.width,
        epoch=arguments.epochs,
        wordNgrams=arguments.ngrams,
        bucket=arguments.buckets,
        lr=arguments.learning_rate,
        thread=arguments.threads,
        verbose=0,
    )
    seconds, cpu_seconds = time.perf_counter() - began, own_busy() - own
    others = (machine_busy() - machine) - cpu_seconds
    count, right, _ = model.test(arguments.test)
    report(
        "fasttext classifier",
        **vars(arguments),
        texts=count,
        accuracy=right,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        other_cpus_busy=max(0.0, others / seconds),
    )


if __name__ == "__main__":
    main()
