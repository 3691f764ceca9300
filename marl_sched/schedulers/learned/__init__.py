"""Schedulers with trained weights: the scorer, its file, its guard, families of scorers."""
