"""Our RLlib plug-ins (batched runner, connector, buffer) and one training run."""
