"""Golden values for the kernel's operations, made by PyTorch and the `xlstm` package.

    pip install torch numpy safetensors transformers xlstm
    python make.py

writes one safetensors file per operation beside this script; `main.rs` there reads them.

Inputs are drawn as float32 and everything is computed from them in float64, so that what is
stored (float32 again) is the nearest value to the exact one. Rows are in time-major order: PyTorch
calls it sequence first. In every file a case's tensors bear its name as a prefix; `d_` marks a
gradient of the loss Σ output · d_output over all outputs and final states of the case, whose
d_output are drawn at random too.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from xlstm.blocks.mlstm.backends import parallel_stabilized_simple, recurrent_step_stabilized_simple
from xlstm.blocks.slstm.src.vanilla import slstm_forward, slstm_pointwise_function_registry
from xlstm.components.ln import MultiHeadLayerNorm

HERE = Path(__file__).parent


class Case:
    """Draws the inputs of one case, and collects what is stored of it."""

    def __init__(self, tensors, name, seed):
        self.tensors, self.name = tensors, name
        self.random = torch.Generator().manual_seed(seed)
        self.leaves = {}

    def draw(self, *shape, scale=1.0, shift=0.0):
        """Normal values that float32 holds exactly, in float64."""
        values = torch.randn(*shape, generator=self.random, dtype=torch.float32)
        return (values * scale + shift).double()

    def leaf(self, name, *shape, **how):
        """An input whose gradient is wanted."""
        return self.given(name, self.draw(*shape, **how))

    def given(self, name, values):
        leaf = values.detach().clone().requires_grad_()
        self.keep(name, leaf)
        self.leaves[name] = leaf
        return leaf

    def keep(self, name, values):
        values = values.detach()
        dtype = torch.int32 if values.dtype == torch.int64 else torch.float32
        self.tensors[f"{self.name}.{name}"] = values.to(dtype).contiguous().clone()

    def parameters(self, module):
        """Draws the module's parameters anew and wants their gradients."""
        for name, parameter in module.named_parameters():
            with torch.no_grad():
                parameter.copy_(self.draw(*parameter.shape, scale=0.4))
            self.keep(name, parameter)
            self.leaves[name] = parameter

    def finish(self, **outputs):
        """Stores the outputs, the gradients given to them, and those of the leaves.

        (c, n, m) and (c·e^-δ, n·e^-δ, m + δ) are the same memory of an xLSTM cell: a loss computed
        from what the cell goes on to do does not change with δ, so that the gradient given to the
        stabiliser m is not free but c·d_c + n·d_n.
        """
        d_outputs = {name: self.draw(*output.shape) for name, output in outputs.items()}
        if "m" in outputs:
            m = outputs["m"]
            parts = [(outputs[name] * d_outputs[name]).detach() for name in "cn"]
            d_outputs["m"] = sum(part.reshape(*m.shape, -1).sum(-1) for part in parts)
        loss = 0
        for name, output in outputs.items():
            self.keep(name, output)
            self.keep(f"d_{name}", d_outputs[name])
            loss = loss + (output * d_outputs[name]).sum()
        leaves = self.leaves.items()
        gradients = torch.autograd.grad(loss, [leaf for _, leaf in leaves], allow_unused=True)
        for (name, leaf), gradient in zip(leaves, gradients):
            self.keep(f"d_{name}", torch.zeros_like(leaf) if gradient is None else gradient)


def rnn():
    """`nn.RNN`, tanh."""
    tensors = {}
    case = Case(tensors, "rnn", 1)
    time, batch, inputs, hidden = 10, 3, 6, 18
    module = torch.nn.RNN(inputs, hidden).double()
    case.parameters(module)
    x, h0 = case.leaf("x", time, batch, inputs), case.leaf("h0", 1, batch, hidden)
    y, h = module(x, h0)
    case.finish(y=y, h=h)
    return tensors


def lstm():
    """`nn.LSTM`: stacked, in both directions, and over padded examples in both directions."""
    tensors = {}
    case = Case(tensors, "stacked", 2)
    time, batch, inputs, hidden = 11, 3, 5, 18
    module = torch.nn.LSTM(inputs, hidden, num_layers=2).double()
    case.parameters(module)
    x = case.leaf("x", time, batch, inputs)
    h0, c0 = case.leaf("h0", 2, batch, hidden), case.leaf("c0", 2, batch, hidden)
    y, (h, c) = module(x, (h0, c0))
    case.finish(y=y, h=h, c=c)

    case = Case(tensors, "bidirectional", 3)
    time, batch, inputs, hidden = 8, 2, 6, 9
    module = torch.nn.LSTM(inputs, hidden, num_layers=2, bidirectional=True).double()
    case.parameters(module)
    x = case.leaf("x", time, batch, inputs)
    h0, c0 = case.leaf("h0", 4, batch, hidden), case.leaf("c0", 4, batch, hidden)
    y, (h, c) = module(x, (h0, c0))
    case.finish(y=y, h=h, c=c)

    case = Case(tensors, "padded", 4)
    time, batch, inputs, hidden = 9, 3, 4, 7
    module = torch.nn.LSTM(inputs, hidden, bidirectional=True).double()
    case.parameters(module)
    lengths = torch.tensor([5, 9, 1])
    case.keep("lengths", lengths)
    x = case.leaf("x", time, batch, inputs)
    h0, c0 = case.leaf("h0", 2, batch, hidden), case.leaf("c0", 2, batch, hidden)
    packed, (h, c) = module(pack_padded_sequence(x, lengths, enforce_sorted=False), (h0, c0))
    y, _ = pad_packed_sequence(packed, total_length=time)
    case.finish(y=y, h=h, c=c)
    return tensors


def slstm():
    """The `xlstm` package's sLSTM: two heads, from the empty state and from a given one.

    The package takes W·x as it is; here a linear layer without bias stands before it. Rows of
    W and of the bias are gate · N + unit, gates i, f, z, o; R is [H, 4, K (to), K (from)].
    """
    tensors = {}
    for seed, name in [(5, "empty"), (6, "carried")]:
        case = Case(tensors, name, seed)
        time, batch, inputs, heads, width = 10, 3, 6, 2, 9
        hidden = heads * width
        w = case.leaf("weight_input", 4 * hidden, inputs, scale=0.5)
        r = case.leaf("weight_recurrent", heads, 4, width, width, scale=0.4)
        b = case.leaf("bias", 4 * hidden, scale=0.7)
        x = case.leaf("x", time, batch, inputs)
        if name == "empty":
            states = torch.zeros(4, batch, hidden, dtype=torch.float64)
        else:
            n0 = case.draw(batch, hidden).abs() + 0.3
            parts = [
                case.leaf("h0", batch, hidden, scale=0.5),
                case.leaf("c0", batch, hidden),
                case.given("n0", n0.float().double()),
                case.leaf("m0", batch, hidden),
            ]
            states = torch.stack(parts)
        every, last, _ = slstm_forward(
            F.linear(x, w), states, r.reshape(heads, 4 * width, width), b,
            slstm_pointwise_function_registry["slstm"],
        )
        h, c, n, m = last
        case.finish(y=every[0, 1:], h=h, c=c, n=n, m=m)
    return tensors


def mlstm():
    """The `xlstm` package's mLSTM: the parallel form from the empty state, the recurrent form
    from a given one. Stored: q, k, v [T, B, H, K], gates [T, B, H], C [B, H, K (key), K (value)].
    """
    tensors = {}
    time, batch, heads, width = 12, 2, 2, 8

    def inputs(case):
        q, k, v = (case.leaf(name, time, batch, heads, width) for name in "qkv")
        i = case.leaf("i", time, batch, heads, scale=1.5)
        f = case.leaf("f", time, batch, heads, scale=1.5, shift=1.0)
        return q, k, v, i, f

    case = Case(tensors, "parallel", 7)
    q, k, v, i, f = inputs(case)
    heads_first = [a.permute(1, 2, 0, 3) for a in (q, k, v)]
    gates = [a.permute(1, 2, 0).unsqueeze(-1) for a in (i, f)]
    y = parallel_stabilized_simple(*heads_first, *gates)
    case.finish(y=y.permute(2, 0, 1, 3))

    case = Case(tensors, "recurrent", 8)
    q, k, v, i, f = inputs(case)
    c = c0 = case.leaf("c0", batch, heads, width, width)
    n = n0 = case.leaf("n0", batch, heads, width)
    m = m0 = case.leaf("m0", batch, heads)
    c, n, m = c0, n0.unsqueeze(-1), m0[..., None, None]
    y = []
    for t in range(time):
        row = [a[t].unsqueeze(2).clone() for a in (q, k, v)]
        gates = [a[t][..., None, None] for a in (i, f)]
        h, (c, n, m) = recurrent_step_stabilized_simple(c, n, m, *row, *gates)
        y.append(h.squeeze(2))
    case.finish(y=torch.stack(y), c=c, n=n.squeeze(-1), m=m.squeeze(-1).squeeze(-1))
    return tensors


def rotary(time, width, base=10_000.0):
    """Cosines and sines [1, T, K] as Hugging Face's Llama takes them, in float64."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(time, dtype=torch.float64)[:, None] * frequency
    angles = torch.cat([angles, angles], dim=-1)[None]
    return angles.cos(), angles.sin()


def attention():
    """`scaled_dot_product_attention` with grouped heads; rotary positions by Llama's function."""
    tensors = {}
    heads, groups, width, batch = 4, 2, 6, 2

    def split(case, time):
        """The fused rows [T, B, (H + 2G) K] and from them q, k, v [B, heads, T, K]."""
        qkv = case.leaf("qkv", time, batch, (heads + 2 * groups) * width)
        parts = qkv.view(time, batch, -1, width).permute(1, 2, 0, 3)
        return parts.split([heads, groups, groups], dim=1)

    def rows(y):
        return y.permute(2, 0, 1, 3).flatten(2)

    def attend(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    for seed, name, start in [(9, "window", None), (10, "documents", (4, 9))]:
        case = Case(tensors, name, seed)
        time, window = 12, 5
        q, k, v = split(case, time)
        q, k = apply_rotary_pos_emb(q, k, *rotary(time, width))
        at = torch.arange(time)
        back = at[:, None] - at[None]
        mask = ((back >= 0) & (back < window)).expand(batch, 1, time, time).clone()
        if start is not None:
            # Another document begins at another place in each stream.
            for b in range(batch):
                document = (at >= start[b]).long()
                mask[b, 0] &= document[:, None] == document[None]
            case.keep("starts", torch.tensor(start))
        case.keep("keys", k.permute(2, 0, 1, 3))
        case.keep("values", v.permute(2, 0, 1, 3))
        case.finish(y=rows(attend(q, k, v, mask)))

    # From a carried ring: the last five turned keys and values of a stream at position 7.
    case = Case(tensors, "carried", 11)
    time, window, before = 8, 5, 7
    q, k, v = split(case, time)
    cos, sin = (a[:, before:] for a in rotary(before + time, width))
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    old_keys = case.leaf("old_keys", window, batch, groups, width)
    old_values = case.leaf("old_values", window, batch, groups, width)
    k = torch.cat([old_keys.permute(1, 2, 0, 3), k], dim=2)
    v = torch.cat([old_values.permute(1, 2, 0, 3), v], dim=2)
    back = torch.arange(window, window + time)[:, None] - torch.arange(window + time)[None]
    case.keep("keys", k.permute(2, 0, 1, 3))
    case.keep("values", v.permute(2, 0, 1, 3))
    case.finish(y=rows(attend(q, k, v, (back >= 0) & (back < window))))

    case = Case(tensors, "full", 12)
    time, lengths = 9, torch.tensor([9, 4])
    case.keep("lengths", lengths)
    q, k, v = split(case, time)
    q, k = apply_rotary_pos_emb(q, k, *rotary(time, width))
    real = torch.arange(time)[None] < lengths[:, None]
    y = attend(q, k, v, real[:, None, None, :]) * real[:, None, :, None]
    case.finish(y=rows(y))

    case = Case(tensors, "cross", 13)
    time, source, lengths = 7, 10, torch.tensor([10, 6])
    case.keep("lengths", lengths)
    q = case.leaf("q", time, batch, heads * width)
    kv = case.leaf("kv", source, batch, 2 * groups * width)
    k, v = kv.view(source, batch, -1, width).permute(1, 2, 0, 3).split(groups, dim=1)
    real = torch.arange(source)[None] < lengths[:, None]
    y = attend(q.view(time, batch, heads, width).permute(1, 2, 0, 3), k, v, real[:, None, None, :])
    case.finish(y=rows(y))
    return tensors


def norm():
    """RMS and layer norm, and the package's norm per head (which stores its weight less 1)."""
    tensors = {}
    rows, width, heads = 7, 22, 2

    def inputs(name, seed):
        case = Case(tensors, name, seed)
        return case, case.leaf("x", rows, width, scale=2.0, shift=1.0)

    case, x = inputs("root_mean_square", 14)
    case.finish(y=F.rms_norm(x, (width,), case.leaf("weight", width), 1e-6))
    case, x = inputs("layer", 15)
    weight, bias = case.leaf("weight", width), case.leaf("bias", width)
    case.finish(y=F.layer_norm(x, (width,), weight, bias, 1e-5))
    case, x = inputs("multi_head", 16)
    module = MultiHeadLayerNorm(width, weight=True, bias=False, eps=1e-5).double()
    weight = case.leaf("weight", width)
    heads_first = x.view(1, rows, heads, -1).transpose(1, 2)
    y = torch.func.functional_call(module, {"weight": weight - 1}, (heads_first,))
    case.finish(y=y.transpose(1, 2).reshape(rows, width))
    return tensors


def loss():
    """`F.cross_entropy` over a linear layer: label smoothing, and rows that count for nothing."""
    tensors = {}
    case = Case(tensors, "smoothed", 17)
    rows, width, vocabulary = 21, 7, 30
    x = case.leaf("x", rows, width)
    weight, bias = case.leaf("weight", vocabulary, width), case.leaf("bias", vocabulary)
    targets = torch.randint(vocabulary, (rows,), generator=case.random)
    targets[::5] = -100
    case.keep("targets", targets)
    logits = F.linear(x, weight, bias)
    losses = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    case.keep("losses", losses)
    mean = F.cross_entropy(logits, targets, label_smoothing=0.1)
    case.keep("mean", mean.reshape(1))
    leaves = case.leaves
    for name, gradient in zip(leaves, torch.autograd.grad(mean, list(leaves.values()))):
        case.keep(f"d_{name}", gradient)
    return tensors


def optimizer():
    """Six steps of `AdamW` and of `SGD` with momentum: the weights after each."""
    tensors = {}
    for seed, name, make in [
        (18, "adamw", lambda w: torch.optim.AdamW(
            w, lr=0.02, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.1)),
        (19, "momentum", lambda w: torch.optim.SGD(
            w, lr=0.05, momentum=0.9, weight_decay=0.01)),
        (20, "nesterov", lambda w: torch.optim.SGD(
            w, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)),
        (21, "plain", lambda w: torch.optim.SGD(w, lr=0.05)),
    ]:
        case = Case(tensors, name, seed)
        steps, count = 6, 37
        weights = torch.nn.Parameter(case.draw(count))
        case.keep("weights", weights)
        gradients = case.draw(steps, count)
        case.keep("gradients", gradients)
        optimiser = make([weights])
        after = []
        for gradient in gradients:
            weights.grad = gradient
            optimiser.step()
            after.append(weights.detach().clone())
        case.keep("after", torch.stack(after))
    return tensors


if __name__ == "__main__":
    for make in (rnn, lstm, slstm, mlstm, attention, norm, loss, optimizer):
        save_file(make(), HERE / f"{make.__name__}.safetensors")
