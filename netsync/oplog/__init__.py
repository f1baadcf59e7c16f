"""The log of a synchronous mirror: the primary's half and the standby's."""
