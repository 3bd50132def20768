"""TFDS builder of scikit-learn's digits; a TFDS builder has to live in a package of its own."""

from .builder import Builder, prepared_builder

__all__ = ["Builder", "prepared_builder"]
