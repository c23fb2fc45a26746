"""Benchmarks: figures of speed and memory, each against rivals and a bar. Run ``python -m benchmarks``."""
