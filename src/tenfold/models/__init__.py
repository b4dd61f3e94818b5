"""The zoo of architectures, networks named by a string, and published weights for them."""

from tenfold.models.sources import Source, again, resolve
from tenfold.models.weights import load_weights
from tenfold.models.zoo import ZOO, ZooModel, zoo_model

__all__ = ["ZOO", "Source", "ZooModel", "again", "load_weights", "resolve", "zoo_model"]
