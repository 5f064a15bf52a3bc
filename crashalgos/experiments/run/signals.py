"""What a process does when it is asked to end."""

import os
import signal


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems and agents send."""

    def end_process(self) -> None:
        """End as the signal would have ended it, so that whoever sent it does not take it for a failure."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def interrupt_on_sigterm() -> None:
    """From now on SIGTERM is to this process what Ctrl-C is: it saves what there is."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: object) -> None:
    # Once: a second one would cut the saving short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
