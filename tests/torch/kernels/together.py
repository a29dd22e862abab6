"""Let Triton's interpreter run the programs of a launch at the same time, each in a thread.

By itself it runs one after the other, and a program that waits for another would wait for ever. What a GPU
may do beyond this stays untried: here every store is seen at once by all.
"""

import inspect
import math
import threading
import time

import triton.language as tl  # noqa: F401 - the interpreter looks for it where a kernel is defined
from triton.runtime import interpreter

PATIENCE = 60.0
"""Seconds after which programs that still wait are given up."""


class StuckError(RuntimeError):
    """Some programs of a launch wait for others in vain."""


def run_together(monkeypatch, patience=PATIENCE):
    """Run what is launched until ``monkeypatch`` is undone; give up after ``patience`` seconds."""
    place, given_up, changed = threading.local(), threading.Event(), threading.Condition()
    builder = interpreter.InterpreterBuilder
    change = builder.create_atomic_rmw

    def create_atomic_rmw(self, operation, pointer, value, *arguments):
        if given_up.is_set():
            raise StuckError("given up")
        with changed:
            if value.data.any():
                changed.notify_all()
            else:  # whoever only looks, or puts a ticket back to 0, lets others run first
                changed.wait(0.01)
            return change(self, operation, pointer, value, *arguments)

    class Together(interpreter.GridExecutor):
        """Collect the programs of a launch, and run them when the last one is here."""

        def __init__(self, kernel, *arguments):
            super().__init__(kernel, *arguments)
            threads, failures = [], []

            def run(at, values):
                place.at = at
                try:
                    kernel(**values)
                except Exception as failure:
                    failures.append(failure)

            def collect(**values):
                current = interpreter.interpreter_builder
                threads.append(threading.Thread(target=run, args=(current.grid_idx, values), daemon=True))
                if len(threads) == math.prod(current.grid_dim):
                    run_all(threads)
                    if failures:
                        raise failures[0]

            collect.__signature__ = inspect.signature(kernel)
            self.fn = collect

    def run_all(threads):
        given_up.clear()
        end = time.monotonic() + patience
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        late = sum(thread.is_alive() for thread in threads)
        given_up.set()
        for thread in threads:
            thread.join()
        if late:
            raise StuckError(f"{late} of {len(threads)} programs wait in vain")

    position = property(lambda _: place.at, lambda _, at: setattr(place, "at", at))
    monkeypatch.setattr(builder, "grid_idx", position, raising=False)
    monkeypatch.setattr(builder, "create_atomic_rmw", create_atomic_rmw)
    monkeypatch.setattr(interpreter, "GridExecutor", Together)
