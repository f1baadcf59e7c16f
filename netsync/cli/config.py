"""``netsync config check``."""

from __future__ import annotations

from pathlib import Path

import click

from netsync.config.file import load_config
from netsync.identity.directory import default_directory
from netsync.plan.guards import limit_text
from netsync.state.database import default_directory as default_state


@click.group()
def config() -> None:
    """Work with configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate FILE and print the values it comes to."""
    found = load_config(file)
    click.echo(f"listen    {' '.join(found.listen)}")
    click.echo(f"identity  {found.identity or f'{default_directory()} (default)'}")
    click.echo(f"state     {found.state or f'{default_state()} (default)'}")
    for module in found.modules.values():
        click.echo(f"module    {module.name} = {module.path}")
        for identity, rights in module.allow.items():
            click.echo(f"  allow   {identity}: {' '.join(sorted(rights))}")
        click.echo(f"  special {'true' if module.special else 'false'}")
        if module.max_delete is not None:
            click.echo(f"  max_delete {limit_text(module.max_delete)}")
