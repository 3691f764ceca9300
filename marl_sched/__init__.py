"""Train, judge and run schedulers for deep-learning jobs that share GPUs."""

__version__ = "0.1.0"
