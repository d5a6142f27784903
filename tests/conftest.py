"""What every test may use: the fixtures of `tests.nats_fixtures`."""

pytest_plugins = ["tests.nats_fixtures"]
