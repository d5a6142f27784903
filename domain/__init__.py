"""Pure decisions: states, the formal machine, aggregates, events, workflows, scheduling. No I/O, no clock, no randomness."""
