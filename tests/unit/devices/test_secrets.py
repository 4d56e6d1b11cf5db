"""A secret among the engine arguments is refused before it is written anywhere."""

from __future__ import annotations

import pytest

from harness.devices.secrets import refuse_secrets
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError

SECRET = "verySecret0123456789"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hf_token", SECRET),
        ("hf-token", SECRET),
        ("HF_TOKEN", SECRET),
        ("hfToken", SECRET),
        ("token", SECRET),
        ("api_key", SECRET),
        ("apikey", SECRET),
        ("aws_secret_access_key", SECRET),
        ("s3.password", SECRET),
        (
            "model_loader_extra_config",
            f'{{"credentials": {{"aws_secret_access_key": "{SECRET}"}}}}',
        ),
        ("kv_transfer_config", f"{{'api-key': '{SECRET}'}}"),
        ("hf_overrides", "hf_aBcDeFgH0123456789aBcDeF"),
        ("download_dir", f"https://user:{SECRET}@host/path"),
        ("middleware", f"Bearer {SECRET}"),
    ],
)
def test_a_secret_is_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="holds a secret") as caught:
        DeviceSpec("server", engine_args={"seed": "1", name: value})
    assert SECRET not in str(caught.value)
    assert "aBcDeFgH" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_ids", "field"),
        ("max_num_batched_tokens", "2048"),
        ("max_tokens", "7"),
        ("tokenizer_mode", "auto"),
        ("served_model", "my-token-model"),
        (
            "hf_overrides",
            '{"max_position_embeddings": 4096, "eos_token": 2, "num_key_value_heads": 4}',
        ),
        ("eos_token", "2"),
        ("ssl_keyfile", "/etc/key.pem"),
        ("compilation_config", '{"cudagraph_mode": "NONE", "key": 3}'),
        ("model", "https://host/path@v1"),
    ],
)
def test_words_of_a_model_are_not_secrets(name: str, value: str) -> None:
    refuse_secrets({name: value})
