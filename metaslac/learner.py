"""The learner: from a batch of windows and contexts to one update of every network.

Losses, optimisers, targets and temperature. No I/O, no environment, no loop over time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from metaslac.actor_critic import squash
from metaslac.config import Config
from metaslac.context_encoder import TaskBelief
from metaslac.generators import restore_generator
from metaslac.latent_model import Metrics, Posterior
from metaslac.meta_slac import MetaSLAC
from metaslac.optimizers import adam, load_optimizer_state, optimizer_state, set_steps
from metaslac.precision import Precision
from metaslac.replay import Context, Windows


class Batch(NamedTuple):
    """What one update sees: a meta-batch of K tasks."""

    windows: Windows
    context: Context
    params: Tensor  # (K, P) true task parameters; only the oracle looks at them


class Transitions(NamedTuple):
    """Context transitions as the context encoder takes them, C of each task."""

    f: Tensor  # (K, C, F)
    a: Tensor  # (K, C, A)
    r: Tensor  # (K, C)
    f_next: Tensor  # (K, C, F)
    valid: Tensor  # (K, C)
    distinct: Tensor  # (K,) how many different ones there were to draw from


class Decisions(NamedTuple):
    """The last decision of each of B windows, or (K, W), as critics and actor see it, latents as inferred."""

    f: Tensor  # (B, L + 1, F) features up to the decision, and of the frame after it
    a: Tensor  # (B, L, A) actions of the window, the decision last
    z: Tensor  # (B, Z)
    z_next: Tensor  # (B, Z)
    r: Tensor  # (B,)
    terminated: Tensor  # (B,)


class NonFinite(ArithmeticError):
    """A loss or a gradient is not finite."""

    def __init__(self, whose: str) -> None:
        super().__init__(f"{whose} loss or its gradient is not finite")


class Learner:
    """Owns the networks and their optimisers; `update` is one step of meta-training."""

    def __init__(
        self,
        config: Config,
        action_size: int,
        num_params: int,
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self.action_size = action_size
        self.task_size = config.task.size
        self.generator = generator
        self.precision = Precision.of(config.runtime.precision, device)
        self.networks = MetaSLAC(config, action_size, num_params).to(device)
        train, networks = config.train, self.networks
        self.optimizers = {
            "model": adam(networks.model_parameters(), train.lr_model),
            "context": adam(networks.task_parameters(config.task.inference), train.lr_context),
            "critic": adam(networks.critic.parameters(), train.lr_critic),
            "actor": adam(networks.actor.parameters(), train.lr_actor),
            "alpha": adam([networks.log_alpha], train.lr_alpha),
        }
        learns_m = config.task.inference != "blind"
        self._model_trains_context = learns_m and config.task.gradient != "critic"
        self._critic_trains_context = learns_m and config.task.gradient != "model"
        self._critics: list[Tensor] = list(networks.critic.parameters())
        self._targets: list[Tensor] = list(networks.target_critic.parameters())
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    def pretrain(self, batch: Batch) -> Metrics:
        """One update of the latent model alone (and of the context encoder, where the model trains it)."""
        set_steps(self.optimizers, {"model": self.config.train.pretrain_lr})
        f = self._encode(batch.windows.frames)
        metrics = self._update_model(f, batch.windows, self._transitions(batch.context), batch.params)
        set_steps(self.optimizers, {"model": self.config.train.lr_model})
        return metrics

    def anneal(self, progress: float) -> None:
        """Set every Adam step for `progress` in [0, 1] of the updates: full, then falling by `lr_decay`."""
        train = self.config.train
        scale = min(1.0, (1 - progress) / train.lr_decay) if train.lr_decay else 1.0
        steps = {name: scale * getattr(train, f"lr_{name}") for name in self.optimizers}
        set_steps(self.optimizers, steps)

    def update(self, batch: Batch) -> Metrics:
        """One update: the model once, then several actor-critic and context steps on the same features.

        After those, `train.extra_steps` of critics and actor alone, on the latents inferred in them.
        """
        count, steps = self.config.train.model_windows, self.config.train.steps_per_batch
        windows = batch.windows
        f_model = self._encode(windows.frames[:, :count])
        f_rest = self._encode_fixed(windows.frames[:, count:])
        f = torch.cat((f_model.detach(), f_rest), 1)  # (K, W, L + 1, F)
        transitions = self._transitions(batch.context)
        model_windows = Windows(*(part[:, :count] for part in windows))
        metrics = self._update_model(f_model, model_windows, transitions, batch.params)
        beliefs, seen = [], []
        for part_index in range(steps):
            part = Windows(*(tensor[:, part_index::steps] for tensor in windows))
            belief, decisions, values = self._update_actor_critic(
                f[:, part_index::steps], part, transitions, batch.params
            )
            beliefs.append(belief)
            seen.append(decisions)
            metrics |= values
        if self.config.train.extra_steps:
            everything = Decisions(*(torch.cat(parts, 1) for parts in zip(*seen, strict=True)))
            for step in range(self.config.train.extra_steps):
                metrics |= self._repeat_actor_critic(everything, beliefs[step % steps], batch.params)
        return metrics

    def state(self) -> dict[str, Tensor]:
        """All that goes on from one update to the next but the networks."""
        return {"generator": self.generator.get_state(), **optimizer_state(self.optimizers)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`. Raises as load_optimizer_state and restore_generator do."""
        optimizers = {key: tensor for key, tensor in tensors.items() if key != "generator"}
        load_optimizer_state(self.optimizers, optimizers)
        restore_generator(self.generator, tensors["generator"])

    def check(self) -> None:
        """Raise NonFinite if any loss or gradient so far was; on a CPU, updates have raised it themselves."""
        if not self._finite:
            raise NonFinite("a")

    def _descend(self, name: str, loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        """One step of each optimiser down the same loss, if that and its gradients are finite."""
        parameters = [p for optimizer in optimizers for p in optimizer.param_groups[0]["params"]]
        for parameter in parameters:
            parameter.grad = None
        loss.backward(inputs=parameters)  # and no one else's: the actor's loss goes through the critics
        norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
        finite = torch.stack([loss.detach(), *norms]).isfinite().all()
        if finite.device.type == "cpu":
            if not finite:
                raise NonFinite(f"the {name}")
        else:  # to be asked for now and then: waiting for the device each time costs more
            self._finite &= finite
        for optimizer in optimizers:
            optimizer.step()

    def _transitions(self, context: Context) -> Transitions | None:
        """What the context encoder takes, features without gradient. None where m is not inferred."""
        if self.config.task.inference != "infer":
            return None
        f = self._encode_fixed(context.frames)  # (K, S, N + 1, F)
        parts = f[:, :, :-1], context.a, context.r, f[:, :, 1:], context.valid
        f, a, r, f_next, valid = (part.flatten(1, 2) for part in parts)
        return Transitions(f, a, r, f_next, valid, context.distinct)

    def _belief(self, transitions: Transitions | None) -> TaskBelief | None:
        """q(m | c) of every task, from a random number of its context transitions.

        Never from more than there are different ones: every factor counts as independent evidence, also
        that of a transition drawn again.
        """
        if transitions is None:
            return None
        config, valid = self.config.task, transitions.valid
        tasks, device = len(valid), valid.device
        most = torch.randint(
            config.context_min, config.context_max + 1, (tasks, 1), device=device, generator=self.generator
        ).minimum(transitions.distinct[:, None])
        scores = torch.rand(valid.shape, device=device, generator=self.generator).masked_fill(~valid, 2.0)
        chosen = (scores.argsort(1).argsort(1) < most) & valid
        factors = self.networks.context_encoder(*transitions[:4])
        return TaskBelief.prior(tasks, self.task_size, config.prior_factor, device).update(factors, chosen)

    def _task_variable(self, belief: TaskBelief | None, params: Tensor) -> Tensor:
        """m (K, M): a sample of the belief, what the oracle makes of the true parameters, or zeros."""
        if belief is not None:
            return belief.sample(self._noise(*belief.shift.shape))
        if self.config.task.inference == "oracle":
            m: Tensor = self.networks.task_params(params)
            return m
        return params.new_zeros(len(params), self.task_size)

    def _update_model(
        self, f: Tensor, windows: Windows, transitions: Transitions | None, params: Tensor
    ) -> Metrics:
        """One step down the negative ELBO. m learns from what it predicts; the filter takes it as given."""
        belief = self._belief(transitions)
        m = expand_tasks(self._task_variable(belief, params), f.shape[1])
        frames, a, r, restart, valid, _ = (part.flatten(0, 1) for part in windows)
        posterior = self._infer(f.flatten(0, 1), a, m.detach(), restart)
        seen = m if self._model_trains_context else m.detach()
        loss, parts = self.networks.latent_model.loss(
            frames, a, r, seen, posterior, restart, valid, self.precision.cast_trained()
        )
        if self.networks.inverse_model is not None:
            inverse = self.networks.inverse_model.loss(f.flatten(0, 1), a, valid)
            loss = loss + self.config.model.inverse_weight * inverse
            parts["inverse"] = inverse.detach()
        metrics = {f"model/{name}": value for name, value in parts.items()} | {"model/loss": loss.detach()}
        used = [self.optimizers["model"]]
        if self._model_trains_context:
            used.append(self.optimizers["context"])
            if belief is not None:
                loss = loss + self.config.task.kl_weight * belief.kl_to_prior().mean()
        self._descend("model", loss, *used)
        return metrics

    def _update_actor_critic(
        self, f: Tensor, windows: Windows, transitions: Transitions | None, params: Tensor
    ) -> tuple[TaskBelief | None, Decisions, Metrics]:
        """One step of critics, context encoder, actor, temperature and targets on windows of features.

        Returns the belief and the decisions (K, W) it was made with, for steps that reuse them.
        """
        tasks, count = f.shape[:2]
        belief = self._belief(transitions)
        m = expand_tasks(self._task_variable(belief, params), count)
        f = f.flatten(0, 1)
        _, a, r, restart, _, terminated = (part.flatten(0, 1) for part in windows)
        with torch.no_grad():
            posterior = self._infer(f, a, m, restart)
        z = posterior.z
        decisions = Decisions(f, a, z[:, -2], z[:, -1], r[:, -1], terminated)
        metrics = self._update_critic(decisions, windows, m, posterior, belief)
        metrics |= self._update_actor(decisions, m.detach())
        fixed = None if belief is None else TaskBelief(*(part.detach() for part in belief))
        return fixed, Decisions(*(part.unflatten(0, (tasks, count)) for part in decisions)), metrics

    def _repeat_actor_critic(
        self, decisions: Decisions, belief: TaskBelief | None, params: Tensor
    ) -> Metrics:
        """One more step of critics, actor, temperature and targets, on as many decisions as the others.

        They are drawn from decisions (K, W); m is sampled anew. Nothing else learns from it.
        """
        tasks, available = decisions.r.shape
        count = available // self.config.train.steps_per_batch
        device = decisions.r.device
        order = torch.rand(tasks, available, device=device, generator=self.generator).argsort(1)[:, :count]
        row = torch.arange(tasks, device=device)[:, None]
        chosen = Decisions(*(part[row, order].flatten(0, 1) for part in decisions))
        with torch.no_grad():
            m = expand_tasks(self._task_variable(belief, params), count)
        loss, metrics = self._critic_loss(chosen, m)
        self._descend("critic", loss, self.optimizers["critic"])
        return metrics | self._update_actor(chosen, m)

    def _critic_loss(self, decisions: Decisions, m: Tensor) -> tuple[Tensor, Metrics]:
        """Soft Bellman error of the decisions; it has a gradient with respect to m (B, M), if that has."""
        config, networks, fixed_m = self.config.actor_critic, self.networks, m.detach()
        f, a, z, z_next, r, terminated = decisions
        with torch.no_grad():
            a_next, log_pi = self._act(f[:, 1:], a[:, 1:], fixed_m)
            value = networks.target_critic(z_next, a_next, fixed_m).amin(0)
            value = value - networks.log_alpha.exp() * log_pi
            target = config.reward_scale * r + config.gamma * ~terminated * value
        q = networks.critic(z, a[:, -1], m)
        loss: Tensor = 0.5 * (q - target).square().mean(1).sum()
        return loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}

    def _update_critic(
        self,
        decisions: Decisions,
        windows: Windows,
        m: Tensor,
        posterior: Posterior,
        belief: TaskBelief | None,
    ) -> Metrics:
        """Soft Bellman error of each window's last decision, and what the window's latents predict.

        Both train q(m | c), as `task.gradient` says; the prediction also trains the model's own heads
        of rewards and next latents, whatever m is.
        """
        config, networks, fixed_m = self.config, self.networks, m.detach()
        _, a, r, restart, valid, _ = (part.flatten(0, 1) for part in windows)
        loss, metrics = self._critic_loss(decisions, m if self._critic_trains_context else fixed_m)
        used = [self.optimizers["critic"], self.optimizers["model"]]
        if self._critic_trains_context or self._model_trains_context:
            used.append(self.optimizers["context"])
        if belief is not None:
            kl = belief.kl_to_prior().mean()
            loss = loss + config.task.kl_weight * kl
            metrics |= {"task/kl": kl.detach(), "task/std": belief.gaussian.std.detach().mean()}
        seen = m if self._model_trains_context else fixed_m
        prediction, _ = networks.latent_model.prediction_loss(a, r, seen, posterior, restart, valid)
        self._descend("critic", loss + prediction, *used)
        return metrics

    def _update_actor(self, decisions: Decisions, m: Tensor) -> Metrics:
        """Actor against the updated critics, then the temperature, then the targets."""
        networks = self.networks
        action, log_pi = self._act(decisions.f[:, :-1], decisions.a[:, :-1], m)
        value = networks.critic(decisions.z, action, m).amin(0)
        loss = (networks.log_alpha.detach().exp() * log_pi - value).mean()
        self._descend("actor", loss, self.optimizers["actor"])

        entropy = -log_pi.detach().mean()
        target = self.config.actor_critic.target_entropy * self.action_size
        temperature_loss = networks.log_alpha * (entropy - target)
        self._descend("temperature", temperature_loss, self.optimizers["alpha"])
        self._move_target()
        alpha = networks.log_alpha.detach().exp()
        return {"actor/loss": loss.detach(), "actor/entropy": entropy, "actor/alpha": alpha}

    def _encode(self, frames: Tensor) -> Tensor:
        with self.precision.cast_trained():
            f: Tensor = self.networks.encoder(frames)
        return f.float()

    @torch.no_grad()
    def _encode_fixed(self, frames: Tensor) -> Tensor:
        with self.precision.cast_fixed():
            f: Tensor = self.networks.encoder(frames)
        return f.float()

    def _infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor) -> Posterior:
        noise = self._noise(*f.shape[:2], self.networks.latent_model.latent_size)
        return self.networks.latent_model.infer(f, a, m, restart, noise)

    def _act(self, f: Tensor, a: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        return squash(self.networks.actor(f, a, m), self._noise(len(f), self.action_size))

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.networks.log_alpha.device, generator=self.generator)

    @torch.no_grad()
    def _move_target(self) -> None:
        torch._foreach_lerp_(self._targets, self._critics, self.config.actor_critic.tau)


def expand_tasks(m: Tensor, count: int) -> Tensor:
    """One m per task (K, M) to one per window (K * count, M), task by task."""
    return m.repeat_interleave(count, 0)
