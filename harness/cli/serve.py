"""``harness serve``: vLLM's server with the settings that parity needs."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import Dtype, EngineArgs, ModelName, Trust
from harness.cli.say import say
from harness.process import signals


def serve(
    model: ModelName = "smollm2",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on; by default a free one.")
    ] = None,
    dtype: Dtype = None,
    engine_arg: EngineArgs = None,
    trust_remote_code: Trust = False,
) -> None:
    """Start vllm serve on this machine's loopback and print its URL.

    It runs until Ctrl-C or SIGTERM, and always ends with this command.
    Prefix caching and the checkpoint's own sampling settings are
    off; --engine-arg takes any argument of vllm serve.

    Example:  harness serve --model ./BitCPM4-CANN-1B --engine-arg max_num_seqs=8
    """
    from harness.devices.server.options import server_options
    from harness.devices.server.process import ServerProcess
    from harness.devices.spec import parse_engine_args
    from harness.model.find import find_model
    from harness.process.progress import Progress

    options, rest = server_options(parse_engine_args(engine_arg or []), own_server=True)
    progress = Progress()
    found = find_model(model, trust_remote_code=trust_remote_code, progress=progress.note)
    server = ServerProcess(
        found, dtype=dtype, args=rest, port=port, start_timeout=options.start_timeout
    )
    with server:
        server.start(progress)
        say(server.url)
        try:
            server.wait()
        except KeyboardInterrupt:  # also SIGTERM: the ordinary end of a server
            signals.forget()
    progress.note("stopped")
