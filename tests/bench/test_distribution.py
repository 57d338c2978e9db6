"""Samples, percentiles and confidence intervals."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.bench.distribution import Distribution, change_of, median_of

SAMPLES = st.lists(st.integers(0, 10**12), min_size=1)


@given(SAMPLES)
def test_the_percentiles_go_from_the_least_to_the_greatest_sample(samples: list[int]) -> None:
    times = Distribution(samples)
    assert (times.percentile(0), times.percentile(100)) == (min(samples), max(samples))
    assert (times.min_ns, times.max_ns, len(times)) == (min(samples), max(samples), len(samples))


@given(SAMPLES, st.floats(0, 100))
def test_a_percentile_is_the_least_sample_that_so_many_do_not_exceed(samples: list[int], percent: float) -> None:
    value = Distribution(samples).percentile(percent)
    assert sum(sample <= value for sample in samples) * 100 >= percent * len(samples) * (1 - 1e-9)
    assert sum(sample < value for sample in samples) * 100 < max(percent, 1e-9) * len(samples) or value == min(samples)


def test_the_median_of_ten_is_the_fifth() -> None:
    assert Distribution(range(1, 11)).percentile(50) == 5


@given(st.lists(SAMPLES, min_size=1, max_size=5))
def test_what_is_merged_has_the_samples_of_all(parts: list[list[int]]) -> None:
    merged = Distribution.merged(map(Distribution, parts))
    assert merged == Distribution(sample for part in parts for sample in part)
    assert list(merged.samples_ns) == sorted(sample for part in parts for sample in part)


def test_no_samples_are_no_distribution() -> None:
    with pytest.raises(ValueError, match="one sample"):
        Distribution([])


def test_its_samples_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="read-only"):
        Distribution([1]).samples_ns[0] = 2  # type: ignore[index]


def test_equal_samples_give_a_point_for_an_interval() -> None:
    assert median_of([7] * 20) == (7, 7, 7)


def test_the_same_samples_give_the_same_interval_every_time() -> None:
    values = [random.Random(1).gauss(100, 10) for _ in range(20)]
    assert median_of(values) == median_of(values)


def test_an_interval_holds_the_estimate_and_lies_within_the_samples() -> None:
    values = [random.Random(2).gauss(100, 10) for _ in range(20)]
    interval = median_of(values)
    assert interval.value == statistics.median(values)
    assert min(values) <= interval.low <= interval.value <= interval.high <= max(values)


def test_about_19_of_20_intervals_hold_the_true_median() -> None:
    draw = random.Random(3)
    held = sum(median_of([draw.gauss(100, 10) for _ in range(20)]).contains(100) for _ in range(200))
    assert 180 <= held <= 200


def test_two_runs_of_the_same_thing_differ_by_noise_alone() -> None:
    draw = random.Random(4)
    one, other = ([draw.gauss(100, 10) for _ in range(20)] for _ in range(2))
    assert change_of(one, other).contains(1)


def test_a_run_that_is_twice_as_slow_is_beyond_the_noise() -> None:
    draw = random.Random(5)
    one, other = ([draw.gauss(mean, 10) for _ in range(20)] for mean in (100, 200))
    change = change_of(one, other)
    assert change.low > 1.5
    assert change.contains(2)
