"""Secrets are blotted out, and what only looks like one to a fool stays."""

from __future__ import annotations

import json
import time

import pytest

from harness.doctor.blot import BLOT, Blotter, is_secret

HUB = "hf_" + "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "MY_CREDENTIALS",
        "HTTP_AUTH", "SESSION_COOKIE", "hf_token", "VLLM_API_KEY", "TOKEN2", "APIKEY",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert is_secret(name.lower())


@pytest.mark.parametrize(
    "name", ["PATH", "VLLM_PLUGINS", "TOKENIZERS_PARALLELISM", "HF_HOME", "OMP_NUM_THREADS"]
)
def test_other_names(name: str) -> None:
    assert not is_secret(name)


#: Each holds ``swordfish1`` or the hub's token, which must not be left.
SECRETS = [
    f"token {HUB} is invalid",
    f"https://host/x?t={HUB}&y=1",
    f"my{'_'}{HUB}",
    "http://alice:swordfish1@host:8000/v1",
    "http://alice:sword@swordfish1@host/",
    "https://swordfish1@host/repo.git",
    "git+ssh://swordfish1@host/x",
    "HF_TOKEN=swordfish1",
    "export OPENAI_API_KEY='swordfish1'",
    'AWS_SECRET_ACCESS_KEY="swordfish1"',
    "DB_PASSWORD: swordfish1",
    "AUTH_HEADER=swordfish1",
    "SECRET_2=swordfish1",
    '{"api_key": "swordfish1", "x": 1}',
    '{"a": "{\\"api_key\\": \\"swordfish1\\"}"}',
    "{'api_key': ['swordfish1'], 'x': 1}",
    "{'api_key': 'my swordfish1 here'}",
    "password=swordfish1, user=alice",
    "accessToken: swordfish1",
    "apiKey=swordfish1",
    "apikey=swordfish1",
    "client-secret => swordfish1",
    "vllm serve m --api-key swordfish1 --port 1",
    "argv: ['serve', '--api-key', 'swordfish1', '--port', '1']",
    "--hf-token=swordfish1",
    "Authorization: Bearer swordfish1",
    "authorization: Basic swordfish1",
    "> Cookie: a=1; session=swordfish1; b=2",
    "Set-Cookie: swordfish1",
    '"Authorization": "Bearer swordfish1"',
    "curl -H 'Authorization: Bearer swordfish1' http://h",
    "using Bearer swordfish1",
    "-----BEGIN RSA PRIVATE KEY-----\nswordfish1\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nswordfish1",
    "HOME=/x\0HF_TOKEN=swordfish1\0LANG=C",
    f"sk-proj-{'swordfish1' * 2}",
    f"ghp_{'swordfish1' * 3}",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_blotted_out(text: str) -> None:
    clean, count = Blotter().text(f"before {text} after")
    assert "swordfish1" not in clean
    assert HUB not in clean
    assert BLOT in clean
    assert count >= 1
    assert clean.startswith("before ")
    assert Blotter().text(clean)[0] == clean


@pytest.mark.parametrize("text", ['{"api_key": "a b", "x": [1]}', '{"token": "' + "x9" * 20 + '"}'])
def test_json_stays_json(text: str) -> None:
    clean, count = Blotter().text(text)
    assert count == 1
    assert BLOT in json.loads(clean).values()


HARMLESS = [
    '"token_ids": [1, 2, 3], "prompt_token_ids": [4]',
    "max_num_batched_tokens=2048, MAX_TOKENS=4096",
    "api_key=None, 'api_key': None, hf_token=null, token: True",
    "next token: 1234, eos_token='</s>', pad_token: <pad>",
    "time to first token: 0.125 s",
    "KeyError: 'model.layers.0.self_attn'",
    '"key": "gate.determinism.broken"',
    "key=model.layers.0, monkey=banana, turkey: roast",
    "num_key_value_heads=3, key_cache shape: (2, 128)",
    "tokenizer=/models/x, TOKENIZERS_PARALLELISM=false",
    "hf_overrides={}, hf_config: LlamaConfig, hf_hub_offline",
    "the secret of speed, the key to it",
    "http://host:8000/v1 and mail@example.org, user/x@main",
    "author: alice, authentic = yes",
    "call aclnnAdd failed, detail:EZ1001: self not implemented for DT_BFLOAT16",
    "sk-learn, skip-this-very-long-option-name",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Blotter().text(text) == (text, 0)


def test_the_values_of_secret_variables_are_blotted_out_wherever_they_stand() -> None:
    given = {
        "HF_TOKEN": "open sesame!",
        "OLD_KEY": "open sesame!!",
        "PIN_KEY": "1234",
        "X": "abcdefghij",
    }
    blotter = Blotter.of(given)
    assert blotter.text("said open sesame! 1234 abcdefghij") == (
        f"said {BLOT} 1234 abcdefghij",
        1,
    )
    assert blotter.text("open sesame!!")[0] == BLOT
    assert blotter.environment(given, ["X", "PIN_KEY"]) == {"PIN_KEY": BLOT, "X": "abcdefghij"}
    proxy = {"HF_PROXY": "http://u:p4ss@h"}
    assert Blotter().environment(proxy, proxy) == {"HF_PROXY": f"http://{BLOT}@h"}


@pytest.mark.parametrize(
    "filling",
    ["token", "key=", "key='", "://a@", "-----BEGIN PRIVATE KEY-----", "a", "_-", "\\", "hf_"],
)
def test_a_large_text_takes_little_time(filling: str) -> None:
    start = time.process_time()
    Blotter().text(filling * (500_000 // len(filling)))
    assert time.process_time() - start < 10
