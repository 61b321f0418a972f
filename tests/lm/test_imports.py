"""What importing `jobs_ray.lm` costs and pulls in."""

import subprocess
import sys

import jobs_ray.lm


def test_importing_the_package_imports_no_framework() -> None:
    code = (
        "import sys, jobs_ray.lm, jobs_ray.lm.task, jobs_ray.lm.domains, jobs_ray.lm.packing, jobs_ray.lm.mixing, "
        "jobs_ray.lm.model, jobs_ray.lm.space, jobs_ray.lm.train, jobs_ray.lm.demo\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'ray', 'jobs_ray.search.optimizer', 'jobs_ray.tune'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in jobs_ray.lm.__all__:
        assert getattr(jobs_ray.lm, name) is not None
