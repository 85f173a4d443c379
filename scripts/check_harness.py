"""Checks that lm-evaluation-harness measures a served model as Longhand does.

    python scripts/check_harness.py LONGHAND FOLDER

LONGHAND is the program. It trains a small model in FOLDER and serves it at a free port. The harness
(the package `lm_eval`) asks it by `local-completions`, in batches of token ids, for tasks of its own: a
perplexity over windows, one of documents, and the choice among answers. Its numbers are those of
`longhand eval` and `longhand score` to 1e-4. Whatever differs is printed, and the exit code is 1.
"""

import json
import math
import os
import pathlib
import subprocess
import sys

# Nothing is fetched: the data are files of this folder, and so is the tokeniser.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
import transformers
import yaml
from lm_eval.tasks import TaskManager

from serving import Server, train

TOLERANCE = 1e-4
WINDOW = 24
STORY = (
    "One day a small dog found a red ball in the garden. The dog wanted to play, but the ball "
    "rolled under the old tree. A kind girl saw the dog and helped. They played until the sun went "
    "down, and then the girl took the ball home in her bag."
)
DOCUMENTS = [STORY, "The cat sat on the mat.", "Lily was sad. Her doll was lost in the big park."]
QUESTIONS = [
    {"begin": "The dog wanted to", "choices": ["play", "sleep in the sun", "xylophone"], "gold": 0},
    {"begin": "One day a", "choices": ["girl found a ball.", "qzx kkv", "the"], "gold": 0},
    {"begin": "Lily was", "choices": ["of", "sad", "very happy and ran home"], "gold": 1},
]
PERPLEXITY = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [
        {"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")
    ],
}
TASKS = {
    "windows": PERPLEXITY,
    # The harness writes no end of the document of its own.
    "documents": {**PERPLEXITY, "doc_to_target": "{{text}}<eos>"},
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{begin}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}],
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "{{begin}}",
        "doc_to_target": "{{choices[gold]}}",
        "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 12},
        "metric_list": [{"metric": "bypass"}],
    },
}


def write(folder, name, examples):
    """Writes a task and its examples."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(example) + "\n" for example in examples))
    task = {"task": f"longhand_{name}", "dataset_path": "json", "test_split": "test"}
    task["dataset_kwargs"] = {"data_files": {"test": str(data)}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**task, **TASKS[name]}))
    return data


def measured(server, folder, name, **model):
    """The harness's metrics of a task, and what it was told of each example."""
    settings = {"model": "model", "base_url": f"{server.address}/v1/completions", "max_retries": 1}
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={**settings, "batch_size": 4, **model},
        tasks=[f"longhand_{name}"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = sorted(results["samples"][f"longhand_{name}"], key=lambda sample: sample["doc_id"])
    return results["results"][f"longhand_{name}"], [sample["filtered_resps"] for sample in samples]


def tokenizers(folder):
    """The tokeniser of the model's folder as `transformers` reads it, and the server's own."""
    own = {"tokenizer_backend": "huggingface", "tokenizer": str(folder / "model")}
    return [own, {"tokenizer_backend": "remote"}]


def run(program, folder, *arguments, text=None):
    """The JSON lines that the program prints."""
    command = [program, *arguments, "--json"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, input=text)
    assert made.returncode == 0, made.stderr
    return [json.loads(line) for line in made.stdout.splitlines()]


def near(found, expected, what):
    assert abs(found - expected) <= TOLERANCE * max(1, abs(expected)), (what, found, expected)


def whole_windows(tokenizer, text):
    """The text's beginning of one token and as many whole windows as it has: the harness gives the
    last window more context where it is shorter than the others."""
    for end in range(len(text), 0, -1):
        count = len(tokenizer(text[:end]).input_ids) - 1
        if count >= WINDOW and count % WINDOW == 0:
            return text[:end]
    raise SystemExit("no text of whole windows: make the story longer")


def windows(program, folder, server, tokenizer):
    """Perplexity over windows that do not overlap, and over one that holds all."""
    text = whole_windows(tokenizer, STORY)
    (folder / "story.txt").write_text(text)
    first, *rest = tokenizer(text).input_ids
    begin = tokenizer.decode([first])
    behind = text.removeprefix(begin)
    assert tokenizer(behind).input_ids == rest, "the first token is not separate"
    write(folder, "windows", [{"text": behind}])
    for size, flag in ((WINDOW, ["--window", str(WINDOW)]), (len(rest), ["--exact"])):
        (ours,) = run(program, folder, "eval", "model", "--data", "story.txt", *flag)
        assert ours["tokens"] == len(rest)
        # Of the longest length one token is the model's to write, and one is context.
        longest = {"max_length": size + 2, "custom_prefix_token_id": first}
        for tokens in tokenizers(folder):
            found, [[sum_of_all]] = measured(server, folder, "windows", **longest, **tokens)
            near(-sum_of_all, ours["loss"] * ours["tokens"], ("nats", flag, tokens))
            near(found["bits_per_byte,none"], ours["bits_per_byte"], ("bits", flag, tokens))


def documents(program, folder, server):
    """Each document by itself, from the mark between documents to the next one. To `transformers` the
    mark is plain text, which no text becomes, until it is told."""
    marked = transformers.AutoTokenizer.from_pretrained(str(folder / "model"), eos_token="<eos>")
    marked.save_pretrained(folder / "marked")
    data = write(folder, "documents", [{"text": text} for text in DOCUMENTS])
    ours = run(program, folder, "score", "model", "--data", data.name, "--column", "text")
    own = {"tokenizer_backend": "huggingface", "tokenizer": str(folder / "marked")}
    found, sums = measured(server, folder, "documents", **own)
    for (found_sum,), line in zip(sums, ours, strict=True):
        near(-found_sum, line["sum"], line)
    words = sum(len(text.split()) for text in DOCUMENTS)
    near(math.log(found["word_perplexity,none"]), sum(line["sum"] for line in ours) / words, found)


def surprisals(program, folder, text):
    return [line["surprisal"] for line in run(program, folder, "score", "model", text=text)]


def greedy(server, tokenizer):
    """A beginning, and what the model would write behind it, by tokens that the texts lead back to."""
    words = STORY.split()
    for count in range(1, len(words)):
        begin = " ".join(words[:count])
        asked = {"model": "model", "prompt": begin, "temperature": 0, "max_tokens": 3}
        _, _, answer = server.ask("/v1/completions", asked)
        text = answer["choices"][0]["text"]
        again = tokenizer(begin + text).input_ids[len(tokenizer(begin).input_ids) :]
        if text.startswith(" ") and len(again) == asked["max_tokens"]:
            return begin, text.removeprefix(" ")
    raise SystemExit("the model begins no word anywhere: train it longer")


def choices(program, folder, server, tokenizer):
    """The choice among continuations, of which one is what the model would write."""
    begin, likely = greedy(server, tokenizer)
    examples = [*QUESTIONS, {"begin": begin, "choices": [likely, "qzx"], "gold": 0}]
    write(folder, "choices", examples)
    for tokens in tokenizers(folder):
        found, samples = measured(server, folder, "choices", **tokens)
        right = 0
        for example, sample in zip(examples, samples, strict=True):
            context = len(tokenizer(example["begin"]).input_ids)
            ours = []
            for choice, (theirs, _) in zip(example["choices"], sample, strict=True):
                each = surprisals(program, folder, f"{example['begin']} {choice}")
                ours.append(-sum(each[context:]))
                near(theirs, ours[-1], (example["begin"], choice))
            right += ours.index(max(ours)) == example["gold"]
        near(found["acc,none"], right / len(examples), "accuracy")
        # What is drawn greedily is the most probable by exact equality.
        assert [is_greedy for _, is_greedy in samples[-1]] == [True, False], samples[-1]


def written(program, folder, server):
    """Texts that go on until a word that ends them."""
    write(folder, "written", QUESTIONS)
    _, samples = measured(server, folder, "written", **tokenizers(folder)[0])
    for example, (text,) in zip(QUESTIONS, samples, strict=True):
        asked = {"model": "model", "prompt": example["begin"], "temperature": 0}
        asked |= {"max_tokens": 12, "stop": ["\n", "."]}
        _, _, answer = server.ask("/v1/completions", asked)
        assert text == answer["choices"][0]["text"], (text, answer)


def ended(server, tokenizer):
    """The harness leaves out the last entry, a token that it asked for and does not need: there is one
    if the model ends the document too."""
    text = "The cat sat"
    asked = {"model": "model", "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1}
    end = tokenizer.convert_tokens_to_ids("<eos>")
    _, _, answer = server.ask("/v1/completions", {**asked, "logit_bias": {str(end): 100}})
    lists = answer["choices"][0]["logprobs"]
    own = len(tokenizer(text).input_ids)
    assert len(lists["token_logprobs"]) == own + 1 and lists["tokens"][-1] == "<eos>", lists
    _, _, free = server.ask("/v1/completions", asked)
    assert free["choices"][0]["logprobs"]["token_logprobs"][:own] == lists["token_logprobs"][:own]
    _, _, tokens = server.ask("/tokenize", {"prompt": "<eos>"})
    assert tokens["tokens"] == [end], tokens


def main():
    program, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    train(program, folder, "--tokenizer", "bpe", "--vocab", "400", "--steps", "20")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder / "model"))
    with Server(program, folder, arguments=["model"]) as server:
        windows(program, folder, server, tokenizer)
        documents(program, folder, server)
        choices(program, folder, server, tokenizer)
        written(program, folder, server)
        ended(server, tokenizer)
    print("the harness measures perplexities, choices and texts as the program does")


if __name__ == "__main__":
    main()
