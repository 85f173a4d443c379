"""xLSTM in Python: the `xlstm` package's stacks of mLSTM or sLSTM blocks, and the xLSTM model of
`transformers`, learning or writing on from the beginning, one stream."""

import contextlib

from measuring import flags, measure, quiet_torch, report


def package(arguments):
    import xlstm

    mlstm = xlstm.mLSTMBlockConfig(
        mlstm=xlstm.mLSTMLayerConfig(num_heads=arguments.heads, conv1d_kernel_size=4)
    )
    slstm = xlstm.sLSTMBlockConfig(
        slstm=xlstm.sLSTMLayerConfig(
            backend="vanilla", num_heads=arguments.heads, conv1d_kernel_size=4
        ),
        feedforward=xlstm.FeedForwardConfig(proj_factor=1.3, act_fn="gelu"),
    )
    config = xlstm.xLSTMLMModelConfig(
        vocab_size=arguments.vocab,
        embedding_dim=arguments.width,
        num_blocks=arguments.layers,
        context_length=arguments.seq,
        mlstm_block=mlstm,
        slstm_block=slstm,
        slstm_at="all" if arguments.model == "slstm" else [],
    )
    model = xlstm.xLSTMLMModel(config)
    model.reset_parameters()
    return model


def hugging_face(arguments):
    import transformers

    config = transformers.xLSTMConfig(
        vocab_size=arguments.vocab,
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_heads=arguments.heads,
        autocast_kernel_dtype="float32",
        inference_state_dtype="float32",
        chunk_size=64,
        mode="train" if arguments.what == "train" else "inference",
    )
    return transformers.xLSTMForCausalLM(config)


def train(torch, model, arguments):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=arguments.fused or None)
    ids = torch.randint(arguments.vocab, (arguments.batch, arguments.seq + 1))
    low = arguments.precision == "bf16"

    def step():
        with torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext():
            logits = model(ids[:, :-1])
            logits = getattr(logits, "logits", logits)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step, arguments.batch * arguments.seq


def decode(torch, model, arguments):
    model.eval()
    run = {"ids": torch.zeros(1, 1, dtype=torch.long), "state": None}

    @torch.inference_mode()
    def step():
        if arguments.model == "hf":
            out = model(run["ids"], cache_params=run["state"], use_cache=True)
            logits, run["state"] = out.logits, out.cache_params
        else:
            logits, run["state"] = model.step(run["ids"], run["state"] or {})
        run["ids"] = logits[:, -1:].argmax(-1)

    return step, 1


def main():
    parser = flags(__doc__)
    parser.add_argument("--model", choices=["mlstm", "slstm", "hf"], default="mlstm")
    parser.add_argument("--what", choices=["train", "decode"], default="train")
    parser.add_argument("--vocab", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="to learn")
    parser.add_argument("--fused", action="store_true", help="the optimiser in one pass")
    arguments = parser.parse_args()
    torch = quiet_torch(arguments.threads)
    model = hugging_face(arguments) if arguments.model == "hf" else package(arguments)
    make = train if arguments.what == "train" else decode
    step, tokens = make(torch, model, arguments)
    rates = measure(step, tokens, arguments)
    report(
        f"{arguments.model} {arguments.what}",
        torch=torch.__version__,
        parameters=sum(p.numel() for p in model.parameters()),
        **vars(arguments),
        **rates,
    )


if __name__ == "__main__":
    main()
