"""How much memory an update takes while it runs, in closed form from the shapes of its layers.

Not how fast it is, and not what stays from one update to the next: that is counted in memory.py.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from metaslac.config.sections import Config
from metaslac.learning.batch import windows_per_update
from metaslac.learning.imagination import imagined_beside
from metaslac.learning.precision import Precision
from metaslac.networks.actor_critic import sights
from metaslac.networks.blocks import GaussianHead, conv_depths
from metaslac.networks.latent_models.conditionals import DeltaHead
from metaslac.networks.latent_models.ensemble import GaussianHeads
from metaslac.networks.latent_models.make import make_latent_model
from metaslac.networks.meta_slac import feature_size

FLOAT, DOUBLE = 4, 8  # bytes


def activation_bytes(config: Config, action_size: int, precision: Precision, state_size: int = 0) -> int:
    """Most memory, in bytes, that an update or pre-training update needs at any one time, its batch included.

    An estimate: tensors that autograd keeps for the backward pass, the largest that come and go beside
    them, and what waits for its turn. Workspaces of libraries and losses to fragmentation are not in it.
    The test beside it compares it with the tensors of updates of many shapes.
    """
    shapes = Shapes(config, action_size, precision, state_size)
    without = config.on_states or config.train.encoder_from_critic
    return shapes.update() if without else max(shapes.update(), shapes.pretrain())


class Shapes:
    """Bytes of the parts of an update, for K tasks: each method says of what and how long."""

    def __init__(self, config: Config, action_size: int, precision: Precision, state_size: int = 0) -> None:
        model, train = config.model, config.train
        self.config = config
        self.task_size = config.task.size
        self.feature_size = feature_size(config, state_size)
        self.step = action_size + self.task_size
        self.tasks = train.tasks_per_update
        self.frames = model.window + 1  # of a window
        self.trained, self.fixed = precision.trained.itemsize, precision.fixed.itemsize
        size, depths = config.family.image_size, conv_depths(config.family.image_size, model.base_depth)
        self.picture = 3 * size**2
        self.pixels = self.picture * config.family.frames  # of a frame, which may be a stack of pictures
        self.layers = [depth * (size >> level) ** 2 for level, depth in enumerate(depths, start=1)]
        with torch.device("meta"):
            self.latent_model = make_latent_model(model, size, action_size, self.task_size)
        self.infers = config.task.inference == "infer"
        self.transitions = (
            self.tasks * config.task.context_segments * config.task.context_length if self.infers else 0
        )

    def update(self) -> int:
        """The peak of Learner.update: of encoding, the model's step and the actor-critic's, the largest."""
        if self.config.keeps_features:
            return self.update_on_features()
        if self.config.train.encoder_from_critic:
            return self.update_from_critics()
        train = self.config.train
        windows, model_windows = self.tasks * train.windows, self.tasks * train.model_windows
        batch = self.batch(windows)
        features = FLOAT * self.feature_size * self.frames * windows
        encoding = max(
            self.encoding_fixed((windows - model_windows) * self.frames),
            features + self.encoding_fixed(self.context_frames()),
        )
        kept = features + self.context()
        step = self.actor_critic(windows // train.steps_per_batch) + self.decisions(windows)
        encoded = self.encoder(model_windows * self.frames)
        return batch + max(encoded + encoding, encoded + kept + self.model(model_windows), kept + step)

    def update_from_critics(self) -> int:
        """The peak of Learner.update where critics train the encoder: of a step or its way back to pixels."""
        train = self.config.train
        windows = self.tasks * train.windows
        step = windows // train.steps_per_batch
        frames = step * self.frames
        kept = self.context() + self.decisions(windows) + FLOAT * self.config.model.feature_size * frames
        encoding = self.encoding_fixed(self.context_frames())
        learning = kept + self.encoder(frames) + self.actor_critic(step)
        # The first layer is the largest: its output, and the gradient before and after its activation.
        backward = kept + self.trained * frames * (self.pixels + 3 * self.layers[0])
        return self.batch(windows) + max(encoding, learning, backward)

    def update_on_features(self) -> int:
        """The peak of Learner.update where features are kept: a batch of them, and one step."""
        train = self.config.train
        windows = self.tasks * windows_per_update(self.config)
        step = windows // (train.steps_per_batch + train.extra_steps)
        return (
            FLOAT * self.feature_size * (self.frames * windows + self.context_frames())
            + self.context()
            + self.actor_critic(step)
            + self.feature_reward(step)
        )

    def pretrain(self) -> int:
        """The peak of Learner.pretrain."""
        windows = self.tasks * self.config.train.pretrain_windows
        encoding = self.encoding_fixed(self.context_frames())
        encoded = self.encoder(windows * self.frames)
        return self.batch(windows) + encoded + max(encoding, self.context() + self.model(windows))

    def batch(self, windows: int) -> int:
        """What is drawn from the replay: frames as bytes. Contexts are drawn whether used or not."""
        task = self.config.task
        context_frames = self.tasks * task.context_segments * (task.context_length + 1)
        moved = 2 if self.config.train.random_shift else 1  # windows as they were, and as they are seen
        return self.pixels * (moved * windows * self.frames + context_frames)

    def context_frames(self) -> int:
        """Frames of all contexts, if they are encoded."""
        task = self.config.task
        return self.tasks * task.context_segments * (task.context_length + 1) if self.infers else 0

    def encoding_fixed(self, frames: int) -> int:
        """While encoding without gradient: a layer's input and its output; pixels also cast to its type."""
        cast = self.fixed * self.pixels if self.fixed < FLOAT else 0
        sizes = [FLOAT * self.pixels + cast, *(self.fixed * layer for layer in self.layers)]
        return self.seen(frames) + frames * max(x + y for x, y in pairwise(sizes))

    def seen(self, frames: int) -> int:
        """Beside the pixels of stacks: what they are put together from."""
        return FLOAT * self.pixels * frames if self.config.family.frames > 1 else 0

    def encoder(self, frames: int) -> int:
        """Kept by the encoder: pixels and all outputs, of the last layer before and after activation."""
        outputs = sum(self.layers) + 2 * self.feature_size
        return self.trained * frames * (self.pixels + outputs)

    def model(self, windows: int) -> int:
        """While the model learns, from the filter to the end of the backward pass through the decoder."""
        frames = windows * self.frames
        heads = self.heads(windows) + self.feature_reward(windows)
        if self.latent_model is None:
            return heads
        image = FLOAT * self.picture * frames
        # Of the first layer, a linear one, before and after activation.
        outputs = 2 * self.layers[-1] + sum(self.layers[:-1]) + self.picture
        decoder = self.trained * frames * outputs
        # The squared error goes backward as three products of its size, when the prediction is done with.
        predictions = self.prediction(windows) + heads
        return self.filter(windows) + decoder + image + max(3 * image, predictions)

    def context(self) -> int:
        """Kept for the belief: the transitions' features, and all layers of what infers and foretells."""
        features, task = self.feature_size, self.config.task
        hidden = task.hidden_size
        inputs = (1 + task.next_observation) * features + self.step - self.task_size + 1
        size, rank = self.task_size, task.factor_rank
        # Outputs of the encoder and the factors in double precision, bounded, and weighted or not.
        factors = rank * (size + 1) * (FLOAT + 4 * DOUBLE) if rank else size * (size + 1) * 4 * DOUBLE
        foretold = 2 * features + self.step + 2 * hidden + 4 if task.reward_std else 0
        return self.transitions * (FLOAT * (2 * inputs + 3 * hidden + 2 * size + foretold) + factors)

    def filter(self, windows: int) -> int:
        """Kept by the filter: all conditionals but those of predictions, and the samples."""
        samples = FLOAT * 4 * self.latent_size
        return windows * self.frames * (self.conditionals(predicting=False) + samples)

    def prediction(self, windows: int) -> int:
        """Kept of the prior, its KL and the rewards."""
        kl = FLOAT * 8 * self.first_size
        return windows * self.frames * (self.conditionals(predicting=True) + kl) + self.heads_picked()

    def heads_picked(self) -> int:
        """Kept of an ensemble for the KL: weights of the head that each step has, and their gradients."""
        if self.latent_model is None:
            return 0
        parts = [part for part in self.latent_model.children() if isinstance(part, GaussianHeads)]
        weights: int = sum(weight[0].numel() for part in parts for weight in part.weights)
        return 2 * FLOAT * self.config.model.window * weights

    def conditionals(self, predicting: bool) -> int:
        """Kept by the latent model's heads, of one frame: by those that predict it, or by the others."""
        if self.latent_model is None:
            return 0
        total = 0
        for name, head in self.latent_model.named_children():
            predicts = name == "reward" or name.endswith("_prior")
            if isinstance(head, GaussianHead | GaussianHeads | DeltaHead) and predicts == predicting:
                inputs, outputs = ends(head)
                kept = outputs if isinstance(head, DeltaHead) else 3 * outputs // 2  # with the deviation
                total += FLOAT * (inputs + 4 * self.config.model.hidden_size + kept)
        return total

    @property
    def latent_size(self) -> int:
        """Numbers in z_t; 0 without a latent model."""
        return 0 if self.latent_model is None else self.latent_model.latent_size

    @property
    def first_size(self) -> int:
        """Of those, how many are in the first layer, of which there is a KL."""
        return 0 if self.latent_model is None else self.latent_model.sizes[0]

    def heads(self, windows: int) -> int:
        """Kept by heads on features: inputs, and hidden layers before and after activation; similarities."""
        model, f, hidden = self.config.model, self.feature_size, self.config.model.hidden_size
        inverse = model.window * (2 * f + 2 * hidden) if model.inverse_weight else 0
        last = model.window * (f + 2 * hidden) if model.last_action_weight else 0
        contrast = 6 * f + 2 * hidden + 3 * windows if model.contrast_weight else 0
        return FLOAT * windows * (inverse + last + contrast)

    def feature_reward(self, windows: int) -> int:
        """Kept of rewards told from features."""
        model = self.config.model
        each = self.head(2 * self.feature_size + self.step, 1)
        return windows * model.window * each if model.feature_reward_weight else 0

    def head(self, inputs: int, outputs: int) -> int:
        """Kept by a GaussianHead: input, hidden layers before and after activation, mean and deviation."""
        return FLOAT * (inputs + 4 * self.config.model.hidden_size + 5 * outputs)

    def decisions(self, windows: int) -> int:
        """Kept for extra steps, at their end twice: of each window its features, actions and two latents."""
        model = self.config.model
        if not self.config.train.extra_steps:
            return 0
        actions = self.step - self.task_size
        imagined = self.tasks * imagined_beside(windows // self.tasks, self.config.imagination)
        if imagined:
            return 2 * FLOAT * (windows + imagined) * (2 * self.latent_size + actions)
        history = self.frames * self.feature_size + model.window * actions
        return 2 * FLOAT * windows * (history + self.frames * self.latent_size)

    def actor_critic(self, windows: int) -> int:
        """While critics or actor learn from windows of features; the filter keeps its samples only."""
        model, config = self.config.model, self.config.actor_critic
        of_latent, of_features, _ = sights(config.critic_input)
        to_actor = config.actor_input == "latent"
        filters = self.latent_model is not None and (of_latent or to_actor or not self.config.keeps_features)
        latent = self.latent_size if filters else 0
        history = model.window * (self.feature_size + self.step) + self.task_size
        samples = self.frames * (3 * latent + 2 * self.first_size) if filters else 0
        seen = of_latent * latent + of_features * history
        acted_on = latent + self.task_size if to_actor else history
        hidden = config.hidden_layers * config.hidden_size
        critics = 2 * (seen + self.step) + (4 if config.layer_norm else 2) * hidden
        actor = 2 * acted_on + (2 if config.actor_layer_norm else 1) * hidden
        if config.standardise:  # of actor and critics, twice the size while in double precision
            actor += (2 * (not to_actor) + of_features) * history
        imagined = self.tasks * imagined_beside(windows // self.tasks, self.config.imagination)
        learning = FLOAT * (windows * (critics + actor) + imagined * critics)
        learning += self.prediction(windows) if filters else 0
        return FLOAT * windows * samples + max(learning, self.roll_out(imagined))

    def roll_out(self, starts: int) -> int:
        """While latents are rolled out: all steps' noise and latents, and one's heads or a copy of all."""
        model, horizon = self.config.model, self.config.imagination.horizon
        actions = self.step - self.task_size
        steps = horizon * 2 * (self.latent_size + actions)
        heads = max(2 * model.hidden_size, 7 * self.first_size), 3 * self.first_size
        working, kept = (model.heads * size for size in heads)
        return FLOAT * starts * (steps + max(working, steps + kept))


def ends(head: GaussianHead | GaussianHeads | DeltaHead) -> tuple[int, int]:
    """How many numbers go into a head and come out of its last layer."""
    if isinstance(head, GaussianHeads):
        return head.weights[0].shape[2], head.weights[-1].shape[1]
    weights = [layer.weight for layer in head.network if isinstance(layer, torch.nn.Linear)]
    return weights[0].shape[1], len(weights[-1])
