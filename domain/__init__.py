"""Pure decisions: the formal machine, aggregates, workflows, scheduling. No I/O, no clock, no randomness."""
