"""The set-structured network, the PPO and DQN modules on it, and the artefact they leave."""
