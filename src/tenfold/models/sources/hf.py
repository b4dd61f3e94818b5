"""Networks of transformers: `hf:FOLDER`, `hf:FOLDER/config.json` without its weights, `hf:NAME` of the hub."""

from functools import partial
from pathlib import Path
from typing import Any

from tenfold.models.sources.base import Source, built, imported
from tenfold.named import foreign
from tenfold.protocols import TenfoldError, within

CONFIG = "config.json"


def hf(name: str) -> Source:
    """A network and its weights, whole or in shards; the architecture alone where a config is named."""
    place = Path(name).expanduser()
    if not name or (name.startswith(("/", ".", "~")) and not place.exists()):
        raise TenfoldError(f"'hf:{name}' names no folder that is there; name one that save_pretrained wrote.")
    transformers = imported("transformers", "transformers")
    alone = place.is_file()
    path = place if alone else config_of(name)
    with within(f"'hf:{name}'"), foreign(f"reading {path.name}"):
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
        kind = architecture(transformers, config)
    build = partial(kind._from_config, config) if alone else partial(kind.from_pretrained, path.parent)
    own = path.absolute().parent.name if place.exists() else name
    return Source("zoo", f"hf:{own}", partial(built, f"hf:{name}", build), path.absolute(), trained=not alone)


def config_of(name: str) -> Path:
    """The config of a folder, or of a network of the hub, which is then on this machine.

    Raises: TenfoldError where there is none.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        hub = imported("huggingface_hub", "transformers")
        try:
            folder = Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
        except (OSError, ValueError) as error:  # no such name, no network, no access
            said = " ".join(str(error).split())
            raise TenfoldError(
                f"'hf:{name}' is neither a folder nor a network that the hub gives us ({said:.200}); name a folder "
                "that save_pretrained wrote."
            ) from error
    if not (folder / CONFIG).is_file():
        raise TenfoldError(f"'hf:{name}' has no {CONFIG}; name a folder that save_pretrained wrote.")
    return folder / CONFIG


def architecture(transformers: Any, config: Any) -> Any:
    """The class of transformers that a config is of.

    Raises: TenfoldError for a class of anyone's own, and for numbers that are no plain weights.
    """
    if getattr(config, "quantization_config", None) is not None:
        method = dict(config.quantization_config).get("quant_method")
        raise TenfoldError(f"its weights are stored by '{method}'; name the folder of the dense network.")
    name = (config.architectures or ["AutoModel"])[0]
    kind = getattr(transformers, name, None)
    if kind is None:
        raise TenfoldError(f"it is a '{name}', which transformers does not have; name a function that builds it.")
    return kind
