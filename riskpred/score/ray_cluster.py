"""Connects to a ray cluster on a private network, or starts one on this machine for one night.

Whoever reaches a port of ray may run programs as its owner: a cluster of ours listens on the loopback address alone and
asks for a token that nobody else knows; another one must have a private address, and its own token where it asks for
one (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH). Nothing is reported to ray's makers, and no dashboard is started.
"""

import importlib.util
import io
import ipaddress
import logging
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any, Final, TextIO

from riskpred.errors import UsageError
from riskpred.imaging.decode import cores
from riskpred.score.environment import environment

AUTO: Final = "auto"
"""Address of the cluster that is running on this machine already."""

_REPORTER: Final = "ray_listen_error_messages"
"""Name of the thread in which ray prints what it has to report."""

_QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0"}
_TOKEN: Final = secrets.token_hex(32)
"""One a process: ray reads it once."""
_OBJECTS = 128 * 1024 * 1024
"""Bytes of shared memory for what goes to and fro: ids of subjects, and what the cache of images knows of them."""


def refuse_ray(address: str | None) -> None:
    """Raises: UsageError, when ray is not installed, or the address is no cluster's on a private network."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--engine ray: ray is not installed.",
            wanted="the extra `cluster`, on every machine of the cluster",
            do="pip install 'riskpred[cluster]', or leave --engine out: the local engine uses every core of this one",
        )
    if address is None or address == AUTO:
        return
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address or not port.isdigit():
        raise UsageError(
            f"--ray-address {address}: not an address of a cluster.",
            wanted="HOST:PORT as `ray start --head` says it, or auto",
            do="correct it; or leave it out, and a cluster is started on this machine",
        )
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)}
    except (OSError, OverflowError):
        raise UsageError(
            f"--ray-address {address}: no such host.", wanted="a host that this machine can find", do="correct it"
        ) from None
    if any(ipaddress.ip_address(one).is_global for one in found):
        raise UsageError(
            f"--ray-address {address}: is a public address; whoever reaches a port of ray may run programs there.",
            wanted="a loopback or private address (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fd00::/8, ...)",
            do="give the cluster a private network",
        )


@contextmanager
def connected(address: str | None, processes: int | None) -> Iterator[Any]:
    """The module `ray`, connected; the cluster is left, or ended where it was ours, when the block ends.

    Args:
        address: of `refuse_ray`; None = start a cluster on this machine.
        processes: of a cluster that is started; None = one a core.
    Raises: UsageError, when there is no cluster at the address, or it does not let us in.
    """
    own = address is None
    # Where they are set already they are the operator's own.
    ours = dict(_QUIET)
    if own:
        # Without the first, ray on Linux takes an address that others can reach, whatever it is asked.
        ours |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
        ours |= {"RAY_AUTH_TOKEN": _TOKEN}
    with environment(ours), redirect_stdout(_WithoutReports(sys.stdout)):
        import ray

        if ray.is_initialized():
            raise UsageError(
                "--engine ray: this process is connected to a cluster already.", do="call ray.shutdown() first"
            )
        asked = (
            {
                "address": "local",
                "num_cpus": processes or cores(),
                "object_store_memory": _OBJECTS,
                "include_dashboard": False,
            }
            if own
            else {"address": address}
        )
        try:
            _init(ray, asked)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError, ray.exceptions.RayError) as error:
            ray.shutdown()
            raise UsageError(
                "--engine ray: no cluster could be started on this machine."
                if own
                else f"--ray-address {address}: no cluster that this machine belongs to and may use.",
                got=type(error).__name__,
                wanted=None if own else "a running cluster of this version of ray and of Python",
                do="see /tmp/ray/session_latest/logs"
                if own
                else "run on a machine of the cluster (`ray start --address` makes it one); where the cluster asks for "
                "a token, set RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH",
            ) from None
        try:
            yield ray
        finally:
            with redirect_stdout(io.StringIO()):  # what is left to report is printed at last by this thread
                ray.shutdown()


def _init(ray: Any, asked: Mapping[str, Any]) -> None:
    """`ray.init` without a word on stderr; what its workers print stays in its own logs."""
    with _own_signals():
        ray.init(
            **asked,
            namespace="riskpred",
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.CRITICAL,
        )


class _WithoutReports:
    """Standard output without what a thread of ray prints there, unasked, when a worker or a machine is lost.

    Standard output carries the result of a verb alone; the reports are in ray's own logs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Pass on what others write."""
        return len(text) if threading.current_thread().name == _REPORTER else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put our handlers back: ray's own of SIGTERM ends the process where it stands, with another exit code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
