"""What an ablation asks to be measured on trained networks.

Saying so needs neither torch nor the networks.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasurementRequest:
    """What to measure.

    Attributes:
        name: under which the rows stand in the table `measurements`.
        measurement: what is measured, a name in
            `trainables.measurements.registry.MEASUREMENTS`, or "bandit", which needs no runs.
        sweep: the sweep whose completed runs are measured; empty where none are needed.
        source: of the runs' datasets, as in a sweep file.
        size: how many points are measured: states, episodes or gradient steps.
        target_tasks: tasks to roll the policies out in, for the measurement that does so.
    """

    name: str
    measurement: str
    sweep: str
    source: str = "auto"
    size: int = 64
    target_tasks: tuple[str, ...] = ()
