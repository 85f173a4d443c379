"""An LSTM language model written on, token after token, by PyTorch or ONNX Runtime.

    lstm_decoding.py --write DIR --vocab 10000 --dim 650       # the model for ONNX Runtime
    lstm_decoding.py --engine onnx-int8 --model DIR --vocab 10000 --dim 650
    lstm_decoding.py --engine onnx-int8 --model DIR --vocab 10000 --dim 650 --first-token

Each step takes the most probable token of the last one. ONNX Runtime's processes import no torch.
"""

import pathlib

from measuring import flags, measure, quiet_torch, report, seconds_since_start

ONNX_FILES = {"onnx-f32": "step.onnx", "onnx-int8": "step.int8.onnx"}


def network(arguments):
    torch = quiet_torch(arguments.threads)
    nn = torch.nn

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(arguments.vocab, arguments.dim)
            self.memory = nn.LSTM(arguments.dim, arguments.dim, num_layers=arguments.layers)
            self.head = nn.Linear(arguments.dim, arguments.vocab)

        def forward(self, ids, h, c):
            outputs, (h, c) = self.memory(self.embedding(ids)[None], (h, c))
            return self.head(outputs[0]), h, c

    return torch, Step().eval()


def write(arguments):
    """Writes the network as ONNX, and once more with weights of eight bits."""
    from onnxruntime import quantization

    torch, model = network(arguments)
    folder = pathlib.Path(arguments.write)
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.zeros(arguments.layers, 2, arguments.dim)
    exact = folder / ONNX_FILES["onnx-f32"]
    torch.onnx.export(
        model,
        (torch.zeros(2, dtype=torch.long), state, state),
        exact,
        input_names=["ids", "h", "c"],
        output_names=["logits", "next_h", "next_c"],
        dynamic_axes={
            **{name: {0: "streams"} for name in ("ids", "logits")},
            **{name: {1: "streams"} for name in ("h", "c", "next_h", "next_c")},
        },
        opset_version=17,
        dynamo=False,
    )
    quantization.quantize_dynamic(
        exact, folder / ONNX_FILES["onnx-int8"], weight_type=quantization.QuantType.QInt8
    )


def torch_step(arguments):
    torch, model = network(arguments)
    torch.backends.mkldnn.enabled = not arguments.onednn_off
    kind = torch.float32
    if arguments.engine == "torch-bf16":
        kind = torch.bfloat16
        model = model.to(kind)
    elif arguments.engine == "torch-int8":
        layers = {torch.nn.LSTM, torch.nn.Linear}
        model = torch.ao.quantization.quantize_dynamic(model, layers, dtype=torch.qint8)
    zeros = torch.zeros(arguments.layers, arguments.batch, arguments.dim, dtype=kind)
    run = {"ids": torch.zeros(arguments.batch, dtype=torch.long), "state": (zeros, zeros)}

    @torch.inference_mode()
    def step():
        logits, *run["state"] = model(run["ids"], *run["state"])
        run["ids"] = logits.argmax(1)
        return run["ids"]

    return step, torch.__version__


def onnx_step(arguments):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    path = pathlib.Path(arguments.model) / ONNX_FILES[arguments.engine]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    zeros = numpy.zeros((arguments.layers, arguments.batch, arguments.dim), numpy.float32)
    run = {"ids": numpy.zeros(arguments.batch, numpy.int64), "h": zeros, "c": zeros}

    def step():
        logits, run["h"], run["c"] = session.run(None, run)
        run["ids"] = logits.argmax(1)
        return run["ids"]

    return step, onnxruntime.__version__


def main():
    parser = flags(__doc__)
    engines = ["torch-f32", "torch-bf16", "torch-int8", *ONNX_FILES]
    parser.add_argument("--engine", choices=engines, default="torch-f32")
    parser.add_argument("--vocab", type=int, default=10000)
    parser.add_argument("--dim", type=int, default=650)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--model", help="the folder that --write made")
    parser.add_argument("--write", help="write the model into this folder and stop")
    parser.add_argument("--first-token", action="store_true", help="time a cold start instead")
    parser.add_argument("--onednn-off", action="store_true", help="torch's own loop over time")
    arguments = parser.parse_args()
    if arguments.write:
        return write(arguments)
    make = onnx_step if arguments.engine in ONNX_FILES else torch_step
    step, version = make(arguments)
    if arguments.first_token:
        step().tolist()
        taken = {"median": 1e3 * seconds_since_start()}
        return report("first token", version=version, **vars(arguments), first_token_ms=taken)
    rates = measure(step, arguments.batch, arguments)
    report("lstm decode", version=version, **vars(arguments), **rates)


if __name__ == "__main__":
    main()
