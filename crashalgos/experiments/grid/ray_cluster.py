"""The connection to a Ray cluster, and what the cluster can execute."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

# How long a cluster may take to answer.
_SECONDS_TO_CONNECT = 5.0


def check_address(address: str) -> None:
    """
    Checks that a cluster's address is usable: Ray itself waits for minutes if nothing answers.

    :param address: ``HOST:PORT`` of the cluster, or ``"auto"``
    :raises ValueError: if the address is invalid, or if nothing listens there
    """
    from ray._private.services import canonicalize_bootstrap_address  # ray.init reads addresses with it

    try:
        if "://" in address:
            raise ValueError("with a Ray Client the runs would end when its connection breaks")
        place = urlsplit(f"//{canonicalize_bootstrap_address(address)}")
        if not place.hostname or not place.port:
            raise ValueError("it is not HOST:PORT")
        socket.create_connection((place.hostname, place.port), timeout=_SECONDS_TO_CONNECT).close()
    except (ValueError, OSError) as error:
        hint = "on a node of the cluster, give the HOST:PORT of its head, or auto"
        raise ValueError(f"the Ray address {address!r} cannot be used ({error}): {hint}") from error


@contextmanager
def ray_connection(address: str | None, n_cpus: int) -> Iterator[None]:
    """
    Keeps this process connected to Ray inside a ``with`` block; an existing connection is kept, and stays open.

    :param address: the cluster's address; ``None`` starts a cluster on this machine, which ends with the block
    :param n_cpus: how many CPUs a cluster on this machine uses
    :raises ValueError: if there is no connection
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        try:
            if address is None:
                ray.init("local", num_cpus=n_cpus, include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
        except Exception as error:
            place = "a Ray on this machine" if address is None else f"the Ray cluster at {address}"
            hint = "" if address is None else "; if it asks for a token, set RAY_AUTH_MODE=token"
            raise ValueError(f"no connection to {place}: {error}{hint}") from error
        yield
    finally:
        ray.shutdown()


def has_capacity(resources: Mapping[str, int]) -> bool:
    """
    Tells whether a living node of the cluster has enough resources, even if they are in use now.

    :param resources: the amounts that a run needs, by Ray's names (``"CPU"``, ``"GPU"``)
    :return: whether there is such a node
    """
    import ray

    return any(
        node["Alive"] and all(node["Resources"].get(name, 0) >= amount for name, amount in resources.items())
        for node in ray.nodes()
    )
