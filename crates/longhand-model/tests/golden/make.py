"""Golden values for whole models, made by PyTorch.

    pip install torch numpy safetensors
    python make.py

writes, beside this script, `lstm.safetensors` (the weights of an Embedding → LSTM of two layers →
Linear, as a model folder holds them) and `lstm_expected.safetensors` (what PyTorch makes of them);
`main.rs` reads both. Everything is drawn as float32, computed in float64 and stored as float32.
Rows are in time-major order: PyTorch calls it sequence first.
"""
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).parent
VOCABULARY, WIDTH, HIDDEN, LAYERS, TIME, BATCH = 23, 6, 9, 2, 12, 3


class LanguageModel(torch.nn.Module):
    """Its state dict has PyTorch's own names: embedding.weight, lstm.weight_ih_l0, …"""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.lstm = torch.nn.LSTM(WIDTH, HIDDEN, num_layers=LAYERS)
        self.head = torch.nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, ids):
        y, state = self.lstm(self.embedding(ids))
        return self.head(y), state


def ours(name):
    """A block holds one layer: lstm.weight_ih_l1 is blocks.1.lstm.weight_ih_l0 there."""
    return re.sub(r"^lstm\.(\w+)_l(\d)$", r"blocks.\2.lstm.\1_l0", name)


def single(tensors):
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


if __name__ == "__main__":
    torch.manual_seed(1)
    model = LanguageModel()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    save_file(single({ours(name): w for name, w in model.state_dict().items()}),
              HERE / "lstm.safetensors", metadata={"format": "pt"})

    model = model.double()
    ids = torch.randint(VOCABULARY, (TIME, BATCH))
    targets = torch.randint(VOCABULARY, (TIME, BATCH))
    targets[torch.rand(TIME, BATCH) < 0.2] = -100
    logits, (h, c) = model(ids)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1)
    loss.backward()
    expected = {"logits": logits, "loss": loss.reshape(1)}
    for layer in range(LAYERS):
        expected[f"blocks.{layer}.lstm.h"] = h[layer]
        expected[f"blocks.{layer}.lstm.c"] = c[layer]
    for name, parameter in model.named_parameters():
        expected[f"d_{ours(name)}"] = parameter.grad
    expected = single(expected)
    # Targets of -100 count for nothing.
    expected["ids"], expected["targets"] = ids.int(), targets.int()
    save_file(expected, HERE / "lstm_expected.safetensors")
