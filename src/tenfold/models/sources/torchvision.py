"""Architectures of torchvision: `torchvision:NAME`, normalised as its published weights want it."""

from functools import partial

from tenfold.models.sources.base import Source, built, check_name, imported
from tenfold.protocols import TenfoldError, near_misses


def torchvision(name: str) -> Source:
    """An architecture; its published weights are not fetched."""
    check_name("torchvision", name)
    models = imported("torchvision.models", "models")
    if name not in models.list_models():
        raise TenfoldError(f"torchvision has no model '{name}'{near_misses(name, models.list_models())}")
    spec = f"torchvision:{name}"
    build = partial(built, spec, partial(models.get_model, name, weights=None))
    given = models.get_model_weights(name).DEFAULT.transforms()
    crop = getattr(given, "crop_size", ())
    if len(crop) != 1:  # not of classifiers of pictures, which are square
        return Source("zoo", spec, build, trained=False)
    shape = (len(given.mean), *crop, *crop)
    return Source("zoo", spec, build, None, False, tuple(given.mean), tuple(given.std), shape)
