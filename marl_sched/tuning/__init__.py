"""Sweeps of training runs under Ray Tune, as pages of data; see `page.Sweep`."""
