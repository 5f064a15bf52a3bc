"""Whether W&B's runs can be online."""

import os
import socket
import urllib.request
from urllib.parse import urlsplit

# How long W&B's server may take to answer.
_SECONDS_TO_CONNECT = 3.0


def choose_wandb_mode() -> None:
    """
    Sets ``WANDB_MODE=offline`` if W&B's runs cannot be online, and prints the reason in one line.

    Reasons are a missing or refused API key and a server that does not answer. Without this check, each run would wait half a
    minute for the same error.
    """
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    reason = _why_offline()
    if reason:
        os.environ["WANDB_MODE"] = "offline"
        print(f"W&B: {reason}; what is tracked is offline")


def _why_offline() -> str:
    """Returns why W&B's runs cannot be online; an empty text if they can."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        url = wandb.setup().settings.base_url
        if not _uses_proxy(url):
            address = urlsplit(url)
            port = address.port or (80 if address.scheme == "http" else 443)
            try:
                socket.create_connection((address.hostname or "", port), timeout=_SECONDS_TO_CONNECT).close()
            except OSError as error:
                return f"{url} cannot be reached ({error})"
        if not wandb.login(prompt=False, verify=True):
            return "no API key (`wandb login` makes runs online)"
    except Exception as error:
        return f"{error} (if it is the key: `wandb login --relogin`, or WANDB_API_KEY)"
    finally:
        wandb.teardown()  # the next setup reads the environment again
    return ""


def _uses_proxy(url: str) -> bool:
    """Tells whether requests to a URL go through a proxy."""
    address = urlsplit(url)
    return address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(address.hostname or "")
