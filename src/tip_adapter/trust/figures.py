"""Write shares for people: rounded once, in the terminal as on the pages."""

from __future__ import annotations


def percent(share: float | None) -> str:
    """Write a share in per cent; a dash where there is none.

    Examples
    --------
    >>> from tip_adapter.trust.figures import percent
    >>> percent(0.6625), percent(None)
    ('66.2 %', '–')
    """
    return "–" if share is None else f"{100 * share:.1f} %"
