"""Data, recipes and `fit`: from named image data to a trained Keras model in a run folder that can be resumed."""

if __name__ != "wavemix_tf.training":
    # The same file imported under two names would register every Keras class twice; the last one silently wins.
    raise ImportError(
        "This folder is installed as wavemix_tf.training: run `pip install -e .`, then `import wavemix_tf.training`."
    )

from typing import TYPE_CHECKING

from wavemix_tf.startup import is_command

from .errors import BudgetError
from .recipe import Recipe
from .recipes.table import RECIPES
from .searching.spaces import SPACES

if TYPE_CHECKING or not is_command():
    from .data.bundle import DataBundle
    from .data.datasets import load_data
    from .fitting.fit_result import FitResult
    from .fitting.fused_adamw import FusedAdamW
    from .fitting.trainer import fit
    from .searching.search_result import SearchResult
    from .searching.tuner import SearchStoppedError, search

__all__ = [
    "RECIPES",
    "SPACES",
    "BudgetError",
    "DataBundle",
    "FitResult",
    "FusedAdamW",
    "Recipe",
    "SearchResult",
    "SearchStoppedError",
    "fit",
    "load_data",
    "search",
]


def __dir__() -> list[str]:
    return sorted(__all__)
