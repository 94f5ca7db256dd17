"""What draws takes NumPy's generators alone, and says so."""

import numpy as np
import pytest

from mgt_np.data import windows
from mgt_np.data.synthetic import KnownEntropyLanguage, copy_task

CHAIN = KnownEntropyLanguage(np.full((2, 2), 0.5))
DRAWN = {
    "windows": lambda rng: windows(np.arange(10), 3, batch=2, rng=rng),
    "copy_task": lambda rng: copy_task(rng, 2, 3, 4),
    "random": lambda rng: KnownEntropyLanguage.random(rng, 3),
    "sample": lambda rng: CHAIN.sample(rng, 4),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)], ids=["int", "None", "old"])
def test_a_seed_is_no_generator(name, rng):
    with pytest.raises(TypeError, match=r"expected rng to be a numpy\.random\.Generator"):
        DRAWN[name](rng)
