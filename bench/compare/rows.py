"""What is compared with what: one row for each mark, in groups.

A row has the settings of the peer (the fastest counts), our command, and how much better ours must
be. `{model}` and `{ours}` stand for folders of prepared models of the row's shape, ONNX Runtime's
and ours with weights of eight bits; `{longhand}` and `{llama}` for programs, and `{models}` for the
folder of all models.
"""

from dataclasses import dataclass

SHAPES = {
    "a": {"vocab": 10000, "dim": 650, "batch": 32, "seq": 64},
    "b": {"vocab": 256, "dim": 256, "batch": 64, "seq": 128},
    "c": {"vocab": 10000, "dim": 200, "batch": 20, "seq": 35},
}


@dataclass
class Row:
    """One comparison. A command is a list of words: a peer's begins with its program's name."""

    group: str
    name: str
    against: str
    peers: list[list[str]]
    ours: list[str]
    mark: float
    # The compared field, and whether more of it is better.
    field: str = "tokens_per_s.median"
    more: bool = True
    # Shape of the models that both sides need on disk, if any.
    model: str | None = None


def rows():
    return [
        *lstm_training(),
        *lstm_decoding(),
        *first_token(),
        *transformers(),
        *xlstm(),
        *instruction_sets(),
        *translating(),
        *serving(),
    ]


def flags(**settings):
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def lstm_training():
    marks = {"f32": {"a": 2.0, "b": 2.0, "c": 2.7}, "bf16": {"a": 1.7, "b": 1.6, "c": 2.0}}
    for precision, of_shape in marks.items():
        for shape, mark in of_shape.items():
            size = flags(**SHAPES[shape], layers=2, precision=precision)
            yield Row(
                group="lstm-train",
                name=f"LSTM {shape}, train {precision}",
                against="PyTorch" + (" autocast" if precision == "bf16" else ""),
                peers=[["lstm_training.py", *size, "--fused"]],
                ours=["lstm-train", *size],
                mark=mark,
            )
    size = flags(**SHAPES["a"], layers=2, precision="f32")
    yield Row(
        group="lstm-train",
        name="LSTM a, peak memory in training",
        against="PyTorch",
        peers=[["lstm_training.py", *size, "--fused"]],
        ours=["lstm-train", *size],
        mark=4.0,
        field="peak_rss_mib",
        more=False,
    )


def lstm_decoding():
    cases = [
        ("a", 1, "int8", "onnx-int8", 1.9),
        ("b", 1, "int8", "onnx-int8", 7.0),
        ("a", 1, "f32", "onnx-f32", 1.5),
        ("b", 1, "f32", "onnx-f32", 1.5),
        ("a", 1, "bf16", "torch-bf16", 5.0),
        ("b", 1, "bf16", "torch-bf16", 5.0),
        ("a", 32, "int8", "onnx-int8", 1.5),
        ("b", 32, "int8", "onnx-int8", 1.5),
    ]
    for shape, batch, weights, engine, mark in cases:
        sizes = {key: SHAPES[shape][key] for key in ("vocab", "dim")}
        size = flags(**sizes, layers=2, batch=batch)
        peers = [["lstm_decoding.py", *size, "--engine", engine]]
        if engine.startswith("onnx"):
            peers[0] += ["--model", "{model}"]
        else:
            peers.append([*peers[0], "--onednn-off"])
        yield Row(
            group="lstm-decode",
            name=f"LSTM {shape}, decode {weights}, {batch} stream{'s' if batch > 1 else ''}",
            against="ONNX Runtime" if engine.startswith("onnx") else "PyTorch",
            peers=peers,
            ours=["lstm-decode", *size, "--weights", weights],
            mark=mark,
            model=shape if engine.startswith("onnx") else None,
        )


def first_token():
    size = flags(**{key: SHAPES["a"][key] for key in ("vocab", "dim")})
    peer = ["lstm_decoding.py", *size, "--engine", "onnx-int8", "--model", "{model}"]
    yield Row(
        group="first-token",
        name="LSTM a int8, first token of a new process",
        against="ONNX Runtime",
        peers=[[*peer, "--first-token"]],
        ours=["first-token", "{ours}"],
        mark=3.0,
        field="first_token_ms.median",
        more=False,
        model="a",
    )


def transformers():
    peer = flags(vocab=65, width=384, layers=6, heads=6)
    best = [
        [*flags(precision=precision), *extra]
        for precision in ("f32", "bf16")
        for extra in ([], ["--compile"])
    ]
    ours = ["preset", "transformer", *peer, "--feed-forward", "1024", "--tied", "--no-dropout"]
    train = flags(what="train", batch=16, seq=256)
    # The peer carries nothing from step to step: its queries see half a window on average.
    yield Row(
        group="transformer",
        name="transformer 6 × 384, train",
        against="PyTorch",
        peers=[["transformer.py", *peer, *train, "--fused", *setting] for setting in best],
        ours=[*ours, *train, "--window", "256", "--fresh", "--precision", "bf16"],
        mark=1.5,
    )
    decode = flags(what="decode", batch=1, position=2048)
    settings = [flags(precision=precision) for precision in ("f32", "bf16")]
    # As `longhand quantize` makes them: fewer bits come with a cache in bf16.
    caches = {"f32": "f32", "bf16": "bf16", "int8": "bf16"}
    for window, weights in (
        (256, "f32"),
        (256, "int8"),
        (2048, "f32"),
        (2048, "bf16"),
        (2048, "int8"),
    ):
        held = flags(window=window, weights=weights, **{"kv-cache": caches[weights]})
        yield Row(
            group="transformer",
            name=f"transformer 6 × 384, decode at 2,048, {weights}, window {window:,}",
            against="PyTorch, all positions seen",
            peers=[["transformer.py", *peer, *decode, *setting] for setting in settings],
            ours=[*ours, *decode, *held],
            mark=5.0,
        )


def xlstm():
    size = flags(vocab=256, width=256, layers=4, heads=4)
    # The package's blocks: beside an mLSTM it has no feed-forward layer, but widens its input
    # twofold, and behind an sLSTM no linear layer. The input weights of its sLSTM are
    # block-diagonal, a quarter of ours.
    block = {
        "mlstm": flags(**{"feed-forward": 0}),
        "slstm": [*flags(**{"feed-forward": 384}), "--no-fusion"],
    }

    def ours(cell):
        return ["preset", "xlstm", *size, "--cell", cell, *block[cell], "--no-dropout"]

    best = [[*flags(precision=precision), "--fused"] for precision in ("f32", "bf16")]
    for cell, mark in (("mlstm", 10.0), ("slstm", 30.0)):
        train = flags(what="train", batch=8, seq=128)
        peer = ["xlstm_blocks.py", *size, *train, "--model", cell]
        yield Row(
            group="xlstm",
            name=f"{cell[0]}LSTM 4 × 256, train bf16",
            against="the xlstm package, f32 or autocast",
            peers=[[*peer, *setting] for setting in best],
            ours=[*ours(cell), *train, "--precision", "bf16"],
            mark=mark,
        )
    for cell, models in (("mlstm", ("mlstm", "hf")), ("slstm", ("slstm",))):
        decode = flags(what="decode")
        yield Row(
            group="xlstm",
            name=f"{cell[0]}LSTM 4 × 256, decode",
            against="the xlstm package" + (" and transformers" if "hf" in models else ""),
            peers=[["xlstm_blocks.py", *size, *decode, "--model", model] for model in models],
            ours=[*ours(cell), *decode],
            mark=20.0,
        )


def instruction_sets():
    size = flags(**SHAPES["a"], layers=2, precision="f32")
    yield Row(
        group="level",
        name="LSTM a, train f32, AVX2 form",
        against="our AVX-512 form",
        peers=[["longhand", "lstm-train", *size, "--level", "avx512"]],
        ours=["lstm-train", *size, "--level", "avx2"],
        mark=0.45,
    )


def translating():
    """Our translator beside the transformer that a tutorial would have one train.

    Both write the same number of tokens in all, from a target vocabulary of the same size.
    """
    # The sources have 7 to 21 tokens, 64 of each length, so that CTranslate2's batches are full.
    work = flags(beam=5, sentences=15 * 64, seq=14)
    vocab = 5893
    peer = ["ctranslate2_translation.py", *work, *flags(**{"target-vocab": vocab})]
    # Its int8 is int8_float32, which `auto` takes as well; int8_bfloat16 it has not on a processor.
    # Of itself it takes AVX2 for its own loops even where there is AVX-512, and packs weights.
    wide = flags(isa="AVX512")
    settings = [
        [],
        wide,
        ["--unpacked"],
        ["--onednn"],
        flags(lengths="mean"),
        [*flags(lengths="mean"), *wide],
        flags(**{"compute-type": "float32"}),
    ]
    preset = ["preset", "encoder-decoder-small", "--what", "search"]
    yield Row(
        group="translating",
        name="translate, beam 5, int8",
        against="CTranslate2",
        peers=[[*peer, *setting] for setting in settings],
        ours=[*preset, *work, *flags(vocab=vocab, weights="int8")],
        mark=2.0,
        field="sentences_per_s",
    )


def serving():
    def side(server, program, model):
        return ["serving.py", "--server", server, "--program", program, "--model", model]

    theirs = side("llama", "{llama}", "{models}/tiny-llama.gguf")
    ours = side("longhand", "{longhand}", "{models}/longhand-nano-int8")
    package = side("llama-python", "", "{models}/tiny-llama.gguf")
    # Ours draws by the temperature alone as well. Some builds for AMX end with an illegal instruction
    # where weights are repacked.
    plain = ["--", "--samplers", "temperature", "--no-repack"]
    for clients, mark in ((1, 1.0), (16, 2.0), (64, 3.0)):
        load = ["--client", "{longhand}", *flags(clients=clients)]
        yield Row(
            group="serving",
            name=f"server int8, {clients} client{'s' if clients > 1 else ''}",
            against="llama.cpp's server",
            peers=[
                [*theirs, *load],
                [*theirs, *load, *plain],
                [*theirs, *load, *plain, "-fa", "off"],
                [*package, *load],
            ],
            ours=[*ours, *load],
            mark=mark,
            field="requests_per_second",
        )
    yield Row(
        group="serving",
        name="server int8, first token of a turn behind 4,000 tokens",
        against="llama.cpp's server",
        peers=[
            [*theirs, "--second-turn", *plain],
            # Faster behind a long history, though slower to read it.
            [*theirs, "--second-turn", *plain, "-fa", "off"],
            # One slot: what was read of the other conversations is in the cache of prompts.
            [*theirs, "--second-turn", *flags(slots=1), *plain, "-fa", "off"],
            [*package, "--second-turn"],
        ],
        ours=[*ours, "--second-turn"],
        mark=20.0,
        field="second_turn_ms.median",
        more=False,
    )
