"""The checks of the acceptance run. Each takes a Context and adds to its figures."""

import threading
from dataclasses import dataclass
from typing import Any


@dataclass
class Context:
    """What a check has to work with."""

    made: dict  # outputs of Terraform
    figures: Any
    budget: Any
    client: Any  # client(service, **options): a new client of the AWS SDK
    share: float = 1.0  # share of the usual samples
    stand_in: bool = False  # AWS is a stand-in
    satchel: str | None = None  # path of the binary
    environment: dict | None = None  # of processes that reach AWS
    module_file: str | None = None

    def samples(self, usual, least=1):
        return max(least, round(usual * self.share))


def together(count, work):
    """Runs work(index) on threads that begin at the same time. Returns the results in order, or
    raises what one of them raised."""
    begin = threading.Barrier(count)
    results, errors = [None] * count, []

    def run(index):
        try:
            begin.wait()
            results[index] = work(index)
        except BaseException as error:  # it is raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
