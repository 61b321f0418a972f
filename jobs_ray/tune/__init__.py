"""JoBS as a Ray Tune searcher and scheduler: the only place of the package that imports `ray.tune`."""
