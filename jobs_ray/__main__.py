"""`python -m jobs_ray`: the command line, for where its script is not on the path."""

import sys

from jobs_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
