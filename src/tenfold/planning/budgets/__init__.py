"""What a plan may be asked to save. A new budget is a file here and a line in `BUDGETS`."""

from tenfold.planning.budgets.base import Budget, Cost, limit, ratio_asked
from tenfold.planning.budgets.bytes import Bytes
from tenfold.planning.budgets.deployed_params import DeployedParams
from tenfold.planning.budgets.macs import Macs
from tenfold.planning.budgets.params import Params
from tenfold.planning.budgets.time import Time

BUDGETS: dict[str, Budget] = {
    "params": Params(),
    "macs": Macs(),
    "bytes": Bytes(),
    "deployed_params": DeployedParams(),
    "time": Time(),
}

__all__ = ["BUDGETS", "Budget", "Cost", "limit", "ratio_asked"]
