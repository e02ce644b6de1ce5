"""What the panel keeps: what is wanted, and what was last seen, with the time it was seen."""

from panel.models.access import ConsoleTicket, LoginFailure, Session, Setting
from panel.models.host import AtLimit, Host, HostImage
from panel.models.label import SavedFilter, VmTag
from panel.models.metrics import HostMetrics, VmMetrics
from panel.models.network import Address, Forward, ForwardPort, Network, Pool, RuleState
from panel.models.process import ProcessNode
from panel.models.proxy import Certificate, CertificateState, Proxy
from panel.models.task import LogEntry, Task, TaskLine, TaskStatus
from panel.models.traffic import Traffic, TrafficMark
from panel.models.vm import Nic, Vm

__all__ = [
    "Address",
    "AtLimit",
    "Certificate",
    "CertificateState",
    "ConsoleTicket",
    "Forward",
    "ForwardPort",
    "Host",
    "HostImage",
    "HostMetrics",
    "LogEntry",
    "LoginFailure",
    "Network",
    "Nic",
    "Pool",
    "ProcessNode",
    "Proxy",
    "RuleState",
    "SavedFilter",
    "Session",
    "Setting",
    "Task",
    "TaskLine",
    "TaskStatus",
    "Traffic",
    "TrafficMark",
    "Vm",
    "VmMetrics",
    "VmTag",
]
