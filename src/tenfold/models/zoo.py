"""The zoo: known architectures by name, each with the input that it was made for; weights come from elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from tenfold.models.cifar_resnet import CifarResNet
from tenfold.models.digits_cnn import DigitsCNN
from tenfold.models.imagenet_resnet import Basic, Bottleneck, ImageNetResNet
from tenfold.models.lenet import LeNet5, LeNet300
from tenfold.models.vgg import CifarVGG16
from tenfold.models.wide_resnet import WideResNet
from tenfold.protocols import TenfoldError, near_misses


@dataclass(frozen=True)
class ZooModel:
    """An architecture of the zoo.

    Attributes:
        build: a fresh network, its weights drawn from torch's current random state.
        input_shape: of one sample, without the batch: (channels, height, width).
        mean, std: what its inputs are normalised with, a value a channel, pixels from 0 to 1; None if they are not.
        description: one line for people.
    """

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    description: str


_digits = partial(ZooModel, input_shape=(1, 8, 8), mean=(0.3053,), std=(0.3760,))
_mnist = partial(ZooModel, input_shape=(1, 28, 28), mean=(0.1307,), std=(0.3081,))
_cifar = partial(ZooModel, input_shape=(3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
# the published weights of the CIFAR ResNets were trained with the numbers of ImageNet
_cifar_resnet = partial(ZooModel, input_shape=(3, 32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_imagenet = partial(ZooModel, input_shape=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

ZOO: dict[str, ZooModel] = {
    "digits-cnn": _digits(DigitsCNN, description="four convolutions for the 8 x 8 digits of scikit-learn"),
    "lenet300": _mnist(LeNet300, description="LeNet-300-100 for MNIST, three linear layers"),
    "lenet5": _mnist(LeNet5, description="LeNet-5 for MNIST, 20-50-500"),
    "resnet20": _cifar_resnet(partial(CifarResNet, 20), description="ResNet-20 for CIFAR-10, option A shortcuts"),
    "resnet32": _cifar_resnet(partial(CifarResNet, 32), description="ResNet-32 for CIFAR-10, option A shortcuts"),
    "resnet44": _cifar_resnet(partial(CifarResNet, 44), description="ResNet-44 for CIFAR-10, option A shortcuts"),
    "resnet56": _cifar_resnet(partial(CifarResNet, 56), description="ResNet-56 for CIFAR-10, option A shortcuts"),
    "resnet110": _cifar_resnet(partial(CifarResNet, 110), description="ResNet-110 for CIFAR-10, option A shortcuts"),
    "wrn16-4": _cifar(partial(WideResNet, 16, 4), description="Wide ResNet-16-4 for CIFAR-10"),
    "wrn28-10": _cifar(partial(WideResNet, 28, 10), description="Wide ResNet-28-10 for CIFAR-10"),
    "vgg16-cifar": _cifar(CifarVGG16, description="VGG-16 with batch norms for CIFAR-10, one linear layer"),
    "resnet18": _imagenet(partial(ImageNetResNet, Basic, (2, 2, 2, 2)), description="ResNet-18 for ImageNet"),
    "resnet50": _imagenet(partial(ImageNetResNet, Bottleneck, (3, 4, 6, 3)), description="ResNet-50 for ImageNet"),
}


def zoo_model(name: str) -> ZooModel:
    """The zoo's entry of that name, in any case. Raises: TenfoldError with near misses if there is none."""
    if name.lower() not in ZOO:
        raise TenfoldError(f"no network of the zoo is called {name!r}{near_misses(name, ZOO)}")
    return ZOO[name.lower()]
