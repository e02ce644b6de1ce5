"""What the panel keeps: what is wanted, and what was last seen, with the time it was seen."""

from panel.models.access import ConsoleTicket, LoginFailure, Session, Setting
from panel.models.host import Host, HostImage
from panel.models.network import Address, Forward, ForwardPort, ForwardState, Network
from panel.models.task import LogEntry, Task, TaskLine, TaskStatus
from panel.models.vm import Nic, Vm

__all__ = [
    "Address",
    "ConsoleTicket",
    "Forward",
    "ForwardPort",
    "ForwardState",
    "Host",
    "HostImage",
    "LogEntry",
    "LoginFailure",
    "Network",
    "Nic",
    "Session",
    "Setting",
    "Task",
    "TaskLine",
    "TaskStatus",
    "Vm",
]
