"""The services of one panel, together: what pages, API, console and CLI are given."""

from __future__ import annotations

from dataclasses import dataclass

from panel.courtesy import Courtesy
from panel.events import EventBus
from panel.security import SecretBox
from panel.services.access import AccessService
from panel.services.addresses import AddressService
from panel.services.attention import AttentionService
from panel.services.audit import AuditLog
from panel.services.configuration import ConfigurationService
from panel.services.consoles import ConsoleService
from panel.services.downloads import DownloadService
from panel.services.engines import EnginePool
from panel.services.following import Follower
from panel.services.forwards import ForwardService
from panel.services.gateways import GatewayService
from panel.services.guests import GuestService
from panel.services.hostimages import HostImageService
from panel.services.hosts import HostService
from panel.services.images import ImageService
from panel.services.labels import LabelService
from panel.services.metrics import MetricsService
from panel.services.nodes import Nodes
from panel.services.observer import Observer
from panel.services.pools import PoolService
from panel.services.power import PowerService
from panel.services.probes import ProbeService
from panel.services.proxies import ProxyService
from panel.services.publications import PublicationService
from panel.services.relay import Relay
from panel.services.savedfilters import SavedFilterService
from panel.services.screens import ScreenService
from panel.services.sites import SiteService
from panel.services.snapshots import SnapshotService
from panel.services.tasks import TaskService
from panel.services.taskshares import TaskShares
from panel.services.uploads import UploadService
from panel.services.vms import VmService
from panel.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Made by ``panel.app.build_services``, and nowhere else."""

    settings: Settings
    box: SecretBox
    events: EventBus
    audit: AuditLog
    access: AccessService
    courtesy: Courtesy
    pool: EnginePool
    tasks: TaskService
    observer: Observer
    hosts: HostService
    vms: VmService
    power: PowerService
    consoles: ConsoleService
    guests: GuestService
    images: ImageService
    downloads: DownloadService
    host_images: HostImageService
    uploads: UploadService
    gateways: GatewayService
    addresses: AddressService
    pools: PoolService
    forwards: ForwardService
    sites: SiteService
    proxies: ProxyService
    probes: ProbeService
    publications: PublicationService
    configuration: ConfigurationService
    metrics: MetricsService
    attention: AttentionService
    labels: LabelService
    saved_filters: SavedFilterService
    screens: ScreenService
    snapshots: SnapshotService
    nodes: Nodes
    follower: Follower
    task_shares: TaskShares
    relay: Relay | None
