"""The learner: from a batch of windows and contexts to one update of every network.

The order of a step and who descends what are here; the losses are in objectives.py, where m comes from is in
task_variable.py. No I/O, no environment, no loop over time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from metaslac.config.sections import Config
from metaslac.learning.batch import (
    Batch,
    Decisions,
    Seen,
    Transitions,
    expand_tasks,
    flat,
    joined,
    places,
    shifted,
    some,
)
from metaslac.learning.encoding import Encoding
from metaslac.learning.generators import Chance, restore_generator
from metaslac.learning.imagination import Imagination
from metaslac.learning.objectives import (
    Loss,
    cloning,
    model_objectives,
    prediction,
    reward_from_features,
    soft_bellman,
    soft_policy,
    temperature,
)
from metaslac.learning.optimizers import (
    Descent,
    adam,
    falling,
    load_optimizer_state,
    optimizer_state,
    set_steps,
)
from metaslac.learning.precision import Precision
from metaslac.learning.task_variable import fixed, task_variable
from metaslac.networks.context_encoder import TaskBelief
from metaslac.networks.latent_models.base import Metrics, Posterior
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.ranks.sharding import WHOLE, Shard
from metaslac.replay.experience import Windows


class Learner:
    """Owns the networks and their optimisers; `update` is one step of meta-training."""

    def __init__(
        self,
        config: Config,
        action_size: int,
        num_params: int,
        device: torch.device,
        generator: torch.Generator,
        state_size: int = 0,
        shard: Shard = WHOLE,
    ) -> None:
        self.config = config
        self.device = device
        self.action_size = action_size
        self.state_size = state_size
        self.networks = MetaSLAC(config, action_size, num_params, state_size).to(device)
        self.chance = Chance(generator, device, shard.share(config.train.tasks_per_update))
        self.encode = Encoding(self.networks.encoder, Precision.of(config.runtime.precision, device))
        self.task = task_variable(self.networks, config.task, self.encode, self.chance)
        train, networks = config.train, self.networks
        learning = {
            "model": networks.model_parameters(),  # of states, none but a head of rewards
            "context": networks.task_parameters(config.task.inference),
            "critic": [] if train.cloning else list(networks.critic.parameters()),
            "actor": list(networks.actor.parameters()),
            "alpha": [networks.log_alpha] * config.learns_temperature,
        }
        self.optimizers = {
            name: adam(parameters, getattr(train, f"lr_{name}"))
            for name, parameters in learning.items()
            if parameters
        }
        self._descent = Descent(self.optimizers, device, shard)
        self._of_model = ["model"] if "model" in self.optimizers else []
        self._model_objectives = model_objectives(networks, config, self.encode, shard)
        self._feature_reward = reward_from_features(networks, config.model)
        learns_m = config.task.inference != "blind"
        self._model_trains_m = learns_m and config.task.gradient != "critic"
        self._critic_trains_m = learns_m and config.task.gradient != "model"
        self._predicts = train.predict_with_critics
        self._imagination = Imagination(networks, config, self.chance) if config.imagination.share else None
        self._critics: list[Tensor] = list(networks.critic.parameters())
        self._targets: list[Tensor] = list(networks.target_critic.parameters())

    def pretrain(self, batch: Batch) -> Metrics:
        """One update of the latent model alone (and of the context encoder, where the model trains it)."""
        windows = self._shifted(batch.windows)
        assert windows.frames is not None
        f = self.encode.trained(windows.frames)
        return self._model_step(f, windows, self.task.read(batch.context), batch.params)

    def update(self, batch: Batch) -> Metrics:
        """One update: the model once, then several actor-critic and context steps on the same features.

        After those, `train.extra_steps` of critics and actor alone, on the latents inferred in them.
        """
        if self.config.keeps_features:
            return self._update_on_features(batch)
        train, windows = self.config.train, self._shifted(batch.windows)
        batch, frames = batch._replace(windows=windows), windows.frames
        assert frames is not None
        if train.encoder_from_critic:  # every step encodes windows of its own
            transitions = self.task.read(batch.context)
            return self._learning_steps(batch, transitions, lambda part: self.encode.trained(frames[:, part]))
        for_model = some(windows, slice(train.model_windows))
        f_model = self.encode.trained(frames[:, : train.model_windows])
        f_rest = self.encode.fixed(frames[:, train.model_windows :])
        f = torch.cat((f_model.detach(), f_rest), 1)  # (K, W, L + 1, F)
        transitions = self.task.read(batch.context)
        metrics = self._model_step(f_model, for_model, transitions, batch.params)
        return metrics | self._learning_steps(batch, transitions, lambda part: f[:, part])

    def _learning_steps(
        self, batch: Batch, transitions: Transitions | None, features: Callable[[slice], Tensor]
    ) -> Metrics:
        """Steps of critics, context encoder and actor on equal parts of a batch's windows, then extra ones.

        `features` gives those of a part, (K, W, L + 1, F); where they have a gradient, critics train the
        encoder. It hears of no other loss: a step takes gradients for its own weights alone.
        """
        train, params = self.config.train, batch.params
        metrics: Metrics = {}
        beliefs, decided = [], []
        for first in range(train.steps_per_batch):
            part = slice(first, None, train.steps_per_batch)
            belief = self.task.believe(transitions)
            seen = self._see(features(part), some(batch.windows, part), self.task.draw(belief, params))
            decisions, m, told = self._decisions(seen, len(params))
            metrics |= told | self._learn(decisions, m, seen, self.task.loss(belief, transitions))
            beliefs.append(fixed(belief))
            decided.append(decisions)
        return metrics | self._extra_steps(decided, beliefs, params)

    def _update_on_features(self, batch: Batch) -> Metrics:
        """One update where features are kept: every step, extra ones too, has windows of its own.

        The extra ones take the beliefs of those before them, and m drawn anew.
        """
        train, params = self.config.train, batch.params
        transitions = self.task.read(batch.context)
        steps = train.steps_per_batch + train.extra_steps
        metrics: Metrics = {}
        beliefs = []
        for step in range(steps):
            windows = some(batch.windows, slice(step, None, steps))
            assert windows.f is not None
            learns = step < train.steps_per_batch
            if learns:
                belief = self.task.believe(transitions)
                beliefs.append(fixed(belief))
            else:
                belief = beliefs[step % train.steps_per_batch]
            with torch.set_grad_enabled(learns):
                m = self.task.draw(belief, params)
            seen = self._see(windows.f, windows, m, self.networks.sees_latents)
            decisions, m, told = self._decisions(seen, len(params))
            if learns:
                told |= self._learn(decisions, m, seen, self.task.loss(belief, transitions))
            else:
                told |= self._learn_again(decisions, m)
            metrics |= told
        return metrics

    def anneal(self, progress: float) -> None:
        """Set every Adam step for `progress` in [0, 1] of the updates: full, then falling by `lr_decay`."""
        scale = falling(progress, self.config.train.lr_decay)
        steps = {name: scale * getattr(self.config.train, f"lr_{name}") for name in self.optimizers}
        set_steps(self.optimizers, steps)

    def anneal_pretraining(self, progress: float) -> None:
        """Set the model's Adam step for `progress` in [0, 1] of pre-training, likewise."""
        train = self.config.train
        set_steps(self.optimizers, {"model": train.pretrain_lr * falling(progress, train.pretrain_decay)})

    def anneal_refresh(self, progress: float) -> None:
        """The same for `progress` of training an encoder again that was at rest."""
        set_steps(self.optimizers, {"model": self.config.train.refresh_lr * (1 - progress)})

    def check(self) -> None:
        """Raise NonFinite if any loss or gradient so far was; on a CPU, updates have raised it themselves."""
        self._descent.check()

    def state(self) -> dict[str, Tensor]:
        """All that goes on from one update to the next but the networks."""
        return {"generator": self.chance.generator.get_state(), **optimizer_state(self.optimizers)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`. Raises as load_optimizer_state and restore_generator do."""
        optimizers = {key: tensor for key, tensor in tensors.items() if key != "generator"}
        load_optimizer_state(self.optimizers, optimizers)
        restore_generator(self.chance.generator, tensors["generator"])

    def _model_step(
        self, f: Tensor, windows: Windows, transitions: Transitions | None, params: Tensor
    ) -> Metrics:
        """One step down what trains the latent model. m learns from what it predicts."""
        belief = self.task.believe(transitions)
        m = expand_tasks(self.task.draw(belief, params), f.shape[1])
        f, windows = f.flatten(0, 1), flat(windows)
        seen = Seen(f, windows, self._to_model(m), self._infer(f, windows, m.detach()))
        losses = [objective(seen) for objective in self._model_objectives]
        loss = sum((part.value for part in losses[1:]), losses[0].value)
        metrics = {name: value for part in losses for name, value in part.parts.items()}
        metrics["model/loss"] = loss.detach()
        of_task = self.task.loss(belief, transitions) if self._model_trains_m else None
        if of_task is not None:
            loss = loss + of_task.value
        self._descent.step("model", loss, "model", *["context"] * self._model_trains_m)
        return metrics

    def _decisions(self, seen: Seen, tasks: int) -> tuple[Decisions, Tensor, Metrics]:
        """What a step learns from, of windows (K * W,): decisions, the m of each, and what is told."""
        if self._imagination is None:
            return seen.decisions(), seen.m, {}
        return self._imagination.beside(seen, tasks)

    def _learn(self, decisions: Decisions, m: Tensor, seen: Seen, of_task: Loss | None) -> Metrics:
        """One step of critics and actor, or of one that clones, and of all that learns with them."""
        if self.config.train.cloning:
            return self._cloning_step(decisions, m, seen, of_task)
        told = self._critic_step(decisions, m, seen, of_task)
        return told | self._actor_step(decisions, m.detach())

    def _learn_again(self, decisions: Decisions, m: Tensor) -> Metrics:
        """One step of critics and actor, or of one that clones, and of nothing else; m has no gradient."""
        if self.config.train.cloning:
            loss, told = cloning(self.networks, decisions, m)
            self._descent.step("actor", loss, "actor")
            return told
        loss, told = self._bellman(decisions, m)
        self._descent.step("critic", loss, "critic")
        return told | self._actor_step(decisions, m)

    def _critic_step(self, decisions: Decisions, m: Tensor, seen: Seen, of_task: Loss | None) -> Metrics:
        """One step down the soft Bellman error of decisions, and what goes with it."""
        loss = self._bellman(decisions, m if self._critic_trains_m else m.detach())
        return self._step_of_all("critic", loss, seen, of_task)

    def _cloning_step(self, decisions: Decisions, m: Tensor, seen: Seen, of_task: Loss | None) -> Metrics:
        """One step down -log pi of decisions, and what goes with it: the actor is in the critics' place."""
        loss = cloning(self.networks, decisions, m if self._critic_trains_m else m.detach())
        return self._step_of_all("actor", loss, seen, of_task)

    def _step_of_all(self, whose: str, of_decisions: Loss, seen: Seen, of_task: Loss | None) -> Metrics:
        """One step down a loss of decisions, and what their windows predict if that is asked.

        Both train q(m | c), as `task.gradient` says; the prediction also trains the model's own heads of
        rewards and next latents, whatever m is. Features that have a gradient train the encoder.
        """
        loss, metrics = of_decisions
        if of_task is not None:
            loss, metrics = loss + of_task.value, metrics | of_task.parts
        to_model, model = seen._replace(m=self._to_model(seen.m)), self.networks.latent_model
        if self._predicts and model is not None and seen.posterior is not None:
            loss = loss + prediction(model, to_model)
        if self._predicts and self._feature_reward is not None:
            told = self._feature_reward(to_model)
            loss, metrics = loss + told.value, metrics | told.parts
        trains_m = self._critic_trains_m or (self._predicts and self._model_trains_m)
        self._descent.step(whose, loss, whose, *self._of_model, *["context"] * trains_m)
        return metrics

    def _actor_step(self, decisions: Decisions, m: Tensor) -> Metrics:
        """Actor against the updated critics, with it the temperature, then the targets."""
        networks, config = self.networks, self.config.actor_critic
        noise = self.chance.normal(len(m), self.action_size)
        (loss, metrics), entropy = soft_policy(networks, config, decisions, m, noise)
        learns_alpha = "alpha" in self.optimizers
        if learns_alpha:  # neither loss has a gradient for what the other moves
            loss = loss + temperature(networks.log_alpha, entropy, config.target_entropy * self.action_size)
        self._descent.step("actor", loss, "actor", *["alpha"] * learns_alpha)
        if learns_alpha:
            metrics = {**metrics, "actor/alpha": networks.log_alpha.detach().exp()}
        self._move_target()
        return metrics

    def _extra_steps(
        self, decided: Sequence[Decisions], beliefs: Sequence[TaskBelief | None], params: Tensor
    ) -> Metrics:
        """Steps of critics, actor, temperature and targets on decisions drawn anew from those of all steps.

        m is sampled anew for each. Nothing else learns from them.
        """
        train, tasks = self.config.train, len(params)
        metrics: Metrics = {}
        if not train.extra_steps:
            return metrics
        everything = joined(decided, tasks)  # (K, W)
        available = everything.r.shape[1]
        count = available // train.steps_per_batch
        row = torch.arange(tasks, device=self.device)[:, None]
        for step in range(train.extra_steps):
            chances = self.chance.uniform(tasks, available)
            order = places(chances, everything.real, train.windows, train.steps_per_batch)
            decisions = everything.chosen(row, order)
            with torch.no_grad():
                m = expand_tasks(self.task.draw(beliefs[step % train.steps_per_batch], params), count)
            metrics |= self._learn_again(decisions, m)
        return metrics

    def _bellman(self, decisions: Decisions, m: Tensor) -> Loss:
        noise = self.chance.normal(len(m), self.action_size)
        return soft_bellman(self.networks, self.config.actor_critic, decisions, m, noise)

    def _see(self, f: Tensor, windows: Windows, m: Tensor, latents: bool = True) -> Seen:
        """Windows (K, W), with their latents if asked for, given one m (K, M) of each task; no gradient."""
        m, f, windows = expand_tasks(m, f.shape[1]), f.flatten(0, 1), flat(windows)
        with torch.no_grad():
            return Seen(f, windows, m, self._infer(f, windows, m) if latents else None)

    def _infer(self, f: Tensor, windows: Windows, m: Tensor) -> Posterior | None:
        model = self.networks.latent_model
        if model is None:
            return None
        noise = self.chance.normal(*f.shape[:2], model.noise_size)
        heads = self.chance.heads(self.config.model.heads, f.shape[1] - 1)
        return model.infer(f, windows.a, m, windows.restart, noise)._replace(heads=heads)

    def _shifted(self, windows: Windows) -> Windows:
        """With the frames of each window (K, W) moved at random, if they are to be."""
        most = self.config.train.random_shift
        if not most or windows.frames is None:
            return windows
        by = self.chance.whole(-most, most, *windows.frames.shape[:2], 2)
        return windows._replace(frames=shifted(windows.frames, by))

    def _to_model(self, m: Tensor) -> Tensor:
        return m if self._model_trains_m else m.detach()

    @torch.no_grad()
    def _move_target(self) -> None:
        torch._foreach_lerp_(self._targets, self._critics, self.config.actor_critic.tau)
