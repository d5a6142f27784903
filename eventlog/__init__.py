"""The log: chronova's one source of truth, on NATS JetStream.

`envelope` says what a commit is, `log` appends and reads commits, `nats_server` runs a server for them, `persistence`
shows the same stream to the `eventsourcing` library, and `verify`, `archive` and `checkpoint` make it tamper-evident
and portable.
"""
