"""A child has not got the threads of the process it was forked from: it is told so, and makes its own."""

from typing import Any

import pytest
import torch
from scripts import run_program

from metaslac import envs
from metaslac.envs.pixels.back_end import obstacle

# Forks with an environment at hand; prints what came of `what` in the child, and how the child ended.
FORK = """
import json, os, signal, sys, time
import numpy as np
from metaslac import envs

def make():
    family = envs.make_family("point_robot", image_size=32, observation=observation)
    return envs.make_vector_env(family, 8, threads=int(threads), tolerant=tolerant == "True")

what, observation, threads, tolerant = sys.argv[1:]
env, still = make(), np.zeros((8, 2))
env.reset(seed=0)
expected = env.step(still)[0]
sys.stdout.flush()
child = os.fork()
if child == 0:
    try:
        exec(what)
        print("fine", flush=True)
    except envs.FamilyError as error:
        print(error, flush=True)
    sys.exit(3)
deadline, ended = time.monotonic() + 20, (0, 0)
while ended == (0, 0) and time.monotonic() < deadline:
    ended = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
if ended == (0, 0):
    os.kill(child, signal.SIGKILL)
print(os.waitstatus_to_exitcode(ended[1]) if ended[0] else "hangs")
env.step(still)
env.close()
"""
NEW = """
other = make()
other.reset(seed=0)
np.testing.assert_array_equal(other.step(still)[0], expected)
other.close()
"""
ADVICE = "was made before this process was forked off, and its threads are not here; make a new one here"
BACK_ENDS = [name for name in ("egl", "osmesa") if obstacle(name) is None]


def child(what: str, observation: str, threads: int, tolerant: bool, back_end: str) -> str:
    done = run_program(FORK, what, observation, str(threads), str(tolerant), MUJOCO_GL=back_end)
    assert done.returncode == 0, done.stderr
    said, end = done.stdout.splitlines()
    assert end == "3"  # the child's own exit code
    return said


@pytest.mark.parametrize(
    ("what", "observation", "threads", "tolerant"),
    [
        ("env.step(still)", "pixels", 1, False),
        ("env.reset(seed=1)", "pixels", 2, False),
        ("env.step(still)", "pixels", 2, True),
        ("env.step(still)", "state", 2, False),
        ("env.reset(seed=1)", "state", 2, False),
        ("env.step(still)", "state", 2, True),
        ("env.renderer", "pixels", 1, False),
    ],
)
def test_an_env_from_before_a_fork_says_so(what: str, observation: str, threads: int, tolerant: bool) -> None:
    assert ADVICE in child(what, observation, threads, tolerant, BACK_ENDS[0])


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("what", [NEW, "pass"], ids=["a new one", "nothing"])
def test_a_child_draws_with_its_own_and_ends(what: str, back_end: str) -> None:
    assert child(what, "pixels", 2, False, back_end) == "fine"


@pytest.mark.parametrize("observation", ["pixels", "state"])
@pytest.mark.parametrize("what", ["env.close()", "del env"], ids=["closed", "dropped"])
def test_a_child_can_let_go_of_what_it_has_not_made(what: str, observation: str) -> None:
    assert child(what, observation, 2, False, BACK_ENDS[0]) == "fine"


@pytest.mark.parametrize(("threads", "what"), [(2, NEW), (1, "env.step(still); env.reset(seed=1)")])
def test_a_child_goes_on_with_states_that_need_no_thread_of_its_parent(threads: int, what: str) -> None:
    assert child(what, "state", threads, False, BACK_ENDS[0]) == "fine"


class Frames(torch.utils.data.Dataset[torch.Tensor]):
    """The first pictures of two episodes, of an env that was made in the process that uses it, or not."""

    def __init__(self, env: Any = None) -> None:
        self.env = env

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.env is None:
            self.env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 2)
        return torch.from_numpy(self.env.reset(seed=index)[0])


def test_a_data_loader_makes_its_env_in_the_worker() -> None:
    env = Frames()[0], Frames()[1]
    loaded = torch.utils.data.DataLoader(Frames(), num_workers=1, timeout=60, multiprocessing_context="fork")
    for own, theirs in zip(env, loaded, strict=True):
        assert torch.equal(own[None], theirs)
    handed_over = Frames(envs.make_vector_env(envs.make_family("point_robot", image_size=32), 2))
    refused = torch.utils.data.DataLoader(
        handed_over, num_workers=1, timeout=60, multiprocessing_context="fork"
    )
    with pytest.raises(envs.FamilyError, match="in a DataLoader: in its worker"):
        next(iter(refused))
    handed_over.env.close()
