"""What is said when somebody stops a command: what is kept, and how to go on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_CODE = 130
"""Of a command that was stopped by Ctrl-C, as shells have it."""


@contextmanager
def on_stop(say: str | Callable[[], str]) -> Iterator[None]:
    """Add to a Ctrl-C in this block what is kept of its work; whoever ends the process then says it.

    Args:
        say (`str` or `Callable`): What is kept, and how to go on; or what finds it out when it is asked.

    Example:

    ```python
    >>> from acn_hf.support.stopping import on_stop, stopped

    >>> try:
    ...     with on_stop("out/checkpoint-40 is kept; --resume goes on from there"):
    ...         raise KeyboardInterrupt
    ... except KeyboardInterrupt as stop:
    ...     print(stopped(stop))
    stopped; out/checkpoint-40 is kept; --resume goes on from there

    ```
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if text := say if isinstance(say, str) else say():
            stop.add_note(text)
        raise


def stopped(stop: KeyboardInterrupt) -> str:
    """Return the line that says that a command was stopped, and what is kept, from the inside to the outside."""
    return "; ".join(["stopped", *getattr(stop, "__notes__", [])])
