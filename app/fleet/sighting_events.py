"""The events that may be sightings: refusals and would-be refusals of AppLocker, App Control and SRP."""

from __future__ import annotations

BLOCKED_EVENTS = (8004, 8007, 3077, 865, 866, 867, 868, 882)
"""Events of a file that was refused; the others say that it would have been, were the policy enforced."""
AUDITED_EVENTS = (8003, 8006, 3076)
SIGHTING_EVENTS = frozenset({*BLOCKED_EVENTS, *AUDITED_EVENTS})
"""What agents tell and imports take. Any number would make as many rows of counts by day as there are numbers."""
