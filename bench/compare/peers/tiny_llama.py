"""A Llama with random weights as a GGUF file, about as large as longhand-nano, for llama.cpp's server.

    tiny_llama.py --out FILE [--width 160 --layers 3 --feed-forward 448 --heads 4]

Its vocabulary is that of a SentencePiece model: a token for each printable character, and one for each
byte. The first number of each embedding is large, and so is that of each row of the head, with the
sign that makes the model write printable characters alone: every answer has as many tokens as were
asked for, and every token is text. The matrices have eight bits (Q8_0), the others are f32.
"""

import argparse
import pathlib

import gguf
import numpy as np

# The number that all embeddings share, and its weight in the head.
SHARED = 4.0
# Tokens of a text that the model says it was trained on.
CONTEXT = 65536


def vocabulary():
    """Texts, scores and types of the tokens. A space is written as SentencePiece does."""
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [("\u2581", kinds.NORMAL)]
    tokens += [(chr(byte), kinds.NORMAL) for byte in range(33, 127)]
    # No two characters are merged, so a text has a token for each of them.
    return tokens + [(f"<pad{i}>", kinds.UNUSED) for i in range(-len(tokens) % 32)]


def add_tokenizer(writer, tokens):
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in tokens])
    writer.add_token_scores([0.0 if kind != gguf.TokenType.NORMAL else -1.0 for _, kind in tokens])
    writer.add_token_types([int(kind) for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)


def matrices(sizes, tokens):
    """Names and values of all tensors, rows first."""
    random = np.random.default_rng(1)
    width, inner, vocab = sizes.width, sizes.feed_forward, len(tokens)

    def matrix(rows, columns):
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(width, np.float32)
    embedding, head = matrix(vocab, width), matrix(vocab, width)
    embedding[:, 0] = SHARED
    writes = np.array([kind == gguf.TokenType.NORMAL for _, kind in tokens])
    head[:, 0] = np.where(writes, SHARED, -SHARED)
    yield "token_embd.weight", embedding
    for layer in range(sizes.layers):
        name = f"blk.{layer}."
        yield name + "attn_norm.weight", ones
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weight = matrix(width, width)
            # What all embeddings share stays as it is.
            weight[0] = 0 if part == "attn_output" else weight[0]
            yield f"{name}{part}.weight", weight
        yield name + "ffn_norm.weight", ones
        yield name + "ffn_gate.weight", matrix(inner, width)
        yield name + "ffn_up.weight", matrix(inner, width)
        down = matrix(width, inner)
        down[0] = 0
        yield name + "ffn_down.weight", down
    yield "output_norm.weight", ones
    yield "output.weight", head


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--feed-forward", type=int, default=448)
    parser.add_argument("--heads", type=int, default=4)
    sizes = parser.parse_args()
    tokens = vocabulary()
    sizes.out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(sizes.out, "llama")
    writer.add_name("tiny-llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.feed_forward)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.heads)
    writer.add_rope_dimension_count(sizes.width // sizes.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    add_tokenizer(writer, tokens)
    count = 0
    for name, values in matrices(sizes, tokens):
        count += values.size
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{sizes.out}: {count:,} parameters, {len(tokens)} tokens")


if __name__ == "__main__":
    main()
