"""TFDS builder of scikit-learn's digits; TFDS requires a separate package for a builder."""

from .builder import Builder, prepared_builder

__all__ = ["Builder", "prepared_builder"]
