"""Datasets, samplers, collation, the DataLoader with and without workers, and token files."""

from __future__ import annotations

import collections
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import gradient
from gradient.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    TokenFile,
    TokenWriter,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    encode_corpus,
    get_worker_info,
    random_split,
    read_texts,
)
from gradient.errors import (
    ArgumentError,
    CheckpointError,
    DataLoaderError,
    FileFormatError,
    IndexOutOfRange,
    ModelNotFound,
    ShapeError,
    TypeMismatch,
)
from gradient.text import byte_tokenizer, train_bpe

# Some tests fork, as a user may, though a program with threads (NumPy's) had better not.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

# What the workers run must be importable by them: so it is all defined at the top of this file.


class Augmented(Dataset):
    """Sample i, with a random number of each kind."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), gradient.rand(1).item()]
        return np.array([index, *noise]), index


class AtOnce(Augmented):
    """The same samples, a batch at a time."""

    def __getitem__(self, index):
        raise AssertionError("__getitems__ is there")

    def __getitems__(self, indices):
        return [super(AtOnce, self).__getitem__(index) for index in indices]


class Stream(IterableDataset):
    """0 to size - 1, dealt out to the workers, with a random number each."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for number in range(first, self.size, step):
            yield np.array([number, random.random()])


class StatefulStream(Stream):
    """The same, knowing where it is, so that nothing is read twice."""

    at = -1

    def __iter__(self):
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        begin = first if self.at < 0 else self.at
        for number in range(begin, self.size, step):
            self.at = number + step
            yield np.array([number, random.random()])
        self.at = -1

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Failing(Dataset):
    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            if self.how == "raise":
                raise ValueError("sample five is bad")
            if self.how == "key":
                raise KeyError("no five")
            if self.how == "awkward":
                raise AwkwardError(5, "two arguments")
            if self.how == "stop":
                raise StopIteration("five")
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "sleep":
                time.sleep(60)
        return index


class AwkwardError(Exception):
    def __init__(self, number, text):
        super().__init__(number, text)


class Unpicklable(Dataset):
    def __init__(self):
        self.lock = threading.Lock()

    def __getitem__(self, index):
        return index

    def __len__(self):
        return 3


class WhoAmI(Dataset):
    started = None

    def __len__(self):
        return 6

    def __getitem__(self, index):
        info = get_worker_info()
        return info.id, info.num_workers, self.started


def note_start(worker):
    get_worker_info().dataset.started = worker


def note_epoch(worker):
    raise RuntimeError(f"init of {worker} failed")


def as_lists(batches):
    return [batch[0].tolist() for batch in batches]


# Datasets ----------------------------------------------------------------------------------------


def test_tensor_datasets():
    x, y = gradient.arange(12).reshape(4, 3), gradient.tensor([0, 1, 0, 1])
    dataset = TensorDataset(x, y)
    assert len(dataset) == 4
    assert dataset[1][0].tolist() == [3, 4, 5]
    assert dataset[-1][1].item() == 1
    with pytest.raises(ArgumentError, match=r"of one first dimension, got \(4, 3\), \(3,\)"):
        TensorDataset(x, y[:3])
    none = TensorDataset()  # as in PyTorch
    assert none.tensors == () and none[0] == ()
    with pytest.raises(IndexError):
        len(none)


def test_datasets_compose():
    a, b = list(range(5)), [10, 11]
    both = ConcatDataset([a, b])
    assert [both[i] for i in range(len(both))] == [0, 1, 2, 3, 4, 10, 11]
    assert (both[-1], both[-7]) == (11, 0)
    for index in (7, -8):
        with pytest.raises(IndexOutOfRange, match=f"index {index} of 7 samples"):
            both[index]
    added = TensorDataset(gradient.arange(2)) + TensorDataset(gradient.arange(3))
    assert [added[i][0].item() for i in range(5)] == [0, 1, 0, 1, 2]
    assert [Subset(a, [4, 2])[i] for i in range(2)] == [4, 2]
    assert Subset(AtOnce(9), [4, 2]).__getitems__([1])[0][1] == 2
    assert StackDataset(a, a)[3] == (3, 3)
    assert StackDataset(x=a, y=a)[3] == {"x": 3, "y": 3}
    assert len(StackDataset(x=a)) == 5
    chained = Stream(2) + Stream(3)
    assert isinstance(chained, ChainDataset)
    assert [int(sample[0]) for sample in chained] == [0, 1, 0, 1, 2]
    with pytest.raises(ArgumentError, match="lengths differ"):
        StackDataset(a, b)
    with pytest.raises(TypeMismatch, match="use ChainDataset"):
        ConcatDataset([a, Stream(3)])
    with pytest.raises(NotImplementedError, match="Dataset must define __getitem__"):
        Dataset()[0]


def test_random_split():
    generator = gradient.Generator().manual_seed(1)
    parts = random_split(range(11), [0.5, 0.3, 0.2], generator)
    assert [len(part) for part in parts] == [6, 3, 2]
    seen = [part[i] for part in parts for i in range(len(part))]
    assert sorted(seen) == list(range(11))
    assert seen != sorted(seen)
    again = random_split(range(11), [6, 3, 2], gradient.Generator().manual_seed(1))
    assert [part.indices for part in again] == [part.indices for part in parts]
    for lengths in ([5, 5], [12, -1], [0.5, 0.6]):
        with pytest.raises(ArgumentError, match="must add up to 11"):
            random_split(range(11), lengths)


# Samplers ----------------------------------------------------------------------------------------


def test_samplers_cover_what_they_should():
    data = range(10)
    assert list(SequentialSampler(data)) == list(data)
    order = list(RandomSampler(data))
    assert sorted(order) == list(data)
    assert order != list(RandomSampler(data)), "another order each time"
    twice = list(RandomSampler(data, num_samples=25))
    for replacement in (False, True):
        with pytest.raises(ValueError, match="RandomSampler: .* an empty dataset"):
            list(RandomSampler([], replacement, num_samples=3))
    assert len(twice) == 25
    assert sorted(twice[:10]) == sorted(twice[10:20]) == list(data)
    drawn = list(RandomSampler(data, replacement=True, num_samples=3000))
    counts = collections.Counter(drawn)
    assert set(counts) == set(data)
    assert max(counts.values()) < 400
    assert sorted(SubsetRandomSampler([3, 1, 4])) == [1, 3, 4]
    batches = BatchSampler(SequentialSampler(data), 4, drop_last=False)
    assert (list(batches), len(batches)) == ([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]], 3)
    batches = BatchSampler(SequentialSampler(data), 4, drop_last=True)
    assert (list(batches), len(batches)) == ([[0, 1, 2, 3], [4, 5, 6, 7]], 2)


def test_samplers_repeat_with_their_generator():
    for make in (
        lambda g: RandomSampler(range(20), generator=g),
        lambda g: RandomSampler(range(20), replacement=True, generator=g),
        lambda g: SubsetRandomSampler(range(20), generator=g),
        lambda g: WeightedRandomSampler([1.0, 2.0, 3.0], 20, generator=g),
    ):
        first, second = (list(make(gradient.Generator().manual_seed(3))) for _ in range(2))
        assert first == second
        assert first != list(make(gradient.Generator().manual_seed(4)))
    gradient.manual_seed(5)
    first = list(RandomSampler(range(20)))
    gradient.manual_seed(5)
    assert list(RandomSampler(range(20))) == first


def test_weights_are_honoured():
    weights = [0.0, 1.0, 3.0, 0.0]
    drawn = collections.Counter(WeightedRandomSampler(weights, 8000))
    assert set(drawn) == {1, 2}
    assert abs(drawn[2] / 8000 - 0.75) < 0.02
    assert sorted(WeightedRandomSampler(weights, 2, replacement=False)) == [1, 2]
    first = collections.Counter(
        next(iter(WeightedRandomSampler([1.0, 3.0], 2, replacement=False))) for _ in range(600)
    )
    assert abs(first[1] / 600 - 0.75) < 0.07
    assert len(WeightedRandomSampler(gradient.tensor(weights), 5)) == 5


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: RandomSampler(range(3), num_samples=0),
            "num_samples must be an integer of at least 1, got 0",
        ),
        (lambda: RandomSampler(range(3), replacement=1), "replacement must be a bool, got 1"),
        (lambda: RandomSampler(range(3), num_samples=2.0), "num_samples must be an integer"),
        (
            lambda: WeightedRandomSampler([1.0], 0),
            "num_samples must be an integer of at least 1, got 0",
        ),
        (lambda: WeightedRandomSampler([], 1), "weights must be .* not all of them 0"),
        (lambda: WeightedRandomSampler([0.0, 0.0], 1), "not all of them 0, got array"),
        (lambda: WeightedRandomSampler([1.0, -1.0], 1), "finite numbers of at least 0"),
        (lambda: WeightedRandomSampler(5, 1), "a 1-D sequence .* got 5$"),
        (lambda: WeightedRandomSampler("ab", 1), "a 1-D sequence .* got 'ab'$"),
        (lambda: WeightedRandomSampler([10**400], 1), r"a 1-D sequence .* got \[1000"),
        (lambda: WeightedRandomSampler([[1.0]], 1), r"a 1-D sequence .* got array\(\[\[1"),
        (lambda: WeightedRandomSampler([1.0, 0.0], 2, False), "cannot draw 2 of the 1 samples"),
        (
            lambda: BatchSampler([], 0, False),
            "batch_size must be an integer of at least 1.*, got 0",
        ),
        (lambda: BatchSampler([], 2, 1), "drop_last must be a bool, got 1"),
    ],
)
def test_wrong_samplers_are_explained(make, message):
    with pytest.raises((ArgumentError, TypeMismatch), match=message):
        make()


# Collation ---------------------------------------------------------------------------------------

Point = collections.namedtuple("Point", "x y")


def test_collates_any_structure():
    batch = [
        {
            "t": gradient.tensor([i, i + 1]),
            "a": np.full((2, 2), i, np.float32),
            "i": i,
            "f": i / 2,
            "b": i > 0,
            "s": f"s{i}",
            "p": Point(i, (i, "x")),
            "n": np.float32(i),
        }
        for i in range(3)
    ]
    out = default_collate(batch)
    assert out["t"].tolist() == [[0, 1], [1, 2], [2, 3]]
    assert out["a"].shape == (3, 2, 2)
    assert out["a"].dtype is gradient.float32
    assert (out["i"].dtype, out["f"].dtype, out["b"].dtype, out["n"].dtype) == (
        gradient.int64,
        gradient.float64,
        gradient.bool,
        gradient.float32,
    )
    assert out["s"] == ["s0", "s1", "s2"]
    assert isinstance(out["p"], Point)
    assert out["p"].x.tolist() == [0, 1, 2]
    assert out["p"].y[1] == ["x", "x", "x"]
    assert (default_collate([1, 2.5]).dtype, default_collate([1.5, 2]).dtype) == (
        gradient.float32,
        gradient.float64,
    )


@pytest.mark.parity
def test_collates_as_pytorch_does():
    torch = pytest.importorskip("torch")
    from torch.utils.data import default_collate as theirs

    def dtype_name(value):
        return str(value.dtype).split(".")[-1]

    for batch in (
        [1, 2],
        [1.5, 2],
        [1, 2.5],
        [True, 2.5],
        [True, False],
        [np.int8(3), np.int8(4)],
        [np.zeros(2)] * 2,
    ):
        ours, other = default_collate(batch), theirs(batch)
        assert ours.tolist() == other.tolist()
        assert dtype_name(ours) == dtype_name(other)
    for batch in ([(1, 2), (3, 4)], [[1, "a"], [2, "b"]], [{"a": 1}, {"a": 2}]):
        ours, other = default_collate(batch), theirs(batch)
        assert type(ours) is type(other)
        assert len(ours) == len(other)
    assert isinstance(theirs([1]), torch.Tensor)


def test_what_cannot_be_collated_is_named():
    with pytest.raises(ShapeError, match=r"different shapes, \(2,\), \(3,\); make them equal"):
        default_collate([gradient.ones(2), gradient.ones(3)])
    with pytest.raises(TypeMismatch, match="got builtins.object; give the DataLoader a collate_fn"):
        default_collate([object()])
    with pytest.raises(ArgumentError, match=r"have \[1, 2\] elements"):
        default_collate([(1,), (1, 2)])
    with pytest.raises(TypeMismatch, match="dtype <U1 cannot be a tensor"):
        default_collate([np.array(["a"])])


def test_converts_single_samples():
    sample = default_convert(
        {"a": np.ones(2), "p": Point(np.float32(1), "x"), "l": [1, np.ones(1)]}
    )
    assert isinstance(sample["a"], gradient.Tensor)
    assert isinstance(sample["p"].x, gradient.Tensor)
    assert sample["p"].y == "x"
    assert sample["l"][0] == 1
    assert isinstance(sample["l"][1], gradient.Tensor)


# DataLoader --------------------------------------------------------------------------------------


def test_batches_of_a_dataset():
    x, y = gradient.arange(10).float(), gradient.arange(10)
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    assert len(loader) == 3
    batches = list(loader)
    assert [batch[1].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [tuple(batch[0].shape) for batch in batches] == [(4,), (4,), (2,)]
    assert len(list(DataLoader(TensorDataset(x, y), batch_size=4, drop_last=True))) == 2
    assert [sample.item() for sample in DataLoader(np.arange(3), batch_size=None)] == [0, 1, 2]
    sampled = DataLoader(range(9), batch_sampler=[[1, 2], [5]])
    assert [batch.tolist() for batch in sampled] == [[1, 2], [5]]
    sampled = DataLoader(range(9), batch_size=2, sampler=[8, 7, 6])
    assert [batch.tolist() for batch in sampled] == [[8, 7], [6]]
    gathered = DataLoader(range(4), batch_size=2, collate_fn=sum)
    assert list(gathered) == [1, 5]
    assert list(DataLoader([], batch_size=2)) == []


def test_shuffles_anew_each_epoch_and_repeats_with_the_seed():
    def epochs(**options):
        loader = DataLoader(range(20), 4, shuffle=True, **options)
        return [[batch.tolist() for batch in loader] for _ in range(2)]

    gradient.manual_seed(3)
    first, second = epochs()
    assert sorted(sum(first, [])) == list(range(20))
    assert first != second
    gradient.manual_seed(3)
    assert epochs() == [first, second]
    own = epochs(generator=gradient.Generator().manual_seed(1))
    gradient.manual_seed(99)
    assert epochs(generator=gradient.Generator().manual_seed(1)) == own


def epochs_of(workers, dataset=None, count=2, **options):
    gradient.manual_seed(5)
    context = {"multiprocessing_context": "fork"} if workers else {}
    loader = DataLoader(
        dataset or Augmented(21), 4, shuffle=True, num_workers=workers, **(context | options)
    )
    return [as_lists(loader) for _ in range(count)]


def test_batches_do_not_depend_on_the_number_of_workers():
    """Not the order, and not the random augmentation by three different generators."""
    expected = epochs_of(0)
    assert expected[0] != expected[1]
    assert epochs_of(1) == expected
    assert epochs_of(3) == expected
    assert epochs_of(2, persistent_workers=True, prefetch_factor=5) == expected
    assert epochs_of(2, multiprocessing_context="spawn") == expected
    assert epochs_of(0, AtOnce(21)) == expected
    assert epochs_of(2, AtOnce(21)) == expected


def test_a_loader_leaves_the_programs_own_random_numbers_alone():
    loader = DataLoader(Augmented(8), 4)
    next(iter(loader))  # begins an epoch, which draws its seed
    states = random.getstate(), np.random.get_state()[1].tolist()
    gradient.manual_seed(1)
    expected = gradient.rand(3).tolist()
    epoch = iter(loader)
    gradient.manual_seed(1)
    list(epoch)
    assert gradient.rand(3).tolist() == expected
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


@pytest.mark.parametrize("draws", [0, 1, 2, 3])
def test_a_loader_keeps_the_second_normal_number_of_numpys_pairs(draws):
    """np.random.normal draws two at a time and keeps the second, batch after batch."""
    np.random.seed(3)
    expected = np.random.normal(size=4 * draws + 8).tolist()
    np.random.seed(3)
    got = []
    for _ in DataLoader(Augmented(16), 4):
        got += [np.random.normal() for _ in range(draws)]
    assert got + np.random.normal(size=8).tolist() == expected


def test_a_loader_within_a_dataset_draws_from_its_own_random_numbers():
    class Nested(Augmented):
        def __getitem__(self, index):
            before = np.random.rand()
            inner = [batch.tolist() for batch, _ in DataLoader(Augmented(4), 2)]
            return np.array([before, np.random.rand(), *np.ravel(inner)])

    np.random.seed(5)
    expected = np.random.rand(3).tolist()
    np.random.seed(5)
    gradient.manual_seed(0)
    first = [batch.tolist() for batch in DataLoader(Nested(4), 2)]
    gradient.manual_seed(0)
    assert [batch.tolist() for batch in DataLoader(Nested(4), 2)] == first
    assert np.random.rand(3).tolist() == expected


def test_a_loader_gives_back_a_bit_generator_of_another_kind():
    before, other = np.random.get_bit_generator(), np.random.PCG64(7)
    np.random.set_bit_generator(other)
    try:
        list(DataLoader(Augmented(8), 4))
        assert np.random.get_bit_generator() is other
        assert np.random.rand() == np.random.Generator(np.random.PCG64(7)).random()
    finally:
        np.random.set_bit_generator(before)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("taken", [1, 3, 6, 8])
def test_a_saved_position_goes_on_exactly(tmp_path, workers, own_generator, taken):
    """Within an epoch of 6 batches, at its end, and in the next; by another number of workers."""

    def make(workers, seed):
        generator = gradient.Generator().manual_seed(seed) if own_generator else None
        context = "fork" if workers else None
        return DataLoader(
            Augmented(21),
            4,
            shuffle=True,
            num_workers=workers,
            generator=generator,
            multiprocessing_context=context,
        )

    loader = make(workers, 3)
    seen = []
    for _ in range(3):
        for batch in loader:
            seen.append(batch[0].tolist())
            if len(seen) == taken:
                gradient.save(loader.state_dict(), tmp_path / "position")
                default = gradient.get_rng_state()

    resumed = make(2 - workers, 77)
    gradient.set_rng_state(default)
    resumed.load_state_dict(gradient.load(tmp_path / "position"))
    assert resumed.state_dict()["epoch"]["batches"] == (taken - 1) % 6 + 1
    rest = as_lists(resumed)
    while len(rest) < 18 - taken:
        rest += as_lists(resumed)
    assert rest == seen[taken:]


def test_a_position_between_epochs_goes_on_exactly():
    loader = DataLoader(range(9), 2, shuffle=True, generator=gradient.Generator().manual_seed(1))
    list(loader)
    state = loader.state_dict()
    expected = [batch.tolist() for batch in loader]
    other = DataLoader(range(9), 2, shuffle=True, generator=gradient.Generator())
    other.load_state_dict(state)
    assert [batch.tolist() for batch in other] == expected


def test_a_position_survives_a_break():
    loader = DataLoader(range(9), 2)
    for batch in loader:
        if 4 in batch.tolist():
            break
    state = loader.state_dict()
    loader = DataLoader(range(9), 2)
    loader.load_state_dict(state)
    assert [batch.tolist() for batch in loader] == [[6, 7], [8]]
    assert [batch.tolist() for batch in loader][0] == [0, 1], "and then from the beginning"


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("dataset", [Stream, StatefulStream])
def test_an_iterable_dataset_goes_on_exactly(dataset, workers):
    def make():
        gradient.manual_seed(1)
        context = "fork" if workers else None
        return DataLoader(dataset(23), 4, num_workers=workers, multiprocessing_context=context)

    whole = [batch.tolist() for batch in make()]
    assert sorted(int(row[0]) for batch in whole for row in batch) == list(range(23))
    for taken in range(1, len(whole), 2):
        loader = make()
        epoch = iter(loader)
        for _ in range(taken):
            next(epoch)
        state = loader.state_dict()
        resumed = make()
        resumed.load_state_dict(state)
        assert [batch.tolist() for batch in resumed] == whole[taken:]


def test_wrong_positions_are_explained():
    loader = DataLoader(Stream(9), 2)
    next(iter(loader))
    state = loader.state_dict()
    other = DataLoader(Stream(9), 2, num_workers=2)
    other.load_state_dict(state)
    with pytest.raises(CheckpointError, match="saved with num_workers=0, .* this loader has 2"):
        iter(other)
    with pytest.raises(CheckpointError, match="not the state of a DataLoader"):
        loader.load_state_dict({"epoch": 3})
    loader = DataLoader(range(9))
    epoch = iter(loader)
    next(epoch)
    state = loader.state_dict()
    other = DataLoader(range(9), generator=gradient.Generator())
    other.load_state_dict(state)
    with pytest.raises(CheckpointError, match="lacks the state of the loader generator"):
        iter(other)


@pytest.mark.parametrize(
    "dataset, batch_size, message",
    [
        (range(9), 3, "batch_size=2; this loader has 3"),
        (range(12), 2, "batches_in_epoch=5; this loader has 6"),
    ],
)
def test_a_position_in_other_batches_is_refused(dataset, batch_size, message):
    loader = DataLoader(range(9), 2)
    epoch = iter(loader)
    next(epoch)
    with pytest.raises(CheckpointError, match=message):
        DataLoader(dataset, batch_size).load_state_dict(loader.state_dict())
    list(epoch)
    DataLoader(dataset, batch_size).load_state_dict(loader.state_dict())  # between epochs it may


def test_a_generator_is_no_seed():
    with pytest.raises(
        TypeMismatch, match="generator must be a gradient.Generator, or None, got 5; for a seed"
    ):
        DataLoader(range(9), generator=5)


def test_one_text_is_no_corpus(tmp_path):
    with pytest.raises(TypeMismatch, match="expected an iterable of texts, got one str"):
        encode_corpus("hello", byte_tokenizer(), tmp_path / "t.bin")


def test_a_token_writer_writes_in_its_block_only(tmp_path):
    writer = TokenWriter(tmp_path / "t.bin", 10)
    with pytest.raises(ArgumentError, match="write inside `with TokenWriter"):
        writer.write([1])
    with writer:
        writer.write([1, 2])
    with pytest.raises(ArgumentError, match="nothing is open"):
        writer.write([3])
    assert TokenFile(tmp_path / "t.bin").array.tolist() == [1, 2]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes batch_size"),
        ({"batch_sampler": [[0]], "shuffle": True}, "batch_sampler excludes"),
        ({"sampler": [0], "shuffle": True}, "sampler excludes shuffle"),
        ({"batch_size": None, "drop_last": True}, "batch_size=None excludes drop_last"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1.*, got 0"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0, got -1"),
        ({"prefetch_factor": 2}, "prefetch_factor needs num_workers > 0"),
        (
            {"num_workers": 1, "prefetch_factor": 0},
            "prefetch_factor must be an integer of at least 1.*, got 0",
        ),
        ({"persistent_workers": True}, "persistent_workers needs num_workers > 0"),
        ({"timeout": -1}, "timeout must be a number of at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_explained(options, message):
    with pytest.raises(ArgumentError, match=message):
        DataLoader(range(5), **options)


def test_an_iterable_dataset_refuses_an_order():
    for options in ({"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}):
        with pytest.raises(ArgumentError, match="decides its own order"):
            DataLoader(Stream(3), **options)
    assert len(DataLoader(ChainDataset([]), 2)) == 0


# Workers -----------------------------------------------------------------------------------------


def failing(how, **options):
    return DataLoader(Failing(how), num_workers=2, multiprocessing_context="fork", **options)


def test_an_exception_in_a_worker_is_raised_with_its_traceback():
    seen = []
    with pytest.raises(
        ValueError, match="caught ValueError in DataLoader worker process 1"
    ) as caught:
        seen.extend(batch.tolist() for batch in failing("raise"))
    assert seen == [[0], [1], [2], [3], [4]], "what came before it is delivered"
    assert "in __getitem__\n" in str(caught.value)
    assert "ValueError: sample five is bad" in str(caught.value)
    with pytest.raises(KeyError) as caught:
        list(failing("key"))
    assert "\n" in str(caught.value), "shown as lines, not as the repr of a string"
    with pytest.raises(DataLoaderError, match="caught AwkwardError in DataLoader worker"):
        list(failing("awkward"))
    for loader in (failing("stop"), DataLoader(Failing("stop"))):
        with pytest.raises(DataLoaderError, match="raised StopIteration"):
            list(loader)
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_reported():
    """There is no timeout: to wait for its answer would be to wait for ever."""
    with pytest.raises(DataLoaderError, match="gradient-data-1 was killed by signal 9"):
        list(failing("die"))
    assert multiprocessing.active_children() == []


def test_a_slow_worker_runs_into_the_timeout():
    with pytest.raises(DataLoaderError, match="no batch from worker [01] in 0.2 s"):
        list(failing("sleep", timeout=0.2))


def test_persistent_workers_stay_and_recover():
    loader = failing("raise", persistent_workers=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="sample five"):
            list(loader)
    loader = DataLoader(
        WhoAmI(),
        num_workers=2,
        worker_init_fn=note_start,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for _ in range(2):
        rows = [[int(value) for value in batch] for batch in loader]
        assert rows == [[0, 2, 0], [1, 2, 1]] * 3
    first = {child.pid for child in multiprocessing.active_children()}
    list(loader)
    assert {child.pid for child in multiprocessing.active_children()} == first
    next(iter(loader))  # an epoch that is given up
    assert len(list(loader)) == 6
    del loader
    assert multiprocessing.active_children() == []


def test_a_failing_worker_init_fn_is_reported():
    loader = DataLoader(
        range(4), num_workers=1, worker_init_fn=note_epoch, multiprocessing_context="fork"
    )
    with pytest.raises(RuntimeError, match="init of 0 failed"):
        list(loader)


def test_workers_end_with_the_epoch_and_with_the_loader():
    loader = DataLoader(range(100), num_workers=2, multiprocessing_context="fork")
    for _ in loader:
        break
    assert len(multiprocessing.active_children()) == 2
    del loader, _
    assert multiprocessing.active_children() == []
    assert get_worker_info() is None


def test_workers_end_if_a_later_one_cannot_start(monkeypatch):
    start, started = multiprocessing.process.BaseProcess.start, []

    def start_two(process):
        if len(started) == 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        start(process)
        started.append(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start_two)
    with pytest.raises(OSError, match="temporarily unavailable"):
        next(iter(DataLoader(range(8), num_workers=3)))
    assert len(started) == 2 and not multiprocessing.active_children()


def test_what_cannot_be_sent_to_workers_is_explained():
    with pytest.raises(
        ArgumentError, match="must be picklable .* leave out multiprocessing_context"
    ):
        list(DataLoader(Unpicklable(), num_workers=1, multiprocessing_context="spawn"))
    with pytest.raises(ArgumentError, match="must be one of .*spawn.*, got 'threads'"):
        DataLoader(range(3), num_workers=1, multiprocessing_context="threads")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("context", "workers", "kind", "message"),
    [
        (5, 1, TypeMismatch, "the name of a start method, or a context, got 5"),
        (True, 1, TypeMismatch, "the name of a start method, or a context, got True"),
        ("threads", 1, ArgumentError, "must be one of .*spawn.*, got 'threads'"),
        ("spawn", 0, ArgumentError, "multiprocessing_context needs num_workers > 0"),
    ],
)
def test_a_context_is_checked_when_it_is_given_and_when_it_is_set(
    context, workers, kind, message, later
):
    loader = DataLoader(range(3), num_workers=workers)
    with pytest.raises(kind, match=message):
        if later:
            loader.multiprocessing_context = context
        else:
            DataLoader(range(3), num_workers=workers, multiprocessing_context=context)
    assert loader.multiprocessing_context is None
    loader.multiprocessing_context = None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes do not fork safely")
def test_what_is_not_picklable_is_inherited_by_forked_workers():
    assert [batch.tolist() for batch in DataLoader(Unpicklable(), num_workers=2)] == [[0], [1], [2]]


SCRIPT = """
import gradient
from gradient.utils.data import DataLoader, Dataset
print("begins")
name = gradient.__name__  # which is no question
class Squares(Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return gradient.ones(300, 300).sum() * 0 + i * i
gradient.ones(600, 600) @ gradient.ones(600, 600)  # its threads run
print([batch.tolist() for batch in DataLoader(Squares(), 2, num_workers=2)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes do not fork safely")
@pytest.mark.parametrize("how", ["a file", "-c", "standard input"])
def test_a_script_that_does_not_ask_for_its_name_may_start_workers(tmp_path, how):
    """As PyTorch's users write them: spawned workers would run it again."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    what = {"a file": [str(path)], "-c": ["-c", SCRIPT], "standard input": ["-"]}[how]
    run = subprocess.run(
        [sys.executable, *what], input=SCRIPT, capture_output=True, text=True, timeout=300
    )
    assert run.stdout == "begins\n[[0.0, 1.0], [4.0, 9.0]]\n", run.stderr


def test_tensors_cross_between_processes_whole():
    """All dtypes, a view, an empty and a large tensor; what arrives can be written to."""
    tensors = [gradient.ones(3).to(d) for d in (gradient.bfloat16, gradient.bool, gradient.int8)]
    tensors += [gradient.arange(6).reshape(2, 3).T, gradient.zeros(0, 2), gradient.ones(300, 1000)]
    loader = DataLoader(tensors, batch_size=None, num_workers=2)
    for sent, received in zip(tensors, loader, strict=True):
        assert received.dtype is sent.dtype
        assert received.tolist() == sent.tolist()
        received.fill_(0)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_script_that_spawns_without_a_main_guard_gets_a_hint(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from gradient.data import DataLoader\n"
        "list(DataLoader([1], num_workers=1, multiprocessing_context='spawn'))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert run.returncode == 1
    assert 'must do so under if __name__ == "__main__":' in run.stderr


@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_a_dataset_that_no_worker_can_import(context):
    program = textwrap.dedent(
        f"""
        from gradient.data import DataLoader, Dataset
        class Own(Dataset):
            __len__ = lambda self: 2
            __getitem__ = lambda self, i: i
        loader = DataLoader(Own(), num_workers=1, multiprocessing_context="{context}")
        print([batch.tolist() for batch in loader])
        """
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if context == "fork":
        assert run.stdout == "[[0], [1]]\n", run.stderr
    else:
        assert "Can't get attribute 'Own'" in run.stderr
        assert "fix: define the dataset" in run.stderr.splitlines()[-1]


def test_workers_do_not_outlive_a_killed_program(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, time
            from gradient.data import DataLoader
            if __name__ == "__main__":
                epoch = iter(DataLoader(range(100), num_workers=2))
                next(epoch)
                print(*(child.pid for child in multiprocessing.active_children()), flush=True)
                time.sleep(60)
            """
        )
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(workers) == 2
    deadline = time.monotonic() + 60  # it takes milliseconds
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, workers))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Token files -------------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path):
    with TokenWriter(tmp_path / "t.bin", 1000, {"source": "test"}) as writer:
        writer.write(range(500))
        writer.write(np.arange(500, 1000))
    return TokenFile(tmp_path / "t.bin")


def test_a_token_file_is_plain_numbers_with_a_description(tmp_path, tokens):
    assert len(tokens) == 1000
    assert tokens[:3].tolist() == [0, 1, 2]
    assert (tokens.dtype, tokens.vocab_size, tokens.metadata["source"]) == ("uint16", 1000, "test")
    raw = np.fromfile(tmp_path / "t.bin", "<u2")
    assert raw.tolist() == list(range(1000))
    assert not tokens.array.flags.writeable
    with TokenWriter(tmp_path / "wide.bin", 70_000) as writer:
        writer.write([69_999])
    assert TokenFile(tmp_path / "wide.bin").dtype == "uint32"
    assert TokenFile(tmp_path / "wide.bin")[0] == 69_999
    (tmp_path / "wide.bin.json").unlink()
    assert TokenFile(tmp_path / "wide.bin", "uint32")[0] == 69_999
    with TokenWriter(tmp_path / "none.bin", 10):
        pass
    assert len(TokenFile(tmp_path / "none.bin")) == 0


def test_windows_are_what_a_language_model_trains_on(tokens):
    train, val = tokens.split(0.1)
    assert (len(train), len(val), val[0]) == (900, 100, 900)
    windows = train.windows(8)
    assert len(windows) == 112
    x, y = windows[1]
    assert x.tolist() == list(range(8, 16))
    assert y.tolist() == list(range(9, 17))
    assert x.dtype is gradient.int64
    last_x, last_y = windows[-1]
    assert last_y.tolist()[-1] <= 899
    assert len(train.windows(8, stride=1)) == 892
    assert train.windows(8, stride=1)[891][1].tolist()[-1] == 899
    inputs, targets = next(iter(DataLoader(windows, batch_size=4, shuffle=True)))
    assert inputs.shape == (4, 8)
    assert (targets - inputs == 1).all()
    with pytest.raises(IndexOutOfRange, match="index 112 of 112"):
        windows[112]
    with pytest.raises(
        ArgumentError, match="100 tokens are too few for a window of block_size=100"
    ):
        val.windows(100)
    assert len(val.windows(99)) == 1


def test_random_batches_depend_on_the_generator_alone(tokens):
    generator = gradient.Generator().manual_seed(1)
    first = tokens.random_batch(3, 8, generator)
    state = generator.get_state()
    second = tokens.random_batch(3, 8, generator)
    assert first[0].shape == first[1].shape == (3, 8)
    assert (first[1] - first[0] == 1).all()
    assert first[0].tolist() != second[0].tolist()
    again = tokens.random_batch(3, 8, gradient.Generator().set_state(state))
    assert again[0].tolist() == second[0].tolist()
    starts = {int(tokens.random_batch(1, 998)[0][0, 0]) for _ in range(50)}
    assert starts == {0, 1}, "the first and the last place, and none beyond"


def test_workers_map_the_file_themselves(tokens):
    import pickle

    assert len(pickle.dumps(tokens.split(0.5)[1])) < 500
    loader = DataLoader(tokens.split(0.5)[1].windows(8), batch_size=2, num_workers=1)
    assert next(iter(loader))[0][0].tolist() == list(range(500, 508))


def test_damaged_token_files_are_explained(tmp_path, tokens):
    path = tmp_path / "t.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(FileFormatError, match="has 1,998 bytes; expected 1,000 tokens of uint16"):
        TokenFile(path)
    about = json.loads((tmp_path / "t.bin.json").read_text())
    (tmp_path / "t.bin.json").write_text(json.dumps(about | {"format": "other"}))
    with pytest.raises(FileFormatError, match="does not describe a token file"):
        TokenFile(path)
    (tmp_path / "t.bin.json").unlink()
    with pytest.raises(
        ArgumentError, match="got None; there is no t.bin.json to say which: give dt"
    ):
        TokenFile(path)
    with pytest.raises(ModelNotFound, match="no token file at .*absent.bin"):
        TokenFile(tmp_path / "absent.bin")


def test_a_token_writer_that_fails_leaves_the_old_file(tmp_path, tokens):
    with (
        pytest.raises(IndexOutOfRange, match="token id 10 is not below vocab_size=10"),
        TokenWriter(tmp_path / "t.bin", 10) as writer,
    ):
        writer.write([9])
        writer.write([3, 10, 11])
    assert len(TokenFile(tmp_path / "t.bin")) == 1000
    assert sorted(os.listdir(tmp_path)) == ["t.bin", "t.bin.json"]


def test_a_corpus_is_encoded_as_a_stream(tmp_path, monkeypatch):
    """In pieces: the same tokens as each document whole, and memory for a few pieces only."""
    monkeypatch.setattr("gradient.data.token_file._GROUP_CHARS", 3000)
    monkeypatch.setattr("gradient.data.token_file._PIECE_CHARS", 500)
    words = ["def", "self", "lambda", "", "None\n\n\n  ", "#", "ünïcödé", "日本語", "{}\t", "x_\n"]
    generator = random.Random(0)
    texts = [" ".join(generator.choices(words, k=k)) for k in (10, 900, 0, 2000, 50)]
    tokenizer = train_bpe(texts, 400)
    calls = []
    tokens = encode_corpus(
        iter(texts), tokenizer, tmp_path / "c.bin", progress=lambda *at: calls.append(at)
    )
    expected = [token for text in texts for token in [*tokenizer.encode(text), tokenizer.eos_id]]
    assert tokens[:].tolist() == expected
    assert len(calls) > 3
    assert calls[-1] == (sum(map(len, texts)), len(expected))
    assert calls == sorted(calls)
    # Special tokens in a text are text: only the ends of documents are EOS.
    tokens = encode_corpus(["<|endoftext|>"], tokenizer, tmp_path / "c.bin")
    assert tokens[:].tolist().count(tokenizer.eos_id) == 1


def test_real_text_in_pieces_is_the_same_tokens(tmp_path, real_data):
    text = (real_data("tinyshakespeare") / "input.txt").read_text("utf-8")
    tokenizer = byte_tokenizer()
    tokens = encode_corpus([text], tokenizer, tmp_path / "c.bin")
    assert len(tokens) == len(text.encode()) + 1
    bpe = train_bpe([text[:100_000]], 600)
    tokens = encode_corpus([text], bpe, tmp_path / "c.bin")
    assert tokens[:-1].tolist() == bpe.encode(text)
    assert tokens.metadata["vocab_size"] == 600


def test_reads_text_files_only(tmp_path):
    (tmp_path / "a.txt").write_text("é", "utf-8")
    (tmp_path / "b.bin").write_bytes(b"a\0b")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe")
    assert list(read_texts(sorted(tmp_path.iterdir()))) == ["é"]


def test_utils_is_pytorchs_name():
    import gradient.utils.checkpoint
    import gradient.utils.data

    assert gradient.utils.data.DataLoader is DataLoader
    assert gradient.utils.data.get_worker_info is get_worker_info
    assert callable(gradient.utils.checkpoint.checkpoint)


def test_a_loader_says_what_another_one_like_it_takes() -> None:
    data = list(range(4))
    local, parallel = DataLoader(data), DataLoader(data, num_workers=1, in_order=False)
    assert (local.prefetch_factor, local.in_order) == (None, True)
    assert (parallel.prefetch_factor, parallel.in_order) == (2, False)
    DataLoader(data, num_workers=local.num_workers, prefetch_factor=local.prefetch_factor)
