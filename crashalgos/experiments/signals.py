"""What a process does when it is asked to end."""

import signal


def interrupt_on_sigterm() -> None:
    """From now on SIGTERM, which batch systems and agents send, is to this process what Ctrl-C is: it saves what there is."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: object) -> None:
    # Once: a second one would cut the saving short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
