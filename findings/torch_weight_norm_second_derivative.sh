#!/bin/sh
# torch.nn.utils.parametrizations.weight_norm has a wrong second derivative on a CPU, and raises no error.
#
# Guess before the run: right, or an error; PyTorch's formula has a backward pass that autograd can differentiate.
# Seen: gradients are right (gradcheck), their derivatives are not (gradgradcheck). The gradient through one gradient
# step, as MAML takes it, differs from that of the same layer written as g * v / |v|, by 8 % of its length here.
# Ends with 1 as soon as PyTorch behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import torch
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

torch.manual_seed(0)
layer = weight_norm(torch.nn.Linear(4, 3, bias=False, dtype=torch.float64))
start = {name: p.detach().clone().requires_grad_() for name, p in layer.named_parameters()}
x, y = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)


def by_torch(p):
    return functional_call(layer, p, (x,))


def by_hand(p):
    g, v = p.values()
    return x @ (g * v / v.norm(dim=1, keepdim=True)).T


def gradients(of):
    """The gradient of the loss, and that of the loss after one gradient step."""
    first = torch.autograd.grad((of(start) - y).square().mean(), list(start.values()), create_graph=True)
    fast = {name: p - 0.5 * g for (name, p), g in zip(start.items(), first, strict=True)}
    after = torch.autograd.grad((of(fast) - y).square().mean(), list(start.values()))
    return [torch.cat([t.detach().flatten() for t in some]) for some in (first, after)]


(first, after), (first_by_hand, after_by_hand) = gradients(by_torch), gradients(by_hand)


def off(one, other):
    return float((one - other).norm() / other.norm())


print(torch.__version__, "outputs off by", off(by_torch(start).detach(), by_hand(start).detach()))
print("gradient off by", off(first, first_by_hand), "- through a step off by", off(after, after_by_hand))
assert torch.allclose(by_torch(start), by_hand(start))
assert off(first, first_by_hand) < 1e-12
assert off(after, after_by_hand) > 0.01
PYTHON
