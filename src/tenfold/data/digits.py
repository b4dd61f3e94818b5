"""The 1,797 digits of 8 x 8 pixels that come with scikit-learn."""

import torch

from tenfold.data.augmentation import Shift
from tenfold.data.labelled import Labelled, Wanted, data_of, fixed_order
from tenfold.protocols import Data, TenfoldError


def digits(folder: str, wanted: Wanted) -> Data:
    """A fixed 60 / 20 / 20 split. Raises: TenfoldError if scikit-learn is not installed, or a folder is given."""
    if folder:
        raise TenfoldError("the digits come with scikit-learn, not from a folder; write digits alone.")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise TenfoldError("the digits come with scikit-learn; pip install 'tenfold[demo]'.") from error
    bunch = load_digits()
    whole = Labelled(torch.from_numpy(bunch.images).byte()[:, None], torch.from_numpy(bunch.target).long())
    order = fixed_order(len(whole.labels))
    train, validation, test = (whole[part] for part in order.tensor_split([1079, 1438]))
    return data_of(train, validation, test, wanted, augment=Shift(1), white=16.0)
