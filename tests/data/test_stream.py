import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.data.stream import BatchStream, derive_step_seed
from nasproxy.errors import DataError

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**40)


@given(n_images=SIZES, batch_size=SIZES, seed=SEEDS, start=st.integers(0, 30))
def test_a_stream_resumed_at_any_step_equals_one_started_at_step_0(n_images, batch_size, seed, start):
    from_0, entered = (BatchStream(n_images, batch_size, seed) for _ in range(2))
    whole = [from_0.indices(step) for step in range(start + 5)]
    part = [entered.indices(step) for step in range(start, start + 5)]
    np.testing.assert_array_equal(whole[start:], part)
    np.testing.assert_array_equal(BatchStream(n_images, batch_size, seed).indices(start), part[0])


@given(n_images=SIZES, batch_size=SIZES, seed=SEEDS)
def test_every_epoch_holds_every_image_once(n_images, batch_size, seed):
    stream = BatchStream(n_images, batch_size, seed)
    steps = -(-3 * n_images // batch_size)
    drawn = np.concatenate([stream.indices(step) for step in range(steps)])[: 3 * n_images]
    for epoch in drawn.reshape(3, n_images):
        assert sorted(epoch) == list(range(n_images))


def test_epochs_and_seeds_shuffle_differently():
    stream, other = BatchStream(100, 100, seed=0), BatchStream(100, 100, seed=1)
    assert not np.array_equal(stream.indices(0), stream.indices(1))
    assert not np.array_equal(stream.indices(0), other.indices(0))


def test_a_batch_has_64_bit_integers_and_the_requested_size():
    batch = BatchStream(3, 10, seed=0).indices(2)
    assert batch.dtype == np.int64
    assert batch.shape == (10,)


@given(seed=SEEDS, step=st.integers(0, 2**40))
def test_the_seed_of_a_step_fits_every_generator(seed, step):
    assert 0 <= derive_step_seed(seed, step) < 2**63
    assert derive_step_seed(seed, step) == derive_step_seed(seed, step)


def test_seeds_of_steps_differ_in_the_lowest_32_bits():
    seeds = {derive_step_seed(seed, step) & 0xFFFFFFFF for seed in range(20) for step in range(100)}
    assert len(seeds) > 1990  # 2,000 draws of 32 bits almost never collide


@pytest.mark.parametrize(
    ("arguments", "name"), [((0, 1, 0), "n_images"), ((1, 0, 0), "batch_size"), ((1, 1, -1), "seed")]
)
def test_a_stream_of_nothing_is_refused(arguments, name):
    with pytest.raises(DataError, match=f"{name} of at least"):
        BatchStream(*arguments)
