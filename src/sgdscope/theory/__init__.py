"""Theory: numbers in, numbers out. Imports numpy and scipy, never torch."""
