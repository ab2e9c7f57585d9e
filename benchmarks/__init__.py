"""How fast the package is beside programs written by hand that do the same work, in one run: `python -m benchmarks`."""
