"""Fires of DAGs by Airflow itself, in an environment that has it.

Arguments: the folder of DAG files, a start as an ISO time, a count. The last line of stdout is JSON: errors by file,
ISO times in UTC and tasks by DAG.
"""

import json
import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"

import pendulum  # noqa: E402
from airflow.models.dagbag import DagBag  # noqa: E402
from airflow.timetables.base import DataInterval, TimeRestriction  # noqa: E402


def fires(dag, start: pendulum.DateTime, count: int) -> list[str]:
    everything = TimeRestriction(earliest=start, latest=None, catchup=True)
    interval, times = DataInterval.exact(start), []
    for _ in range(count):
        info = dag.timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=everything)
        times.append(info.run_after.in_timezone("UTC").isoformat())
        interval = info.data_interval
    return times


folder, start, count = sys.argv[1], pendulum.parse(sys.argv[2]), int(sys.argv[3])
bag = DagBag(folder, include_examples=False)
found = {dag_id: fires(dag, start, count) for dag_id, dag in bag.dags.items()}
commands = {dag_id: [task.task_id for task in dag.tasks] for dag_id, dag in bag.dags.items()}
sys.stdout.write("\n" + json.dumps({"errors": bag.import_errors, "fires": found, "tasks": commands}))
