"""SLAC's updates written plainly, as published code does them: what learner.py is measured against.

One module per conditional, frames as NCHW floats, every window encoded anew for each loss, 4 x 4 layers as
convolutions, torch's default Adam, precision and allocator. It is a process of its own, as the allocator's
settings are those of a process: a line with a number of seconds comes in, a line of JSON goes out.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the repository, in place of this folder

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.work import timed


class Head(nn.Module):
    """Two hidden layers to a diagonal Gaussian."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 2 * outputs),
        )

    def forward(self, *x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation."""
        mean, raw = self.net(torch.cat(x, -1)).chunk(2, -1)
        return mean, F.softplus(raw) + 1e-5


class PlainSLAC(nn.Module):
    """The networks of SLAC and its two updates, on random frames."""

    def __init__(self, sizes: dict[str, int], device: str) -> None:
        super().__init__()
        self.sizes, self.device = sizes, torch.device(device)
        depth, feature, z1, z2 = (sizes[name] for name in ("base_depth", "feature", "z1", "z2"))
        hidden, action, window = sizes["hidden"], sizes["action"], sizes["window"]
        levels = (sizes["image"] // 4).bit_length() - 1
        depths = [3, *(depth * 2**level for level in range(levels))]
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = [nn.ConvTranspose2d(z1 + z2, depths[-1], 4), nn.LeakyReLU(0.2)]
        for level in range(levels):
            kernel = 5 if level == 0 else 3
            encoder += [
                nn.Conv2d(depths[level], depths[level + 1], kernel, 2, kernel // 2),
                nn.LeakyReLU(0.2),
            ]
        encoder += [nn.Conv2d(depths[-1], feature, 4), nn.LeakyReLU(0.2)]
        for level in reversed(range(levels)):
            kernel = 5 if level == 0 else 3
            deconvolution = nn.ConvTranspose2d(depths[level + 1], depths[level], kernel, 2, kernel // 2, 1)
            decoder += [deconvolution, nn.LeakyReLU(0.2)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        self.q_first, self.q_next = Head(feature, hidden, z1), Head(feature + z2 + action, hidden, z1)
        self.p_next = Head(z2 + action, hidden, z1)
        self.z2_first, self.z2_next = Head(z1, hidden, z2), Head(z1 + z2 + action, hidden, z2)
        self.reward = Head(2 * (z1 + z2) + action, hidden, 1)
        model = [*self.parameters()]
        inputs = window * feature + (window - 1) * action
        self.actor = mlp(inputs, hidden, 2 * action)
        self.critics = nn.ModuleList(mlp(z1 + z2 + action, hidden, 1) for _ in range(2))
        self.targets = nn.ModuleList(mlp(z1 + z2 + action, hidden, 1) for _ in range(2))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.to(self.device)
        self.model_adam = torch.optim.Adam(model, 1e-4)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), 3e-4)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), 3e-4)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], 3e-4)
        frames = 1_000, window + 1, sizes["image"], sizes["image"], 3
        self.frames = torch.randint(0, 256, frames, dtype=torch.uint8, device=self.device)

    def sample(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Windows (B, L + 1, 3, H, W) in [0, 1], actions (B, L, A), rewards (B, L)."""
        index = torch.randint(len(self.frames), (count,), device=self.device)
        x = self.frames[index].permute(0, 1, 4, 2, 3).contiguous().float() / 255.0
        length = self.sizes["window"]
        a = torch.rand(count, length, self.sizes["action"], device=self.device) * 2 - 1
        return x, a, torch.rand(count, length, device=self.device)

    def filter(self, f: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The posterior's samples of both layers, and the first one's means and deviations."""
        z1s, z2s, means, stds = [], [], [], []
        for t in range(f.shape[1]):
            inputs = (f[:, t],) if t == 0 else (f[:, t], z2s[-1], a[:, t - 1])
            mean, std = self.q_first(*inputs) if t == 0 else self.q_next(*inputs)
            z1 = mean + std * torch.randn_like(std)
            m2, s2 = self.z2_first(z1) if t == 0 else self.z2_next(z1, z2s[-1], a[:, t - 1])
            z1s.append(z1)
            z2s.append(m2 + s2 * torch.randn_like(s2))
            means.append(mean)
            stds.append(std)
        z1, z2, mean, std = (torch.stack(parts, 1) for parts in (z1s, z2s, means, stds))
        return z1, z2, mean, std

    def encode(self, x: Tensor) -> Tensor:
        """Features (B, T, F) of frames (B, T, 3, H, W)."""
        f: Tensor = self.encoder(x.flatten(0, 1)).flatten(1)
        return f.view(*x.shape[:2], -1)

    def update_model(self, count: int) -> None:
        """One step down the negative ELBO."""
        step(self.model_adam, self.model_loss(*self.sample(count)))

    def model_loss(self, x: Tensor, a: Tensor, r: Tensor) -> Tensor:
        """The negative ELBO, summed over a window, mean over windows."""
        z1, z2, q_mean, q_std = self.filter(self.encode(x), a)
        p_mean, p_std = self.p_next(z2[:, :-1], a)
        p_mean = torch.cat((torch.zeros_like(p_mean[:, :1]), p_mean), 1)
        p_std = torch.cat((torch.ones_like(p_std[:, :1]), p_std), 1)
        ratio = (q_std / p_std) ** 2
        kl = 0.5 * (ratio + ((q_mean - p_mean) / p_std) ** 2 - 1 - ratio.log()).sum((1, 2)).mean()
        z = torch.cat((z1, z2), -1)
        mean = self.decoder(z.flatten(0, 1)[..., None, None]).view_as(x)
        std = torch.full_like(mean, math.sqrt(0.1))
        noise = (x - mean) / (std + 1e-8)
        image = -(-0.5 * noise.pow(2) - std.log() - 0.5 * math.log(2 * math.pi)).sum((1, 2, 3, 4)).mean()
        r_mean, r_std = self.reward(z[:, :-1], a, z[:, 1:])
        error = (r - r_mean[..., 0]) / (r_std[..., 0] + 1e-8)
        reward = (0.5 * error.pow(2) + r_std[..., 0].log() + 0.5 * math.log(2 * math.pi)).sum(1).mean()
        return kl + image + reward

    def update_actor_critic(self, count: int) -> None:
        """One step of critics, actor, temperature and targets."""
        x, a, r = self.sample(count)
        with torch.no_grad():
            f = self.encode(x)
            z1, z2, _, _ = self.filter(f, a)
            z = torch.cat((z1, z2), -1)
            action, log_pi = self.act(f[:, 1:], a[:, 1:])
            value = torch.min(*self.q(self.targets, z[:, -1], action)) - self.log_alpha.exp() * log_pi
            target = r[:, -1:] + 0.99 * value
        q1, q2 = self.q(self.critics, z[:, -2], a[:, -1])
        step(self.critic_adam, (q1 - target).pow(2).mean() + (q2 - target).pow(2).mean())
        action, log_pi = self.act(f[:, :-1], a[:, :-1])
        q = torch.min(*self.q(self.critics, z[:, -2], action))
        step(self.actor_adam, -(q - self.log_alpha.exp().detach() * log_pi).mean())
        entropy = -log_pi.detach().mean()
        step(self.alpha_adam, self.log_alpha * (entropy + self.sizes["action"]))
        with torch.no_grad():
            for slow, fast in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                slow.data.mul_(1.0 - 5e-3)
                slow.data.add_(fast.data, alpha=5e-3)

    def act(self, f: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """A sample of the policy and its log-probability (B, 1)."""
        mean, log_std = self.actor(torch.cat((f.flatten(1), a.flatten(1)), -1)).chunk(2, -1)
        std = log_std.clamp(-20.0, 2.0).exp()
        noise = torch.randn_like(std)
        action = (mean + std * noise).tanh()
        log_pi = -0.5 * noise.pow(2) - std.log() - 0.5 * math.log(2 * math.pi)
        return action, (log_pi - (1 - action.pow(2) + 1e-6).log()).sum(-1, keepdim=True)

    def q(self, critics: nn.ModuleList, z: Tensor, a: Tensor) -> list[Tensor]:
        """The value that each critic gives, (B, 1)."""
        return [critic(torch.cat((z, a), -1)) for critic in critics]


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of ReLUs."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    """Serve rounds of model updates, actor-critic updates, or encodes without gradient."""
    sizes, threads, device = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    slac = PlainSLAC(sizes, device)

    def encode() -> None:
        x, a, _ = slac.sample(sizes["windows"])
        with torch.no_grad():
            slac.filter(slac.encode(x), a)

    def update() -> None:
        slac.update_model(sizes["model_windows"])
        slac.update_actor_critic(sizes["windows"])

    works: dict[str, Any] = {"update": update, "encode": encode}
    for work in works.values():
        work()
    for line in sys.stdin:
        kind, seconds = line.split()
        print(json.dumps(timed(works[kind], float(seconds), slac.device)), flush=True)


if __name__ == "__main__":
    main()
