"""What a run is said to need, against the tensors of real updates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fakes import CPU, FakeFamily, tiny_config
from live_tensors import ACTIONS, PARAMS, STATES, LiveTensors, batch_of_nothing
from torch import Tensor

import metaslac.learning.learner
from metaslac.config.baselines import BASELINES
from metaslac.config.presets import FAMILY_PRESETS, PRESETS
from metaslac.config.sections import LATENT_KINDS, Config
from metaslac.config.state_presets import STATE_PRESETS
from metaslac.config.text import with_values
from metaslac.errors import MetaslacError
from metaslac.learning.activations import activation_bytes
from metaslac.learning.batch import windows_per_update
from metaslac.learning.learner import Learner
from metaslac.learning.memory import (
    MemoryNeed,
    check_memory,
    memory_line,
    memory_need,
    settings_to_lower,
    weight_bytes,
)
from metaslac.learning.precision import Precision
from metaslac.replay.task_replay import TaskReplay

META = torch.device("meta")  # sizes without memory: updates of any size can be counted
MIB, GIB = 2**20, 2**30

QUICK = with_values(Config(), PRESETS["quick"])
FEATURES = {
    "family.frames": 3,
    "model.feature_size": 128,
    "model.elbo_weight": 0.0,
    **dict.fromkeys([f"model.{name}_weight" for name in ("last_action", "contrast", "feature_reward")], 1.0),
    "actor_critic.critic_input": "features",
    "actor_critic.standardise": True,
    "actor_critic.actor_layer_norm": True,
    "actor_critic.hidden_size": 256,
    "train.freeze_encoder": True,
    "train.extra_steps": 3,
}
LATENTS = {
    "family.image_size": 32,
    "model.base_depth": 4,
    "model.z1_size": 128,
    "model.z2_size": 256,
    "actor_critic.actor_input": "latent",
}
ROLLED_OUT = {
    **{**LATENTS, "model.base_depth": 1, "model.heads": 7},
    **{"task.inference": "oracle", "task.context_segments": 1, "task.context_length": 16},
    **{"train.windows": 32, "train.model_windows": 1, "train.steps_per_batch": 1},
    **{"imagination.share": 0.5, "imagination.penalty": "log_prob"},
}
SIZES = {
    "tiny": tiny_config(),
    "quick": QUICK,
    **{
        f"quick {family}": with_values(QUICK, settings)
        for (preset, family), settings in FAMILY_PRESETS.items()
        if preset == "quick"
    },
    **{preset: with_values(Config(), settings) for preset, settings in (BASELINES | STATE_PRESETS).items()},
    "critics train the encoder, inferring": with_values(
        QUICK,
        {
            "model.elbo_weight": 0.0,
            "actor_critic.critic_input": "features",
            "train.encoder_from_critic": True,
            "train.random_shift": 4,
            "train.extra_steps": 2,
        },
    ),
    "shifted": with_values(Config(), {"train.random_shift": 4}),
    "default": Config(),
    "one step on all windows": with_values(
        QUICK, {"train.windows": 8, "train.model_windows": 8, "train.steps_per_batch": 1}
    ),
    "two tasks, eight steps": with_values(QUICK, {"train.tasks_per_update": 2, "train.steps_per_batch": 8}),
    "extra steps": with_values(
        QUICK, {"train.windows": 64, "train.steps_per_batch": 2, "train.extra_steps": 4}
    ),
    "long windows": with_values(Config(), {"model.window": 16, "train.model_windows": 16}),
    "small pictures, wide layers": with_values(
        Config(), {"family.image_size": 32, "model.base_depth": 8, "model.hidden_size": 1024}
    ),
    "stacks": with_values(QUICK, {"family.frames": 3, "family.action_repeat": 2}),
    "features kept": with_values(QUICK, FEATURES),
    "features kept, many windows": with_values(QUICK, {**FEATURES, "train.windows": 256}),
    "latents of features kept": with_values(
        QUICK, {**FEATURES, "model.elbo_weight": 1.0, "actor_critic.critic_input": "latent_features"}
    ),
    "small pictures, seen by an actor on latents": with_values(QUICK, {**LATENTS, "train.extra_steps": 4}),
    "features kept for an actor on latents": with_values(
        QUICK, {**FEATURES, "model.elbo_weight": 1.0, "actor_critic.actor_input": "latent"}
    ),
    "rolled out far": with_values(QUICK, {**ROLLED_OUT, "imagination.horizon": 20}),
    "mostly imagined": with_values(QUICK, {**ROLLED_OUT, "imagination.share": 0.9}),
    "many heads": with_values(QUICK, {**ROLLED_OUT, "model.heads": 64}),
    "mostly pre-training": with_values(QUICK, {"train.pretrain_windows": 32}),
    "large contexts": with_values(QUICK, {"task.context_segments": 32, "task.hidden_size": 1024}),
    "large contexts, whose rewards are foretold": with_values(
        Config(),
        {
            **STATE_PRESETS["pearl-quick"],
            **{"task.context_segments": 400, "task.prior_beliefs": 16, "task.reward_std": 0.1},
        },
    ),
}


@pytest.fixture(autouse=True)
def adam_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learner's is fused, and a fused one has no meta device; its state is the same."""
    monkeypatch.setattr(metaslac.learning.learner, "adam", torch.optim.Adam)


def held(learner: Learner) -> Iterator[Tensor]:
    """What stays from one update to the next."""
    for parameter in learner.networks.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad
    for optimizer in learner.optimizers.values():
        for state in optimizer.state.values():
            yield from state.values()


def measured(learner: Learner) -> int:
    """Peak of an update and of a pre-training update, in bytes beside what stays."""
    config, device, peaks = learner.config, learner.networks.log_alpha.device, []
    updates = batch_of_nothing(config, device, windows_per_update(config), config.keeps_features)
    pretraining = batch_of_nothing(config, device, config.train.pretrain_windows)
    made = [(learner.update, updates), (learner.pretrain, pretraining)]
    for update, batch in made[: 1 if config.train.encoder_from_critic or config.on_states else 2]:
        update(batch)  # the first one makes the optimisers' state
        live = LiveTensors()
        live.count(list(held(learner)))
        before = live.now
        live.count(batch)
        with live:
            update(batch)
        peaks.append(live.peak - before)
    return max(peaks)


def make_learner(config: Config, device: torch.device) -> Learner:
    return Learner(config, ACTIONS, PARAMS, device, torch.Generator(), STATES if config.on_states else 0)


@pytest.mark.parametrize("name", SIZES)
def test_activations_are_those_of_an_update(name: str) -> None:
    config = SIZES[name]
    estimate = activation_bytes(config, ACTIONS, Precision.of("float32", META), STATES)
    assert 0.8 < estimate / measured(make_learner(config, META)) < 1.25


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_activations_of_every_latent_model(kind: str) -> None:
    """Where most of an update is latents, so that those of another kind would be too many or too few."""
    sizes = {"model.base_depth": 1, "model.z1_size": 512, "model.z2_size": 512, "model.hidden_size": 512}
    windows = {"train.windows": 32, "train.model_windows": 32}
    config = with_values(QUICK, {**LATENTS, **sizes, **windows, "model.kind": kind})
    estimate = activation_bytes(config, ACTIONS, Precision.of("float32", META))
    assert 0.9 < estimate / measured(make_learner(config, META)) < 1.2


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
def test_activations_in_every_mode(image_size: int, inference: str) -> None:
    config = with_values(QUICK, {"family.image_size": image_size, "task.inference": inference})
    estimate = activation_bytes(config, ACTIONS, Precision.of("float32", META))
    assert 0.8 < estimate / measured(make_learner(config, META)) < 1.25


@pytest.mark.parametrize("trained", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fixed", [torch.float32, torch.bfloat16])
def test_activations_on_a_cpu_in_every_precision(trained: torch.dtype, fixed: torch.dtype) -> None:
    config = with_values(QUICK, {"train.tasks_per_update": 2, "train.windows": 8})
    learner = make_learner(config, CPU)
    learner.encode.precision = Precision("cpu", fixed, trained)
    estimate = activation_bytes(config, ACTIONS, learner.encode.precision)
    assert 0.8 < estimate / measured(learner) < 1.25


@pytest.mark.parametrize("kind", LATENT_KINDS)
@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
def test_weights_are_those_of_a_learner(inference: str, kind: str) -> None:
    config = with_values(tiny_config(inference=inference), {"model.kind": kind})
    learner = make_learner(config, CPU)
    learner.update(batch_of_nothing(config, CPU, config.train.windows))
    assert weight_bytes(config, ACTIONS, PARAMS) == weights_held(learner)


def weights_held(learner: Learner) -> int:
    """Of all networks, and with the gradients and optimisers' state of those that learn."""
    needed = sum(parameter.nbytes for parameter in learner.networks.parameters())
    for optimizer in learner.optimizers.values():
        for parameter, state in optimizer.state.items():
            needed += parameter.nbytes + sum(value.nbytes for value in state.values())  # its gradient first
    return needed


@pytest.mark.parametrize(
    "settings",
    [
        {"model.heads": 3},
        {"train.cloning": True},
        {"actor_critic.deterministic": True},
        {"task.prior_beliefs": 5, "task.reward_std": 0.1},
    ],
    ids=["ensemble", "cloning", "deterministic", "rewards of contexts"],
)
def test_weights_are_those_of_a_learner_that_has_more_or_fewer_of_them(settings: dict[str, Any]) -> None:
    config = with_values(tiny_config(), settings)
    learner = make_learner(config, CPU)
    learner.update(batch_of_nothing(config, CPU, config.train.windows))
    assert weight_bytes(config, ACTIONS, PARAMS) == weights_held(learner)


@pytest.mark.parametrize("actor_input", ["features", "latent"])
def test_collecting_ahead_needs_the_networks_that_act_once_more(actor_input: str) -> None:
    config = with_values(tiny_config(), {"actor_critic.actor_input": actor_input})
    acting = {"encoder", "context_encoder", "actor", "task_params"}
    acting |= {"latent_model"} if actor_input == "latent" else set()
    named = make_learner(config, CPU).networks.named_parameters()
    more = sum(parameter.nbytes for name, parameter in named if name.partition(".")[0] in acting)
    ahead = with_values(config, {"train.collect_ahead": True})
    assert weight_bytes(ahead, ACTIONS, PARAMS) - weight_bytes(config, ACTIONS, PARAMS) == more


def test_the_largest_networks_are_counted_without_being_made() -> None:
    most = {f"model.{name}": 16_384 for name in ("base_depth", "feature_size", "hidden_size", "z2_size")}
    config = with_values(Config(), {**most, "model.window": 10**9, "actor_critic.hidden_size": 16_384})
    assert weight_bytes(config, ACTIONS, PARAMS) > 10**18


def test_the_replay_is_that_of_a_run() -> None:
    config, family = tiny_config(), FakeFamily()
    replay = TaskReplay(4, config.replay.episodes_per_task, 2, family.episode_steps, 32, 1, CPU)
    stores = [value for value in vars(replay).values() if isinstance(value, Tensor)]
    assert memory_need(config, family, CPU).replay == sum(store.nbytes for store in stores)


NEED = MemoryNeed(replay=8 * GIB, weights=100 * MIB, activations=GIB)


def refusal(need: MemoryNeed, available: int, config: Config, resuming: bool = False) -> str:
    with pytest.raises(MetaslacError) as caught:
        check_memory(need, available, config, CPU, resuming)
    return str(caught.value)


def test_what_fits_or_is_not_known_is_not_refused() -> None:
    for available in (10 * GIB, NEED.certain, None):
        check_memory(NEED, available, Config(), CPU)


def test_a_replay_that_is_too_large_is_refused_with_how_many_episodes_fit() -> None:
    line = refusal(NEED, 4 * GIB, Config())
    assert "replay 8.0 GiB, weights 100.0 MiB, activations 1.0 GiB, and cpu has 4.0 GiB available" in line
    assert line.endswith("; lower replay.episodes_per_task (now 40) to 16 or less")


def test_so_many_episodes_do_fit() -> None:
    config, family = with_values(tiny_config(), {"replay.episodes_per_task": 10**6}), FakeFamily()
    line = refusal(memory_need(config, family, CPU), GIB, config)
    (fitting,) = map(int, re.findall(r"to (\d+) or less", line))
    for episodes, fits in ((fitting, True), (fitting + 1, False)):
        changed = with_values(config, {"replay.episodes_per_task": episodes})
        assert (memory_need(changed, family, CPU).certain <= GIB) == fits


def test_a_replay_counted_in_decisions_is_lowered_in_decisions() -> None:
    config = with_values(Config(), {"replay.decisions_per_task": 8_000})
    assert refusal(NEED, 4 * GIB, config).endswith(
        "; lower replay.decisions_per_task (now 8000) to about 3202"
    )
    random = with_values(config, {"train.initial_decisions": 4_000})  # which have to be kept
    assert "replay.decisions_per_task (now 8000), family.image_size" in refusal(NEED, 4 * GIB, random)


def test_where_no_replay_fits_pictures_and_updates_are_named_too() -> None:
    line = settings_to_lower(NEED, GIB // 2, Config())
    assert line.startswith(
        "replay.episodes_per_task (now 40), family.image_size (now 64), train.windows (now 32)"
    )
    assert "image_size" not in settings_to_lower(NEED, GIB // 2, QUICK)


def test_an_update_that_is_too_large_is_refused_with_what_it_depends_on() -> None:
    need = MemoryNeed(replay=GIB, weights=MIB, activations=10 * GIB)
    line = refusal(need, 7 * GIB, Config())
    assert (
        "; lower train.windows (now 32), train.tasks_per_update (now 8), train.model_windows (now 4)" in line
    )


def test_an_estimate_is_given_the_benefit_of_the_doubt() -> None:
    need, device = MemoryNeed(replay=GIB, weights=0, activations=10 * GIB), CPU
    check_memory(need, 9 * GIB, Config(), device)
    assert memory_line(need, 9 * GIB, device).endswith("of 9.0 GiB available; this may not be enough")


def test_networks_that_are_too_large_are_refused() -> None:
    line = refusal(MemoryNeed(replay=1, weights=GIB, activations=2), MIB, Config())
    assert "; lower model.base_depth (now 32), model.feature_size (now 256)" in line


def test_a_run_that_has_begun_keeps_its_size() -> None:
    line = refusal(NEED, 4 * GIB, Config(), resuming=True)
    assert "go on where there is more, or in a new run lower replay.episodes_per_task" in line


def test_the_line_says_what_is_known() -> None:
    expected = "memory on cpu: replay 8.0 GiB, weights 100.0 MiB, activations 1.0 GiB"
    assert memory_line(NEED, None, CPU) == expected
    assert memory_line(NEED, 20 * GIB, CPU) == f"{expected}, of 20.0 GiB available"
