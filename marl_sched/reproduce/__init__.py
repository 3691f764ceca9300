"""Published experiments, run by their own rules on our simulator."""
