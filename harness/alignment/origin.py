"""The run of CI that judged: its commit, its branch and a link to it.

Only what GitHub and GitLab put into the environment for everybody to see; no token, no
address with credentials. A branch may have any name, so it is text and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from harness.files.strict_model import SparseModel

#: A link that a page may show: https, a host, and a path without queries or credentials.
LINK = r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._/-]{1,400}$"
_COMMIT = re.compile("[0-9a-f]{7,64}")
_LONGEST = 200


class Origin(SparseModel):
    """What is not known is left out."""

    commit: Annotated[str, Field(pattern="^[0-9a-f]{7,64}$")] | None = None
    branch: Annotated[str, Field(max_length=_LONGEST)] | None = None
    run: Annotated[str, Field(pattern=LINK)] | None = None


def origin(environment: Mapping[str, str] | None = None) -> Origin | None:
    """The run of CI that this process is part of; None elsewhere. What does not look like
    a commit or a safe link is left out."""
    told = os.environ if environment is None else environment
    if told.get("GITHUB_ACTIONS") == "true":
        commit, branch = told.get("GITHUB_SHA"), told.get("GITHUB_HEAD_REF")
        branch = branch or told.get("GITHUB_REF_NAME")
        parts = [told.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
        run = f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else ""
    elif told.get("GITLAB_CI") == "true":
        commit, branch = told.get("CI_COMMIT_SHA"), told.get("CI_COMMIT_REF_NAME")
        run = told.get("CI_JOB_URL", "")
    else:
        return None
    return Origin(
        commit=commit if commit and _COMMIT.fullmatch(commit) else None,
        # A name of a branch may be no text at all.
        branch=(branch or "").encode("utf-8", "replace").decode()[:_LONGEST] or None,
        run=run if re.fullmatch(LINK, run) else None,
    )
