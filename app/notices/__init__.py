"""Notices: what got worse in the fleet, found by the clock, told on a page, by webhook and by e-mail."""
