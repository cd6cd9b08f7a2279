"""`sr-tile serve`: a server with a web page."""

import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sr_tile.cli.options import (
    LEAST_AGREEMENT,
    BatchSize,
    MemLimit,
    MinAgreement,
    ModelOptions,
    Overlap,
    PrecisionName,
    TileSize,
    parsed,
    settings_of,
    without_effect,
)
from sr_tile.errors import ArgumentError, SrTileError

if TYPE_CHECKING:
    from sr_tile.planner import Settings
    from sr_tile.serving.http.limits import Limits


log = logging.getLogger("sr_tile")


@dataclass(frozen=True)
class ListenOptions:
    """Where the server is, and to whom it talks."""

    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need a token.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes one that is free.")] = 8000
    token: Annotated[
        str | None, typer.Option(envvar="SR_TILE_TOKEN", help="What clients must show; better in SR_TILE_TOKEN.")
    ] = None
    name: Annotated[
        list[str] | None, typer.Option(help="Another name of this server, as a proxy in front of it uses.")
    ] = None
    trust_proxy: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Proxy whose X-Forwarded-For says who the client is.")
    ] = None
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, for https.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ArgumentError("--tls-cert and --tls-key belong together; give both or neither")
        for file in (self.tls_cert, self.tls_key):
            if file and not os.path.isfile(file):
                raise ArgumentError(f"{file}: there is no such file")
        if self.token is not None and len(self.token) < 16:
            raise ArgumentError(
                f"the token has {len(self.token)} characters; use 16 or more, from `openssl rand -hex 16`"
            )

    @property
    def uvicorn(self) -> dict[str, Any]:
        """What uvicorn is told beside the address."""
        config: dict[str, Any] = {"ssl_certfile": self.tls_cert, "ssl_keyfile": self.tls_key}
        if self.trust_proxy:
            config |= {"proxy_headers": True, "forwarded_allow_ips": self.trust_proxy}
        return config


@dataclass(frozen=True)
class ServedModels:
    """What is served, where it runs, and how images are cut."""

    model: Annotated[
        list[str] | None, typer.Option(help="Name or path of a model, once for each; all bundled ones by default.")
    ] = None
    device: Annotated[str, typer.Option(help="As for `sr-tile enhance`.")] = "auto"
    precision: PrecisionName = "auto"
    agreement: MinAgreement = LEAST_AGREEMENT
    tile_size: TileSize = "auto"
    overlap: Overlap = "auto"
    batch_size: BatchSize = "auto"
    mem_limit: MemLimit = None

    @property
    def settings(self) -> "Settings":
        """As the planner takes them."""
        return settings_of(self.tile_size, self.overlap, "auto", self.batch_size, self.mem_limit)


@dataclass(frozen=True)
class LimitOptions:
    """How much clients may ask for."""

    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="Largest file that is taken.")] = "256MiB"
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Largest picture that is taken, in megapixels.")] = (
        100.0
    )
    max_side: Annotated[int, typer.Option(min=1, help="Longest side of one, in pixels.")] = 65_535
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images that are worked on at the same time; by default one more than cores, 8 at most."
        ),
    ] = None
    queue: Annotated[
        int, typer.Option(min=1, help="Images under way and waiting; beyond that clients are told to wait.")
    ] = 64
    per_client: Annotated[int, typer.Option(min=1, help="Of these, images of one client.")] = 16
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte from or to a client.")] = 30.0
    shutdown_timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds to finish what is under way when stopped.")
    ] = 60.0

    @property
    def limits(self) -> "Limits":
        """As the server takes them."""
        from sr_tile.serving.http.limits import Limits, images_at_once
        from sr_tile.system import memory

        upload = parsed("--max-upload", memory.parse_size, self.max_upload)
        if not upload:
            raise ArgumentError(f"--max-upload {self.max_upload} takes no file; give a size such as 256MiB")
        return Limits(
            bytes=upload,
            pixels=int(self.max_megapixels * 1e6),
            side=self.max_side,
            running=self.at_once or images_at_once(),
            waiting=self.queue,
            per_client=self.per_client,
            idle_seconds=self.timeout,
        )


@dataclass(frozen=True)
class LogOptions:
    """What is told of requests."""

    log: Annotated[
        Literal["text", "json"], typer.Option(metavar="text|json", help="Form of the line that each request gets.")
    ] = "text"
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write no line for each request.")] = False


def serve(listen: ListenOptions, models: ServedModels, limits: LimitOptions, logs: LogOptions) -> None:
    """Serve models over HTTP, with a web page at `/`.

    Tiles of all requests share batches. `sr-tile enhance --server URL` and
    `curl --data-binary @in.png URL/v1/enhance -o out.png` use it.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SrTileError(f"`serve` needs {error.name}; install it with pip install 'sr-tile[serve]'") from None

    from sr_tile.models import zoo
    from sr_tile.serving.http.model_pool import ModelPool
    from sr_tile.serving.http.request_log import print_request
    from sr_tile.serving.http.uvicorn_server import serve

    for line in without_effect(ModelOptions(precision=models.precision, agreement=models.agreement)):
        log.warning("%s", line)
    names = models.model or list(zoo.bundled())
    serve(
        ModelPool(
            names,
            device=models.device,
            precision=models.precision,
            agreement=models.agreement,
            settings=models.settings,
            limits=limits.limits,
        ),
        (listen.host, listen.port),
        token=listen.token,
        names=listen.name or (),
        shutdown_timeout=limits.shutdown_timeout,
        on_request=None if logs.quiet else functools.partial(print_request, form=logs.log),
        **listen.uvicorn,
    )
