"""The page for whoever gets the folder: what it is, how to load and run it, how large it is."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from tenfold import measure
from tenfold.layers import FactoredWeight
from tenfold.storage.document import PAGE as PAGE_HTML
from tenfold.storage.document import RECIPE, REPORT, Document
from tenfold.surgery import Plan

PAGE = """\
# {name}: {what}

## Load and run
With tenfold {version} or later installed:

```python
{snippet}
```
{notes}{measured}
## What is here
| file | what |
|---|---|
| `model.safetensors` | all numbers, {megabytes:.2f} MB |
| `plan.yaml` | what was done to every layer; to change it, edit a copy and hand it to `--plan` |
| `model.json` | where the architecture comes from, hashes of the files, versions |
{files}
## Layers
| layer | format | ranks | parameters before | after |
|---|---|---|---|---|
{rows}

Layers that are not listed are as they were.
"""


BESIDE = {
    REPORT: "what was measured, as JSON",
    PAGE_HTML: "the same, as a page for the browser",
    RECIPE: "all options of the command that made this",
}


def page(
    name: str,
    model: nn.Module,
    plan: Plan,
    document: Document,
    tensors: Mapping[str, Tensor],
    version: str,
    words: Sequence[str] = (),
    beside: Collection[str] = (),
) -> str:
    """The page, in Markdown. Args: words: what was measured, in sentences; beside: further files that are there."""
    weights = factored(model)
    saved = {row: math.prod(weight.net.axes.values()) for row, weight in weights.items()}
    params = measure.params(model)
    cores = {id(core): core.numel() for weight in weights.values() for core in weight.cores}
    dense = params - sum(cores.values()) + sum(saved.values())
    origin = document.origin
    said = ["the architecture's source", *["imported by it"] * len(origin.neighbours)]
    others = {name: text for name, text in BESIDE.items() if name in beside}
    files = [f"| `{name}` | {text} |" for name, text in [*others.items(), *zip(origin.sources, said, strict=False)]]
    return PAGE.format(
        name=name,
        what=what(origin.name, len(weights), params, dense),
        version=version,
        snippet=snippet(name, document, next((p.dtype for p in model.parameters()), torch.float32)),
        notes=notes(document),
        measured=measured(words),
        megabytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6,
        files="".join(f"{line}\n" for line in files),
        rows="\n".join(row_line(plan, row, weight) for row, weight in weights.items()) or "| none | | | | |",
    )


def what(origin: str, count: int, params: int, dense: int) -> str:
    """The title and the first sentences."""
    if not count:
        return f"a trained {origin}\n\nA trained PyTorch network, dense. It holds {params:,} parameters."
    weights = "one weight is" if count == 1 else f"{count} weights are"
    return (
        f"a compressed {origin}\n\n"
        f'A trained PyTorch network in tensor networks: {weights} stored as small tensors ("cores").\n'
        f"It holds {params:,} parameters instead of {dense:,}: {dense / max(params, 1):.2f} times fewer."
    )


def measured(words: Sequence[str]) -> str:
    """What was measured, a line a sentence; nothing where nobody says anything."""
    return "\n## What was measured\n" + "".join(f"- {sentence}\n" for sentence in words) if words else ""


def factored(model: nn.Module) -> dict[str, FactoredWeight]:
    """Every weight in cores once, by its first name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, FactoredWeight)}


def row_line(plan: Plan, name: str, weight: FactoredWeight) -> str:
    """One line of the table of layers."""
    row = plan.rows.get(name) or plan.rows.get(name.rpartition(".")[0] or "model")
    ranks = ", ".join("full" if rank is None else str(rank) for rank in row.ranks) if row else ""
    before, after = math.prod(weight.net.axes.values()), weight.net.params
    return f"| `{row.name if row else name}` | {row.form if row else ''} | {ranks} | {before:,} | {after:,} |"


def snippet(name: str, document: Document, dtype: torch.dtype) -> str:
    """Python that loads the network and runs it on an input of the right shape."""
    shapes = document.input or {}
    lines = ["import tenfold", "import torch", ""]
    lines += [f'model = tenfold.load("{name}"{argument(document)})  # in eval mode']
    kind = "" if dtype == torch.float32 else f", dtype={dtype}"
    for key, shape in shapes.items():
        drawn = f", dtype=torch.{document.dtypes[key]}" if key in document.dtypes else kind
        maker = "zeros" if key in document.dtypes else "rand"
        lines.append(f"{key} = torch.{maker}(1, {', '.join(map(str, shape))}{drawn})")
    if document.normalisation:
        key, shape = next(iter(shapes.items()), ("x", [3, 1, 1]))
        lines += [f"{part} = torch.tensor({list(document.normalisation[part])}{kind})" for part in ("mean", "std")]
        channels = "[:" + ", None" * (len(shape) - 1) + "]"
        lines += [f"{key} = ({key} - mean{channels}) / std{channels}  # {key}: values from 0 to 1"]
    lines += ["with torch.inference_mode():", f"    y = model({', '.join(shapes) or 'x'})"]
    return "\n".join(lines)


def argument(document: Document) -> str:
    """What `load` wants besides the folder."""
    return {
        "zoo": "",
        "file": ", trust_code=True",
        "package": ", trust_code=True",
        "given": f", model={document.origin.name}(...)",
    }[document.origin.kind]


def among(names: Sequence[str]) -> str:
    """`a`; read it first. Or `a`, `b`; read them first."""
    return f"{', '.join(f'`{name}`' for name in names)}; read {'it' if len(names) == 1 else 'them'} first"


def notes(document: Document) -> str:
    """What the reader should know before running the snippet."""
    origin = document.origin
    lines = []
    if origin.kind == "file" and origin.code:
        lines.append(f"`trust_code=True` runs {among([*origin.sources])}.")
    if origin.kind == "package":
        lines.append(f"`trust_code=True` imports and runs `{origin.name}`, which has to be installed.")
    if origin.kind == "given":
        lines.append(f"`{origin.name}` is the class of the dense network; it is needed to build the architecture.")
    if not document.input:
        lines.append("`x` is a batch of the network's inputs.")
    return "".join(f"\n{line}\n" for line in lines)
