"""One plain training loop for the LeNets, with the data set as one tensor in memory.

Adam (0.9, 0.99), a tenth of the steps to warm up, cosine to zero, gradients clipped at 5, no augmentation.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from tenfold.data import Batches, load_data
from tenfold.layers import Conv
from tenfold.models.zoo import zoo_model


@dataclass(frozen=True)
class Images:
    """Normalised images (n, 1, 28, 28) and their labels (n,)."""

    images: Tensor
    labels: Tensor

    @staticmethod
    def of(part: Batches) -> "Images":
        """All images of a part in its own order, not augmented."""
        mean, std = part.mean.flatten().tolist(), part.std.flatten().tolist()
        (whole,) = Batches(part.images, part.labels, mean=mean, std=std, batch_size=len(part.labels))
        return Images(*whole)


@dataclass(frozen=True)
class Split:
    """The 55,000 training, 5,000 validation and 10,000 test images of a set."""

    train: Images
    validation: Images
    test: Images

    @staticmethod
    def of(name: str, folder: str) -> "Split":
        """`mnist` or `fashion-mnist`, in a folder of that name."""
        data = load_data(f"{name}:{folder}/{name}")
        return Split(Images.of(data.train), Images.of(data.validation), Images.of(data.test))


@dataclass(frozen=True)
class Recipe:
    """What a run takes beside the network and the rate.

    Attributes:
        images: how many of the training images are used, the first ones.
        shift: pixels by which an image may be moved each way, anew at every step.
    """

    epochs: int
    batch: int
    images: int = 55_000
    shift: int = 0


TRAINED = {"lenet300": Recipe(epochs=8, batch=250), "lenet5": Recipe(epochs=4, batch=128)}


def rate_share(step: int, steps: int) -> float:
    """The share of the peak rate at a step: a tenth of the steps up, a cosine to zero."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))


def train(model: nn.Module, images: Images, recipe: Recipe, lr: float, seed: int) -> float:
    """Train a network in place; the order of the images depends on the seed. Returns: seconds of processor time."""
    draw = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))
    count = min(recipe.images, len(images.labels))
    a_pass = math.ceil(count / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate_share(step, recipe.epochs * a_pass))
    fast_convolutions(model).train()
    start = time.process_time()
    for _ in range(recipe.epochs):
        for index in torch.randperm(count, generator=draw).split(recipe.batch):
            batch = shifted(images.images[index], recipe.shift, draw)
            loss = functional.cross_entropy(model(batch), images.labels[index])
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            adam.step()
            schedule.step()
    return time.process_time() - start


def fast_convolutions(model: nn.Module) -> nn.Module:
    """The same network with its maps in the order that convolutions on a CPU prefer, in place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        if isinstance(module, nn.Conv2d | Conv):
            module.register_forward_pre_hook(lambda _, x: (x[0].contiguous(memory_format=torch.channels_last),))
    return model


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Images (n, 1, rows, columns), each moved by up to so many pixels along both axes; what comes in is background."""
    if most == 0:
        return images
    n, _, rows, columns = images.shape
    background = float(images.min())
    wide = functional.pad(images[:, 0], (most,) * 4, value=background)
    down, right = torch.randint(2 * most + 1, (2, n, 1, 1), generator=generator)
    row, column = torch.arange(rows)[None, :, None] + down, torch.arange(columns)[None, None] + right
    return wide[torch.arange(n)[:, None, None], row, column].unsqueeze(1)


@torch.no_grad()
def top1(model: nn.Module, images: Images) -> float:
    """Percent of images whose class comes first."""
    model.eval()
    right = sum(
        int((model(x).argmax(1) == y).sum())
        for x, y in zip(images.images.split(1000), images.labels.split(1000), strict=True)
    )
    return 100 * right / len(images.labels)


NETWORKS: dict[str, Callable[[], nn.Module]] = {}  # a benchmark's own, beside those of the zoo


def drawn(name: str, seed: int) -> nn.Module:
    """A fresh network from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NETWORKS[name]() if name in NETWORKS else zoo_model(name).build()


def trained(name: str, data: str, cache: Path, *, seed: int = 0, lr: float = 2e-3) -> nn.Module:
    """A LeNet trained on MNIST, from the cache where it was trained before."""
    model, kept = drawn(name, seed), cache / f"{name}-mnist-{seed}.safetensors"
    if kept.exists():
        model.load_state_dict(load_file(kept))
        return model.eval()
    split = Split.of("mnist", data)
    seconds = train(model, split.train, TRAINED[name], lr, seed)
    print(f"{name}: top-1 {top1(model, split.test):.2f} after {seconds:.0f} seconds", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, kept)
    return model
