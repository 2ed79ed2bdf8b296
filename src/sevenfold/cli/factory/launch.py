"""The verb launch, which writes a script that trains a recipe on several processes or machines."""

from __future__ import annotations

from typing import Annotated

import typer

from sevenfold.cli.base import JsonOption, OutOption, RecipeArg, app, guarded, print_json


@app.command()
@guarded
def launch(
    recipe: RecipeArg,
    out: OutOption,
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", min=1, max=4096, help="Machines.")] = 1,
    gpus: Annotated[
        int,
        typer.Option(
            "--gpus", metavar="G", min=1, max=64, help="GPUs of each node, or processes where it has none."
        ),
    ] = 1,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Write jobs for Slurm that wait for one another.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a script that trains with torchrun or Slurm. Phases, pools, memory and hours are those
    of `s7 plan`.
    """
    from sevenfold.plan.launch import as_json as steps_as_json
    from sevenfold.plan.launch import launch as steps_of
    from sevenfold.plan.launch_script import bash_script, slurm_script
    from sevenfold.recipe import load_recipe, resolve_recipe_path

    loaded = load_recipe(resolve_recipe_path(recipe))
    steps = steps_of(loaded, recipe, str(out), nodes=nodes, gpus=gpus)
    script = slurm_script(steps) if slurm else bash_script(steps, nodes=nodes)
    if as_json:
        print_json({"recipe": loaded.name, "steps": steps_as_json(steps), "script": script})
    else:
        print(script, end="")
