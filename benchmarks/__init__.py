"""Benchmarks: figures of speed and memory, each against rivals and a bar, in one process. Run ``python -m benchmarks``."""
