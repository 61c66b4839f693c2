"""Models of control: reinforcement learning."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from bench.further_models.features import normal, perceptron
from bench.training_models import Built, TrainingModel


def dqn(package: Any) -> Built:
    """A deep Q-network (Mnih et al. 2015) for four observations and two actions; the target
    network follows the other slowly (Lillicrap et al. 2016)."""
    nn = package.nn
    online, target = (perceptron(package, (4, 128, 128, 2), nn.ReLU) for _ in range(2))
    target.load_state_dict(online.state_dict())
    target.requires_grad_(False)

    def loss(x: Any, action: Any) -> Any:
        state, following, reward, done = x[:, :4], x[:, 4:8], x[:, 8], x[:, 9]
        with package.no_grad():
            best, _ = target(following).max(dim=1)
            wanted = reward + 0.99 * best * (1 - done)
        value = online(state).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(value, wanted)
        with package.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 0.005)
        return loss

    draws = np.random.default_rng(0)
    x = normal(draws, 64, 10)
    x[:, 8], x[:, 9] = 1.0, draws.random(64) < 0.1
    return nn.ModuleList([online, target]), loss, [x, draws.integers(0, 2, 64)]


def ppo(is_discrete: bool, package: Any) -> Built:
    """Proximal policy optimisation (Schulman et al. 2017) with the details of Huang et al. (2022):
    normalised advantages, clipped ratios and values, an entropy bonus. The actions are classes, or
    vectors with a standard deviation that is a parameter."""
    nn, distributions = package.nn, package.distributions
    observations, actions = (8, 4) if is_discrete else (17, 6)

    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic = perceptron(package, (observations, 64, 64, 1), nn.Tanh)
            self.actor = perceptron(package, (observations, 64, 64, actions), nn.Tanh)
            if not is_discrete:
                self.log_std = nn.Parameter(package.zeros(1, actions))
            for layer in (*self.critic, *self.actor):
                if isinstance(layer, nn.Linear):
                    nn.init.orthogonal_(layer.weight, math.sqrt(2))
                    nn.init.constant_(layer.bias, 0.0)

        def evaluate(self, x: Any, action: Any) -> tuple[Any, Any, Any]:
            if is_discrete:
                policy = distributions.Categorical(logits=self.actor(x))
                log_prob, entropy = policy.log_prob(action), policy.entropy()
            else:
                mean = self.actor(x)
                policy = distributions.Normal(mean, self.log_std.expand_as(mean).exp())
                log_prob, entropy = policy.log_prob(action).sum(1), policy.entropy().sum(1)
            return log_prob, entropy, self.critic(x).view(-1)

    agent = Agent()

    def loss(x: Any, y: Any) -> Any:
        old_log_prob, advantage, returns, old_value = x[:, observations:].unbind(1)
        log_prob, entropy, value = agent.evaluate(x[:, :observations], y)
        ratio = (log_prob - old_log_prob).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy_loss = package.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean()
        clipped = old_value + package.clamp(value - old_value, -0.2, 0.2)
        value_loss = package.max((value - returns) ** 2, (clipped - returns) ** 2).mean() / 2
        return policy_loss - 0.01 * entropy.mean() + 0.5 * value_loss

    draws = np.random.default_rng(0)
    x = normal(draws, 256, observations + 4)
    x[:, observations] = x[:, observations] / 10 - (1.4 if is_discrete else 8.5)
    x[:, observations + 2] += 3
    y = draws.integers(0, actions, 256) if is_discrete else normal(draws, 256, actions)
    return agent, loss, [x, y]


def sac(package: Any) -> Built:
    """Soft actor-critic (Haarnoja et al. 2018): the losses of the actor, of two critics and of the
    temperature. The policy is a normal distribution, squashed by tanh."""
    nn = package.nn
    F, distributions = nn.functional, package.distributions
    observations, actions = 17, 6

    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = perceptron(package, (observations, 256, 256), nn.ReLU)
            self.mean, self.log_std = nn.Linear(256, actions), nn.Linear(256, actions)

        def forward(self, x: Any) -> tuple[Any, Any]:
            x = F.relu(self.body(x))
            log_std = -5 + 0.5 * (2 + 5) * (package.tanh(self.log_std(x)) + 1)
            policy = distributions.Normal(self.mean(x), log_std.exp())
            drawn = policy.rsample()
            action = package.tanh(drawn)
            log_prob = policy.log_prob(drawn) - package.log(1 - action.pow(2) + 1e-6)
            return action, log_prob.sum(1, keepdim=True)

    def critic() -> Any:
        return perceptron(package, (observations + actions, 256, 256, 1), nn.ReLU)

    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor, self.log_alpha = Actor(), nn.Parameter(package.full((1,), -2.0))
            self.critics = nn.ModuleList([critic(), critic()])
            self.targets = nn.ModuleList([critic(), critic()])
            self.targets.load_state_dict(self.critics.state_dict())
            self.targets.requires_grad_(False)

    agent = Agent()

    def loss(x: Any, y: Any) -> Any:
        with package.no_grad():
            for slow, fast in zip(
                agent.targets.parameters(), agent.critics.parameters(), strict=True
            ):
                slow.copy_(0.995 * slow + 0.005 * fast)
        state, following, action = x[:, :17], x[:, 17:34], x[:, 34:]
        reward, done = y.split(1, dim=1)
        alpha = agent.log_alpha.exp().detach()
        with package.no_grad():
            next_action, next_log_prob = agent.actor(following)
            both = package.cat([following, next_action], 1)
            value = package.min(*(target(both) for target in agent.targets))
            wanted = reward + (1 - done) * 0.99 * (value - alpha * next_log_prob)
        both = package.cat([state, action], 1)
        loss = sum(F.mse_loss(critic(both), wanted) for critic in agent.critics)
        drawn, log_prob = agent.actor(state)
        both = package.cat([state, drawn], 1)
        loss = loss + (alpha * log_prob - package.min(*(q(both) for q in agent.targets))).mean()
        return loss - (agent.log_alpha.exp() * (log_prob.detach() - actions)).mean()

    draws = np.random.default_rng(0)
    y = np.stack([normal(draws, 256) + 4, draws.random(256) < 0.1], 1).astype(np.float32)
    return agent, loss, [normal(draws, 256, 40), y]


MODELS = [
    TrainingModel("DQN 4-128-128-2, 64", dqn),
    TrainingModel("PPO, vectors, 256", partial(ppo, False)),
    TrainingModel("PPO, classes, 256", partial(ppo, True)),
    TrainingModel("SAC 256-256, 256", sac),
]
