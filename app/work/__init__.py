"""Work that a person asked for and that takes a while: as rows, with how far it is, left, found again, cancelled."""
