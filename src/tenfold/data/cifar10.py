"""CIFAR-10 in its official binary version (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path

import torch

from tenfold.data.augmentation import Chain, Shift, flip
from tenfold.data.files import content, folder_at
from tenfold.data.labelled import Labelled, Wanted, data_of
from tenfold.protocols import Data, TenfoldError, within

_RECORD = 1 + 3 * 32 * 32  # one label byte, then red, green and blue, row by row


def cifar10(folder: str, wanted: Wanted) -> Data:
    """The six binary files of a folder; the last 5,000 training images are the validation part."""
    path = folder_at(folder)
    files = [_labelled(path, f"data_batch_{k}.bin") for k in range(1, 6)]
    whole = Labelled(torch.cat([file.images for file in files]), torch.cat([file.labels for file in files]))
    train, validation = whole.without_last(5000)
    return data_of(train, validation, _labelled(path, "test_batch.bin"), wanted, augment=Chain((Shift(4), flip)))


def _labelled(folder: Path, name: str) -> Labelled:
    path, data = content(folder, name)
    with within(str(path)):
        if not data or len(data) % _RECORD:
            raise TenfoldError(f"{len(data)} bytes are not whole records of {_RECORD}; fetch it again.")
        records = torch.frombuffer(data, dtype=torch.uint8).reshape(-1, _RECORD)
        labels = records[:, 0].long()
        if labels.max() > 9:
            raise TenfoldError(f"holds the label {int(labels.max())}; the binary version of CIFAR-10 has 0 to 9.")
        return Labelled(records[:, 1:].reshape(-1, 3, 32, 32), labels)
