"""Counters that look alive and are the same every time: made of who the VM is and how long it has run."""

from __future__ import annotations

import math
from zlib import crc32

PERIOD_SECONDS = 60.0
DISK_READ_RATE = 400_000.0
DISK_WRITE_RATE = 900_000.0
NET_RX_RATE = 250_000.0
NET_TX_RATE = 120_000.0


def share(ref: str, what: str) -> float:
    """A number in 0.1..0.6 that belongs to this VM and this counter."""
    return 0.1 + (crc32(f"{ref}/{what}".encode()) % 1000) / 2000


def busy_seconds(ref: str, what: str, ran_seconds: float) -> float:
    """How much of ``ran_seconds`` was spent on ``what``. Never falls: its wave is smaller than its slope."""
    slope = share(ref, what)
    turn = 2 * math.pi / PERIOD_SECONDS
    wave = 0.8 * slope * (1 - math.cos(turn * ran_seconds)) / turn
    return slope * ran_seconds + wave


def total_bytes(ref: str, what: str, ran_seconds: float, rate: float) -> int:
    """Bytes moved since the start, at ``rate`` bytes/s when fully busy."""
    return int(busy_seconds(ref, what, ran_seconds) * rate)


def memory_used(ref: str, memory_mib: int, ran_seconds: float) -> int:
    """MiB in use: between a fifth and nine tenths of what the VM has, slowly breathing."""
    breath = 0.1 * math.sin(2 * math.pi * ran_seconds / (5 * PERIOD_SECONDS))
    return int(memory_mib * (0.2 + share(ref, "memory") + breath))
