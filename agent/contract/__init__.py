"""The wire between agents and the server: frozen values, canonical JSON, digests. Standard library only.

`canonical` turns values into the one text that a digest is taken over; `facts` holds the fact sets that subjects
share; `messages` holds what is sent and answered.
"""

CONTRACT = 1
"""The version of this contract. Fields are only ever added, with a default; unknown ones are ignored."""
