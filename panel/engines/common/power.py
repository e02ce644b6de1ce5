"""What a VM's state allows, in the same words on every engine, and where each action leads."""

from __future__ import annotations

from panel.engines.types import PowerAction, PowerState
from panel.errors import Conflict
from panel.i18n import gettext_noop as _

_FORBIDDEN: dict[tuple[PowerAction, PowerState], str] = {
    (PowerAction.START, PowerState.RUNNING): _("The VM is running already."),
    (PowerAction.START, PowerState.SUSPENDED): _("The VM is suspended. Use resume."),
    (PowerAction.START, PowerState.CRASHED): _("The VM has crashed. Stop it first, then start it."),
    (PowerAction.STOP, PowerState.STOPPED): _("The VM is stopped already."),
    (PowerAction.SHUTDOWN, PowerState.STOPPED): _("The VM is stopped already."),
    (PowerAction.SHUTDOWN, PowerState.SUSPENDED): _(
        "The VM is suspended, so its system cannot shut down. Resume it first, or stop it."
    ),
    (PowerAction.SHUTDOWN, PowerState.CRASHED): _("The VM has crashed and cannot shut down. Stop it."),
    (PowerAction.SUSPEND, PowerState.STOPPED): _("The VM is stopped. Only a running one can be suspended."),
    (PowerAction.SUSPEND, PowerState.SUSPENDED): _("The VM is suspended already."),
    (PowerAction.SUSPEND, PowerState.CRASHED): _("The VM has crashed. Stop it."),
    (PowerAction.RESUME, PowerState.RUNNING): _("The VM is running, not suspended."),
    (PowerAction.RESUME, PowerState.STOPPED): _("The VM is stopped, not suspended. Use start."),
    (PowerAction.RESUME, PowerState.CRASHED): _("The VM has crashed. Stop it, then start it."),
    (PowerAction.RESET, PowerState.STOPPED): _("The VM is stopped. Use start."),
    (PowerAction.RESET, PowerState.SUSPENDED): _("The VM is suspended. Resume it first, or stop it."),
}

GOAL = {
    PowerAction.START: PowerState.RUNNING,
    PowerAction.STOP: PowerState.STOPPED,
    PowerAction.SUSPEND: PowerState.SUSPENDED,
    PowerAction.RESUME: PowerState.RUNNING,
    PowerAction.RESET: PowerState.RUNNING,
}


def refuse(action: PowerAction, state: PowerState) -> None:
    """``Conflict``, with the state and what to do instead, when ``state`` forbids ``action``."""
    reason = _FORBIDDEN.get((action, state))
    if reason is not None:
        raise Conflict(reason)
