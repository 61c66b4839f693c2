"""Learn to balance a pole on a cart by a policy gradient.

    python examples/cartpole_reinforce.py
    python examples/cartpole_reinforce.py --steps 200 --episodes 16

After Williams 1992 (REINFORCE): each action becomes more likely in proportion to the reward that
followed it. The cart and its pole are those of Barto, Sutton and Anderson 1983. It also runs on
PyTorch, with PyTorch's import lines (examples/README.md).
"""

import argparse
import math
import random
from typing import Any, NamedTuple

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import Adam

LONGEST = 200  # steps of an episode


class CartPole(NamedTuple):
    """The cart's position and speed, the pole's angle from upright and its angular speed."""

    position: float
    speed: float
    angle: float
    turning: float

    def pushed(self, right: bool) -> "CartPole":
        """The state 0.02 s later, after a force of 10 N to the right or to the left."""
        gravity, cart, pole, half_length, tick = 9.8, 1.0, 0.1, 0.5, 0.02
        force = 10.0 if right else -10.0
        sine, cosine, mass = math.sin(self.angle), math.cos(self.angle), cart + pole
        push = (force + pole * half_length * self.turning**2 * sine) / mass
        turn = (gravity * sine - cosine * push) / (half_length * (4 / 3 - pole * cosine**2 / mass))
        pull = push - pole * half_length * turn * cosine / mass
        return CartPole(
            self.position + tick * self.speed,
            self.speed + tick * pull,
            self.angle + tick * self.turning,
            self.turning + tick * turn,
        )

    @property
    def fallen(self) -> bool:
        """Whether the cart has left its track, or the pole is over 12 degrees from upright."""
        return abs(self.position) > 2.4 or abs(self.angle) > math.radians(12)


def policy() -> nn.Sequential:
    """(N, 4) states to (N, 2) logits of the actions left and right."""
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))


@gradient.no_grad()
def play(
    model: nn.Module, episodes: int, rng: random.Random
) -> tuple[list[list[CartPole]], list[list[int]]]:
    """The states and actions of some episodes, played in parallel."""
    now = [CartPole(*(rng.uniform(-0.05, 0.05) for _ in range(4))) for _ in range(episodes)]
    states: list[list[CartPole]] = [[] for _ in now]
    actions: list[list[int]] = [[] for _ in now]
    for _ in range(LONGEST):
        going = [i for i in range(episodes) if not now[i].fallen]
        if not going:
            break
        chances = F.softmax(model(gradient.tensor([now[i] for i in going])), dim=1).tolist()
        for i, (_, right) in zip(going, chances, strict=True):
            states[i].append(now[i])
            actions[i].append(int(rng.random() < right))
            now[i] = now[i].pushed(actions[i][-1] == 1)
    return states, actions


def returns(length: int, discount: float = 0.98) -> list[float]:
    """The discounted return of each step of an episode; each step of it has the reward 1."""
    sums = [0.0]
    for _ in range(length):
        sums.append(1 + discount * sums[-1])
    return sums[:0:-1]


def policy_loss(
    model: nn.Module, states: gradient.Tensor, actions: gradient.Tensor, weights: gradient.Tensor
) -> gradient.Tensor:
    """The mean of weight * -log p(action | state). Its gradient is the policy gradient (Williams
    1992, theorem 1).

    states (N, 4), actions (N,) int64, weights (N,)."""
    return (F.cross_entropy(model(states), actions, reduction="none") * weights).mean()


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--episodes", type=int, default=16, help="played before each step")
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    rng = random.Random(args.seed)
    model = policy()
    optimizer = Adam(model.parameters(), lr=args.lr)
    lengths = []
    for step in range(args.steps):
        states, actions = play(model, args.episodes, rng)
        gains = gradient.tensor([gain for each in states for gain in returns(len(each))])
        loss = policy_loss(
            model,
            gradient.tensor([state for each in states for state in each]),
            gradient.tensor([action for each in actions for action in each]),
            (gains - gains.mean()) / (gains.std() + 1e-6),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lengths.append(sum(map(len, states)) / args.episodes)
        if step % 10 == 0 or step == args.steps - 1:
            print(f"step {step:4d}  the pole stood for {lengths[-1]:5.1f} of {LONGEST} steps")
    return {"lengths": lengths}


if __name__ == "__main__":
    main()
