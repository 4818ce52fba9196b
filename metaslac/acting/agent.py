"""The agent: the networks that act, with the belief about the task and the history of the episode.

It knows no replay, no environment and no training; `load_agent` brings one back from a checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaslac.acting.inference import ONCE, Drawing, TaskInference, Transitions, check_finite
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.networks.actor_critic import Actor, History
from metaslac.networks.blocks import Gaussian
from metaslac.networks.context_encoder import ContextEncoder
from metaslac.networks.images import ImageEncoder
from metaslac.networks.latent_models.base import LatentModel
from metaslac.networks.meta_slac import MetaSLAC, TaskParams
from metaslac.networks.states import StateEncoder
from metaslac.networks.task_prior import TaskPrior
from metaslac.storage.checkpoint import Checkpoint, load_checkpoint

Frames = NDArray[Any]  # pictures as uint8, or states as float64
# An episode as it was seen: n + 1 frames, n actions, n rewards.
Shown = tuple[Frames, NDArray[np.float32], NDArray[np.float32]]


LEARNING_ONLY = tuple(f"latent_model.{part}." for part in ("decoder", "reward", "z1_prior", "z_prior"))


class Agent:
    """Acts on N tasks side by side, one slot each.

    begin_task() forgets every task; begin_episode() draws m for each slot, from the prior or from
    the belief over all that was observed since begin_task(); act() and observe() then alternate, and m may
    be drawn anew in between.
    """

    def __init__(
        self,
        config: Config,
        encoder: ImageEncoder | StateEncoder,
        context_encoder: ContextEncoder,
        actor: Actor,
        task_params: TaskParams,
        latent_model: LatentModel | None,
        task_prior: TaskPrior | None,
        action_size: int,
        num_params: int,
    ) -> None:
        self.config = config
        self.action_size = action_size
        self.num_params = num_params
        self.task_size = config.task.size
        self._encoder = encoder
        self._context_encoder = context_encoder
        self._actor = actor
        self._task_params = task_params
        self._latent_model = latent_model  # None if the actor sees no latents
        self._task_prior = task_prior
        self._inference = TaskInference(config.task, context_encoder, task_prior)

    @classmethod
    def from_networks(cls, config: Config, networks: MetaSLAC, action_size: int, num_params: int) -> Agent:
        """An agent that acts with a learner's networks as they are and as they go on learning."""
        latent_model = networks.latent_model if networks.actor.of_latent else None
        parts = networks.encoder, networks.context_encoder, networks.actor, networks.task_params
        return cls(config, *parts, latent_model, networks.task_prior, action_size, num_params)

    def copy(self) -> Agent:
        """An agent that acts with networks of its own, which are as these are now and stay so."""
        parts = (
            self._encoder,
            self._context_encoder,
            self._actor,
            self._task_params,
            self._latent_model,
            self._task_prior,
        )
        return Agent(self.config, *copy.deepcopy(parts), self.action_size, self.num_params)

    @property
    def networks(self) -> nn.ModuleDict:
        """The networks that act, by their names among a learner's."""
        networks: dict[str, nn.Module] = {
            "encoder": self._encoder,
            "context_encoder": self._context_encoder,
            "actor": self._actor,
            "task_params": self._task_params,
        }
        if self._latent_model is not None:
            networks["latent_model"] = self._latent_model
        if self._task_prior is not None:
            networks["task_prior"] = self._task_prior
        return nn.ModuleDict(networks)

    def acting_weights(self) -> dict[str, Tensor]:
        """Those of their weights without which it could not act and infer as its configuration says, by name.

        They share memory with the networks. Decoder, rewards and priors of latents are for learning alone.
        """
        inference = self.config.task.inference
        spared = (
            *LEARNING_ONLY,
            *["context_encoder."] * (inference != "infer"),
            *["task_params."] * (inference != "oracle"),
        )
        weights = self.networks.state_dict()
        return {name: tensor for name, tensor in weights.items() if not name.startswith(spared)}

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of a frame: (H, W, 3), for stacks of `family.frames` (k, H, W, 3), and (S,) for states."""
        if isinstance(self._encoder, StateEncoder):
            return (self._encoder.size,)
        family = self.config.family
        picture = family.image_size, family.image_size, 3
        return picture if family.frames == 1 else (family.frames, *picture)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self._actor.parameters()).device

    @torch.no_grad()
    def begin_task(self, slots: int, params: NDArray[np.float64] | None = None) -> None:
        """Meet a new task on every slot: the belief is the prior. The oracle needs the true params (N, P).

        Raises MetaslacError, and changes nothing, where they are missing or make an m that is not finite.
        """
        if self.config.task.inference == "oracle":
            if params is None:
                raise MetaslacError("an agent trained with task.inference=oracle needs the task's parameters")
            given = torch.as_tensor(params, dtype=torch.float32, device=self.device)
            check_finite(f"m of the task's parameters {params[0].tolist()}", self._task_params(given))
            self._params = given
        self._inference.begin(slots, self.device)

    @torch.no_grad()
    def begin_episode(
        self,
        frames: Frames,
        rngs: Sequence[np.random.Generator],
        explore: bool = False,
        drawing: Drawing = ONCE,
    ) -> None:
        """Start an episode on every slot from its first frame: uint8 (N, H, W, 3), stacks of them
        (N, k, H, W, 3), as the family's `frames` says, or states (N, S), as its `observation` says.

        Every slot has its own generator, used for m here and later, and for actions. With `explore`, m is
        first drawn from the prior whatever has been observed; this is how the first episode of a task goes.
        """
        self._drawing, self._decisions = drawing, 0
        self._rngs = rngs
        self._history = History(self.config.model.window, self.action_size)
        self._history.begin(self._encode(frames))
        inference = self.config.task.inference
        if inference == "oracle":
            self.m = self._task_params(self._params)
        elif inference == "blind":
            self.m = torch.zeros(len(frames), self.task_size, device=self.device)
        else:
            self.m = self._drawn(explore)

    @torch.no_grad()
    def act(self, deterministic: bool = False) -> NDArray[np.float32]:
        """Actions (N, A) in [-1, 1]: a sample of the policy, or the tanh of its mean.

        Latents that the actor sees are sampled too, or made without noise. Raises MetaslacError where
        actions are not finite.
        """
        policy = self._actor(self._history.f, self._history.a, self.m, self._filtered(deterministic))
        action = (
            policy.mean.tanh() if deterministic else self._actor.play(policy, self._noise(self.action_size))
        )
        check_finite("an action", action)
        return action.cpu().numpy()

    @torch.no_grad()
    def observe(
        self,
        actions: NDArray[np.float32],
        rewards: NDArray[np.float64],
        frames: Frames,
        active: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take in one step of every slot: actions (N, A), rewards (N,), the frames (N, H, W, 3) they led to.

        Slots that are not `active` (N,), whose episode is already over, learn nothing from it. Raises
        MetaslacError, and changes nothing, where the belief would not be finite.
        """
        f, f_next = self._history.f[:, -1], self._encode(frames)
        a = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        if self.config.task.inference == "infer":
            r = torch.as_tensor(rewards, dtype=torch.float32, device=self.device)
            slots = None if active is None else torch.as_tensor(active, device=self.device)
            self._inference.observe((f[:, None], a[:, None], r[:, None], f_next[:, None]), slots)
            self._decisions += 1
            if self._drawing.every and self._decisions % self._drawing.every == 0:
                self.m = self._drawn()
        self._history.append(a, f_next)

    @torch.no_grad()
    def take_in(self, given: Sequence[Sequence[Shown]]) -> None:
        """Let the belief of every slot take in episodes that somebody else played on its task.

        Raises MetaslacError, and changes nothing, where the belief would not be finite.
        """
        if self.config.task.inference != "infer":
            return
        self._inference.take_in([[self._transitions(episode) for episode in episodes] for episodes in given])

    @property
    def belief(self) -> Gaussian:
        """Mean and standard deviation of m given everything observed since begin_task(), (N, M)."""
        return self._inference.belief

    def _drawn(self, explore: bool = False) -> Tensor:
        """m (N, M) of the prior, to `explore`; else of the belief."""
        noise = self._noise(self._inference.noise_size)
        return self._inference.draw(noise, explore, self._drawing.mean_below)

    def _transitions(self, episode: Shown) -> Transitions:
        """Those of a whole episode, N = 1."""
        frames, actions, rewards = episode
        f = self._encode(frames)[None]
        a, r = (torch.from_numpy(part).to(self.device)[None] for part in (actions, rewards))
        return f[:, :-1], a, r, f[:, 1:]

    def _filtered(self, deterministic: bool) -> Tensor | None:
        """z (N, Z) of the newest frame, filtered over the history; None if the actor sees none."""
        model, history = self._latent_model, self._history
        if model is None:
            return None
        shape = history.window, model.noise_size
        noise = history.f.new_zeros(len(history.f), *shape) if deterministic else self._noise(*shape)
        return model.infer(history.f, history.a, self.m, history.restart, noise).z[:, -1]

    def _encode(self, frames: Frames) -> Tensor:
        f: Tensor = self._encoder(torch.from_numpy(frames).to(self.device))
        return f

    def _noise(self, *shape: int) -> Tensor:
        """Standard normal noise (N, *shape), each slot's from its own generator."""
        rows = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in self._rngs])
        return torch.from_numpy(rows).to(self.device)


def load_agent(path: Path, device: torch.device) -> Agent:
    """The agent of a checkpoint or run directory. Raises MetaslacError if it cannot be trusted."""
    return agent_from_checkpoint(load_checkpoint(path), path, device)


def agent_from_checkpoint(checkpoint: Checkpoint, path: Path, device: torch.device) -> Agent:
    """The agent in a checkpoint, or an exported one, that was read and verified already."""
    action_size, num_params = checkpoint.manifest["action_size"], len(checkpoint.manifest["param_names"])
    if not checkpoint.weights_only:
        networks = networks_from_checkpoint(checkpoint, path, device)
        return Agent.from_networks(checkpoint.config, networks, action_size, num_params)
    agent = Agent.from_networks(checkpoint.config, _unfilled(checkpoint), action_size, num_params)
    agent.networks.to_empty(device=device)
    weights = agent.acting_weights()
    _check_fits(weights, checkpoint.tensors, path)
    for name, tensor in agent.networks.state_dict().items():
        tensor.copy_(checkpoint.tensors[name]) if name in weights else tensor.zero_()
    return agent


def networks_from_checkpoint(checkpoint: Checkpoint, path: Path, device: torch.device) -> MetaSLAC:
    """Every network in a checkpoint that was read and verified already, those that do not act too.

    Raises MetaslacError of an exported agent, which has not all of them.
    """
    checkpoint.need_training("it has no critics")
    networks = _unfilled(checkpoint)
    networks.to_empty(device=device)
    load_weights(networks, checkpoint.tensors, path)
    return networks


def _unfilled(checkpoint: Checkpoint) -> MetaSLAC:
    """The networks of a checkpoint's configuration, without memory for their weights."""
    manifest = checkpoint.manifest
    action_size, num_params = manifest["action_size"], len(manifest["param_names"])
    with torch.device("meta"):  # no weights are drawn: the caller's generator stays where it is
        return MetaSLAC(checkpoint.config, action_size, num_params, manifest.get("state_size", 0))


def load_weights(networks: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into networks; MetaslacError names the first that is missing or of another shape."""
    _check_fits(networks.state_dict(), tensors, path)
    networks.load_state_dict(tensors)


def _check_fits(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        have = tuple(tensors[name].shape) if name in tensors else None
        want = tuple(expected[name].shape) if name in expected else None
        if have != want:
            raise MetaslacError(
                f"{path}: weights do not fit their configuration: {name} is {have}, not {want}"
            )
