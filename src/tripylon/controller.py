"""The composition root of Kubernetes mode: one replica of the controller, its parts wired in one TaskGroup.

Every replica follows the API server, builds, and serves xDS; the leader also writes status and runs the proxies. The
order of starting: what is there is read and built whole, then proxies are let in. The invariants: a replica is ready
only when a proxy that asks it gets all that it is to have, and losing the lead stops writing at once. Read
`provision.py` for what runs for Gateways, `kube/report.py` for status.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

import msgspec
import structlog

from tripylon.admin.probes import serve_health, serve_metrics
from tripylon.admin.replica_metrics import ReplicaMetrics
from tripylon.api.kinds import kind_of
from tripylon.api.trust import ClusterTrustBundle
from tripylon.envoy.options import EmitOptions
from tripylon.errors import TripylonError
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.kube import config
from tripylon.kube.client import Client
from tripylon.kube.crds import CrdReport, about_class
from tripylon.kube.deploy import Deployer
from tripylon.kube.failures import ApiError, Backoff
from tripylon.kube.identity import Identity, Served
from tripylon.kube.leader import LeaderClient
from tripylon.kube.lease import Election
from tripylon.kube.made import Made
from tripylon.kube.pod import ProxySettings
from tripylon.kube.report import Counters as StatusCounters
from tripylon.kube.report import Reporter
from tripylon.kube.secret_wants import SecretWants
from tripylon.kube.selectors import SelectorServices
from tripylon.kube.shutdown import ADMIN_PORT, METRICS_PORT, READINESS_PORT
from tripylon.kube.tokens import Node, TokenReviewer
from tripylon.kube.watch import Batch, KindState, Watcher, joined
from tripylon.loop import Applied, Engine
from tripylon.model.gateway_heads import CLASS_PLANS
from tripylon.model.options import Options
from tripylon.neighbours import Neighbours, identity_of
from tripylon.provision import ControlPlane, Provisioner
from tripylon.settings import Address, ControllerSettings
from tripylon.values import Name
from tripylon.world.world import GATEWAY_CLASSES, GATEWAYS, TOLD
from tripylon.xds.cache import Counters, Group
from tripylon.xds.server import XdsServer
from tripylon.xds.tls import Certificate

_log = structlog.get_logger("tripylon.controller")
_REST_S = 5.0
_BUNDLES = kind_of(ClusterTrustBundle).plural
_ABSENT = ((ClusterTrustBundle.GROUP, ClusterTrustBundle.__name__),)


async def run(settings: ControllerSettings) -> int:
    """Take part in serving a cluster until SIGINT or SIGTERM; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Client(config.load(settings.kubeconfig, context=settings.context)) as client:
        await Replica(settings, client).run(stop)
    return 0


class Replica:
    """One replica: what it knows, and who does what with it."""

    def __init__(self, settings: ControllerSettings, client: Client) -> None:
        self._settings = settings
        options = Options(
            controller_name=settings.controller_name,
            standalone=False,
            reserved_ports=(ADMIN_PORT, READINESS_PORT, METRICS_PORT),
        )
        access_log = "" if settings.access_log == "off" else settings.access_log
        emit_options = EmitOptions(
            access_log=access_log, route_layout=settings.route_layout, system_ca=settings.proxy_ca
        )
        self._engine = Engine(options, emit_options, on_applied=self._on_applied, on_proxies=self._on_proxies)
        self._watcher = Watcher(
            client,
            namespaces=settings.namespaces or None,
            secret_namespaces=settings.secret_namespaces or None,
        )
        self._secrets = SecretWants()
        self._identity = Identity(
            client,
            settings.namespace,
            [settings.xds_service],
            secret=settings.xds_secret,
            on_change=self._on_identity,
        )
        writer = LeaderClient(client, lambda: self._election.is_leader)
        self._deployer = Deployer(
            writer, self._tell, controller_name=settings.controller_name, namespaces=settings.namespaces
        )
        self._made = Made(client, self._deployer.selector, settings.namespaces, self._deployer.gone)
        self._selectors = SelectorServices(self._engine.graph, writer, controller_name=settings.controller_name)
        self._provisioner = Provisioner(
            self._engine,
            self._deployer,
            ControlPlane(Address(settings.xds_service, settings.xds.port), lambda: self._identity.ca_bundle),
            _proxy_settings(settings),
        )
        self._reporter = Reporter(self._engine, writer, options)
        self._reviewer = TokenReviewer(client, self._provisioner.service_account)
        name = identity_of(settings, client.config.server)
        self._election = Election(client, settings.namespace, settings.lease, name, self._lead, self._follow)
        self._neighbours = Neighbours(
            name, lambda: self._election.leader, self._engine, self._reporter.mark, self._identity, settings.xds_service
        )
        self._metrics = ReplicaMetrics(self)
        client.on_call = self._metrics.count_request
        self._certificate: Certificate | None = None
        self._identity_trouble = ""
        self._synced = asyncio.Event()
        self._serving = False
        self._deploying: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Run all parts until told to stop: then all end at once, health pages last."""
        async with (
            serve_health(self, self._settings.health),
            serve_metrics(self._metrics.render, self._settings.metrics),
        ):
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    tasks.create_task(self._end(stop))
                    await self._serve(tasks)
            except* _Stopped:
                _log.info("stopped")

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        """Start the parts in their order; each runs until the group ends."""
        certificate = await self._identify()
        tasks.create_task(self._watcher.run())
        tasks.create_task(self._take())
        await self._synced.wait()
        tasks.create_task(self._serve_proxies(certificate))
        tasks.create_task(self._identity.run())
        tasks.create_task(self._reporter.run())
        tasks.create_task(self._rest())
        tasks.create_task(self._election.run())
        tasks.create_task(self._neighbours.run())

    async def _end(self, stop: asyncio.Event) -> None:
        await stop.wait()
        raise _Stopped

    async def _identify(self) -> Certificate:
        """The certificate to serve by, as soon as the API server gives it or takes the one that we make."""
        backoff = Backoff()
        while True:
            try:
                served = await self._identity.load()
            except TripylonError as error:
                _log.warning("waiting for the certificate of xDS", secret=self._settings.xds_secret, error=str(error))
                self._identity_trouble = f": {error}"
                await asyncio.sleep(backoff.next(error.retry_after if isinstance(error, ApiError) else None))
            else:
                self._certificate = Certificate(served.chain, served.key)
                return self._certificate

    async def _serve_proxies(self, certificate: Certificate) -> None:
        server = XdsServer(
            self._group,
            admit=self._reviewer.admission,
            authorise=self._reviewer.refusal,
            services=(self._neighbours.peers,),
        )
        place = self._settings.xds
        await server.start_tcp(place.host, place.port, certificate)
        self._serving = True
        _log.info("ready", xds=str(place), gateways=len(self.graph.rows(GATEWAYS)))
        try:
            await asyncio.Event().wait()
        finally:
            self._serving = False
            await server.stop()

    # --- What others ask ---------------------------------------------------------------------------------------------

    def faults(self) -> tuple[str, ...]:
        """Why this replica must not get proxies yet."""
        if self._serving:
            return ()
        if self._certificate is None:
            secret = f"{self._settings.namespace}/{self._settings.xds_secret}"
            return (f"waiting for Secret {secret}{self._identity_trouble}",)
        waiting = tuple(f"{each.title}: {each.message or each.state}" for each in self.lists() if not each.settled)
        return waiting or ("the first build is not done",)

    @property
    def graph(self) -> Graph:
        """World, plan and findings as of the last flush."""
        return self._engine.graph

    @property
    def ready(self) -> bool:
        """Whether proxies get all that they are to have."""
        return self._serving

    @property
    def leading(self) -> bool:
        """Whether it writes status and runs the proxies."""
        return self._election.is_leader

    @property
    def wire(self) -> Counters:
        """What went to all proxies together."""
        return self._engine.gateways.totals()

    @property
    def statuses(self) -> StatusCounters:
        """What was written."""
        return self._reporter.counters

    @property
    def statuses_waiting(self) -> int:
        """How many objects wait to be judged or written."""
        return self._reporter.waiting

    def lists(self) -> tuple[KindState, ...]:
        """How it stands with what is followed at the API server."""
        return self._watcher.states()

    # --- Following ---------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        """News of the API server, without end; all that there is at the start is built at once."""
        waiting: list[Batch] = []
        async for batch in self._watcher:
            if batch.crds is not None:
                _note_definitions(batch.crds)
            waiting.append(batch)
            if not (batch.synced or self._synced.is_set()):
                continue
            self._engine.lack(_ABSENT if self._lacks_bundles() else ())
            self._apply(joined(waiting))
            waiting = []
            if batch.synced and self._watcher.synced:  # so it is still, with the Secrets that the objects name
                self._synced.set()

    def _lacks_bundles(self) -> bool:
        """Whether the cluster does not serve ClusterTrustBundles, which not every one does."""
        return any(each.title == _BUNDLES and each.state == "absent" for each in self.lists())

    def _apply(self, batch: Batch) -> None:
        for ref in (*batch.delete, *(each.ref for each in batch.put)):
            if self._engine.heard("reader", ref):
                self._engine.tell("reader", ref, ())
        for ref in batch.delete:
            if self._engine.heard("definitions", ref):
                self._engine.tell("definitions", ref, ())
        if batch.put or batch.delete:
            self._engine.apply(batch.put, batch.delete)
        for finding in batch.findings:
            self._engine.tell("reader", finding.object, (finding,))
        if batch.withheld is not None:
            self._engine.withhold(batch.withheld)
        self._tell_definitions()

    def _tell_definitions(self) -> None:
        """Has our GatewayClasses say whether the definitions in the cluster are of a release that we know."""
        for name in self.graph.rows(CLASS_PLANS):
            class_ = self.graph.get(GATEWAY_CLASSES, name)
            found = about_class(self._watcher.crds, class_.ref) if class_ is not None else ()
            if class_ is not None and found != (self.graph.get(TOLD, ("definitions", class_.ref)) or ()):
                self._engine.tell("definitions", class_.ref, found)

    async def _rest(self) -> None:
        """Now and then, what can wait."""
        while True:
            await asyncio.sleep(_REST_S)
            self._engine.rest()

    # --- Acting ------------------------------------------------------------------------------------------------------

    def _on_applied(self, applied: Applied) -> None:
        """Something changed: say what it means for proxies and for status."""
        self._metrics.observe_build(applied.build_s)
        self._metrics.observe_publish(applied.publish_s)
        if self._secrets.changed(self.graph, applied.changes):
            self._watcher.want(self._secrets.refs)
        self._provisioner.changed(applied.changes)
        self._selectors.changed(applied.changes)
        self._reporter.changed(applied)
        self._neighbours.stir()

    def _on_proxies(self) -> None:
        """A proxy came, went or answered: whoever writes status hears of it."""
        self._neighbours.stir()

    def _on_identity(self, served: Served) -> None:
        """Another certificate is in force: new connections see it, and proxies learn whom to trust."""
        if self._certificate is not None:
            self._certificate.replace(served.chain, served.key)
            self._provisioner.renew()

    def _tell(self, gateway: Name, findings: tuple[Finding, ...]) -> None:
        """What the deployer has to say about a Gateway's proxies."""
        if (found := self.graph.get(GATEWAYS, gateway)) is not None:
            self._engine.tell("deployer", found.ref, findings)

    def _lead(self) -> None:
        assert self._tasks is not None
        self._deploying = self._tasks.create_task(_until_cancelled(self._deployer, self._made, self._selectors))
        self._reporter.start()

    def _follow(self) -> None:
        self._reporter.stop()
        if self._deploying is not None:
            self._deploying.cancel()

    # --- Proxies -----------------------------------------------------------------------------------------------------

    def _group(self, node: Node) -> Group | None:
        """What a proxy gets: its own Gateway's configuration."""
        namespace, _, name = node.cluster.partition("/")
        return self._engine.gateways.of(Name(namespace, name))


class _Stopped(Exception):  # noqa: N818 - not an error
    """Ends the TaskGroup when the process is told to stop."""


def _proxy_settings(settings: ControllerSettings) -> ProxySettings:
    made = ProxySettings(controller_name=settings.controller_name, image_pull_policy=settings.proxy_pull_policy)
    return msgspec.structs.replace(made, image=settings.proxy_image) if settings.proxy_image else made


def _note_definitions(report: CrdReport) -> None:
    _log.info(
        "definitions of the Gateway API", version=report.version or "unknown", channel=report.channel or "unknown"
    )


async def _until_cancelled(deployer: Deployer, made: Made, selectors: SelectorServices) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deployer.run())
            tasks.create_task(made.run())
            tasks.create_task(selectors.run())
