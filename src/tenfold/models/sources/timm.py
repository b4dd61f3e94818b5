"""Architectures of timm: `timm:NAME`, normalised as its published weights want it."""

from functools import partial

from tenfold.models.sources.base import Source, built, check_name, imported
from tenfold.named import foreign
from tenfold.protocols import TenfoldError, near_misses


def timm(name: str) -> Source:
    """An architecture, with or without the tag of its weights, which are not fetched."""
    check_name("timm", name)
    package = imported("timm", "models")
    plain = name.partition(".")[0]
    if not package.is_model(plain):
        raise TenfoldError(f"timm has no model '{plain}'{near_misses(plain, package.list_models())}")
    spec = f"timm:{name}"
    with foreign(repr(spec)):  # a tag that there is not
        config = package.get_pretrained_cfg(name)
    build = partial(built, spec, partial(package.create_model, plain))
    if config is None:
        return Source("zoo", spec, build, trained=False)
    return Source("zoo", spec, build, None, False, config.mean, config.std, config.input_size)
