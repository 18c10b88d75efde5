"""Parts of a denoiser are computed once where they can be, and never where their inputs differ."""

import threading

import numpy as np

from ldm_runtime.engines.openvino.split import Memo, Part, Split, Values

SAMPLE = np.arange(12, dtype=np.float32).reshape(2, 6)


def doubled(sample: np.ndarray) -> np.ndarray:
    return np.concatenate([sample, sample])


class Counted:
    """A part of the model text + time + sample, and the batches that it was run with."""

    def __init__(self, *inputs: str) -> None:
        self.inputs, self.batches = inputs, list[int]()

    def __call__(self, feeds) -> Values:
        self.batches.append(len(feeds["sample"]))
        return {f"{self.inputs[0]}.0": np.float32(2) * feeds[self.inputs[0]]}


def make() -> tuple[Split, Counted, Counted, Counted]:
    text, time, prefix = Counted("text"), Counted("time"), Counted("sample", "time")

    def rest(values) -> Values:
        assert len(values["sample.0"]) == len(values["text.0"])
        return {"out": values["sample.0"] + values["text.0"] + values["time.0"]}

    split = Split(
        "sample",
        rest,
        Part(("text",), frozenset({"text.0"}), text, Memo(2)),
        Part(("time",), frozenset(), time, Memo(3)),
        Part(("sample", "time"), frozenset({"sample.0"}), prefix),
    )
    return split, text, time, prefix


def feeds(sample: np.ndarray, text: float = 1.0, time: float = 5.0) -> Values:
    return {
        "sample": sample,
        "text": np.full((len(sample), 6), text, np.float32),
        "time": np.array(time, np.float32),
    }


def check(split: Split, given: Values) -> None:
    expected = np.float32(2) * (given["sample"] + given["text"] + given["time"])
    np.testing.assert_array_equal(split.run(given)["out"], expected)


def test_a_text_is_computed_once_and_a_time_once() -> None:
    split, text, time, _ = make()
    for step in (5.0, 4.0, 5.0):
        check(split, feeds(doubled(SAMPLE) + np.float32(step), time=step))
    assert (len(text.batches), len(time.batches)) == (1, 2)
    check(split, feeds(doubled(SAMPLE), text=2.0))
    assert len(text.batches) == 2


def test_what_comes_before_the_text_is_computed_for_one_of_two_equal_halves() -> None:
    split, _, _, prefix = make()
    check(split, feeds(doubled(SAMPLE)))
    assert prefix.batches == [2]


def test_halves_that_differ_take_the_whole_way_in_every_bit() -> None:
    split, _, _, prefix = make()
    other = doubled(SAMPLE)
    other[3, 5] = np.nextafter(other[3, 5], np.float32(99))
    check(split, feeds(other))
    other = doubled(SAMPLE)
    other[2, 0] = -0.0
    check(split, feeds(other))
    check(split, feeds(SAMPLE[:1]))
    check(split, feeds(np.concatenate([SAMPLE, SAMPLE[:1]])))
    assert prefix.batches == [4, 4, 1, 3]


def test_values_are_kept_for_a_batch_of_the_same_size_alone() -> None:
    split, text, time, _ = make()
    check(split, feeds(doubled(SAMPLE)))
    check(split, feeds(SAMPLE))
    assert text.batches == [4, 2] and time.batches == [4, 2]


def test_a_memo_lets_go_of_what_was_asked_for_longest_ago() -> None:
    memo, computed = Memo(2), []

    def ask(number: int) -> None:
        memo.of([np.array(number)], (), lambda: computed.append(number) or {})  # type: ignore[func-returns-value]

    for number in (1, 2, 1, 3, 1, 2):
        ask(number)
    assert computed == [1, 2, 3, 2] and len(memo) == 2


def test_the_type_and_shape_of_arrays_tell_them_apart() -> None:
    memo, zeros = Memo(9), [np.zeros(2, np.float32), np.zeros(1, np.float64), np.zeros((2, 1), np.float32)]
    for array in zeros:
        memo.of([array], (), dict)
    memo.of([zeros[0]], (3,), dict)
    assert len(memo) == 4


def test_threads_that_compute_at_the_same_time_do_not_wait_for_one_another() -> None:
    memo, both = Memo(2), threading.Barrier(2, timeout=10)

    def compute() -> Values:
        both.wait()  # broken, and so an error, if the other thread is kept out
        return {"value": np.ones(1)}

    results: list[Values] = []
    threads = [threading.Thread(target=lambda: results.append(memo.of([SAMPLE], (), compute))) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 2 and len(memo) == 1
