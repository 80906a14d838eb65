"""Per-thread settings of well-known libraries, registered with `thread_state`.

None of these libraries is imported here: each function is called once the user has imported its library. Where that has
no public function for a setting, the setting is read and written where the library keeps it.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nbtasks.patch import Patch
from nbtasks.post_import import ModulePatches
from nbtasks.thread_state import UNSET, register

__all__ = ["register_libraries"]

Settings = Mapping[str, Any]


def register_libraries() -> Callable[[], None]:
    """Register all of them; the returned function undoes it."""
    undo = [
        register("sklearn", _sklearn, lambda changed: _of("sklearn").set_config(**changed)),
        register("scipy.special", _scipy_special, lambda changed: _of("scipy.special").seterr(**changed)),
        *(register(f"scipy.fft.{one}.helper", *_scipy_fft(f"scipy.fft.{one}.helper")) for one in _SCIPY_FFT),
        register("joblib.parallel", _joblib, _set_joblib),
        register("torch", _torch, _set_torch),
        register("torch", _torch_of_process, _set_torch_of_process, per_thread=False),
        register("keras.src.backend.common.global_state", _keras, _set_keras),
        register("keras", _keras_of_process, _set_keras_of_process, per_thread=False),
        register("mlflow.tracking.fluent", _mlflow, _set_mlflow),
        register("xgboost", _xgboost, lambda changed: _of("xgboost").set_config(**changed)),
        register("numba.np.ufunc.parallel", _numba, _set_numba),
        register("threadpoolctl", _openmp, _set_openmp, initial=lambda: _openmp_defaults),
        register("sympy.core.parameters", _sympy, _set_sympy),
        register("jax._src.config", _jax, _set_jax),
        register("sympy.core._print_helpers", _sympy_printers, _set_sympy_printers, per_thread=False),
        register("structlog", _structlog, _set_structlog, per_thread=False),
        register("dask.callbacks", _dask, _set_dask, per_thread=False),
        register("altair", _altair, _set_altair, per_thread=False),
        register("sys", _interpreter, _set_interpreter, per_thread=False),
    ]
    limits = ModulePatches("threadpoolctl", _limit_patches)
    limits.apply()
    undo.append(limits.revert)

    def unregister() -> None:
        for one in undo:
            one()

    return unregister


def _of(module: str) -> Any:
    return sys.modules[module]


# -- scikit-learn, scipy, joblib --------------------------------------------------------------------------------------


def _sklearn() -> Settings:
    settings: Settings = _of("sklearn").get_config()
    return settings


def _scipy_special() -> Settings:
    settings: Settings = _of("scipy.special").geterr()
    return settings


_SCIPY_FFT = ("_pocketfft", "_duccfft")
"""Where scipy keeps the number of workers: before version 1.18, and from then on."""


def _scipy_fft(module: str) -> tuple[Callable[[], Settings], Callable[[Settings], None]]:
    """Reads and sets the number of workers in the module."""

    def read() -> Settings:
        return {"workers": _of(module).get_workers()}

    def put(changed: Settings) -> None:
        # `set_workers` is a context manager only.
        _of(module)._config.default_workers = changed["workers"]

    return read, put


def _joblib() -> Settings:
    joblib = _of("joblib.parallel")
    default = joblib.default_parallel_config
    settings = getattr(joblib._backend, "config", default)
    if settings is default:
        return {}
    # An entry is unset if it is that very object, which a process could not be sent.
    return {key: value for key, value in settings.items() if value is not default.get(key)}


def _set_joblib(changed: Settings) -> None:
    joblib = _of("joblib.parallel")
    default = joblib.default_parallel_config
    settings = {**getattr(joblib._backend, "config", default), **changed}
    joblib._backend.config = {key: default[key] if value is UNSET else value for key, value in settings.items()}


# -- torch and keras --------------------------------------------------------------------------------------------------

_AUTOCAST_DEVICES = ("cpu", "cuda")


class _InferenceGuards(threading.local):
    """The guards that hold inference mode in this thread; torch has no setter for it."""

    def __init__(self) -> None:
        self.guards: list[Any] = []


_inference = _InferenceGuards()


def _torch() -> Settings:
    torch = _of("torch")
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    settings = {
        "inference_mode": torch.is_inference_mode_enabled(),
        "grad_mode": torch.is_grad_enabled(),
        "default_device": None if context is None else context.device,
        "autocast_cache": torch.is_autocast_cache_enabled(),
    }
    for device in _AUTOCAST_DEVICES:
        settings[f"autocast_{device}"] = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    if "torch.cuda" in sys.modules and torch.cuda.is_initialized():
        settings["cuda_device"] = torch.cuda.current_device()
    return settings


def _set_torch(changed: Settings) -> None:
    torch = _of("torch")
    if "inference_mode" in changed:
        _set_inference_mode(torch, changed["inference_mode"])
    if "grad_mode" in changed or "inference_mode" in changed:  # which sets the grad mode, too
        torch._C._set_grad_enabled(changed.get("grad_mode", not torch.is_inference_mode_enabled()))
    if "default_device" in changed:
        torch.set_default_device(changed["default_device"])
    if "cuda_device" in changed and changed["cuda_device"] is not UNSET:
        torch.cuda.set_device(changed["cuda_device"])
    autocast = {key: value for key, value in changed.items() if key.startswith("autocast_")}
    if "autocast_cache" in autocast:
        torch.set_autocast_cache_enabled(autocast.pop("autocast_cache"))
    for key, (enabled, dtype) in autocast.items():
        device = key.removeprefix("autocast_")
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
        torch.clear_autocast_cache()  # as at the end of `with torch.autocast(...)`


def _set_inference_mode(torch: Any, enabled: bool) -> None:
    guards = _inference.guards
    if guards:
        guards.pop()  # restores what was there before
    if torch.is_inference_mode_enabled() is not enabled:
        guards.append(torch._C._InferenceMode(enabled))


def _torch_of_process() -> Settings:
    torch = _of("torch")
    return {"default_dtype": torch.get_default_dtype(), "num_threads": torch.get_num_threads()}


def _set_torch_of_process(changed: Settings) -> None:
    torch = _of("torch")
    if "default_dtype" in changed:
        torch.set_default_dtype(changed["default_dtype"])
    if "num_threads" in changed:
        torch.set_num_threads(changed["num_threads"])


def _keras() -> Settings:
    # All that keras keeps per thread: dtype policy, logging, the numbers of layer names, custom objects.
    return dict(vars(_of("keras.src.backend.common.global_state").GLOBAL_STATE_TRACKER))


def _set_keras(changed: Settings) -> None:
    tracker = _of("keras.src.backend.common.global_state").GLOBAL_STATE_TRACKER
    for name, value in changed.items():
        if value is UNSET:
            vars(tracker).pop(name, None)
        else:
            setattr(tracker, name, value)


def _keras_of_process() -> Settings:
    config = _of("keras").config
    return {
        "floatx": config.floatx(),
        "epsilon": config.epsilon(),
        "image_data_format": config.image_data_format(),
    }


def _set_keras_of_process(changed: Settings) -> None:
    config = _of("keras").config
    for name, value in changed.items():
        getattr(config, f"set_{name}")(value)


# -- mlflow, xgboost --------------------------------------------------------------------------------------------------


def _mlflow() -> Settings:
    fluent = _of("mlflow.tracking.fluent")
    model = fluent._ACTIVE_MODEL_CONTEXT.get()
    return {
        "active_runs": tuple(fluent._active_run_stack.get()),
        "last_run": fluent._last_active_run_id.get(),
        "active_model": (model.model_id, model.set_by_user),
    }


def _set_mlflow(changed: Settings) -> None:
    fluent = _of("mlflow.tracking.fluent")
    if "active_runs" in changed:
        fluent._active_run_stack.set(list(changed["active_runs"]))
    if "last_run" in changed:
        fluent._last_active_run_id.set(changed["last_run"])
    if "active_model" in changed:
        fluent._ACTIVE_MODEL_CONTEXT.set(fluent.ActiveModelContext(*changed["active_model"]))


def _xgboost() -> Settings:
    settings: Settings = _of("xgboost").get_config()
    return settings


# -- numba and OpenMP -------------------------------------------------------------------------------------------------


def _numba() -> Settings:
    parallel = _of("numba.np.ufunc.parallel")
    if not parallel._is_initialized:  # its threads are not to be started here
        return {"num_threads": _of("numba.core.config").NUMBA_NUM_THREADS, "chunksize": 0}
    return {"num_threads": parallel.get_num_threads(), "chunksize": parallel.get_parallel_chunksize()}


def _set_numba(changed: Settings) -> None:
    parallel = _of("numba.np.ufunc.parallel")
    if "num_threads" in changed:
        parallel.set_num_threads(changed["num_threads"])
    if "chunksize" in changed:
        parallel.set_parallel_chunksize(changed["chunksize"])


_openmp_libraries: dict[str, Any] = {}
"""The OpenMP libraries of the process, by path, as of when threadpoolctl has first limited threads."""
_openmp_defaults: dict[str, int] = {}


def _limit_patches(threadpoolctl: Any) -> Iterator[Patch]:
    yield Patch(threadpoolctl._ThreadpoolLimiter, "_set_threadpool_limits", _noting_libraries)


def _noting_libraries(set_limits: Callable[[Any], None]) -> Callable[[Any], None]:
    """Learn of the OpenMP libraries where their threads are limited: to look for them takes 30 ms."""

    @functools.wraps(set_limits)
    def noting_libraries(limiter: Any) -> None:
        for library in limiter._controller.lib_controllers:
            if library.user_api == "openmp" and library.filepath not in _openmp_libraries:
                _openmp_defaults[library.filepath] = library.get_num_threads()
                _openmp_libraries[library.filepath] = library
        set_limits(limiter)

    return noting_libraries


def _openmp() -> Settings:
    return {path: library.get_num_threads() for path, library in list(_openmp_libraries.items())}


def _set_openmp(changed: Settings) -> None:
    for path, threads in changed.items():
        if path in _openmp_libraries and threads is not UNSET:
            _openmp_libraries[path].set_num_threads(threads)


# -- sympy, jax, the interpreter --------------------------------------------------------------------------------------


def _sympy() -> Settings:
    return dict(vars(_of("sympy.core.parameters").global_parameters))


def _set_sympy(changed: Settings) -> None:
    parameters = _of("sympy.core.parameters").global_parameters
    for name, value in changed.items():
        setattr(parameters, name, value)


def _jax() -> Settings:
    config = _of("jax._src.config")
    unset = config.config_ext.unset
    # What `jax.config.update` sets belongs to the process; what `with jax.enable_x64()` sets, to the thread. There are
    # a hundred of them.
    values = list(map(config.config_ext.Config.get_local, config.config_states.values()))
    if values.count(unset) == len(values):
        return {}
    return {name: value for name, value in zip(config.config_states, values, strict=True) if value is not unset}


def _set_jax(changed: Settings) -> None:
    config = _of("jax._src.config")
    for name, value in changed.items():
        state = config.config_states[name]
        state.set_local(config.config_ext.unset if value is UNSET else value)
        if state._update_thread_local_hook:
            state._update_thread_local_hook(None if value is UNSET else value)


def _interpreter() -> Settings:
    return {"recursionlimit": sys.getrecursionlimit(), "int_max_str_digits": sys.get_int_max_str_digits()}


def _set_interpreter(changed: Settings) -> None:
    for name, value in changed.items():
        getattr(sys, f"set{name}" if name == "recursionlimit" else f"set_{name}")(value)


_SYMPY_PRINTERS = ("_repr_latex_", "_repr_png_", "_repr_svg_")


def _sympy_printers() -> Settings:
    """What `sympy.init_printing()` sets on the class of all that it prints, besides formatters."""
    kind = _of("sympy.core._print_helpers").Printable
    return {name: _Function(vars(kind)[name]) for name in _SYMPY_PRINTERS if name in vars(kind)}


def _set_sympy_printers(changed: Settings) -> None:
    kind = _of("sympy.core._print_helpers").Printable
    for name, value in changed.items():
        if value is not UNSET:
            setattr(kind, name, value.function)


class _Function:
    """A function, compared by its identity and pickled by its value."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, function: Any) -> None:
        self.function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Function) and other.function is self.function

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle  # not with the extension: most notebooks have no sympy

        return _function_here, (cloudpickle.dumps(self.function),)


def _function_here(pickled: bytes) -> _Function:
    import cloudpickle

    return _Function(cloudpickle.loads(pickled))


# -- structlog, dask, altair -------------------------------------------------------------------------------------------


def _structlog() -> Settings:
    library = _of("structlog")
    configuration: Settings = library.get_config() if library.is_configured() else {}
    return configuration


def _set_structlog(changed: Settings) -> None:
    configuration = {name: value for name, value in changed.items() if value is not UNSET}
    if configuration:
        _of("structlog").configure(**configuration)
    else:
        _of("structlog").reset_defaults()


_DASK_BAR = ("_minimum", "_width", "_dt")


def _dask_bars() -> list[Any]:
    """The registered progress bars: `Callback.active` has tuples of their methods."""
    diagnostics = sys.modules.get("dask.diagnostics.progress")
    owners = (getattr(callbacks[0], "__self__", None) for callbacks in _of("dask.callbacks").Callback.active)
    return [] if diagnostics is None else [one for one in owners if type(one) is diagnostics.ProgressBar]


def _dask() -> Settings:
    return {"bars": sorted(tuple(getattr(bar, name) for name in _DASK_BAR) for bar in _dask_bars())}


def _set_dask(changed: Settings) -> None:
    make = importlib.import_module("dask.diagnostics").ProgressBar
    for bar in _dask_bars():
        bar.unregister()
    for minimum, width, dt in changed["bars"]:
        make(minimum=minimum, width=width, dt=dt).register()


_ALTAIR = ("renderers", "data_transformers")


def _altair() -> Settings:
    registries = {name: getattr(_of("altair"), name) for name in _ALTAIR}
    return {name: (one.active, dict(one.options)) for name, one in registries.items()}


def _set_altair(changed: Settings) -> None:
    for name, (active, options) in changed.items():
        getattr(_of("altair"), name).enable(active, **options)
