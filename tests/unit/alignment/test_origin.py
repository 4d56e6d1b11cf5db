"""A page names the run of CI that judged, and takes no link or text on trust."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.alignment.origin import Origin, origin

SHA = "0123456789abcdef0123456789abcdef01234567"
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": SHA,
    "GITHUB_REF_NAME": "12/merge",
    "GITHUB_HEAD_REF": "port-to-npu",
    "GITHUB_SERVER_URL": "https://git.example",
    "GITHUB_REPOSITORY": "us/model",
    "GITHUB_RUN_ID": "77",
    "GITHUB_TOKEN": "ghs_secret",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": SHA,
    "CI_COMMIT_REF_NAME": "main",
    "CI_JOB_URL": "https://git.example:8443/us/model/-/jobs/5",
    "CI_JOB_TOKEN": "secret",
}


def test_github_and_gitlab_are_told_apart_and_nothing_secret_is_kept() -> None:
    run = "https://git.example/us/model/actions/runs/77"
    assert origin(GITHUB) == Origin(commit=SHA, branch="port-to-npu", run=run)
    assert origin({**GITHUB, "GITHUB_HEAD_REF": ""}) == Origin(
        commit=SHA, branch="12/merge", run=run
    )
    found = origin(GITLAB)
    assert found == Origin(commit=SHA, branch="main", run=GITLAB["CI_JOB_URL"])
    assert "secret" not in str(found)


def test_elsewhere_there_is_none() -> None:
    assert origin({}) is None
    assert origin({"CI": "true", "CI_COMMIT_SHA": SHA}) is None


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "http://git.example/us/model/-/jobs/5",
        "https://user:pass@git.example/x",
        "https://git.example/x?token=1",
        'https://git.example/"onclick=',
        "https://git.example/x) [y](https://evil.example/z",
        "https://git.example/x\n",
    ],
)
def test_a_link_that_is_not_plain_https_is_left_out_and_refused_in_a_file(link: str) -> None:
    found = origin({**GITLAB, "CI_JOB_URL": link})
    assert found is not None
    assert found.run is None
    with pytest.raises(ValidationError):
        Origin(run=link)


def test_a_branch_may_have_any_name() -> None:
    found = origin({**GITLAB, "CI_COMMIT_REF_NAME": "\udcff<b>"})
    assert found is not None
    assert found.branch == "?<b>"


def test_a_commit_that_is_none_is_left_out() -> None:
    found = origin({**GITLAB, "CI_COMMIT_SHA": "<b>", "CI_COMMIT_REF_NAME": "x" * 500})
    assert found is not None
    assert found.commit is None
    assert found.branch == "x" * 200
