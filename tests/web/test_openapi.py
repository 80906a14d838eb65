"""The OpenAPI description is valid, complete, and what the server does."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis")
validator = pytest.importorskip("openapi_spec_validator")

from hypothesis import HealthCheck, given, settings  # noqa: E402 - after the packages that may be absent

from nbtasks.web.openapi import openapi  # noqa: E402
from tests.examples import examples  # noqa: E402


def test_it_is_valid():
    validator.validate(openapi())


def test_it_has_every_route(server):
    documented = {
        (path, method.upper()) for path, item in openapi()["paths"].items() for method in item if method != "parameters"
    }
    routes = {
        (route.path, method)
        for route in server.app.app.routes
        for method in route.methods - {"HEAD"}
        if route.path not in {"/", "/openapi.json"}
    } | {("/events", "GET")}
    assert documented == routes


def _operations():
    schema = schemathesis.openapi.from_dict(openapi())
    return {result.ok().label: result.ok() for result in schema.get_all_operations() if result.ok().path != "/events"}


OPERATIONS = _operations()


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_makes_the_server_fail(label, manager, client, base):
    """Requests made from the description and against it: each answer is one that the description has."""
    task = manager.create_task("one", int, tags=["a"])
    recurring = manager.add_recurring_task("1h", int, name="hourly")
    manager.wait(task)
    known = {"tasks": task.id, "recurring": recurring.id}

    @settings(max_examples=examples(20, 40), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=OPERATIONS[label].as_strategy())
    def ask(case) -> None:
        if case.path_parameters and len(case.path_parameters["id"]) % 2:
            case.path_parameters["id"] = known[label.split("/")[2]]
        response = case.call(base_url=base, headers=dict(client.headers))
        assert response.status_code < 500
        case.validate_response(response, excluded_checks=[])

    ask()
