"""What a network's inputs and outputs look like at every weight: one pass over unlabelled inputs."""

from tenfold.statistics.gather import gather
from tenfold.statistics.means import shift_means
from tenfold.statistics.moment import Moment
from tenfold.statistics.statistics import Statistics

__all__ = ["Moment", "Statistics", "gather", "shift_means"]
