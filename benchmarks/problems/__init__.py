"""Generators of search problems with known optimum: families.py says what each is, suite.py makes them."""

from benchmarks.problems.suite import Instance, make, names

__all__ = ["Instance", "make", "names"]
