"""Runs policy.onnx by contract.json with NumPy and onnxruntime alone; --play N imports metarl for its environments."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime


class Policy:
    """The policy of a folder: `act` on raw observations and `observe` in turn, at the contract's rate."""

    def __init__(self, folder: Path) -> None:
        self.contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        self.session, self.rng = onnxruntime.InferenceSession(folder / "policy.onnx"), np.random.default_rng(0)
        self.new_trial()

    def new_trial(self) -> None:
        """Forgets the task, before another one."""
        self.given = {one["name"]: np.zeros(one["shape"], np.float32) for one in self.contract["inputs"]}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action; if the robot receives another one, put that into `given["previous_action"]`."""
        self.given["observation"] = np.asarray(observation, np.float32).ravel()
        if noise := self.contract["noise"]:  # standard normal or standard gumbel
            self.given["noise"] = getattr(self.rng, noise["distribution"].split()[1])(size=noise["size"]).astype("f4")
        self.given["previous_action"], self.given["memory"] = self.session.run(None, self.given)
        return self.given["previous_action"]

    def observe(self, reward: float, done: bool) -> None:
        """The reward of the action, and whether the episode is over."""
        self.given |= {"previous_reward": np.array([reward], np.float32), "done": np.array([done], np.float32)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--play", type=int, default=0, metavar="N", help="episodes to play in metarl's environments")
    parser.add_argument("--family", help="the family as module:function, if it is code of your own")
    words, policy = parser.parse_args(), Policy(Path(__file__).resolve().parent)
    if not words.play:
        print(policy.contract["action"]["names"] or "action", policy.act(policy.given["observation"]))
        parser.exit(0, "the action at an observation of zeros, as the first of a trial; --play N plays episodes\n")
    try:
        from metarl.exporting.playing import environment
    except ImportError as error:
        parser.exit(2, f"run_policy.py: error: --play needs metarl: {error}; run: pip install metarl-robots\n")
    env = environment(policy.contract, words.family)
    for episode in range(words.play):
        (seen, _), total, done = env.reset(seed=episode), 0.0, False
        while not done:
            seen, reward, terminated, truncated, _ = env.step(policy.act(seen).reshape(env.action_space.shape))
            total, done = total + float(reward[0]), bool(terminated[0] or truncated[0])
            policy.observe(float(reward[0]), done)
        print(f"episode {episode + 1}: return {total:.2f}")
