"""The actor on the history of features or on latents, the twin critics on what they are to see; all see m.

Their losses are in learning/; the history that the actor sees is built here, for acting and training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.config.sections import ActorCriticConfig
from metaslac.networks.blocks import Gaussian, Standardise, mlp

LOG_STD_RANGE = (-20.0, 2.0)
CLOSEST = 1e-3  # to the border of [-1, 1], of actions whose density is asked for


class Actor(nn.Module):
    """pi(a_t | f_{t-L+1..t}, a_{t-L+1..t-1}, m), a tanh-squashed Gaussian on [-1, 1]^A.

    With `actor_input` latent it is pi(a_t | z_t, m), as of Dreamer and LOMPO, z_t filtered over that history.
    One that is `deterministic` is the tanh of the mean, as of LOMPO: its spread has no meaning.
    """

    def __init__(
        self,
        window: int,
        feature_size: int,
        action_size: int,
        task_size: int,
        config: ActorCriticConfig,
        latent_size: int = 0,
    ) -> None:
        super().__init__()
        self.action_size, self.task_scale = action_size, config.task_scale
        self.of_latent = config.actor_input == "latent"
        self.deterministic, self.action_noise = config.deterministic, config.action_noise
        standardises = config.standardise and not self.of_latent
        self.standardise = Standardise(feature_size) if standardises else None
        seen = latent_size if self.of_latent else history_size(window, feature_size, action_size)
        sizes = seen + task_size, *hidden_layers(config), 2 * action_size
        self.network = mlp(sizes, nn.ReLU, config.actor_layer_norm)

    def forward(self, f: Tensor, a: Tensor, m: Tensor, z: Tensor | None = None) -> Gaussian:
        """The Gaussian before the tanh, (B, A).

        f (B, L, F) and a (B, L-1, A) in order of time, m (B, M), z (B, Z) if it is seen.
        """
        if self.of_latent:
            assert z is not None
            return self.on_latents(z, m)
        standard = f if self.standardise is None else self.standardise(f)
        return self._policy(standard.flatten(1), a.flatten(1), self.task_scale * m)

    def on_latents(self, z: Tensor, m: Tensor) -> Gaussian:
        """The same of an actor that sees latents: z (B, Z), m (B, M)."""
        assert self.of_latent
        return self._policy(z, self.task_scale * m)

    def _policy(self, *seen: Tensor) -> Gaussian:
        mean, log_std = self.network(torch.cat(seen, -1)).chunk(2, -1)
        return Gaussian(mean, log_std.clamp(*LOG_STD_RANGE).exp())

    def decide(self, policy: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, A) to be judged and their log-probability (B,), from standard normal noise (B, A).

        Of a deterministic actor that is 0, as no entropy counts there, and the noise does nothing.
        """
        if self.deterministic:
            return policy.mean.tanh(), policy.mean.new_zeros(len(policy.mean))
        return squash(policy, noise)

    def play(self, policy: Gaussian, noise: Tensor) -> Tensor:
        """Actions (B, A) to be played, in an environment or a roll-out, from standard normal noise (B, A)."""
        a, _ = self.decide(policy, noise)
        return (a + self.action_noise * noise).clamp(-1, 1) if self.deterministic else a


def squash(distribution: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A tanh-squashed sample (B, A) and its log-probability (B,), from standard normal noise (B, A).

    log(1 - tanh(u)^2) in the form 2 (log 2 - u - softplus(-2u)), which does not saturate.
    """
    u = distribution.sample(noise)
    log_derivative = _log_derivative(u)
    return u.tanh(), -(distribution.negative_log_likelihood(u) + log_derivative).sum(-1)


def log_density(distribution: Gaussian, a: Tensor) -> Tensor:
    """log pi (B,) of given actions (B, A) in [-1, 1], as of `squash`.

    An action nearer to the border than CLOSEST counts as that near. Its u = atanh(a) would be infinite on the
    border itself, where clipped actions are, and outweigh all others.
    """
    u = a.clamp(CLOSEST - 1, 1 - CLOSEST).atanh()
    return -(distribution.negative_log_likelihood(u) + _log_derivative(u)).sum(-1)


def _log_derivative(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), element by element."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


class Sight(nn.Module):
    """What critics see of a moment of an episode, as one row of numbers; `critic_input` says what that is.

    The simulator's state is only ever looked at here.
    """

    def __init__(
        self,
        config: ActorCriticConfig,
        window: int,
        feature_size: int,
        action_size: int,
        latent_size: int,
        state_size: int,
    ) -> None:
        super().__init__()
        self.of_latent, self.of_features, self.of_state = sights(config.critic_input)
        features = feature_size if self.of_features and config.standardise else 0
        states = state_size if self.of_state and config.standardise else 0
        self.standardise = Standardise(features) if features else None
        self.standardise_state = Standardise(states) if states else None
        self.size = self.of_latent * latent_size + self.of_state * state_size
        self.size += self.of_features * history_size(window, feature_size, action_size)

    def forward(self, z: Tensor | None, f: Tensor, a: Tensor, state: Tensor | None) -> Tensor:
        """(B, size); z (B, Z) if it is seen, f (B, L, F), a (B, L-1, A), state (B, S) if it is seen."""
        seen = []
        if self.of_latent:
            assert z is not None
            seen.append(z)
        if self.of_features:
            standard = f if self.standardise is None else self.standardise(f)
            seen += [standard.flatten(1), a.flatten(1)]
        if self.of_state:
            assert state is not None
            seen.append(state if self.standardise_state is None else self.standardise_state(state))
        return torch.cat(seen, -1)


class TwinCritic(nn.Module):
    """Q1 and Q2 of what they see, a_t and m.

    With layer normalisation (Ball et al. 2023), values cannot grow without bound outside the data.
    Without it, which is SLAC's and PEARL's way, they can fall everywhere at once, and the actor flees to
    where they have not fallen yet.
    """

    def __init__(self, seen_size: int, action_size: int, task_size: int, config: ActorCriticConfig) -> None:
        super().__init__()
        self.action_scale, self.task_scale = config.action_scale, config.task_scale
        sizes = seen_size + action_size + task_size, *hidden_layers(config), 1
        self.q1 = mlp(sizes, nn.ReLU, config.layer_norm)
        self.q2 = mlp(sizes, nn.ReLU, config.layer_norm)

    def forward(self, seen: Tensor, a: Tensor, m: Tensor) -> Tensor:
        """Both values, (2, B); seen (B, size of a Sight), a (B, A), m (B, M)."""
        x = torch.cat((seen, self.action_scale * a, self.task_scale * m), -1)
        return torch.stack((self.q1(x).squeeze(-1), self.q2(x).squeeze(-1)))


def sights(critic_input: str) -> tuple[bool, bool, bool]:
    """Whether critics see latents, features, and the simulator's state, by the setting's value."""
    return "latent" in critic_input, "features" in critic_input, critic_input == "state"


def hidden_layers(config: ActorCriticConfig) -> list[int]:
    """Widths of the hidden layers of actor and critics."""
    return [config.hidden_size] * config.hidden_layers


def history_size(window: int, feature_size: int, action_size: int) -> int:
    """Numbers in L features and the actions between them."""
    return window * feature_size + (window - 1) * action_size


class History:
    """The last L features and L-1 actions of every slot, padded as in training windows.

    Before an episode's first frame stand that frame's feature and zero actions.
    """

    def __init__(self, window: int, action_size: int) -> None:
        self.window = window
        self.action_size = action_size

    def begin(self, f: Tensor) -> None:
        """Start an episode on every slot with the features (N, F) of its first frames."""
        self.steps = 0
        self.f = f[:, None].repeat(1, self.window, 1)
        self.a = f.new_zeros(f.shape[0], self.window - 1, self.action_size)

    def append(self, a: Tensor, f_next: Tensor) -> None:
        """Move on by one step: the action taken (N, A) and the feature it led to (N, F)."""
        self.steps += 1
        self.a = torch.cat((self.a, a[:, None]), 1)[:, 1:]
        self.f = torch.cat((self.f[:, 1:], f_next[:, None]), 1)

    @property
    def restart(self) -> Tensor:
        """Where a latent model starts afresh, (N, L) bool, as in training windows.

        At the history's beginning, and at the episode's first frame and its copies before it.
        """
        place = torch.arange(self.window, device=self.f.device)
        starts = (place == 0) | (place <= self.window - 1 - self.steps)
        return starts.expand(len(self.f), -1)
