"""Ray Data's operators around the steps: tasks that decode, actors that own one engine each, tasks that encode and write.

Scheduling, back-pressure and retries are Ray's. Giants are cut into parts in a second pass and joined in a third, so that
the operators of each pass have rows of one kind of size, and an explicit number of them in one call.
"""

import logging
import os
import pickle
import secrets
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sr_tile.distributed import tasks
from sr_tile.distributed.progress import Progress
from sr_tile.distributed.tasks import EnhanceConfig, Row
from sr_tile.errors import ArgumentError, SrTileError
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import Existing, FilePair, is_url
from sr_tile.system import memory
from sr_tile.system.stopping import handlers_kept

log = logging.getLogger("sr_tile")

RETRIES = 2  # after which an image that kills its worker has failed: three tries in all
TASK_CPUS = 0.25  # what one decoder or encoder counts: they wait for disks as well
OBJECT_STORE_BYTES = 2 * 2**30
BLOCK_BYTES = 16 * 2**20  # Ray copies a block several times while it builds it; a larger row makes a block of its own


@dataclass(frozen=True)
class RayConfig:
    """Who works.

    Attributes:
        address: of a Ray cluster; None starts Ray on this machine.
        actors: engines at the same time.
        gpus_per_actor: GPUs that each has; 0 is the CPU, a fraction shares a GPU.
        cpus_per_actor: CPUs that each counts; None shares out what this machine has.
        batch: images that an actor gets at once, whose tiles share batches.
    """

    address: str | None = None
    actors: int = 1
    gpus_per_actor: float = 0.0
    cpus_per_actor: float | None = None
    batch: int = 4

    def __post_init__(self) -> None:
        if self.actors < 1 or self.gpus_per_actor < 0 or self.batch < 1:
            raise ArgumentError(
                f"actors {self.actors} and batch {self.batch} must be 1 or more, GPUs an actor "
                f"{self.gpus_per_actor:g} 0 or more"
            )

    def connect(self) -> "RayConfig":
        """Start Ray, or connect to it; harmless where that was done."""
        ray = _ray()
        if not ray.is_initialized():
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            room = int(min(OBJECT_STORE_BYTES, memory.free_ram() / 4))
            own = {"num_cpus": max(2, os.cpu_count() or 2), "include_dashboard": False, "object_store_memory": room}
            with handlers_kept():  # Ray has handlers of its own
                ray.init(**({"address": self.address} if self.address else own), **quiet)
        # Ray has no other way to bound tries: pyproject.toml ends where it is taken away.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        warnings.filterwarnings("ignore", "The minimum number of concurrent actors")  # a giant is one row at first
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = BLOCK_BYTES
        context.enable_progress_bars = context.print_on_execution_start = False
        # A block whose worker dies each time is left out, and its images are reported as failed.
        context.max_errored_blocks = -1
        if self.cpus_per_actor is not None:
            return self
        # What is left when decoders and encoders have their share: without it nothing would ever reach the actors. Where
        # one was killed Ray may let those of that try live on for long: three tries must fit beside each other.
        free = float(ray.cluster_resources().get("CPU", 2)) - 4 * TASK_CPUS
        share = 1.0 if self.gpus_per_actor else round(min(1.0, max(0.1, free / (3 * self.actors))), 2)
        return replace(self, cpus_per_actor=share)

    @property
    def actor_options(self) -> dict[str, Any]:
        """What Ray is to keep for one actor."""
        return {"num_cpus": self.cpus_per_actor, "num_gpus": self.gpus_per_actor or None}


class Actor:
    """Ray Data's batches to rows and back."""

    def __init__(self, config: EnhanceConfig) -> None:
        self._network = tasks.Network(config)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """One batch of one row for each result, as soon as it is there."""
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        for row in self._network(rows):
            yield {key: [value] for key, value in row.items()}


def enhance_dataset(dataset: Any, config: EnhanceConfig, fleet: RayConfig, retries: int = RETRIES) -> Any:
    """Enhance the files that a dataset names.

    Args:
        dataset: a Ray dataset with columns `index`, `source` and `target`: numbers, and paths or URLs.
        config: with a plan, see `plan_on_fleet`.
        fleet: connected.
        retries: how often a batch is tried again whose worker died; then there are no reports of its images.

    Returns:
        A lazy dataset of reports, in the order in which images are finished: `index`, `kind` (`done`, `failed`, or
        `giant` where the config leaves those to parts), `error`, and facts of the source.
    """
    common: dict[str, Any] = {"fn_kwargs": {"config": config}, "num_cpus": TASK_CPUS, "max_retries": retries}
    done = _on_actors(dataset.map(tasks.decode, **common), config, fleet, retries)
    return done.map(tasks.encode, **common)


def plan_on_fleet(config: EnhanceConfig, fleet: RayConfig) -> EnhanceConfig:
    """The config with the tiles that a machine with the actors' resources chooses: from then on they are everyone's."""
    task = _ray().remote(**fleet.actor_options, max_retries=2)(EnhanceConfig.planned)
    try:
        planned: EnhanceConfig = _ray().get(task.remote(config))
    except _ray().exceptions.RayTaskError as error:
        raise error.cause from None
    return planned


def run_ray(
    pairs: Sequence[FilePair],
    config: EnhanceConfig,
    fleet: RayConfig,
    *,
    job: ResumableJob | None = None,
    existing: Existing = "refuse",
    retry_failed: bool = False,
) -> Iterator[FileResult]:
    """Enhance files on a fleet; results come as they are ready, and one that fails never stops the rest.

    Args:
        pairs: sources and targets, as `select_urls` gives them.
        config: what to do.
        fleet: who does it.
        job: keeps a journal, for local files.
        existing: what becomes of targets that exist.
        retry_failed: with a job, see `ResumableJob.run`.

    Raises:
        ArgumentError: a journal of files that are not local.
    """
    remote = any(is_url(pair.source) or is_url(pair.target) for pair in pairs)
    if job and remote:
        raise ArgumentError("--job keeps a journal of local files; for URLs, --skip-existing goes on where a run ended")
    fleet = fleet.connect()
    if config.model and os.path.isfile(config.model):  # other processes may be in another folder
        config = replace(config, model=os.path.abspath(config.model))  # noqa: PTH100  # as the journal names files
    config = plan_on_fleet(replace(config, plan=job.plan) if job and job.plan else config, fleet)
    # Every machine that writes results sees their folder; the journal's folder is to be such a one.
    strips = job.strips if job else pairs[0].target_path.absolute().parent / f".sr-tile-{secrets.token_hex(4)}"
    config = replace(config, split=not remote and (fleet.actors > 1 or job is not None), strips=str(strips))
    if job:
        assert config.plan  # by plan_on_fleet
        job.start(config.plan, config.device, len(pairs))
    progress = Progress(pairs, job)
    try:
        wanted = yield from progress.wanted(existing, retry_failed)
        if wanted:
            # A batch is tried once: one image that kills its worker takes others with it, so that each is then tried alone.
            first = enhance_dataset(_dataset(wanted, fleet.batch), config, fleet, retries=0)
            yield from progress.take(first, wanted, last=False)
        if lost := progress.lost(wanted):
            log.warning("the workers of %d images died; each of them is tried %d times alone", len(lost), RETRIES)
            alone = enhance_dataset(_dataset(lost, 1), config, replace(fleet, batch=1), retries=RETRIES - 1)
            yield from progress.take(alone, lost)
        giants = [row for row in wanted if row["index"] in progress.giants]
        if giants:
            yield from _giants(progress, giants, config, fleet)
    finally:
        if not job:
            shutil.rmtree(config.strips, ignore_errors=True)


def _giants(progress: Progress, wanted: list[Row], config: EnhanceConfig, fleet: RayConfig) -> Iterator[FileResult]:
    """Parts to strips, and strips to files."""
    rows = [{**row, "recorded": pickle.dumps(progress.recorded(row))} for row in wanted]
    task: dict[str, Any] = {"num_cpus": TASK_CPUS, "max_retries": RETRIES}
    common: dict[str, Any] = {"fn_kwargs": {"config": config}, **task}
    cut = _dataset(rows, 1).flat_map(tasks.parts, fn_kwargs={"config": config, "actors": fleet.actors}, **task)
    done = _on_actors(cut, config, replace(fleet, batch=1), RETRIES)
    yield from progress.take(done.map(tasks.encode, **common), wanted)
    joined = []
    for row in wanted:
        if row["index"] not in progress.ended:
            folder, strips = progress.strips(row)
            joined.append({**row, "folder": str(Path(config.strips) / folder), "strips": pickle.dumps(strips)})
    if joined:
        yield from progress.take(_dataset(joined, 1).map(tasks.join, **common), joined)
    for row in joined:
        if row["index"] in progress.done:  # else another run may go on with them
            shutil.rmtree(row["folder"], ignore_errors=True)


def _on_actors(dataset: Any, config: EnhanceConfig, fleet: RayConfig, retries: int) -> Any:
    """The network over a dataset of decoded rows, `fleet.batch` of them a call."""
    # What waits at an actor that dies has been tried as well: none does where a try counts.
    waiting = 1 if retries else 2
    return dataset.map_batches(
        Actor,
        fn_constructor_kwargs={"config": config},
        batch_size=fleet.batch,
        compute=_ray().data.ActorPoolStrategy(size=fleet.actors, max_tasks_in_flight_per_actor=waiting),
        max_restarts=-1,  # of the actor; its work is what is bounded
        max_task_retries=retries,
        **fleet.actor_options,
    )


def _dataset(rows: list[Row], batch: int) -> Any:
    """Rows in blocks of one batch: a block is what one task takes, and what is lost with it."""
    return _ray().data.from_items(rows, override_num_blocks=-(-len(rows) // batch))


def _ray() -> Any:
    # It says of every pool of actors that their arguments may be lost, which Ray Data holds.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # it prints a stack and aborts at SIGTERM
    # Ray's agents ask its server for so long, also where all of it was killed: a minute by themselves.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    try:
        import ray.data
    except ImportError:
        raise SrTileError("--engine ray needs Ray: pip install 'sr-tile[ray]'") from None
    return ray
