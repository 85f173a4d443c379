"""A bidirectional nn.LSTM over words, the largest value of each unit, and a linear layer: texts a
second with random weights. The texts come as ids, and batches hold texts of about equal length.

`--lengths` has the number of tokens of each text, one a line.
"""

import contextlib
import time

from measuring import flags, machine_busy, own_busy, quiet_torch, report


def main():
    parser = flags(__doc__)
    parser.add_argument("--lengths", required=True)
    parser.add_argument("--vocab", type=int, default=20000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--onednn-off", action="store_true", help="torch's own loop over time")
    arguments = parser.parse_args()
    torch = quiet_torch(arguments.threads)
    torch.backends.mkldnn.enabled = not arguments.onednn_off
    nn = torch.nn
    with open(arguments.lengths) as file:
        lengths = sorted(int(line) for line in file)

    width, low = arguments.dim, arguments.precision == "bf16"
    embedding = nn.Embedding(arguments.vocab, width)
    memory = nn.LSTM(width, width, bidirectional=True, batch_first=False)
    head = nn.Linear(2 * width, 2)
    nn.ModuleList([embedding, memory, head]).eval()
    starts = range(0, len(lengths), arguments.batch)
    batches = [lengths[start : start + arguments.batch] for start in starts]
    # Padded to the longest text of the batch: the lengths are close to each other.
    ids = [torch.randint(arguments.vocab, (max(batch), len(batch))) for batch in batches]

    def answer(batch):
        precision = torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()
        with torch.inference_mode(), precision:
            outputs, _ = memory(embedding(batch))
            return head(outputs.amax(dim=0)).argmax(dim=-1)

    answer(ids[0]), answer(ids[-1])
    machine, own, began = machine_busy(), own_busy(), time.perf_counter()
    for batch in ids:
        answer(batch)
    seconds, cpu_seconds = time.perf_counter() - began, own_busy() - own
    others = (machine_busy() - machine) - cpu_seconds
    report(
        "torch lstm classifier",
        torch=torch.__version__,
        **vars(arguments),
        texts=len(lengths),
        tokens=sum(lengths),
        texts_per_s=len(lengths) / seconds,
        texts_per_cpu_s=len(lengths) / cpu_seconds,
        tokens_per_s=sum(lengths) / seconds,
        other_cpus_busy=max(0.0, others / seconds),
    )


if __name__ == "__main__":
    main()
