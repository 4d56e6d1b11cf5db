from __future__ import annotations

import pytest

from harness.devices.server.options import ServerOptions, server_options
from harness.errors import UsageError


def test_nothing_given_is_one_request_at_a_time() -> None:
    assert server_options({}, own_server=False) == (ServerOptions(), {})
    assert ServerOptions().concurrency == 1


def test_every_option_is_read() -> None:
    args = {
        "concurrency": "8",
        "timeout": "2.5",
        "start_timeout": "60",
        "token_ids": "none",
        "logprobs": "5",
        "served_model": "m",
    }
    found, rest = server_options(args, own_server=False)
    assert found == ServerOptions(8, 2.5, 60.0, "none", 5, "m")
    assert rest == {}


def test_the_rest_goes_to_a_server_of_our_own_and_to_no_other() -> None:
    args = {"concurrency": "2", "max_model_len": "512"}
    assert server_options(args, own_server=True)[1] == {"max_model_len": "512"}
    with pytest.raises(UsageError, match="max_model_len is for a server that the harness starts"):
        server_options(args, own_server=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("concurrency", "0"),
        ("concurrency", "-1"),
        ("concurrency", "many"),
        ("concurrency", "9" * 5000),
        ("concurrency", "٣"),
        ("logprobs", "1"),
        ("logprobs", "21"),
        ("timeout", "0"),
        ("timeout", "nan"),
        ("timeout", "inf"),
        ("timeout", "soon"),
        ("start_timeout", "-5"),
        ("token_ids", "maybe"),
    ],
)
def test_a_value_without_sense_is_named(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"--engine-arg {key}="):
        server_options({key: value}, own_server=True)
