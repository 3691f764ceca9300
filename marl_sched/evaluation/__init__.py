"""Judging schedulers: metrics of one run, paired comparisons with intervals."""
