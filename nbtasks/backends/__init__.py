"""Where the work runs: one module for each kind of place, all behind the interface of `base`."""
