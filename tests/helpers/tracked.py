"""A small model and a callback whose runs stay on this machine."""

from stable_baselines3 import PPO

from crashalgos.tracking import WandbCallback

N_STEPS = 32


def make_model(env="CartPole-v1", **kwargs):
    return PPO("MlpPolicy", env, n_steps=N_STEPS, batch_size=N_STEPS, n_epochs=1, policy_kwargs={"net_arch": [8]}, **kwargs)


def offline(**kwargs):
    return WandbCallback("p", mode="offline", verbose=0, **kwargs)
