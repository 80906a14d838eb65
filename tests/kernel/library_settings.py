"""Per-thread settings of libraries in background cells, until after the commit.

`python -m tests.kernel.library_settings` runs every scene on every backend and writes docs/library-settings.md.
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

__all__ = ["BACKENDS", "HEAVY", "LIGHT", "PAGE", "Results", "Scene", "results"]

BACKENDS = ("thread", "loop", "process")
PAGE = Path(__file__).parent.parent.parent / "docs" / "library-settings.md"


@dataclass(frozen=True)
class Scene:
    """A setting: how one makes it, undoes it, and what shows whether it is made."""

    library: str
    """How it is called in the table."""
    setting: str
    module: str
    """What must be installed."""
    made: str
    """The code that sets it, in one cell."""
    undone: str
    shown: str
    """An expression whose value differs with the setting."""
    setup: str = ""
    """The cell that imports the library and what `shown` reads."""
    depends_on_chance: tuple[str, ...] = ()
    """The backends on which it depends on chance: whether a worker process has loaded the library's C libraries."""
    of_process: bool = False
    """Whether it belongs to the whole process, not to a thread."""
    of_context: bool = False
    """Whether it is in a context variable."""

    @property
    def name(self) -> str:
        return f"{self.library}: {self.setting}"

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

    @property
    def imports(self) -> str:
        return self.setup or f"import {self.module}"


def _entered(context: str) -> tuple[str, str]:
    """Code that enters a context in one cell, and code that leaves it in another."""
    return f"entered = {context}\nentered.__enter__();", "entered.__exit__(None, None, None)"


LIGHT = [
    Scene(
        "scikit-learn",
        "`set_config`",
        "sklearn",
        "sklearn.set_config(transform_output='pandas')",
        "sklearn.set_config(transform_output='default')",
        "type(StandardScaler().fit_transform(np.ones((3, 1)))).__name__",
        "import sklearn, numpy as np\nfrom sklearn.preprocessing import StandardScaler",
    ),
    Scene(
        "scipy",
        "`special.seterr`",
        "scipy",
        "special.seterr(singular='raise');",
        "special.seterr(singular='ignore');",
        "special.geterr()['singular']",
        "from scipy import special",
    ),
    Scene(
        "scipy",
        "`fft.set_workers`",
        "scipy",
        *_entered("scipy.fft.set_workers(2)"),
        "scipy.fft.get_workers()",
        "import scipy.fft",
    ),
    Scene(
        "joblib",
        "`parallel_config`",
        "joblib",
        "config = joblib.parallel_config(backend='threading', n_jobs=2)",
        "config.unregister()",
        "(type(joblib.parallel.get_active_backend()[0]).__name__, joblib.parallel.get_active_backend()[1])",
    ),
    Scene(
        "threadpoolctl",
        "`threadpool_limits`, OpenMP",
        "threadpoolctl",
        "limits = threadpoolctl.threadpool_limits(3, user_api='openmp')",
        "limits.restore_original_limits()",
        "[one['num_threads'] for one in threadpoolctl.threadpool_info() if one['user_api'] == 'openmp']",
        "import threadpoolctl, sklearn.cluster",
        depends_on_chance=("process",),
    ),
    Scene(
        "decimal",
        "`setcontext`",
        "decimal",
        "decimal.setcontext(decimal.Context(prec=4));",
        "decimal.setcontext(decimal.Context(prec=28));",
        "str(decimal.Decimal(1) / 3)",
        of_context=True,
    ),
    Scene(
        "numpy",
        "`set_printoptions`, `seterr`",
        "numpy",
        "np.set_printoptions(precision=3); np.seterr(all='raise');",
        "np.set_printoptions(precision=8); np.seterr(all='warn');",
        "(str(np.array([1 / 3])), np.geterr()['divide'])",
        "import numpy as np",
        of_context=True,
    ),
    Scene(
        "Python",
        "`sys.setrecursionlimit`, `set_int_max_str_digits`",
        "sys",
        "sys.setrecursionlimit(4321); sys.set_int_max_str_digits(9999)",
        "sys.setrecursionlimit(1000); sys.set_int_max_str_digits(4300)",
        "(sys.getrecursionlimit(), sys.get_int_max_str_digits())",
        of_process=True,
    ),
]

_KERAS = "import os\nos.environ['KERAS_BACKEND'] = 'torch'\nimport keras"
_MLFLOW = (
    "import os, logging\nos.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'\n"
    "import mlflow, warnings\nwarnings.simplefilter('ignore')\nlogging.getLogger('mlflow').setLevel('ERROR')\n"
    "mlflow.set_tracking_uri(os.path.abspath('runs'))"
)

HEAVY = [
    Scene(
        "torch",
        "`set_grad_enabled`",
        "torch",
        "torch.set_grad_enabled(False);",
        "torch.set_grad_enabled(True);",
        "torch.ones(1, requires_grad=True).mul(2).requires_grad",
    ),
    Scene(
        "torch",
        "`set_default_device`",
        "torch",
        "torch.set_default_device('meta')",
        "torch.set_default_device(None)",
        "str(torch.empty(1).device)",
    ),
    Scene(
        "torch",
        "`set_default_dtype`",
        "torch",
        "torch.set_default_dtype(torch.float64)",
        "torch.set_default_dtype(torch.float32)",
        "str(torch.ones(1).dtype)",
        of_process=True,
    ),
    Scene(
        "torch",
        "`autocast`, entered in one cell",
        "torch",
        *_entered("torch.autocast('cpu', dtype=torch.bfloat16)"),
        "str((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)",
    ),
    Scene(
        "torch",
        "`inference_mode`, entered in one cell",
        "torch",
        *_entered("torch.inference_mode()"),
        "torch.ones(1).is_inference()",
    ),
    Scene(
        "keras",
        "`set_dtype_policy`",
        "keras",
        "keras.config.set_dtype_policy('mixed_bfloat16')",
        "keras.config.set_dtype_policy('float32')",
        "keras.config.dtype_policy().name",
        _KERAS,
    ),
    Scene(
        "keras",
        "`disable_interactive_logging`",
        "keras",
        "keras.config.disable_interactive_logging()",
        "keras.config.enable_interactive_logging()",
        "keras.config.is_interactive_logging_enabled()",
        _KERAS,
    ),
    Scene(
        "keras",
        "`set_floatx`",
        "keras",
        "keras.config.set_floatx('float64')",
        "keras.config.set_floatx('float32')",
        "keras.config.floatx()",
        _KERAS,
        of_process=True,
    ),
    Scene(
        "mlflow",
        "active run",
        "mlflow",
        "mlflow.start_run(run_name='mine');",
        "mlflow.end_run()",
        "getattr(mlflow.active_run(), 'info', None) and mlflow.active_run().info.run_name",
        _MLFLOW,
    ),
    Scene(
        "mlflow",
        "active model",
        "mlflow",
        "mlflow.set_active_model(name='mine');",
        "mlflow.clear_active_model()",
        "mlflow.get_active_model_id() is not None",
        _MLFLOW,
    ),
    Scene(
        "xgboost",
        "`set_config`",
        "xgboost",
        "xgboost.set_config(verbosity=0)",
        "xgboost.set_config(verbosity=1)",
        "xgboost.get_config()['verbosity']",
    ),
    Scene(
        "numba",
        "`set_num_threads`",
        "numba",
        "numba.set_num_threads(1)",
        "numba.set_num_threads(2)",
        "numba.get_num_threads()",
        "import os\nos.environ['NUMBA_NUM_THREADS'] = '2'\nimport numba",
    ),
    Scene(
        "sympy",
        "`evaluate`, entered in one cell",
        "sympy",
        *_entered("sympy.evaluate(False)"),
        "str(x + x)",
        "import sympy\nx = sympy.Symbol('x')",
    ),
    Scene(
        "jax",
        "`enable_x64`, entered in one cell",
        "jax",
        *_entered("jax.enable_x64(True)"),
        "str(jax.numpy.ones(1).dtype)",
        "import jax.numpy",
    ),
]


class Results(NamedTuple):
    """Code that shows a setting in a notebook without it, with it, and elsewhere."""

    without: object
    made: object
    in_cell: object
    """In a background cell, while the notebook has it."""
    apart: object
    """In a background cell after an unrelated one has made it and committed nothing; the notebook is without it."""
    at_once: object
    """In the foreground cell that awaits a background cell which has made it."""
    later: object
    """In the next one."""

    @property
    def is_carried_in(self) -> bool:
        return self.in_cell == self.made != self.without

    @property
    def is_committed(self) -> bool:
        return self.at_once == self.later == self.made != self.without

    @property
    def is_apart(self) -> bool:
        return self.apart == self.without


def results(kernel: KernelDriver, scene: Scene, backend: str) -> Results:
    """Make the setting on either side, and look at it on the other."""
    kernel.run(scene.imports).check()
    without = _shown(kernel, scene)
    kernel.run(scene.made).check()
    made = _shown(kernel, scene)
    in_cell = _shown_in_background(kernel, scene, backend)
    kernel.run(scene.undone).check()
    apart = None
    one_for_all = backend == "loop" or (scene.of_process and backend == "thread")
    if not one_for_all:
        kernel.run(f"%%bgtask undone --atomic --backend {backend}\n{scene.made}\n1 / 0").check()
        wait_over(kernel, "undone")
        apart = _shown_in_background(kernel, scene, backend)
    kernel.run(f"%%bgtask it --backend {backend}\n{scene.made}").check()
    kernel.run(f"await it\nsaw = {scene.shown}").check()
    return Results(without, made, in_cell, apart, kernel.value("saw"), _shown(kernel, scene))


def _shown(kernel: KernelDriver, scene: Scene) -> object:
    kernel.run(f"saw = {scene.shown}").check()
    return kernel.value("saw")


def _shown_in_background(kernel: KernelDriver, scene: Scene, backend: str) -> object:
    kernel.run(f"%%bgtask it --backend {backend}\nsaw = {scene.shown}").check()
    kernel.run("await it").check()
    return kernel.value("saw")


# -- the page ---------------------------------------------------------------------------------------------------------

HEAD = """# Settings of libraries

Many libraries keep settings per thread, or in a context of one thread. Those of this table are carried: the background
cell begins with the settings of the notebook, and what it sets is the notebook's after its commit. The table is made by
running each line: `yes` says that both hold. What a cell on the loop sets holds in the notebook at once, since both run
on one thread.

| library | setting | thread | loop | process |
|---|---|---|---|---|
"""

TAIL = """
Your own library, or one that is not in the table:

```python
import threading

from nbtasks import thread_state

mine = threading.local()
thread_state.register(
    "threading",  # the module whose import makes the settings exist
    capture=lambda: {"unit": getattr(mine, "unit", "cm")},
    apply=lambda changed: setattr(mine, "unit", changed["unit"]),
)
```

`capture` and `apply` are called at each launch, start and end of a cell, on the thread whose settings they read or set:
see [the reference](reference/thread-state.md).

- sympy's cache is one for all threads: while a cell has `evaluate(False)`, expressions of other cells may come from it.
- The OpenMP limits of threadpoolctl are known from the first `threadpool_limits` after `%load_ext nbtasks` on.
- numba's threading layer `workqueue` ends the process if two threads use it at once: such cells need a lane of one, or
  processes.
- A torch device of CUDA (`torch.cuda.set_device`) is carried as well; it is not in the table, which is made without a
  GPU.
- A worker process has the OpenMP limits only of libraries that it has loaded when the cell begins.
"""


def main() -> None:
    rows = []
    for scene in (*LIGHT, *HEAVY):
        if not scene.is_installed:
            raise SystemExit(f"{scene.module} is not installed: pip install -e .[test,test-heavy]")
        results = [_result(scene, backend) for backend in BACKENDS]
        rows.append(f"| {scene.library} | {scene.setting} | {' | '.join(results)} |")
        print(rows[-1], flush=True)
    PAGE.write_text(HEAD + "\n".join(rows) + "\n" + TAIL, encoding="utf-8")


def _result(scene: Scene, backend: str) -> str:
    if backend in scene.depends_on_chance:
        return "of loaded libraries"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        kernel = KernelDriver(kernel_env(home), cwd=home)
        kernel.start()
        try:
            found = results(load(kernel), scene, backend)
        finally:
            kernel.shutdown()
    missing = {"not in the cell": found.is_carried_in, "not committed": found.is_committed}
    return "; ".join(what for what, holds in missing.items() if not holds) or "yes"


if __name__ == "__main__":
    main()
