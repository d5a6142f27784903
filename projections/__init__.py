"""Read models: everything that can be asked, derived from the log, rebuilt from it at will, and proved equal to it.

- `projector.Projector` follows the log and writes; nothing else does.
- `read_model.ReadModel` answers; `query.ServerQuery` and `queries.EventQuery` say what is asked, `rows` what comes.
- `replay` rebuilds and verifies; `as_of` answers for a past moment; `tracking` is the position table for other tools.
- `fold` is what they all rest on: commits to rows, a pure function.
"""
