"""SIGTERM ends a process as Ctrl-C does."""

import os
import signal


class Terminated(KeyboardInterrupt):
    """The process got SIGTERM, for example from a batch system or a sweep's agent."""

    def end_process(self) -> None:
        """Ends the process by SIGTERM itself, so that its sender does not count a failure."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def interrupt_on_sigterm() -> None:
    """Makes SIGTERM raise ``Terminated`` from now on, so that the process saves its work first."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: object) -> None:
    # Only once: a second SIGTERM would interrupt the saving.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
