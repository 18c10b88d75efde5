"""Sampling: schedules and solvers compiled to a plan, and the loop that runs it."""
