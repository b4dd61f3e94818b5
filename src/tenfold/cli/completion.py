"""Names that a shell completes: of networks, data sets, tasks and formats. torch is imported for these alone."""

from collections.abc import Iterable


def networks(incomplete: str) -> list[str]:
    """Of the zoo, and how names of other sources begin; for all else there are none, and the shell completes files."""
    from tenfold.models import ZOO
    from tenfold.models.sources import SOURCES

    return beginning(incomplete, [*ZOO, *(f"{name}:" for name in SOURCES)])


def data_sets(incomplete: str) -> list[str]:
    """As they are spelled, up to the folder."""
    from tenfold.data import DATA_SETS

    return beginning(incomplete, [entry.spelling.removesuffix("DIR") for entry in DATA_SETS.values()])


def tasks(incomplete: str) -> list[str]:
    """By name."""
    from tenfold.tasks import TASKS

    return beginning(incomplete, TASKS)


def formats(incomplete: str) -> list[str]:
    """The last of a list, such as `conv=ht2,linear=svd`."""
    from tenfold.formats import available
    from tenfold.planning.asked import AUTO, HYBRID

    return completed(incomplete, [*available(), AUTO, HYBRID])


def layers(incomplete: str) -> list[str]:
    """What a layer is to be: `fc=svd`, `fc=dense`."""
    from tenfold.formats import DENSE, available

    return completed(incomplete, [*available(), DENSE]) if "=" in incomplete else []


def completed(incomplete: str, names: Iterable[str]) -> list[str]:
    """What stands behind the last comma or equals sign, completed."""
    at = 1 + max(incomplete.rfind(","), incomplete.rfind("="))
    return [incomplete[:at] + name for name in beginning(incomplete[at:], names)]


def beginning(text: str, names: Iterable[str]) -> list[str]:
    """The names that begin so, in order."""
    return sorted(name for name in names if name.startswith(text))
