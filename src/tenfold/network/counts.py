"""Counts as polynomials in label sizes, so that one formula serves a plan's numbers and a planner's arrays."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Count:
    """A sum of terms `coefficient * product of label sizes`."""

    terms: tuple[tuple[int, tuple[str, ...]], ...]

    def __call__(self, sizes: Mapping[str, Any]) -> Any:
        """The count for these sizes: whole numbers, or arrays that broadcast against each other."""
        return sum(coefficient * math.prod(sizes[label] for label in labels) for coefficient, labels in self.terms)

    def __add__(self, other: "Count") -> "Count":
        return Count(self.terms + other.terms)

    def without(self, labels: Container[str]) -> "Count":
        """The count where these labels have one value each."""
        return Count(tuple((factor, tuple(x for x in term if x not in labels)) for factor, term in self.terms))
