"""What every test may use: the fixtures of the modules named here."""

pytest_plugins = [
    "tests.agent_fixtures",
    "tests.nats_fixtures",
    "tests.postgres_fixture",
    "tests.seen",
    "tests.system",
]
