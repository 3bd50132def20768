"""Errors of the search."""

from __future__ import annotations


class BudgetError(ValueError):
    """No candidate of the space is within the budget."""
