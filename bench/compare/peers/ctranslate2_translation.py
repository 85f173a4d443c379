"""Translation by beam search with CTranslate2, by a transformer of random weights.

The transformer has the shape of the pytorch-seq2seq tutorial's ("Attention is all you need"): three
layers on each side, width 256, 8 heads, feed-forward layers of 512, norms behind the layers,
learned positions, biases, an embedding on each side and an output matrix of its own.

The sources are those of `longhand bench preset --what search`: random ids, from half to one and a
half times --seq of them. Each translation has as many tokens as its source with `--lengths each`,
in one call for each length, and --seq tokens with `--lengths mean`, in one call: CTranslate2 takes
one length for all texts of a call.

Every division of the threads and every size of batch that is given is tried once, and the fastest
is measured. A size is a number of texts, or of tokens if `t` follows.
"""

import os
import tempfile
import time

import numpy

from measuring import flags, measure, report

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
# Positions that the tutorial's model knows.
POSITIONS = 100
# One text of so many is translated before anything is timed.
WARM = 8


class Weights:
    """Fills a specification with random weights, and counts them."""

    def __init__(self, arguments):
        self.random, self.count = numpy.random.default_rng(1), 0
        self.width, self.inner = arguments.width, arguments.feed_forward

    def matrix(self, rows, columns):
        self.count += rows * columns
        drawn = self.random.standard_normal((rows, columns), dtype=numpy.float32)
        return drawn * numpy.float32(columns**-0.5)

    def linear(self, spec, outputs, inputs):
        spec.weight = self.matrix(outputs, inputs)
        spec.bias = numpy.zeros(outputs, numpy.float32)
        self.count += outputs

    def norm(self, spec):
        spec.gamma = numpy.ones(self.width, numpy.float32)
        spec.beta = numpy.zeros(self.width, numpy.float32)
        self.count += 2 * self.width

    def embedding(self, spec, vocab):
        spec.weight = self.matrix(vocab, self.width)
        spec.multiply_by_sqrt_depth = True

    def attention(self, spec, outputs):
        """`outputs`: of each matrix, in widths; queries, keys and values may share one."""
        self.norm(spec.layer_norm)
        for linear, widths in zip(spec.linear, outputs, strict=True):
            self.linear(linear, widths * self.width, self.width)

    def feed_forward(self, spec):
        self.norm(spec.layer_norm)
        self.linear(spec.linear_0, self.inner, self.width)
        self.linear(spec.linear_1, self.width, self.inner)


def write(arguments, folder):
    """Writes the model; its number of parameters."""
    from ctranslate2.specs import TransformerSpec

    layers = (arguments.layers, arguments.layers)
    spec = TransformerSpec.from_config(layers, arguments.heads, pre_norm=False)
    weights = Weights(arguments)
    source, target = arguments.source_vocab, arguments.target_vocab
    weights.embedding(spec.encoder.embeddings[0], source)
    weights.embedding(spec.decoder.embeddings, target)
    weights.linear(spec.decoder.projection, target, arguments.width)
    for side in (spec.encoder, spec.decoder):
        side.position_encodings.encodings = weights.matrix(POSITIONS, arguments.width)
        for layer in side.layer:
            weights.attention(layer.self_attention, [3, 1])
            if side is spec.decoder:
                weights.attention(layer.attention, [1, 2, 1])
            weights.feed_forward(layer.ffn)
    spec.register_source_vocabulary(vocabulary(source))
    spec.register_target_vocabulary(vocabulary(target))
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = SPECIAL[1:]
    spec.config.decoder_start_token = SPECIAL[2]
    spec.validate()
    spec.save(folder)
    return weights.count


def vocabulary(size):
    return SPECIAL + [f"t{index}" for index in range(size - len(SPECIAL))]


def sources(arguments):
    """Texts of random tokens, lengths as those of `longhand bench preset --what search`."""
    random, spread = numpy.random.default_rng(2), arguments.seq // 2
    known = arguments.source_vocab - len(SPECIAL)
    lengths = (arguments.seq - spread + i % (2 * spread + 1) for i in range(arguments.sentences))
    return [[f"t{index}" for index in random.integers(known, size=length)] for length in lengths]


class Translating:
    """One way to translate all texts: a translator and its batches."""

    def __init__(self, arguments, translator, texts, batch):
        self.arguments, self.translator, self.batch = arguments, translator, batch
        self.groups, self.seconds = {}, None
        # The longest first, so that the threads end at about the same time.
        for text in sorted(texts, key=len, reverse=True):
            length = len(text) if arguments.lengths == "each" else arguments.seq
            self.groups.setdefault(length, []).append(text)

    def step(self):
        """Translates all texts; fails if a translation has another length than asked for."""
        size = self.batch.removesuffix("t")
        kind = "examples" if size == self.batch else "tokens"
        pending = [
            (length, result)
            for length, texts in self.groups.items()
            for result in self.translator.translate_batch(
                texts,
                beam_size=self.arguments.beam,
                min_decoding_length=length,
                max_decoding_length=length,
                max_batch_size=int(size),
                batch_type=kind,
                asynchronous=True,
            )
        ]
        for length, result in pending:
            written = len(result.result().hypotheses[0])
            if written != length:
                raise RuntimeError(f"a translation has {written} tokens and not {length}")

    @property
    def tokens(self):
        return sum(length * len(texts) for length, texts in self.groups.items())


def fastest(arguments, folder):
    """The fastest of all divisions of the threads and sizes of batches, and the seconds of each."""
    import ctranslate2

    best, tried, threads, texts = None, {}, arguments.threads, sources(arguments)
    for inter in sorted({1, threads}):
        translator = ctranslate2.Translator(
            folder,
            compute_type=arguments.compute_type,
            inter_threads=inter,
            intra_threads=threads // inter,
        )
        ways = [Translating(arguments, translator, texts, batch) for batch in arguments.batches]
        # The first call of a translator takes its buffers.
        Translating(arguments, translator, texts[::WARM], arguments.batches[0]).step()
        for way in ways:
            began = time.perf_counter()
            way.step()
            way.seconds = time.perf_counter() - began
            tried[f"{inter} of {threads // inter} threads, batches of {way.batch}"] = way.seconds
            if best is None or way.seconds < best.seconds:
                best = way
    return best, tried


def parsed():
    parser = flags(__doc__.splitlines()[0])
    parser.add_argument("--source-vocab", type=int, default=7853)
    parser.add_argument("--target-vocab", type=int, default=5893)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--feed-forward", type=int, default=512)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--seq", type=int, default=14, help="tokens of a source on average")
    parser.add_argument("--lengths", choices=["each", "mean"], default="each")
    parser.add_argument("--compute-type", default="int8", help="as CTranslate2 names it")
    parser.add_argument("--onednn", action="store_true", help="oneDNN's products in place of MKL's")
    parser.add_argument("--unpacked", action="store_true", help="weights not packed for MKL")
    parser.add_argument("--isa", help="instructions of its own loops [default: what it selects]")
    parser.add_argument("--batches", nargs="+", default=["32", "64", "128", "1024t"])
    return parser.parse_args()


def main():
    arguments = parsed()
    # Read when the library is loaded.
    if arguments.onednn:
        os.environ["CT2_USE_MKL"] = "0"
    if arguments.unpacked:
        os.environ["CT2_PACKED_GEMM"] = "0"
    if arguments.isa:
        os.environ["CT2_FORCE_CPU_ISA"] = arguments.isa
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        parameters = write(arguments, folder)
        best, tried = fastest(arguments, folder)
    rates = measure(best.step, best.tokens, arguments)
    steps_per_s = rates["tokens_per_s"]["median"] / best.tokens
    report(
        "ctranslate2 translation",
        ctranslate2=ctranslate2.__version__,
        parameters=parameters,
        **vars(arguments),
        held_as=best.translator.compute_type,
        inter_threads=best.translator.num_translators,
        batch=best.batch,
        seconds_tried=tried,
        tokens=best.tokens,
        **rates,
        sentences_per_s=steps_per_s * arguments.sentences,
    )


if __name__ == "__main__":
    main()
