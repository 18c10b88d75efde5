"""Processes: isolated stages, standard streams, crash reports, signals."""
