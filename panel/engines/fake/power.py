"""Power of a fake VM: what an action needs it to be, and makes it."""

from __future__ import annotations

from panel.engines.fake.view import ON
from panel.engines.fake.world import FakeVm
from panel.engines.types import PowerAction, PowerState
from panel.errors import Conflict
from panel.i18n import gettext_noop as _

POWER: dict[PowerAction, tuple[frozenset[PowerState], PowerState]] = {
    PowerAction.START: (frozenset({PowerState.STOPPED, PowerState.CRASHED}), PowerState.RUNNING),
    PowerAction.STOP: (ON | {PowerState.CRASHED}, PowerState.STOPPED),
    PowerAction.SHUTDOWN: (frozenset({PowerState.RUNNING}), PowerState.STOPPED),
    PowerAction.SUSPEND: (frozenset({PowerState.RUNNING}), PowerState.SUSPENDED),
    PowerAction.RESUME: (frozenset({PowerState.SUSPENDED}), PowerState.RUNNING),
    PowerAction.RESET: (frozenset({PowerState.RUNNING}), PowerState.RUNNING),
}


def leads_to(vm: FakeVm, action: PowerAction) -> PowerState:
    """The state that ``action`` leads to; ``Conflict`` when it does not start where the VM is."""
    wanted, result = POWER[action]
    if vm.state not in wanted:
        raise Conflict(
            _("{name} is {state}: it cannot {action} now."), name=vm.name, state=vm.state.value, action=action.value
        )
    return result
