"""Several processes on one gallery, as torchrun starts them: who does what, and who waits for whom."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work.

    Attributes:
        rank: Its number; 0 also does what one alone must do.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """As torchrun has it (its environment variables, or a process group that is there); else alone."""
        import torch.distributed as dist

        if not dist.is_available():
            return cls()
        if not dist.is_initialized():
            if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
                return cls()
            dist.init_process_group("gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def first(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives on rank 0, on all ranks. The others wait; an error there is an error everywhere."""
        if self.size == 1:
            return work()
        import torch.distributed as dist

        answer: list[Any] = [None, None]
        if self.rank == 0:
            try:
                answer[0] = work()
            except (ValueError, TypeError, RuntimeError, OSError) as error:
                answer[1] = error
        dist.broadcast_object_list(answer, device=torch.device("cpu"))
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def mine(self, number: int) -> bool:
        """Whether this process does the piece of work of this number."""
        return number % self.size == self.rank
