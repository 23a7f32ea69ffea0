import pytest
import torch
from torch import Tensor

from pulse.search.memory import in_chunks


def test_all_items_in_order() -> None:
    done, size = in_chunks(lambda x: x * 2, torch.arange(7), 3)
    assert size == 3
    assert [part.tolist() for part in done] == [[0, 2, 4], [6, 8, 10], [12]]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_smaller_parts_when_memory_runs_out(error: Exception) -> None:
    tried: list[int] = []

    def work(part: Tensor) -> int:
        tried.append(len(part))
        if len(part) > 2:
            raise error
        return int(part.sum())

    done, size = in_chunks(work, torch.arange(9), 8)
    assert sum(done) == 36
    assert size == 2
    assert tried == [8, 4, 2, 2, 2, 2, 1]


def test_what_does_not_fit_alone() -> None:
    def work(part: Tensor) -> None:
        # A real one: more than any machine has.
        torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(MemoryError, match="not even one"):
        in_chunks(work, torch.arange(4), 4)


def test_other_errors_are_not_taken_for_it() -> None:
    def work(part: Tensor) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_chunks(work, torch.arange(4), 4)
