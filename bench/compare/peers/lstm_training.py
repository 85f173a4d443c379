"""PyTorch's nn.LSTM as a language model, learning: embedding, LSTM layers, linear, cross-entropy,
Adam; random ids, the state carried from step to step."""

import contextlib

from measuring import flags, measure, quiet_torch, report


def main():
    parser = flags(__doc__)
    parser.add_argument("--vocab", type=int, default=10000)
    parser.add_argument("--dim", type=int, default=650)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--fused", action="store_true", help="the optimiser in one pass")
    parser.add_argument("--onednn-off", action="store_true", help="torch's own loop over time")
    arguments = parser.parse_args()
    torch = quiet_torch(arguments.threads)
    torch.backends.mkldnn.enabled = not arguments.onednn_off
    nn = torch.nn

    width, batch = arguments.dim, arguments.batch
    embedding = nn.Embedding(arguments.vocab, width)
    memory = nn.LSTM(width, width, num_layers=arguments.layers)
    head = nn.Linear(width, arguments.vocab)
    model = nn.ModuleList([embedding, memory, head])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=arguments.fused or None)
    batches = torch.randint(arguments.vocab, (16, arguments.seq + 1, batch)).unbind(0)
    low = arguments.precision == "bf16"
    zeros = torch.zeros(arguments.layers, batch, width)
    run = {"state": (zeros, zeros), "step": 0}

    def step():
        ids = batches[run["step"] % len(batches)]
        run["step"] += 1
        precision = torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()
        with precision:
            outputs, (h, c) = memory(embedding(ids[:-1]), run["state"])
            logits = head(outputs).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, ids[1:].flatten())
        run["state"] = (h.detach(), c.detach())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run["loss"] = loss

    rates = measure(step, arguments.seq * batch, arguments)
    report(
        "torch lstm train",
        torch=torch.__version__,
        **vars(arguments),
        last_loss=float(run["loss"].detach()),
        **rates,
    )


if __name__ == "__main__":
    main()
