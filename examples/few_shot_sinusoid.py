"""A supervised few-shot learner on the same loop: MAML on sinusoids (Finn et al. 2017, arXiv:1703.03400, section 5.1).

A task is an amplitude and a phase; a collect is a few examples of it. Takes the number of iterations as its argument.
"""

import math
import sys
from dataclasses import dataclass
from itertools import pairwise

import torch

import metarl
from metarl.agent import MetaAgent

AMPLITUDE = metarl.uniform("amplitude", 0.1, 5.0, meaning="amplitude")
PHASE = metarl.uniform("phase", 0.0, math.pi, meaning="phase, rad")


@dataclass(frozen=True)
class Shots:
    """Examples of each task: the experience of a collect, instead of episodes."""

    x: torch.Tensor  # [M, E, T, I]
    y: torch.Tensor  # [M, E, T, O]
    loss: float  # mean squared error of the learner, before it adapts to them

    @property
    def num_tasks(self):
        """`M`."""
        return len(self.x)

    @property
    def env_steps(self):
        """Number of examples."""
        return self.x[..., 0].numel()

    @classmethod
    def metrics(cls, collects):
        """Mean squared error of each collect: before adaptation, after one step, ..."""
        return {f"loss/{k}": shots.loss for k, shots in enumerate(collects)}


class Sinusoids:
    """A sampler that draws examples instead of playing episodes."""

    num_tasks, episodes, shots, reports_success = 25, 1, 10, False

    def set_tasks(self, tasks):
        """The tasks of the next collects."""
        values = torch.tensor([[*task["amplitude"], *task["phase"]] for task in tasks])
        self.amplitude, self.phase = values[:, :, None, None].unbind(dim=1)  # [M, 1, 1]

    def collect(self, actor, state, streams):
        """New examples, and the loss of the learner on them."""
        drawn = streams.envs.uniform(-5.0, 5.0, size=(self.num_tasks, self.episodes, self.shots, 1))
        x = torch.from_numpy(drawn).float()
        y = self.amplitude[..., None] * torch.sin(x - self.phase[..., None])
        with torch.no_grad():
            return Shots(x, y, actor.losses(state, x, y).mean().item()), state


class SinusoidMaml(MetaAgent[list[torch.Tensor]]):
    """MAML for regression; its state is the weights and biases of each task's MLP, each `[M, ...]`."""

    adaptation_steps, inner_lr, outer_lr, sizes = 1, 0.01, 0.002, (1, 40, 40, 1)

    def __init__(self, seed=0):
        noise = torch.Generator().manual_seed(seed)
        self._parameters = []
        for i, o in pairwise(self.sizes):
            self._parameters += [torch.randn(i, o, generator=noise) / math.sqrt(i), torch.zeros(1, o)]
        self._adam = torch.optim.Adam([p.requires_grad_() for p in self._parameters], lr=self.outer_lr)

    def begin(self, tasks, episodes):
        """Every task starts from the meta-learned parameters."""
        return [p.expand(len(tasks), *p.shape) for p in self._parameters]

    def losses(self, state, x, y):
        """Mean squared error of each task, `[M]`; `x` and `y` are `[M, E, T, 1]`."""
        hidden = x.flatten(1, 2)
        for weight, bias in zip(state[:-2:2], state[1:-2:2], strict=True):
            hidden = torch.relu(hidden @ weight + bias)
        return (hidden @ state[-2] + state[-1] - y.flatten(1, 2)).square().mean(dim=(1, 2))

    def adapt(self, state, shots):
        """One gradient step per task (equation 1)."""
        gradients = torch.autograd.grad(self.losses(state, shots.x, shots.y).sum(), state, create_graph=True)
        return [p - self.inner_lr * gradient for p, gradient in zip(state, gradients, strict=True)]

    def meta_update(self, batch):
        """A step of Adam on the loss after adaptation, differentiated through it (algorithm 2)."""
        support, query = batch.collects
        loss = self.losses(self.adapt(self.begin(batch.tasks, 1), support), query.x, query.y).mean()
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        return {"update/loss": loss.item()}

    def tensors(self):
        """The parameters."""
        return {f"parameters_{i}": p for i, p in enumerate(self._parameters)}


if __name__ == "__main__":
    tasks = metarl.ContinuousTasks("sinusoid", (AMPLITUDE, PHASE))
    agent, iterations = SinusoidMaml(), int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for report in metarl.meta_train(agent, Sinusoids(), tasks, metarl.Streams(0), iterations=iterations):
        if report.progress.iteration in (1, iterations) or report.progress.iteration % 200 == 0:
            before, after = report.metrics["loss/0"], report.metrics["loss/1"]
            print(f"iteration {report.progress.iteration:5d}: loss {before:.3f} -> {after:.3f} after one step")
