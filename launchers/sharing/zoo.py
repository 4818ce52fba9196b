"""`metaslac zoo`: the trained agents that come with metaslac.

Where they are is metaslac/storage/named.py's; `metaslac demo` tries one.
"""

from __future__ import annotations

import click

from metaslac.config.sections import caveat
from metaslac.launchers.api.exporting import evaluations_in, mean_returns
from metaslac.launchers.outputs import table


@click.command(short_help="List the trained agents that come with metaslac.")
def zoo() -> None:
    """List the trained agents that come with metaslac, with their size and mean returns of each episode.

    Whatever takes a checkpoint to act with takes zoo:NAME. `metaslac demo NAME` tries one.
    """
    from metaslac.learning.memory import size
    from metaslac.storage.manifest import read_manifest
    from metaslac.storage.named import ZOO_PREFIX, shipped_agent, shipped_names

    rows = []
    for name in shipped_names():
        directory = shipped_agent(name)
        manifest, evaluations = read_manifest(directory), evaluations_in(directory)
        total = sum(entry["size"] for entry in manifest["files"].values())
        judged = [
            f"{', '.join(f'{mean:.1f}' for mean in means)} on {len(found.held_out.tasks)} {called} tasks"
            for found, (called, means) in zip(
                evaluations.values(), mean_returns(evaluations).items(), strict=True
            )
        ]
        judged += [caveat(manifest.get("observation", "pixels"), manifest.get("state_size", 0) > 0)]
        counts = str(manifest["update"]), str(manifest["env_steps"])
        rows.append(
            (f"{ZOO_PREFIX}{name}", manifest["family"], *counts, size(total), "; ".join(filter(None, judged)))
        )
    if not rows:
        click.echo("no agent comes with this version")
        return
    click.echo(table(("agent", "family", "updates", "env steps", "size", "returns by episode"), rows))
