"""A transformer of nanoGPT's form in PyTorch: learning, and writing on from a position with a cache
of keys and values.

Blocks with norms before them, learned positions, GELU of four times the width, no biases, the output
matrix tied to the embedding, no dropout, AdamW with gradients clipped to 1.
"""

import contextlib

from measuring import flags, measure, quiet_torch, report

# Tokens decoded before the position is taken up again, half of them before it.
SPAN = 64


def network(torch, arguments, longest):
    nn, functional = torch.nn, torch.nn.functional
    width, heads = arguments.width, arguments.heads

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before_attention = nn.LayerNorm(width, bias=False)
            self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
            self.mix = nn.Linear(width, width, bias=False)
            self.before_layer = nn.LayerNorm(width, bias=False)
            self.layer = nn.Sequential(
                nn.Linear(width, 4 * width, bias=False),
                nn.GELU(),
                nn.Linear(4 * width, width, bias=False),
            )

        def forward(self, x, cache, position):
            batch, time, _ = x.shape
            parts = self.queries_keys_values(self.before_attention(x)).chunk(3, dim=-1)
            q, k, v = (
                part.unflatten(-1, (heads, width // heads)).transpose(1, 2) for part in parts
            )
            if cache is not None:
                cache[0, :, :, position : position + time] = k
                cache[1, :, :, position : position + time] = v
                k, v = cache[:, :, :, : position + time]
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
            x = x + self.mix(seen.transpose(1, 2).reshape(batch, time, width))
            return x + self.layer(self.before_layer(x))

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(arguments.vocab, width)
            self.positions = nn.Embedding(longest, width)
            self.blocks = nn.ModuleList([Block() for _ in range(arguments.layers)])
            self.norm = nn.LayerNorm(width, bias=False)
            for matrix in (p for p in self.parameters() if p.ndim == 2):
                nn.init.normal_(matrix, std=0.02)

        def forward(self, ids, caches=None, position=0):
            places = self.positions.weight[position : position + ids.shape[1]]
            x = self.tokens(ids) + places
            for index, block in enumerate(self.blocks):
                x = block(x, None if caches is None else caches[index], position)
            return functional.linear(self.norm(x), self.tokens.weight)

    return Transformer()


def train(torch, arguments):
    model = network(torch, arguments, arguments.seq)
    forward = torch.compile(model) if arguments.compile else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, weight_decay=0.1, fused=arguments.fused or None
    )
    shape = (16, arguments.batch, arguments.seq + 1)
    batches = torch.randint(arguments.vocab, shape).unbind(0)
    low = arguments.precision == "bf16"
    count = [0]

    def step():
        ids = batches[count[0] % len(batches)]
        count[0] += 1
        with torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext():
            logits = forward(ids[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return model, step, arguments.batch * arguments.seq


def decode(torch, arguments):
    kind = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    longest = arguments.position + SPAN
    model = network(torch, arguments, longest).eval().to(kind)
    head = arguments.width // arguments.heads
    shape = (2, arguments.batch, arguments.heads, longest, head)
    caches = [torch.randn(shape).to(kind) for _ in range(arguments.layers)]
    first = max(0, arguments.position - SPAN // 2)
    run = {"ids": torch.zeros(arguments.batch, 1, dtype=torch.long), "at": first}

    @torch.inference_mode()
    def step():
        run["ids"] = model(run["ids"], caches, run["at"]).argmax(-1)
        run["at"] = run["at"] + 1 if run["at"] + 1 < first + SPAN else first

    return model, step, arguments.batch


def main():
    parser = flags(__doc__)
    parser.add_argument("--what", choices=["train", "decode"], default="train")
    parser.add_argument("--vocab", type=int, default=65)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--position", type=int, default=2048)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--fused", action="store_true", help="the optimiser in one pass")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch = quiet_torch(arguments.threads)
    make = train if arguments.what == "train" else decode
    model, step, tokens = make(torch, arguments)
    rates = measure(step, tokens, arguments)
    parameters = sum(p.numel() for p in model.parameters())
    report(
        f"torch transformer {arguments.what}",
        torch=torch.__version__,
        parameters=parameters,
        **vars(arguments),
        **rates,
    )


if __name__ == "__main__":
    main()
