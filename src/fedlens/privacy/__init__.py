"""Privacy: the mechanism and its ledger, per-example clipping, secure aggregation and noise."""
