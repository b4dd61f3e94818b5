"""Loaders on small generated files, batches and their order, augmentation, and what was given wrongly."""

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from tenfold.data import DATA_SETS, Batches, Shift, flip, load_data
from tenfold.inputs import tensors_in
from tenfold.models import ZOO
from tenfold.protocols import TenfoldError
from tenfold.tasks import TASKS, Objective


def bytes_of(*shape: int, below: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def write(path: Path, content: bytes, packed: bool) -> None:
    Path(f"{path}.gz" if packed else path).write_bytes(gzip.compress(content) if packed else content)


def mnist_folder(folder: Path, packed: bool = False) -> Path:
    for part, count in (("train", 40), ("t10k", 10)):
        write(folder / f"{part}-images-idx3-ubyte", idx(bytes_of(count, 28, 28)), packed)
        write(folder / f"{part}-labels-idx1-ubyte", idx(bytes_of(count, below=10)), packed)
    return folder


def cifar_folder(folder: Path, packed: bool = False) -> Path:
    for k, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        records = np.concatenate([bytes_of(8, 1, below=10, seed=k), bytes_of(8, 3072, seed=k)], axis=1)
        write(folder / name, records.tobytes(), packed)
    return folder


def picture_folder(folder: Path, parts: tuple[str, ...] = ("train", "val")) -> Path:
    for part in parts:
        for k, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for n in range(3):
                picture = Image.fromarray(bytes_of(40, 30 + 10 * n, 3, seed=10 * k + n))
                picture.save(folder / part / name / (f"{n}.png" if n else f"{n}.JPG"))
    return folder


def stacked(batches: object) -> list[Tensor]:
    """The columns of all batches: images and labels."""
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_files(tmp_path: Path, packed: bool) -> None:
    data = load_data(f"mnist:{mnist_folder(tmp_path, packed)}", batch_size=16, mean=(0.5,), std=(0.25,))
    images, labels = stacked(data.test)
    assert torch.equal(labels, torch.from_numpy(bytes_of(10, below=10)).long())
    wanted = (torch.from_numpy(bytes_of(10, 28, 28)).float()[:, None] / 255 - 0.5) / 0.25
    assert torch.equal(images, wanted)
    assert [len(part) for part in (data.train, data.inputs, data.validation, data.test)] == [3, 3, 1, 1]
    assert torch.equal(stacked(data.validation)[1], torch.from_numpy(bytes_of(40, below=10))[36:].long())


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_files(tmp_path: Path, packed: bool) -> None:
    data = load_data(f"cifar10:{cifar_folder(tmp_path, packed)}", mean=(0.0,) * 3, std=(1.0,) * 3)
    images, labels = stacked(data.validation)
    assert images.shape == (4, 3, 32, 32)
    assert torch.equal(labels, torch.from_numpy(bytes_of(8, 1, below=10, seed=4))[4:, 0].long())
    assert torch.equal((images * 255).round().byte().flatten(1), torch.from_numpy(bytes_of(8, 3072, seed=4))[4:])
    assert len(stacked(data.train)[1]) == 36


def test_digits_split_is_fixed() -> None:
    data, other = load_data("digits"), load_data("digits", seed=1)
    counts = [len(stacked(part)[1]) for part in (data.train, data.validation, data.test)]
    assert counts == [1079, 359, 359]
    for part in ("validation", "test"):
        assert all(map(torch.equal, stacked(getattr(data, part)), stacked(getattr(other, part))))
    assert torch.equal(torch.cat(list(data.inputs)), torch.cat(list(other.inputs)))
    inputs = torch.cat(list(data.inputs)) * 0.3760 + 0.3053
    assert inputs.min() == pytest.approx(0, abs=1e-6)
    assert inputs.max() == pytest.approx(1, abs=1e-6)
    assert len(set(stacked(data.test)[1].tolist())) == 10
    assert stacked(data.test)[1][:8].tolist() == [4, 8, 4, 9, 6, 8, 7, 7]  # the split, should a generator change


def test_inputs_are_the_plain_training_images_in_one_order(tmp_path: Path) -> None:
    data = load_data(f"mnist:{mnist_folder(tmp_path)}", batch_size=7)
    first, again = torch.cat(list(data.inputs)), torch.cat(list(data.inputs))
    assert torch.equal(first, again)
    wanted = (torch.from_numpy(bytes_of(40, 28, 28))[:36].float()[:, None] / 255 - 0.1307) / 0.3081
    assert not torch.equal(first, wanted)
    assert torch.equal(first.flatten(1).sort(0).values, wanted.flatten(1).sort(0).values)


@pytest.mark.parametrize("spec", ["digits", "mnist", "fashion-mnist", "cifar10", "imagefolder"])
def test_training_passes_differ_and_can_be_repeated(tmp_path: Path, spec: str) -> None:
    folders = {"digits": None, "cifar10": cifar_folder, "imagefolder": picture_folder}
    make = folders.get(spec, mnist_folder)
    name = spec if make is None else f"{spec}:{make(tmp_path)}"
    shape = (3, 16, 16) if spec == "imagefolder" else None
    before = torch.get_rng_state()
    data, fresh, other = (load_data(name, seed=seed, batch_size=16, input_shape=shape) for seed in (5, 5, 6))
    one, two = stacked(data.train), stacked(data.train)
    assert not torch.equal(one[0], two[0])
    assert all(map(torch.equal, one, stacked(fresh.train)))
    assert all(map(torch.equal, two, stacked(fresh.train)))
    assert not torch.equal(one[0], stacked(other.train)[0])
    fresh.train.epoch = 1
    assert all(map(torch.equal, two, stacked(fresh.train)))
    assert torch.equal(one[1].sort().values, two[1].sort().values)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("spec", ["digits", "mnist", "fashion-mnist", "cifar10"])
def test_batches_come_out_where_the_images_are(tmp_path: Path, spec: str) -> None:
    """`meta` shows that nothing is left behind; a GPU, that the images are the same there."""
    make = {"digits": None, "cifar10": cifar_folder}.get(spec, mnist_folder)
    name = spec if make is None else f"{spec}:{make(tmp_path)}"
    here = load_data(name, batch_size=16)
    for device in ("meta", *(["cuda"] if torch.cuda.is_available() else [])):
        there = load_data(name, batch_size=16, device=torch.device(device))
        for part in ("train", "inputs", "validation", "test"):
            for ours, theirs in zip(getattr(here, part), getattr(there, part), strict=True):
                for one, other in zip(tensors_in(ours), tensors_in(theirs), strict=True):
                    assert (other.device.type, other.shape, other.dtype) == (device, one.shape, one.dtype)
                    assert device == "meta" or torch.allclose(one, other.cpu(), atol=1e-6)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "xyz"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(TenfoldError, match=rf"device '{device}'.*use cpu"):
        load_data("digits", device=device)


def test_two_passes_at_once_do_not_disturb_each_other() -> None:
    train = load_data("digits", batch_size=64).train
    pairs = list(zip(train, train, strict=True))
    fresh = load_data("digits", batch_size=64).train
    assert torch.equal(torch.cat([one[0] for one, _ in pairs]), stacked(fresh)[0])
    assert torch.equal(torch.cat([two[0] for _, two in pairs]), stacked(fresh)[0])


def test_a_shift_moves_every_image_by_itself_and_brings_in_zeros() -> None:
    images = torch.full((64, 2, 5, 4), 7, dtype=torch.uint8)
    images[:, :, 2, 1] = 9
    moved = Shift(1)(images, Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    places = {tuple((image[0] == 9).nonzero()[0].tolist()) for image in moved}
    assert places == {(y, x) for y in (1, 2, 3) for x in (0, 1, 2)}
    for image in moved:
        y, x = (image[0] == 9).nonzero()[0].tolist()
        assert int((image[0] == 0).sum()) == 20 - (5 - abs(y - 2)) * (4 - abs(x - 1))
        assert torch.equal(image[0], image[1])


def test_a_flip_mirrors_about_half() -> None:
    images = torch.arange(1000 * 4).reshape(1000, 1, 1, 4)
    flipped = flip(images, Generator().manual_seed(0))
    kept = (flipped == images).flatten(1).all(1)
    assert torch.equal(flipped[~kept], images[~kept].flip(3))
    assert 400 < int(kept.sum()) < 600


def test_batches_without_shuffling_go_through_in_order() -> None:
    images = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1)
    batches = Batches(images, torch.arange(10), mean=(0.0,), std=(1.0,), batch_size=4, white=1.0)
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert len(batches) == 3
    assert stacked(batches)[0].flatten().tolist() == list(range(10))
    empty = Batches(images[:0], None, mean=(0.0,), std=(1.0,), batch_size=4)
    assert (len(empty), list(empty)) == (0, [])


def test_pictures_are_brought_to_the_networks_shape(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path, ("train", "validation", "test"))
    data = load_data(f"imagefolder:{folder}", input_shape=(3, 24, 24), batch_size=4)
    for part in (data.train, data.validation, data.test):
        images, labels = stacked(part)
        assert images.shape == (6, 3, 24, 24)
        assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]
    grey = load_data(f"imagefolder:{folder}", input_shape=(1, 8, 8), mean=(0.5,), std=(0.5,))
    assert next(iter(grey.inputs)).shape == (6, 1, 8, 8)


def test_a_picture_of_the_very_size_stays_as_it_is(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    data = load_data(f"imagefolder:{folder}", input_shape=(3, 40, 40), mean=(0.0,) * 3, std=(1.0,) * 3)
    image = (stacked(data.validation)[0][1] * 255).round().byte()
    assert torch.equal(image, torch.from_numpy(bytes_of(40, 40, 3, seed=1)).permute(2, 0, 1))


def test_a_part_without_pictures_is_empty(tmp_path: Path) -> None:
    data = load_data(f"imagefolder:{picture_folder(tmp_path, ('train',))}", input_shape=(3, 8, 8))
    assert (list(data.validation), list(data.test)) == ([], [])


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    data = load_data(f"imagefolder:{folder}", input_shape=(3, 8, 8))
    (folder / "train" / "cat" / "1.png").write_bytes((folder / "train" / "cat" / "1.png").read_bytes()[:300])
    with pytest.raises(TenfoldError, match=r"picture '.*train/cat/1\.png' cannot be read"):
        list(data.inputs)
    (folder / "val" / "cot").mkdir()
    with pytest.raises(TenfoldError, match=r"val/cot' is no class of the training part; did you mean 'cat'\?"):
        load_data(f"imagefolder:{folder}")
    with pytest.raises(TenfoldError, match=r"1 or 3 channels"):
        load_data(f"imagefolder:{folder}", input_shape=(2, 8, 8))
    (tmp_path / "bare" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(TenfoldError, match=r"there are no pictures \(\.jpg, \.jpeg, \.png\) in '.*train'/CLASS"):
        load_data(f"imagefolder:{tmp_path / 'bare'}")


@pytest.mark.parametrize(
    ("package", "spec", "words"), [("sklearn", "digits", "tenfold[demo]"), ("PIL", "imagefolder:.", "tenfold[images]")]
)
def test_an_optional_package_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, package: str, spec: str, words: str
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TenfoldError) as caught:
        load_data(spec)
    assert f"pip install '{words}'." in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cifra10:/data", ["'cifra10:/data' is neither a data set nor a function", "did you mean 'cifar10:DIR'?"]),
        ("cifra10:data", ["'cifra10' is neither a data set nor a module", "did you mean 'cifar10:DIR'?"]),
        ("mnist", ["'mnist' does not say where the files lie; write mnist:DIR."]),
        ("digits:here", ["data 'digits'", "write digits alone"]),
        ("MNIST:no/such", ["data 'mnist': there is no folder 'no/such'."]),
        ("imagefolder:EMPTY", ["there is no folder '", "/train'."]),
        ("mnist:EMPTY", ["has neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz."]),
        ("cifar10:EMPTY", ["has neither data_batch_1.bin nor data_batch_1.bin.gz."]),
    ],
)
def test_data_that_is_not_there(tmp_path: Path, spec: str, words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        load_data(spec.replace("EMPTY", str(tmp_path)))
    assert all(part in str(caught.value) for part in words), str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-images-idx3-ubyte", idx(bytes_of(40, 28, 28))[:-1], "promises 40 x 28 x 28 bytes, but holds 31359"),
        ("train-images-idx3-ubyte", idx(bytes_of(40, 28, 28))[:7], "but holds 0"),
        ("train-images-idx3-ubyte", idx(bytes_of(40)), "starts with '00000801', but an IDX file of this kind with"),
        ("train-images-idx3-ubyte", b"", "starts with ''"),
        ("t10k-labels-idx1-ubyte", idx(bytes_of(9)), "has 10 t10k images, but 9 labels"),
        ("t10k-labels-idx1-ubyte", gzip.compress(idx(bytes_of(10)), mtime=0)[:-9], "damaged or cut off"),
        ("t10k-labels-idx1-ubyte", b"\x1f\x8b\x08 and nothing like it", "damaged or cut off"),
    ],
)
def test_idx_files_that_are_not_whole(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (mnist_folder(tmp_path) / name).write_bytes(content)
    with pytest.raises(TenfoldError) as caught:
        load_data(f"mnist:{tmp_path}")
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(3073 * 8 - 1), "24583 bytes are not whole records of 3073"),
        (b"", "0 bytes are not whole records"),
        (bytes([77]) * 3073, "holds the label 77; the binary version of CIFAR-10 has 0 to 9"),
    ],
)
def test_cifar10_files_that_are_not_whole(tmp_path: Path, content: bytes, words: str) -> None:
    (cifar_folder(tmp_path) / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(TenfoldError) as caught:
        load_data(f"cifar10:{tmp_path}")
    assert words in str(caught.value)
    assert "data_batch_3.bin: " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": (0.1, 0.2)}, "mean (0.1, 0.2) must have one number a channel; the images have 1."),
        ({"std": (0.0,)}, "std (0.0,) must be above 0"),
        ({"std": (-1.0,)}, "must be above 0"),
        ({"mean": (float("nan"),)}, "is not finite"),
        ({"batch_size": 0}, "no batches of 0 images; use 1 or more."),
        ({"input_shape": (3, 32, 32)}, "the images are 1 x 8 x 8, but the network takes 3 x 32 x 32."),
    ],
)
def test_options_that_do_not_suit(options: dict, words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        load_data("digits", **options)
    assert words in str(caught.value)


FUNCTIONS = """
import types
from tenfold.protocols import Data

def whole():
    return Data(train=[1], inputs=[2], validation=[3], test=[4])

def alike():
    return types.SimpleNamespace(train=[1], inputs=[2], validation=(), test=[4])

def for_pixels():
    return types.SimpleNamespace(
        train=[], inputs=[2], validation=(), test=[], task="segmentation", score="pixel accuracy"
    )

def partly():
    return types.SimpleNamespace(train=[1], test=[4])

def once():
    return Data(train=[1], inputs=iter([2]), validation=[3], test=[4])
"""


def test_data_of_a_function(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    assert load_data(f"{path}:whole").test == [4]
    assert Objective.of(load_data(f"{path}:alike")).score.name == "top-1"
    assert Objective.of(load_data(f"{path}:for_pixels")).task is TASKS["segmentation"]
    with pytest.raises(TenfoldError, match=r"of type SimpleNamespace, which has no inputs, validation; give a Data"):
        load_data(f"{path}:partly")
    with pytest.raises(TenfoldError, match=r"gave inputs as a list_iterator, which cannot be iterated again and again"):
        load_data(f"{path}:once")


def test_data_sets_and_zoo_agree_on_normalisation() -> None:
    pairs = {"digits": "digits-cnn", "mnist": "lenet5", "cifar10": "resnet20", "imagefolder": "resnet50"}
    for name, model in pairs.items():
        assert (DATA_SETS[name].mean, DATA_SETS[name].std) == (ZOO[model].mean, ZOO[model].std)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "train"), [("mnist", 55_000), ("fashion-mnist", 55_000), ("cifar10", 45_000)])
def test_the_real_files(name: str, train: int) -> None:
    folder = os.environ.get("TENFOLD_DATA")
    if not folder:
        pytest.skip(f"needs TENFOLD_DATA=DIR with {name}.")
    data = load_data(f"{name}:{folder}/{name}")
    inputs, labels = torch.cat(list(data.inputs)), stacked(data.test)[1]
    assert len(inputs) == train
    assert len(stacked(data.validation)[1]) == 5_000
    assert torch.bincount(labels).sum() == 10_000
    if name != "cifar10":  # whose images are normalised with the numbers of ImageNet
        assert inputs.mean().abs() < 0.002
        assert inputs.std() == pytest.approx(1, abs=0.002)
