"""What every test may use: the fixtures of the modules named here, and how Hypothesis looks for examples.

The same examples each time, however long one takes: a run says something of the code, and not of the machine's load or
of luck. `pytest --hypothesis-profile default` looks for others.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

pytest_plugins = [
    "tests.agent_fixtures",
    "tests.nats_fixtures",
    "tests.postgres_fixture",
    "tests.seen",
    "tests.system",
]
