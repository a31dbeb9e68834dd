"""System checks: which opted-in actions the fast path cannot serve, and why."""

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from healthcare.fastpath.views import fast_views


@register()
def check_fast_actions(**_: Any) -> list[CheckMessage]:
    """A warning for each member that keeps an action from the fast path. Standard DRF serves the action."""
    found = {
        (fast.viewset, action, obstacle): None
        for fast in fast_views()
        for action, obstacles in fast.obstacles.items()
        for obstacle in obstacles
    }
    return [
        Warning(
            f"{viewset.__name__}.{action} uses standard DRF because of {obstacle.member}.",
            hint=f"{obstacle.hint} Or leave {action!r} out of fast_actions.",
            obj=viewset,
            id="fastpath.W001",
        )
        for viewset, action, obstacle in found
    ]
