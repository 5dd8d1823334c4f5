"""Kit for a phone: scripts and graphs of a bundle, run by the SoC vendor's tools."""
